"""Course: what of a run may change while it goes on, and the rate and the end that follow from it."""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from studio.errors import InputError
from studio.requests.continuing import BY_STEP
from studio.requests.train import TrainConfig
from studio.runs.diagnosis import Progress
from studio.training.optim import Schedule

SEEN = 200
"""Steps whose rates are looked at where there are many."""


@dataclass(frozen=True)
class Course:
    """The knobs as they are now, the step the run began at, and what rollbacks left of the rate.

    A rate that a person writes means what it says: `factor` is 1 again, and as many halvings as `forgiven` no longer count.
    """

    config: TrainConfig
    first: int
    factor: float = 1.0
    forgiven: int = 0

    @cached_property
    def schedule(self) -> Schedule:
        """Rates by step; raises InputError."""
        config = self.config
        return Schedule.parse(config.learn_rate, config.steps, self.first, config.rate_shape, config.warmup)

    @property
    def end(self) -> int:
        """The step after which training is finished."""
        return self.schedule.end

    def rate(self, step: int, halvings: int = 0) -> float:
        """The learning rate of the step after `step`, when numbers that were not finite halved it so many times."""
        return self.schedule.at(step) * self.factor * 0.5 ** max(0, halvings - self.forgiven)

    def progress(self, step: int, halvings: int = 0) -> Progress:
        """Where a run that took `step` steps is in its schedule; sums over many steps are taken from some of them."""
        done, rest = self._rates(self.first, max(step, self.first + 1), halvings), self._rates(step, self.end, halvings)
        taken, to_come = sum(done) / len(done) * (step - self.first), sum(rest) / max(1, len(rest)) * max(0, self.end - step)
        return Progress(self.rate(max(self.first, step - 1), halvings), max(done), to_come / max(taken + to_come, 1e-300))

    def _rates(self, first: int, end: int, halvings: int) -> list[float]:
        """Rates of some steps, evenly from `first` to before `end`."""
        return [self.rate(step, halvings) for step in range(first, end, max(1, (end - first) // SEEN))]

    def changed(self, data: dict[str, Any], step: int, halvings: int = 0, allowed: tuple[str, ...] = BY_STEP) -> "Course":
        """The course after a change taken at `step`; raises InputError in words for what is not `allowed` to change, or not to this."""
        frozen = sorted(set(data) - set(allowed))
        if frozen:
            raise InputError(f"{', '.join(frozen)} cannot be changed while a run goes on.", f"These can: {', '.join(allowed)}.")
        course = replace(self, config=type(self.config).check({**self.config.model_dump(), **data}))
        if "learn_rate" in data:
            course = replace(course, factor=1.0, forgiven=halvings)
        if course.end <= step:
            raise InputError(f"Max steps: step {step} is done, and with this change the run would end at step {course.end}.", "Stop the run to end it now.")
        return course
