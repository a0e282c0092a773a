"""Leading: how one process of a team decides on each step of a run, and the others do as it says."""

import logging
from dataclasses import dataclass

import torch

from studio.training.methods.trainable import Trainable
from studio.training.optim import optimizer_tensors, restore_optimizer
from studio.training.several import Team
from studio.training.telling import Step
from studio.training.watch import Watch

log = logging.getLogger("studio.training.leading")


@dataclass(frozen=True)
class Order:
    """What the leader says before each step: where the run is and ends, whether it stops, at which rate and loss scale the step is taken, and whether everything that learns was replaced."""

    step: int
    end: int
    stop: bool
    rate: float
    scale: float
    replaced: bool = False


class Ordered:
    """What the loop asks of a watch, answered from the order that every process has."""

    order: Order

    @property
    def step(self) -> int:
        """Steps done."""
        return self.order.step

    @property
    def end(self) -> int:
        """The step after which training is finished."""
        return self.order.end

    @property
    def scale(self) -> float:
        """Loss scale of the next step."""
        return self.order.scale

    def rate(self) -> float:
        """The learning rate of the next step."""
        return self.order.rate

    def stopping(self) -> bool:
        """Whether the run stops."""
        return self.order.stop


class Leader(Ordered):
    """The watch of a run whose decisions the others hear before each step."""

    def __init__(self, watch: Watch, team: Team) -> None:
        self.watch, self.team = watch, team
        self.order = self._told(replaced=True)

    def _told(self, replaced: bool) -> Order:
        """Decide on the next step and tell."""
        watch = self.watch
        order: Order = self.team.told(Order(watch.step, watch.end, watch.stopping(), watch.rate() if watch.step < watch.end else 0.0, watch.scale, replaced))
        if replaced:
            self.team.tensors({**watch.learner.state(), **optimizer_tensors(watch.optimizer)})
        return order

    def note(self, kind: str, text: str) -> None:
        """Tell something of the step that is being taken."""
        self.watch.note(kind, text)

    def stepped(self, step: Step) -> None:
        """Watch the step, then tell what follows; a run that went back to a checkpoint tells what it took up there."""
        self.team.same(self.watch.learner.parameters(), step.done)
        self.watch.stepped(step)
        self.order = self._told(replaced=self.watch.step != step.done)


class Follower(Ordered):
    """Stands where the leader's watch does, and does what it says."""

    def __init__(self, learner: Trainable, optimizer: torch.optim.Optimizer, team: Team) -> None:
        self.learner, self.optimizer, self.team = learner, optimizer, team
        self.order = self._hear()

    def _hear(self) -> Order:
        """Hear of the next step."""
        order: Order = self.team.told()
        if order.replaced:
            tensors = self.team.tensors(None)
            self.learner.restore(tensors)
            self.optimizer.state.clear()
            restore_optimizer(self.optimizer, tensors)
        return order

    def note(self, kind: str, text: str) -> None:
        """The leader tells a person what there is to tell; this is for whoever reads the log of the processes."""
        log.info("%s: %s", kind, text)

    def stepped(self, step: Step) -> None:
        """Compare, and hear what follows."""
        self.team.same(self.learner.parameters(), step.done)
        self.order = self._hear()


def led(watch: Watch, team: Team) -> "Watch | Leader":
    """What the loop of the process that leads hears: the watch itself where it is alone."""
    return watch if team.size == 1 else Leader(watch, team)
