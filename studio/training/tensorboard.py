"""TensorBoard: the curves of a run as event files in its folder, without a step told twice when it goes on."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from tensorboardX import SummaryWriter

LOSSES = {"loss": "loss/step", "smoothed": "loss/smoothed", "learn_rate": "rate", "norm": "vectors/norm", "distance": "vectors/distance"}
"""What a step tells, and the name of its curve."""


class Board:
    """Hears of a run and writes what it hears; a disk that cannot be written ends the writing, never the run, and `say` tells so once."""

    def __init__(self, folder: Path, say: Callable[[str], None]) -> None:
        self.folder, self.say = folder, say
        self.writer: SummaryWriter | None = None

    def began(self, step: int) -> None:
        """Open a new file; TensorBoard drops what older files say of later steps."""
        self.ended()
        self._try(lambda: self._open(step))

    def _open(self, step: int) -> None:
        """A file of its own, also when one was begun in the same second."""
        number = sum(1 for _ in self.folder.iterdir()) if self.folder.is_dir() else 0
        self.writer = SummaryWriter(str(self.folder), purge_step=step + 1, filename_suffix=f".{number:04d}")

    def stepped(self, step: int, figures: dict[str, Any]) -> None:
        """The curves of a step."""
        self._scalars(step, {curve: figures.get(name) for name, curve in LOSSES.items()})

    def measured(self, step: int, reading: dict[str, Any]) -> None:
        """The lines of the probe, in % against the start."""
        self._scalars(step, {f"probe/{name}": value for name, value in reading.items() if name != "step"})

    def painted(self, picture: Path, weights: Path) -> None:
        """Pictures stay in the run's folder; what was told so far goes to the disk with them."""
        self._flush()

    def saved(self, path: Path) -> None:
        """Copies stay in the run's folder; what was told so far goes to the disk with them."""
        self._flush()

    def checkpoint(self) -> None:
        """What was told so far is on the disk."""
        self._flush()

    def ended(self) -> None:
        """Close the file."""
        if self.writer is not None:
            self._try(self.writer.close)
            self.writer = None

    def _flush(self) -> None:
        """Write what waits."""
        if self.writer is not None:
            self._try(self.writer.flush)

    def _scalars(self, step: int, values: dict[str, float | None]) -> None:
        """Add one value to each curve that has one."""
        writer = self.writer
        for name, value in values.items():
            if writer is not None and value is not None:
                writer.add_scalar(name, value, step)

    def _try(self, act: Callable[[], object]) -> None:
        """Do something on the disk; when it fails, say so and write no more."""
        try:
            act()
        except OSError as error:
            self.writer = None
            self.say(f"TensorBoard's logs cannot be written ({error.strerror or error}); the training and its run folder are not affected.")
