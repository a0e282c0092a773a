"""What tests of trainings share: lanes on which things happen, a short request, and what came of it."""

import csv
from pathlib import Path
from typing import Any

from studio.formats.embedding import Embedding, read_embedding
from studio.jobs import SilentLane
from studio.requests.train import TrainRequest
from studio.services.desk import Desk


class Cut(Exception):
    """Stands for a worker that is killed."""


class Cutting(SilentLane):
    """A lane whose worker dies after a number of steps."""

    left: int = 0

    def breathe(self) -> None:
        """Die when no step is left."""
        self.left -= 1
        if self.left == 0:
            raise Cut


class Acting(SilentLane):
    """A lane on which a person does something after a number of steps."""

    at: int = 0
    what: str = "stop"

    def breathe(self) -> None:
        """Stop or ask when the step has come."""
        self.at -= 1
        if self.at == 0 and self.what == "stop":
            self.stop = True
        elif self.at == 0:
            self.asks.append(self.what)


def request(pictures: Path, **knobs: Any) -> TrainRequest:
    """A short training."""
    quick = {"embedding": "gnarl", "steps": 6, "batch_size": 2, "save_every": 0, "preview_every": 0, "preview_steps": 1}
    return TrainRequest(config={**quick, "data": str(pictures), **knobs})


def shelf(desk: Desk) -> Embedding:
    """The embedding as it lies on the shelf."""
    return read_embedding(desk.paths.embeddings / "gnarl.pt")


def curve(result: dict[str, Any] | Path) -> list[dict[str, str]]:
    """The lines of a run's curve."""
    folder = result if isinstance(result, Path) else Path(result["run"])
    with (folder / "curve.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def events(lane: SilentLane, kind: str) -> list[dict[str, Any]]:
    """What was told of a kind."""
    return [data for name, data in lane.events if name == kind]
