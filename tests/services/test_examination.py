"""Examine measures every picture once, keeps what it found, and tells what cannot be used."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from studio.diffusion.cache import ModelCache
from studio.errors import InputError
from studio.jobs import SilentLane
from studio.projects.project import Project
from studio.requests.examine import ExamineRequest
from studio.services import examination
from studio.services.desk import Desk
from studio.settings import Paths


@pytest.fixture
def desk(root: Paths) -> Desk:
    """A worker's desk without a GPU."""
    return Desk(root, ModelCache(root, device="cpu"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A data set of three pictures and a file that is none."""
    made = tmp_path / "set"
    made.mkdir()
    for number, size in enumerate([(120, 80), (64, 64), (30, 200)]):
        noise(size, number).save(made / f"{number + 1}.png")
    (made / "4 letter.png").write_text("no picture")
    return made


def noise(size: tuple[int, int], seed: int) -> Image.Image:
    """A picture of noise."""
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))


def files(folder: Path) -> dict[str, bytes]:
    """What lies directly in a folder."""
    return {p.name: p.read_bytes() for p in folder.iterdir() if p.is_file()}


@dataclass
class StopAtOnce(SilentLane):
    """Somebody presses Stop after the first picture was handed out."""

    looks: int = 0

    def stopping(self) -> bool:
        """True from the second look on."""
        self.looks += 1
        return self.looks > 1


def test_facts_are_kept_and_problems_told(folder: Path, desk: Desk, lane: SilentLane) -> None:
    before = files(folder)
    result = examination.run(ExamineRequest(folder=str(folder)), lane, desk)
    items = {item.name: item for item in Project(folder).items()}
    assert result["examined"] == 4
    assert [p["source"] for p in result["problems"]] == ["4 letter.png"]
    assert "not a picture" in result["problems"][0]["reason"]
    assert [items[name].facts.size for name in ("1.png", "2.png", "3.png")] == [(120, 80), (64, 64), (30, 200)]
    assert len(items["1.png"].facts.edges_x) == 64
    assert files(folder) == before
    steps = [data["step"] for kind, data in lane.events if kind == "progress"]
    assert (steps[0], steps[-1]) == (0, 4)
    assert steps == sorted(steps)


def test_what_was_measured_is_measured_again_only_when_asked_or_changed(folder: Path, desk: Desk, lane: SilentLane) -> None:
    examination.run(ExamineRequest(folder=str(folder)), lane, desk)
    assert examination.run(ExamineRequest(folder=str(folder)), lane, desk)["examined"] == 0
    noise((50, 40), 9).save(folder / "2.png")
    assert examination.run(ExamineRequest(folder=str(folder)), lane, desk)["examined"] == 1
    assert Project(folder).item("2.png").facts.size == (50, 40)
    assert examination.run(ExamineRequest(folder=str(folder), again=True), lane, desk)["examined"] == 4


def test_a_stop_keeps_what_was_found(folder: Path, desk: Desk) -> None:
    result = examination.run(ExamineRequest(folder=str(folder)), StopAtOnce(), desk)
    assert result["stopped"] is True
    assert result["examined"] == 1
    assert [item.name for item in Project(folder).items() if item.facts is not None] == ["1.png"]


def test_other_processes_find_the_same(folder: Path, desk: Desk, lane: SilentLane, monkeypatch: pytest.MonkeyPatch) -> None:
    examination.run(ExamineRequest(folder=str(folder)), lane, desk)
    here = {item.name: item.facts for item in Project(folder).items()}
    monkeypatch.setattr("studio.services.preprocess.FEW_BYTES", 0)
    monkeypatch.setattr("studio.dataset.crew.cores", lambda: 2)
    assert examination.run(ExamineRequest(folder=str(folder), again=True), lane, desk)["examined"] == 4
    assert {item.name: item.facts for item in Project(folder).items()} == here


def test_an_empty_data_set_and_a_missing_one(tmp_path: Path, desk: Desk, lane: SilentLane) -> None:
    (tmp_path / "empty").mkdir()
    assert examination.run(ExamineRequest(folder=str(tmp_path / "empty")), lane, desk) == {"examined": 0, "problems": []}
    with pytest.raises(InputError, match="not a folder"):
        examination.run(ExamineRequest(folder=str(tmp_path / "none")), lane, desk)
