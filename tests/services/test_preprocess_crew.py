"""Preprocess on many cores: the same files in the same order, captions after the fact, and nothing lost or doubled by a killed worker."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from studio.diffusion.cache import ModelCache
from studio.errors import StudioError
from studio.jobs import SilentLane
from studio.requests.preprocess import PreprocessRequest
from studio.services import preprocess
from studio.services.desk import Desk
from studio.settings import Paths

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.fixture
def desk(root: Paths) -> Desk:
    """A worker's desk without a GPU."""
    return Desk(root, ModelCache(root, device="cpu"))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Six originals, one of them bad."""
    folder = tmp_path / "source"
    folder.mkdir()
    for number in range(1, 6):
        noise(folder / f"{number}.png", (100 + 30 * number, 80), number)
        (folder / f"{number}.txt").write_text(f"number {number}")
    (folder / "3 bad.png").write_text("no picture")
    return folder


@pytest.fixture
def two(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two processes, however little there is to do."""
    monkeypatch.setattr("studio.services.preprocess.FEW_BYTES", 0)
    monkeypatch.setattr("studio.dataset.crew.cores", lambda: 2)


def noise(path: Path, size: tuple[int, int], seed: int) -> None:
    """Write noise."""
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)).save(path)


def request(source: Path, destination: Path, **more: Any) -> PreprocessRequest:
    """A small press of Preprocess."""
    return PreprocessRequest(**{"source": str(source), "destination": str(destination), "width": 64, "height": 64, "existing_captions": "copy", **more})


def files(folder: Path) -> dict[str, bytes]:
    """What a folder holds, hidden files included."""
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def told(lane: SilentLane, kind: str) -> list[dict[str, Any]]:
    """The events of a kind."""
    return [data for name, data in lane.events if name == kind]


class Killed(BaseException):
    """What a power cut is to the process."""


@dataclass
class Acts(SilentLane):
    """A lane on which something happens after so many pictures: a stop, or the end of the process."""

    after: int = 1
    dies: bool = False
    seen: list[str] = field(default_factory=list)

    def emit(self, kind: str, /, **data: Any) -> None:
        """Keep the event, count the pictures, act."""
        super().emit(kind, **data)
        self.seen += [data["path"]] if kind == "item" else []
        if len(self.seen) >= self.after:
            if self.dies:
                raise Killed
            self.stop = True


def test_many_processes_write_the_same_in_the_same_order(tmp_path: Path, source: Path, desk: Desk, two: None, monkeypatch: pytest.MonkeyPatch) -> None:
    together, alone = SilentLane(), SilentLane()
    options = {"flip": True, "flips": ("Horizontal", "Both"), "debug": True}
    first = preprocess.run(request(source, tmp_path / "together", **options), together, desk)
    monkeypatch.setattr("studio.dataset.crew.cores", lambda: 1)
    second = preprocess.run(request(source, tmp_path / "alone", **options), alone, desk)
    assert files(tmp_path / "together") == files(tmp_path / "alone")
    assert {**first, "destination": ""} == {**second, "destination": ""} == {"written": 15, "skipped": second["skipped"], "destination": ""}
    assert [(i["source"], i["box"], i["caption"]) for i in told(together, "item")] == [(i["source"], i["box"], i["caption"]) for i in told(alone, "item")]
    assert [p["step"] for p in told(together, "progress")] == list(range(7))
    assert [w["source"] for w in told(together, "warning")] == ["3 bad.png"]


def test_every_option_of_size_at_once(tmp_path: Path, source: Path, desk: Desk, lane: SilentLane) -> None:
    assert preprocess.run(request(source, tmp_path / "keep", sizing="keep"), lane, desk)["written"] == 5
    with Image.open(tmp_path / "keep" / "00000-0-1.png") as image:
        assert image.size == (130, 80)
    split = preprocess.run(request(source, tmp_path / "split", split=True, split_threshold=1.0), lane, desk)
    assert split["written"] >= 10
    assert (tmp_path / "split" / "00000-1-1.txt").read_text() == "number 1"
    preprocess.run(request(source, tmp_path / "bucket", width=128, height=128, sizing="buckets", bucket_step=32), lane, desk)
    sizes = set()
    for path in (tmp_path / "bucket").glob("*.png"):
        with Image.open(path) as image:
            sizes.add(image.size)
    assert len(sizes) > 1
    assert all(width % 32 == height % 32 == 0 for width, height in sizes)
    auto = SilentLane()
    result = preprocess.run(request(source, tmp_path / "auto", sizing="auto", auto_threshold=0.02), auto, desk)
    assert result["skipped"] and result["written"]
    assert all("auto-sized" in s["reason"] or "bad" in s["source"] for s in result["skipped"])


def test_captions_of_a_real_captioner_come_after_the_pictures(tmp_path: Path, source: Path, desk: Desk, two: None) -> None:
    lane = SilentLane()
    result = preprocess.run(request(source, tmp_path / "out", captioners=("DeepBooru",), existing_captions="prepend", trigger="hero", flip=True), lane, desk)
    assert result["written"] == 10
    written = files(tmp_path / "out")
    assert sorted({Path(name).suffix for name in written}) == [".png", ".txt"]
    assert not [name for name in written if name.startswith(".")]
    assert written["00000-0-1.txt"].decode().startswith("hero, number 1")
    assert [i["caption"] for i in told(lane, "item")][:1] == [written["00000-0-1.txt"].decode()]


def test_a_stop_gives_up_pictures_that_wait_for_their_caption(tmp_path: Path, source: Path, desk: Desk, two: None) -> None:
    result = preprocess.run(request(source, tmp_path / "out", captioners=("DeepBooru",)), Acts(after=2), desk)
    assert (result["written"], result["stopped"]) == (2, True)
    assert sorted(files(tmp_path / "out")) == ["00000-0-1.png", "00000-0-1.txt", "00001-0-2.png", "00001-0-2.txt"]


def test_a_captioner_that_fails_is_the_problem_of_its_picture(tmp_path: Path, source: Path, desk: Desk, lane: SilentLane, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> list[Any]:
        raise StudioError("The captioner stumbles.")

    monkeypatch.setattr("studio.dataset.captioners.taggers.Tagger.sayings", refuse)
    with pytest.raises(StudioError, match="stumbles"):
        preprocess.run(request(source, tmp_path / "out", captioners=("DeepBooru",)), lane, desk)
    assert files(tmp_path / "out") == {}


@pytest.mark.parametrize("captioners", [(), ("DeepBooru",)])
def test_after_a_crash_the_job_goes_on_under_the_same_numbers(tmp_path: Path, source: Path, desk: Desk, captioners: tuple[str, ...]) -> None:
    (tmp_path / "out").mkdir()
    noise(tmp_path / "out" / "00006-0-mine.png", (64, 64), 1)
    with pytest.raises(Killed):
        preprocess.run(request(source, tmp_path / "out", captioners=captioners), Acts(after=3, dies=True), desk)
    (tmp_path / "out" / ".00009-0-4.png.part").write_bytes(b"half")
    lane = SilentLane()
    result = preprocess.run(request(source, tmp_path / "out", captioners=captioners), lane, desk)
    assert result["written"] == 5
    assert [s["source"] for s in result["skipped"]] == ["3 bad.png"]
    assert sorted(n for n in files(tmp_path / "out") if n.endswith(".png")) == ["00006-0-mine.png", "00007-0-1.png", "00008-0-2.png", "00010-0-3.png", "00011-0-4.png", "00012-0-5.png"]
    assert not [name for name in files(tmp_path / "out") if name.startswith(".")]
    assert told(lane, "progress")[0]["step"] == 3
    assert preprocess.run(request(source, tmp_path / "out"), SilentLane(), desk)["written"] == 5


def test_a_ledger_of_other_pictures_counts_for_nothing(tmp_path: Path, source: Path, desk: Desk) -> None:
    with pytest.raises(Killed):
        preprocess.run(request(source, tmp_path / "out"), Acts(after=1, dies=True), desk)
    noise(source / "0.png", (99, 80), 9)
    assert preprocess.run(request(source, tmp_path / "out"), SilentLane(), desk)["written"] == 6
    assert sorted(n for n in files(tmp_path / "out") if n.endswith(".png"))[:2] == ["00000-0-1.png", "00001-0-0.png"]


PROGRAM = """
import sys
from pathlib import Path
from studio.diffusion.cache import ModelCache
from studio.jobs import SilentLane
from studio.requests.preprocess import PreprocessRequest
from studio.services import preprocess
from studio.services.desk import Desk
from studio.settings import Paths

paths = Paths(Path(sys.argv[1]))
preprocess.FEW_BYTES = 0
preprocess.run(PreprocessRequest(source=sys.argv[2], destination=sys.argv[3], width=64, height=64), SilentLane("kill"), Desk(paths, ModelCache(paths, device="cpu")))
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs kill -9")
def test_a_worker_killed_in_the_middle_leaves_whole_pictures_and_the_next_one_does_the_rest(tmp_path: Path, root: Paths, desk: Desk) -> None:
    source, out = tmp_path / "many", tmp_path / "out"
    source.mkdir()
    for number in range(60):
        noise(source / f"{number}.png", (300, 200), number)
    worker = subprocess.Popen([sys.executable, "-c", PROGRAM, str(root.root), str(source), str(out)], cwd=ROOT)
    end = time.monotonic() + 60
    while len(list(out.glob("*.png")) if out.is_dir() else []) < 10 and time.monotonic() < end and worker.poll() is None:
        time.sleep(0.005)
    os.kill(worker.pid, signal.SIGKILL)
    assert worker.wait() == -signal.SIGKILL
    before = {p: p.stat().st_mtime_ns for p in out.glob("*.png")}
    assert 10 <= len(before) < 60
    result = preprocess.run(request(source, out), SilentLane("kill"), desk)
    assert result["written"] == 60
    assert sorted(p.name for p in out.glob("*.png")) == sorted(f"{n:05d}-0-{n}.png" for n in range(60))
    for path in out.glob("*.png"):
        with Image.open(path) as image:
            image.load()
    assert sum(path.stat().st_mtime_ns == mark for path, mark in before.items()) > 0
