"""TensorBoard's files: every curve is there, and a run that goes on tells no step twice."""

import struct
from pathlib import Path

import pytest
from tensorboardX.proto.event_pb2 import Event, SessionLog

from studio.training.tensorboard import Board

FIGURES = {"loss": 0.5, "smoothed": 0.25, "learn_rate": 0.005, "norm": 1.0, "distance": None, "prompt": "a gnarl"}


def scalars(folder: Path) -> list[tuple[str, int]]:
    """Names and steps as TensorBoard shows them: a new start takes back what came at or after its step."""
    found: list[tuple[str, int]] = []
    for file in sorted(folder.iterdir(), key=lambda path: path.stat().st_mtime_ns):
        data = file.read_bytes()
        while data:
            (length,) = struct.unpack("<Q", data[:8])
            event, data = Event.FromString(data[12 : 12 + length]), data[16 + length :]
            if event.session_log.status == SessionLog.START:
                found = [item for item in found if item[1] < event.step]
            found += [(value.tag, event.step) for value in event.summary.value]
    return found


def test_a_run_that_goes_on_tells_no_step_twice(tmp_path: Path) -> None:
    for first, last in ((0, 3), (1, 4)):
        board = Board(tmp_path / "tensorboard", pytest.fail)
        board.began(first)
        for step in range(first + 1, last + 1):
            board.stepped(step, FIGURES)
        board.measured(last, {"step": last, "train": -1.5, "held": None})
        board.ended()
    found = scalars(tmp_path / "tensorboard")
    assert [step for name, step in found if name == "loss/step"] == [1, 2, 3, 4]
    assert [item for item in found if item[0].startswith("probe")] == [("probe/train", 4)]
    assert {name for name, _ in found} == {"loss/step", "loss/smoothed", "rate", "vectors/norm", "probe/train"}


def test_a_folder_that_cannot_be_written_is_told_and_ends_nothing(tmp_path: Path) -> None:
    (tmp_path / "tensorboard").write_text("a file")
    said: list[str] = []
    board = Board(tmp_path / "tensorboard", said.append)
    board.began(0)
    board.stepped(1, FIGURES)
    board.checkpoint()
    board.ended()
    assert len(said) == 1
    assert said[0].startswith("TensorBoard's logs cannot be written")
