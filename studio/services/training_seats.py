"""Who sits at the model while it is trained: the training, and between its steps other jobs, which find the model as they know it and may wear what is learned."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from studio.jobs import Lane
from studio.requests.train import TrainConfig
from studio.services.desk import Desk
from studio.training.methods.trainable import Trainable


@dataclass
class Aside:
    """A training's lane: when it lets others in, what learns is off the model."""

    lane: Lane
    learner: Trainable

    @property
    def job(self) -> str:
        """The job."""
        return self.lane.job

    def emit(self, kind: str, /, **data: Any) -> None:
        """Write an event."""
        self.lane.emit(kind, **data)

    def stopping(self) -> bool:
        """Whether the person asked to stop."""
        return self.lane.stopping()

    def asked(self, kind: str) -> bool:
        """Take one ask of this kind, if there is one."""
        return self.lane.asked(kind)

    def take(self, kind: str) -> dict[str, Any] | None:
        """Take one ask of this kind and return what was said with it."""
        return self.lane.take(kind)

    def resting(self, paused: bool) -> None:
        """Say that the job is paused, or goes on."""
        self.lane.resting(paused)

    def breathe(self) -> None:
        """Let others in, without what learns."""
        with self.learner.off():
            self.lane.breathe()


@contextmanager
def shown(desk: Desk, learner: Trainable, config: TrainConfig) -> Iterator[None]:
    """Let prompts painted between two steps use what is learned, as it is then, under its name."""
    live = (desk.live, learner.words()), (desk.live_adapters, learner.live_adapters(config.subject)), (desk.live_hypernetworks, learner.live_hypernetworks(config.subject))
    for place, things in live:
        place.update(things)
    try:
        yield
    finally:
        for place, things in live:
            for name in things:
                place.pop(name, None)


def within(root: Path, path: Path) -> str:
    """A path as the studio's root names it, or whole when it lies elsewhere."""
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)
