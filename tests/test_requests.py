"""What may be asked, and how mistakes are told."""

import pytest

from studio.config import Config, controls
from studio.errors import InputError
from studio.requests import REQUESTS, CreateEmbeddingRequest, GenerateRequest, PreprocessRequest, TrainRequest, kind_of, request_of, train
from studio.requests.train import check_schedule

CONFIGS = (GenerateRequest, PreprocessRequest, CreateEmbeddingRequest, *train.CONFIGS)


@pytest.mark.parametrize("cls", CONFIGS)
def test_every_knob_has_its_sentence_and_a_default_inside_its_bounds(cls: type[Config]) -> None:
    for knob in controls(cls):
        assert knob.help.endswith("."), f"{cls.__name__}.{knob.name} lacks its sentence"
        if knob.kind == "choice" and knob.default is not None:
            assert knob.default in knob.choices
        if isinstance(knob.default, int | float) and knob.kind in ("integer", "number"):
            assert knob.minimum is None or knob.default >= knob.minimum or knob.default == 0
            assert knob.maximum is None or knob.default <= knob.maximum


def test_requests_survive_the_database() -> None:
    request = TrainRequest.check({"config": {"embedding": "hero", "data": "/pictures", "steps": "12"}})
    assert isinstance(request, TrainRequest)
    assert request_of(kind_of(request), request.model_dump(mode="json")) == request
    captions = PreprocessRequest.check({"source": "a", "destination": "b", "captioners": ["BLIP", "DeepBooru"]})
    assert request_of("preprocess", captions.model_dump(mode="json")) == captions
    assert {kind for kind, _ in REQUESTS} >= {"generate", "preprocess", "create_embedding", "train", "plot", "prompt_matrix", "prompts_from_file"}


@pytest.mark.parametrize("name", ["", "  ", "a/b", "a\\b", "..", ".hidden", "a:b", "con", "NUL.pt", "nul", "a\nb", "x" * 200, "-rf", "a<b>"])
def test_names_that_cannot_be_files_are_refused_in_words(name: str) -> None:
    with pytest.raises(InputError) as caught:
        CreateEmbeddingRequest.check({"name": name})
    assert str(caught.value).startswith("Name: ")


@pytest.mark.parametrize("name", ["hero", "my-hero_2.1", "小怪兽", "two words"])
def test_good_names(name: str) -> None:
    assert CreateEmbeddingRequest.check({"name": f" {name} "}).name == name


@pytest.mark.parametrize("text", ["abc", "", " , ", "0", "-1", "nan", "inf", "0.005:10.5", "0.1:abc", "1,5:x"])
def test_a_bad_learning_rate_is_said(text: str) -> None:
    with pytest.raises(InputError, match="Learn rate"):
        TrainRequest.check({"config": {"embedding": "e", "data": "d", "learn_rate": text}})


def test_schedules() -> None:
    assert check_schedule("0.005:100, 1e-3:1000, 1e-5") == [(0.005, 100), (0.001, 1000), (1e-5, -1)]
    assert check_schedule("0.005") == [(0.005, -1)]


def test_all_mistakes_are_told_at_once() -> None:
    with pytest.raises(InputError) as caught:
        GenerateRequest.check({"steps": 0, "cfg_scale": float("nan"), "width": 513, "sampler": "magic", "colour": 1})
    for word in ("Steps", "CFG scale", "Sampler", "Colour"):
        assert word in str(caught.value)


@pytest.mark.parametrize(("name", "value"), [("width", 513), ("height", 8), ("width", -1), ("width", 10**6), ("batch_size", 10**6), ("seed", -2), ("steps", "1,5"), ("prompt", "x" * 10**6)])
def test_numbers_out_of_range(name: str, value: object) -> None:
    with pytest.raises(InputError):
        GenerateRequest.check({name: value})


def test_a_long_prompt_is_allowed() -> None:
    assert len(GenerateRequest.check({"prompt": "word " * 2000}).prompt) == 10_000


def test_a_mask_needs_its_picture() -> None:
    with pytest.raises(InputError, match="without a picture"):
        GenerateRequest.check({"mask": "m.png"})


def test_unknown_kind() -> None:
    with pytest.raises(InputError, match="no kind"):
        request_of("dance", {})


def test_a_mistake_of_knobs_together_names_them_and_not_the_request() -> None:
    with pytest.raises(InputError) as caught:
        TrainRequest.check({"method": "dreambooth", "config": {"name": "hero", "data": "d"}})
    assert str(caught.value).startswith("Class word: prior preservation")
    assert "{" not in str(caught.value)
