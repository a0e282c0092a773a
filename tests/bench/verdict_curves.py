"""Eighteen simulated trainings of known truth for the diagnosis: noise, late bests, double descent, slow drift, steps, restarts of the learning rate, early ends."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from studio.runs.diagnosis import Progress, Verdict, diagnose
from studio.runs.smoothing import Point

Curve = Callable[[float], float]
"""The loss in % against step 0, by the share of the run that is done."""


@dataclass(frozen=True)
class Simulated:
    """One simulated training: its name, the states that are right, the true losses on training and held-out images, how it is measured, and its learning rate by share of the run."""

    name: str
    right: tuple[str, ...]
    train: Curve
    held: Curve | None = None
    steps: int = 1000
    measured: int = 40
    noise: float = 0.5
    rate: Curve = lambda share: 0.005
    ended: bool = True
    until: float = 1.0

    def points(self, seed: int = 0) -> list[Point]:
        """What a run would have measured."""
        dice, found = Random(f"{self.name} {seed}"), [Point(0, 0.0, 0.0, 0.0, None if self.held is None else 0.0)]
        for place in range(1, self.measured + 1):
            share = place / self.measured * self.until
            train = self.train(share) + dice.gauss(0, self.noise)
            held = None if self.held is None else self.held(share) + dice.gauss(0, self.noise)
            found.append(Point(round(share * self.steps), train, train - 2 - self.noise, train + 2 + self.noise, held))
        return found

    @property
    def progress(self) -> Progress:
        """Where its learning rate is."""
        parts = [self.rate(i / 200) for i in range(200)]
        done = round(200 * self.until)
        return Progress(parts[max(0, done - 1)], max(parts[:done]), sum(parts[done:]) / sum(parts), self.ended)

    def distance(self, step: int) -> float:
        """The true loss in % of that of step 0."""
        return 100 + (self.held or self.train)(step / self.steps)

    def true_best(self, steps: list[int]) -> int:
        """The step whose true loss is lowest."""
        return min(steps, key=self.distance)

    def judged(self, seed: int = 0) -> Verdict:
        """The diagnosis."""
        return diagnose(self.points(seed), self.progress)


def fall(depth: float, pace: float) -> Curve:
    """An exponential fall to -depth, a share of 1 / pace being its time constant."""
    return lambda share: depth * (math.exp(-pace * share) - 1)


def _cosine(share: float) -> float:
    """A rate that falls to nothing."""
    return 0.01 * (1 + math.cos(math.pi * min(1.0, share))) / 2 + 1e-12


def _restarts(share: float) -> float:
    """Three cosines, one after the other."""
    return 0.01 * (1 + math.cos(math.pi * ((3 * share) % 1 if share < 1 else 1))) / 2 + 1e-12


def _bumps(share: float) -> float:
    """A loss that jumps at each restart of the rate and falls below where it was."""
    cycle, within = min(2, int(3 * share)), 3 * share - min(2, int(3 * share))
    floor, jump = -12 - 5 * cycle, (0, 6, 6)[cycle]
    before = 0 if cycle == 0 else -12 - 5 * (cycle - 1) + jump
    return before + (floor - before) * (1 - math.exp(-4 * within))


def _stairs(share: float) -> float:
    """Three falls with long treads between."""
    return -sum(8 / (1 + math.exp(-120 * (share - at))) for at in (0.1, 0.35, 0.6))


def _valley(depth: float, at: float, rise: float) -> Curve:
    """A fall to -depth at a share, and a rise by `rise` until the end."""
    return lambda share: -depth * (1 - (1 - min(share, at) / at) ** 3) + (rise * ((share - at) / (1 - at)) ** 1.5 if share > at else 0)


def _twice(share: float, more: float = 0.0) -> float:
    """Double descent: down to -14, up to -6, and down to -22 or on."""
    if share < 0.25:
        return -14 * math.sin(math.pi / 2 * share / 0.25)
    if share < 0.45:
        return -14 + 8 * math.sin(math.pi / 2 * (share - 0.25) / 0.2)
    return -6 - 16 * (1 - math.exp(-6 * (share - 0.45))) - more * (share - 0.45)


PLATEAU, IMPROVING, OVERFITTING, DIVERGING, NOTHING, EARLY = ("plateau",), ("improving",), ("overfitting",), ("diverging",), ("not_learning",), ("too_early",)
CURVES: tuple[Simulated, ...] = (
    Simulated("plateau, little noise", PLATEAU, fall(20, 12), steps=500, measured=20, noise=0.15),
    Simulated("plateau, much noise", PLATEAU, fall(25, 14), fall(20, 14), steps=3000, measured=60, noise=1.5),
    Simulated("still improving, runs on", IMPROVING, fall(40, 1.2), fall(30, 1.2), steps=2000, until=0.4, ended=False, measured=20),
    Simulated("stopped early", IMPROVING, fall(40, 1.5), fall(32, 1.5), steps=4000, until=0.3, measured=16),
    Simulated("cosine to nothing", PLATEAU, lambda s: -24 * math.sin(math.pi / 2 * min(1, 1.6 * s)), lambda s: -20 * math.sin(math.pi / 2 * min(1, 1.6 * s)), steps=800, rate=_cosine, noise=0.3),
    Simulated("late best, slight rise", PLATEAU, fall(25, 4), _valley(18, 0.85, 0.3), steps=1500, noise=0.4, measured=30),
    Simulated("overfitting", OVERFITTING, fall(60, 3), _valley(20, 0.3, 14), steps=1200, noise=0.8, measured=24),
    Simulated("overfitting, mild", OVERFITTING, fall(45, 2), _valley(15, 0.5, 4), steps=2500, noise=0.4, measured=40),
    Simulated("overfitting, much noise", OVERFITTING, fall(60, 3), _valley(20, 0.2, 18), steps=600, noise=2.0, measured=24),
    Simulated("double descent, falling", IMPROVING, fall(50, 2), lambda s: _twice(s, 14), steps=6000, noise=0.5, measured=60),
    Simulated("double descent, flat", PLATEAU, fall(30, 9), lambda s: _twice(min(s, 0.8) if s < 0.8 else 0.8), steps=5000, noise=0.5, measured=60),
    Simulated("slow drift", IMPROVING, lambda s: -6 * s, lambda s: -5 * s, steps=10_000, noise=0.2, measured=50),
    Simulated("stairs, on the last tread", PLATEAU, _stairs, lambda s: 0.8 * _stairs(s), steps=2000, noise=0.3, measured=40),
    Simulated("restarts of the rate, falling", IMPROVING, _bumps, _bumps, steps=3000, noise=0.3, until=0.8, measured=40, rate=_restarts, ended=False),
    Simulated("restarts of the rate, at the end", PLATEAU, lambda s: _bumps(min(s, 0.8)), steps=3600, noise=0.3, measured=48, rate=_restarts),
    Simulated("diverging after a good start", DIVERGING, _valley(15, 0.4, 45), _valley(12, 0.4, 45), steps=400, noise=0.8, measured=16),
    Simulated("nothing but noise", NOTHING, lambda s: 0.0, lambda s: 0.0, steps=700, noise=0.3, measured=14),
    Simulated("one measurement", EARLY, fall(20, 3), steps=1000, until=0.05, measured=1, ended=False),
)
