"""A run that is killed, or whose disk is full, ends as if nothing had happened. Rows of the fault matrix (reference/faults.md, B4) about training, and where each is tested.

1 killed at any moment: here, and `python -m tests.faults.resume`. 2 power cut: tests/training/test_run.py (cut, zeroed, wrong bit, no manifest, no tensors) and
tests/services/test_training_watch.py (told, and the same bits again). 3 full disk: here (log on a full device, checkpoint, copy). 4 read-only or unmounted: here. 5, 6, 7 web process
killed, page closed, two Starts: tests/test_worker.py, tests/browser and tests/test_jobs.py (one live job of a key). 8 stop during a preview, a save, the encoding, twice: stop is looked at
between two units of work only: tests/services/test_training.py, tests/test_worker.py. 9 generating while training: tests/test_worker.py and "previews change nothing" in
tests/services/test_training.py. 10 NaN: tests/services/test_training_watch.py. 11 rate 1e6: there too. 12 out of memory: tests/training/test_passes.py. 33 clocks: every duration comes from
time.monotonic, and the laptop that slept is a worker that was killed. 36 data set gone: tests/services/test_training.py. 37 one picture, all the same: here.
39 learning silently off: here.
"""

import errno
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from studio.diffusion.cache import ModelCache
from studio.jobs import SilentLane
from studio.requests.train import CreateEmbeddingRequest, TrainRequest
from studio.services.desk import Desk
from studio.services.library import create_embedding
from studio.services.training import run
from studio.settings import Paths
from studio.training import resting
from studio.training.methods.textual_inversion import TextualInversion
from studio.training.watch import Rhythm
from tests.faults.resume import faults


@pytest.mark.skipif(not hasattr(os, "fork"), reason="each life is a fork")
def test_a_run_that_was_killed_ends_bit_for_bit_as_one_that_was_not() -> None:
    import torch

    threads = torch.get_num_threads()
    try:
        trials = faults(3, 9, 1)
    finally:
        torch.set_num_threads(threads)
    assert [trial.wrong for trial in trials if trial.wrong] == []
    assert sum(len(trial.kills) for trial in trials) == 3


@pytest.fixture
def desk(root: Paths, tiny_cache: ModelCache) -> Desk:
    """A desk with the embedding gnarl."""
    desk = Desk(root, tiny_cache)
    create_embedding(CreateEmbeddingRequest(name="gnarl", initialization_text="monster"), desk)
    return desk


def one(desk: Desk, tmp_path: Path, pictures: int = 1) -> TrainRequest:
    """A short training on copies of one picture."""
    from studio import shelves

    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(pictures):
        shutil.copy(shelves.images(shelves.sample_pictures())[0], folder / f"{number}.png")
    config = {"embedding": "gnarl", "data": str(folder), "steps": 3, "width": 64, "height": 64, "probe_every": 0, "preview_every": 0, "save_every": 2}
    return TrainRequest.check({"config": config})  # type: ignore[return-value]


def told(lane: SilentLane, kind: str) -> list[dict[str, Any]]:
    """Events of a kind."""
    return [data for name, data in lane.events if name == kind]


@pytest.mark.parametrize(("number", "said"), [(errno.ENOSPC, "The disk is full"), (errno.EROFS, "it is read-only"), (errno.ENOENT, "it is not there")])
@pytest.mark.parametrize("what", ["replace", "write"])
def test_a_disk_that_cannot_be_written_pauses_the_run_until_it_can(desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, said: str, what: str) -> None:
    request, lane, real, left = one(desk, tmp_path), SilentLane(), getattr(os, what), [3]
    monkeypatch.setattr(resting, "AGAIN", 0.0)

    def failing(*inputs: Any, **named: Any) -> Any:
        """Fail three times once the run goes on: in its second step, or at its second step's checkpoint."""
        if lane.events and any(name == "metric" for name, _ in lane.events) and left[0]:
            left[0] -= 1
            raise OSError(number, os.strerror(number))
        return real(*inputs, **named)

    monkeypatch.setattr(os, what, failing)
    result = run(request, lane, desk, Rhythm(1))
    assert left == [0]
    assert (result["steps"], result["stopped"]) == (3, False)
    assert said in told(lane, "paused")[0]["reason"]
    assert told(lane, "paused")[0]["needed"] > 0
    assert len(told(lane, "resumed")) >= 1
    assert [line.split(",")[0] for line in (Path(result["run"]) / "curve.csv").read_text().splitlines()] == ["step", "1", "2", "3"]


def test_stop_works_while_the_disk_is_full(desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Stopping(SilentLane):
        """Stops when the run rests."""

        def resting(self, paused: bool) -> None:
            """Stop, and make room."""
            self.stop = True
            monkeypatch.undo()

    def full(_handle: int, _data: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    request, before = one(desk, tmp_path), (desk.paths.embeddings / "gnarl.pt").read_bytes()
    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OSError, match="No space left"):
        run(request, Stopping(), desk)
    assert (desk.paths.embeddings / "gnarl.pt").read_bytes() == before


@pytest.mark.parametrize(("pictures", "said"), [(1, "There is one picture only"), (2, "All 2 pictures are the same one")])
def test_too_few_pictures_are_allowed_and_told(desk: Desk, tmp_path: Path, lane: SilentLane, pictures: int, said: str) -> None:
    assert run(one(desk, tmp_path, pictures), lane, desk)["steps"] == 3
    assert told(lane, "warning")[0]["text"].startswith(said)


def test_learning_that_is_silently_off_is_told_at_the_first_step(desk: Desk, tmp_path: Path, lane: SilentLane, monkeypatch: pytest.MonkeyPatch) -> None:
    real = TextualInversion.words
    monkeypatch.setattr(TextualInversion, "words", lambda self: {name: vectors.detach() for name, vectors in real(self).items()})
    run(one(desk, tmp_path), lane, desk)
    assert any("no gradient reached it" in event["text"] and event["step"] == 1 for event in told(lane, "warning"))
