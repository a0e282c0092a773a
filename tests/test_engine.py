"""The door: what the engine refuses, in words, before anything is queued."""

from pathlib import Path

import pytest
import torch
from PIL import Image

from studio.engine import Engine
from studio.errors import Conflict, InputError
from studio.formats.embedding import Embedding, embed_in_png
from studio.requests import GenerateRequest, PreprocessRequest, TrainRequest
from studio.settings import Paths


@pytest.fixture
def engine(root: Paths) -> Engine:
    return Engine(root)


def _training(folder: Path, **more: object) -> TrainRequest:
    return TrainRequest.check({"config": {"embedding": "hero", "data": str(folder), "template": "none", **more}})


def test_a_training_is_told_everything_that_is_missing(engine: Engine, tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        engine.submit(_training(tmp_path / "nowhere", template="dream", checkpoint="sd9"))
    for word in ("'hero'", "nowhere", "'dream'", "'sd9'"):
        assert word in str(caught.value)
    assert engine.jobs() == []


def test_an_empty_folder_is_said(engine: Engine, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no picture"):
        engine.submit(_training(tmp_path))


def test_two_starts_at_once_are_one_training(engine: Engine, tmp_path: Path) -> None:
    (engine.paths.embeddings / "hero.pt").write_bytes(b"anything")
    (engine.paths.templates / "none.txt").write_text("[name]")
    (tmp_path / "a.png").write_bytes(b"anything")
    name = engine.submit(_training(tmp_path))
    with pytest.raises(Conflict, match="hero"):
        engine.submit(_training(tmp_path))
    assert [job.id for job in engine.jobs()] == [name]


def test_preprocess_never_writes_into_its_source(engine: Engine, tmp_path: Path) -> None:
    for destination in (tmp_path, tmp_path / "below"):
        with pytest.raises(InputError, match="untouched"):
            engine.submit(PreprocessRequest(source=str(tmp_path), destination=str(destination)))
    with pytest.raises(InputError, match="does not exist"):
        engine.submit(PreprocessRequest(source=str(tmp_path / "no"), destination=str(tmp_path / "out")))


def test_generation_needs_its_files(engine: Engine) -> None:
    with pytest.raises(InputError, match=r"Picture.*Mask"):
        engine.submit(GenerateRequest(init_image="/no/a.png", mask="/no/b.png"))


def test_the_tiny_world_is_on_every_shelf(engine: Engine) -> None:
    engine.submit(GenerateRequest(checkpoint="tiny-world"))
    assert engine.active().kind == "generate"
    assert engine.device()["waiting"] == 1


def test_a_run_to_go_on_with_must_be_there_and_needs_neither_pictures_nor_embedding(engine: Engine, tmp_path: Path) -> None:
    values = {"config": {"embedding": "hero", "data": str(tmp_path / "gone")}}
    for name in ("nowhere", ".."):
        with pytest.raises(InputError, match="Run: there is no"):
            engine.submit(TrainRequest.check({**values, "run": name}))
    (engine.paths.runs / "2026-01-01-hero-abc").mkdir(parents=True)
    assert engine.submit(TrainRequest.check({**values, "run": "2026-01-01-hero-abc"}))


def test_a_prompt_is_looked_at_before_it_is_used(engine: Engine) -> None:
    for name in ("foo (v2).pt", "picture.png", "spoilt.pt"):
        (engine.paths.embeddings / name).write_bytes(b"anything")
    (engine.paths.lora / "ghost.safetensors").write_bytes(b"")
    image, info = embed_in_png(Image.new("RGB", (64, 64)), Embedding("inner", torch.ones(1, 96)))
    image.save(engine.paths.embeddings / "picture.png", pnginfo=info)
    engine.store.put_cards({str(engine.paths.embeddings / name): facts for name, facts in (("picture.png", {"vectors": 3, "inner": "inner"}), ("spoilt.pt", {"problem": "It is spoilt."}))})
    assert engine.token_count("inner") == (3, 75) == engine.token_count("picture")
    found = engine.prompt_problems("foo (v2), inner, spoilt <lora:ghost:1> <lora:gost:1>")
    assert [sentence.split(".")[0] for sentence in found] == [
        "There is no LoRA called 'gost'; did you mean 'ghost'?",
        "spoilt: It is spoilt",
        "'foo (v2)' in the prompt was not used as the embedding 'foo (v2)'",
    ]
    assert engine.prompt_problems(r"foo \(v2\)") == [] and "negative prompt" in engine.prompt_problems("<lora:ghost:1>", negative=True)[0]
