"""The door: what the engine refuses, in words, before anything is queued."""

from pathlib import Path

import pytest

from studio.engine import Engine
from studio.errors import Conflict, InputError
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
