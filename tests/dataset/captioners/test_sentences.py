"""BLIP-2 and Florence-2 speak as transformers' own generation does, together as alone, and damaged folders are refused in words."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from studio.dataset.captioners.sentences import TASKS, load_blip2, load_florence2
from studio.errors import Unreadable
from studio.requests.caption import CaptionOptions
from tests.dataset.captioners.small import picture, write_blip2, write_florence2

CPU = torch.device("cpu")
SHORT = CaptionOptions(sentence_max=8)
PICTURES = [picture(seed) for seed in range(4)]


@pytest.fixture(scope="module")
def blip2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small BLIP-2."""
    return write_blip2(tmp_path_factory.mktemp("BLIP2") / "small")


@pytest.fixture(scope="module")
def florence2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small Florence-2."""
    return write_florence2(tmp_path_factory.mktemp("Florence-2") / "small")


def plainly(text: str) -> str:
    """A sentence without what spaces and line ends do."""
    return " ".join(text.split())


def test_blip2_says_what_transformers_says(blip2: Path) -> None:
    from transformers import Blip2ForConditionalGeneration, Blip2Processor

    model, processor = Blip2ForConditionalGeneration.from_pretrained(blip2), Blip2Processor.from_pretrained(blip2)
    own, expected = load_blip2(blip2, CPU), []
    for image in PICTURES:
        ids = model.generate(**processor(images=image, return_tensors="pt"), max_new_tokens=8)
        expected.append(plainly(processor.decode(ids[0], skip_special_tokens=True)))
    assert [own.caption(image, SHORT) for image in PICTURES] == expected
    assert len(set(expected)) == len(PICTURES)


def test_blip2_goes_on_from_the_first_words(blip2: Path) -> None:
    from transformers import Blip2ForConditionalGeneration, Blip2Processor

    model, processor = Blip2ForConditionalGeneration.from_pretrained(blip2), Blip2Processor.from_pretrained(blip2)
    row = [model.config.image_token_index] * 4 + [0] + processor.tokenizer("a cat", add_special_tokens=False)["input_ids"]
    ids = model.generate(pixel_values=processor(images=PICTURES[0], return_tensors="pt")["pixel_values"], input_ids=torch.tensor([row]), max_new_tokens=8)
    said = load_blip2(blip2, CPU).caption(PICTURES[0], CaptionOptions(sentence_max=8, sentence_start="a cat"))
    assert said.startswith("a cat ")
    assert said.replace(" ", "") == processor.decode(ids[0], skip_special_tokens=True).replace(" ", "")


@pytest.mark.parametrize("task", list(TASKS))
def test_florence2_says_what_transformers_says(florence2: Path, task: Any) -> None:
    from transformers import Florence2ForConditionalGeneration, Florence2Processor

    model, processor = Florence2ForConditionalGeneration.from_pretrained(florence2), Florence2Processor.from_pretrained(florence2)
    token, times = TASKS[task]
    own, expected = load_florence2(florence2, CPU), []
    for image in PICTURES:
        ids = model.generate(**processor(text=token, images=image, return_tensors="pt"), max_new_tokens=4 * times)
        text = processor.decode(ids[0], skip_special_tokens=False).replace("<pad>", "")
        expected.append(plainly(processor.post_process_generation(text, task=token, image_size=image.size)[token]))
    assert [own.caption(image, CaptionOptions(sentence_max=4, florence_task=task)) for image in PICTURES] == expected
    assert len(set(expected)) > 1


@pytest.mark.parametrize("kind", ["blip2", "florence2"])
def test_pictures_looked_at_together_get_the_sentences_they_get_alone(kind: str, request: pytest.FixtureRequest) -> None:
    load = {"blip2": load_blip2, "florence2": load_florence2}[kind]
    captioner = load(request.getfixturevalue(kind), CPU)
    for options in (SHORT, CaptionOptions(sentence_max=8, sentence_beams=2, sentence_min=4, sentence_start="a")):
        assert [s.sentence for s in captioner.sayings(PICTURES, options)] == [captioner.caption(image, options) for image in PICTURES]


@pytest.mark.parametrize("mode", ["L", "RGBA", "P"])
def test_pictures_of_any_mode_are_taken(blip2: Path, florence2: Path, mode: str) -> None:
    assert load_blip2(blip2, CPU).caption(PICTURES[0].convert(mode).convert("RGB"), SHORT)
    assert load_florence2(florence2, CPU).caption(PICTURES[0].convert(mode).convert("RGB"), SHORT)


def cut(folder: Path) -> None:
    """Half of the weights."""
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def wordless(folder: Path) -> None:
    """No tokenizer."""
    for name in ("tokenizer.json", "tokenizer_config.json", "vocab.json", "merges.txt"):
        (folder / name).unlink(missing_ok=True)


def foreign(folder: Path) -> None:
    """The configuration of another network."""
    (folder / "config.json").write_text(json.dumps({"model_type": "bert"}))


SPOILT: tuple[Callable[[Path], None], ...] = (cut, wordless, foreign, lambda f: (f / "config.json").unlink(), lambda f: (f / "config.json").write_text("no JSON"))


@pytest.mark.parametrize("spoil", SPOILT, ids=["cut weights", "no words", "another network", "no config", "damaged config"])
@pytest.mark.parametrize("kind", ["blip2", "florence2"])
def test_a_damaged_folder_is_refused_in_words(kind: str, spoil: Callable[[Path], None], request: pytest.FixtureRequest, tmp_path: Path) -> None:
    load = {"blip2": load_blip2, "florence2": load_florence2}[kind]
    copy = Path(shutil.copytree(request.getfixturevalue(kind), tmp_path / "broken"))
    spoil(copy)
    with pytest.raises(Unreadable, match=r"captioner broken cannot be loaded") as caught:
        load(copy, CPU)
    assert "config.json" in caught.value.hint
