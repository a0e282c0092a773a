"""Watchdog: what is wrong with a run beyond its loss - no gradient, words that do not move, numbers that are not finite, steps that became slow."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from studio.training.methods.trainable import Trainable
from studio.training.telling import Step, Tally

STILL = 20
"""Steps after which a word that has not moved is reported."""
UNMOVED = f"What learns has not moved in {STILL} steps: it learns nothing. Check that the template or the captions hold [name] and that the learning rate is not far too small."
MANY = 4096
"""Numbers of a parameter that are looked at."""
HALVINGS = 3
"""How often numbers that are not finite halve the rate; the next time the run goes back."""
CALM = 100
"""Good steps in a row after which earlier failures are forgotten."""
OVERFLOW = 4
"""By how much the loss scale of fp16 is divided when gradients overflow."""
WARM, SPELL, SLOW = 5, 20, 3.0
"""Steps that may be slow at the start, steps that are compared, and the ratio that is told."""
CROWDED = 0.97
"""Share of the card's memory above which the driver spills into RAM."""


def all_finite(parameters: Sequence[Tensor]) -> bool:
    """Whether every number that learns is finite."""
    return all(bool(torch.isfinite(p).all()) for p in parameters)


def teaches(parameters: Sequence[nn.Parameter]) -> bool:
    """Whether a backward pass reached what learns: a gradient that is not zero everywhere."""
    return any(p.grad is not None and bool(p.grad.any()) for p in parameters)


def spoilt(tally: Tally) -> bool:
    """Count a step whose numbers are not finite: a smaller loss scale, then a halved rate up to three times; True when the run must go back."""
    if tally.scale > 1:
        tally.scale = max(1.0, tally.scale / OVERFLOW)
        return False
    tally.bad, tally.calm = tally.bad + 1, 0
    if tally.bad > HALVINGS:
        return True
    tally.halvings += 1
    return False


def fine(tally: Tally, loss: float) -> None:
    """Count a step that could be used."""
    tally.add(loss)
    tally.calm += 1
    if tally.calm >= CALM:
        tally.bad = 0


@dataclass
class Stillness:
    """Says once when words have not moved in twenty steps."""

    before: list[Tensor] = field(default_factory=list)
    said: bool = False

    def look(self, steps: int, parameters: Sequence[Tensor]) -> bool:
        """Whether to say it after `steps` steps of the run."""
        if not self.before or self.said or steps % STILL:
            self.before = self.before or [_some(p) for p in parameters]
            return False
        now = [_some(p) for p in parameters]
        self.said = all(torch.equal(a, b) for a, b in zip(now, self.before, strict=True))
        self.before = now
        return self.said


def _some(parameter: Tensor) -> Tensor:
    """At most some thousand numbers of a parameter, spread over it: what learns moves them all."""
    flat = parameter.detach().flatten()
    return flat[:: max(1, len(flat) // MANY)].clone()


@dataclass
class Pace:
    """Says once when steps take three times as long as they did at first."""

    first: list[float] = field(default_factory=list)
    newest: list[float] = field(default_factory=list)
    said: bool = False

    def add(self, seconds: float) -> float | None:
        """Count a step; how many times slower steps became, when that must be told."""
        if len(self.first) < WARM + SPELL:
            self.first.append(seconds)
            return None
        self.newest = [*self.newest[-SPELL + 1 :], seconds]
        times = statistics.median(self.newest) / max(statistics.median(self.first[WARM:]), 1e-9)
        if self.said or len(self.newest) < SPELL or times < SLOW:
            return None
        self.said = True
        return times


def crawling(slower: float) -> str:
    """What to say of steps that take so many times as long as at first."""
    why = "the card's memory is full and the driver uses system memory; choose a smaller batch or picture size" if crowded() else "something else may use this machine"
    return f"Steps take {slower:.1f} times as long as they did at first: {why}."


def crowded() -> bool:
    """Whether the card's memory is all but full."""
    if not torch.cuda.is_available():
        return False
    free, total = torch.cuda.mem_get_info()
    return free < (1 - CROWDED) * total


@dataclass
class Lookout:
    """After each step: the self-test of the first one that sees the word, what learns but does not move, steps that became slow."""

    still: Stillness = field(default_factory=Stillness)
    pace: Pace = field(default_factory=Pace)
    tested: bool = False

    def look(self, step: Step, taken: int, seconds: float, learner: Trainable) -> list[str]:
        """Sentences about the step, the run's `taken`th, that took so many seconds."""
        parameters, words, found = learner.parameters(), learner.words(), []
        if not self.tested and step.used and (not words or any(word.lower() in step.prompt.lower() for word in words)):
            self.tested = True
            if not teaches(parameters):
                found.append(f"Step {step.done} saw the word, but no gradient reached it: learning is off. Please report this, with the log of this run.")
        if self.still.look(taken, parameters):
            found.append(UNMOVED)
        slower = self.pace.add(seconds)
        return found if slower is None else [*found, crawling(slower)]
