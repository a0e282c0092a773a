"""The smoothed curve of a training's measurements: its best point, its slope, and numbers as a person reads them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

SMOOTHING = 1 / 4
"""Share of the smoothed value before in a smoothed value."""
SLIGHT = 0.3
"""Change in % points over a window that is too small to be a trend."""
STUDENT = (math.inf, 6.31, 2.92, 2.35, 2.13, 2.02, 1.94, 1.89, 1.86, 1.83, 1.81)
"""95th percentiles of Student's t by degrees of freedom: bounds of a two-sided 90 % interval."""

Value = float | int | str


class Measured(Protocol):
    """One measurement: the changes in % against step 0 on training images, with the bounds of its 90 % interval, and on held-out images, None where there are none."""

    @property
    def step(self) -> int:
        """Steps done."""

    @property
    def train(self) -> float:
        """On training images."""

    @property
    def low(self) -> float:
        """Lower bound of it."""

    @property
    def high(self) -> float:
        """Upper bound of it."""

    @property
    def held(self) -> float | None:
        """On held-out images."""


@dataclass(frozen=True)
class Point:
    """A measurement as it was read from a file."""

    step: int
    train: float
    low: float
    high: float
    held: float | None = None


@dataclass(frozen=True)
class Slope:
    """Change in % per 100 steps, with the bounds of its 90 % interval, and the steps it spans."""

    rate: float
    low: float
    high: float
    span: int

    @property
    def none(self) -> bool:
        """Whether there is no fall to speak of."""
        return self.high >= 0 or abs(self.rate) * self.span / 100 < SLIGHT


def figure(reading: Measured) -> float:
    """What a measurement is judged by: held-out images, or training images where there are none."""
    return reading.train if reading.held is None else reading.held


def smoothed(values: Sequence[float]) -> list[float]:
    """The exponential moving average of values; the first, which is what all are compared with, is exact and counts for itself alone.

    A value that is not finite is infinite, and is passed over by the next.
    """
    found: list[float] = list(values[:1])
    last: float | None = None
    for value in values[1:]:
        if not math.isfinite(value):
            found.append(math.inf)
            continue
        last = value if last is None else following(last, value)
        found.append(last)
    return found


def following(before: float, value: float) -> float:
    """The smoothed value after `before`."""
    return (1 - SMOOTHING) * value + SMOOTHING * before


def best_of(readings: Sequence[Measured]) -> int | None:
    """The place of the lowest point of the smoothed curve, the earliest of equals; None while none is below step 0."""
    curve = smoothed([figure(r) for r in readings])
    at = min(range(len(curve)), key=curve.__getitem__, default=0)
    return at if curve and curve[at] < 0 else None


def line(steps: Sequence[float], values: Sequence[float]) -> Slope:
    """Least squares through values over steps, per 100 steps, with Student's interval of the residuals; two values have no interval."""
    count = len(steps)
    mean, level = sum(steps) / count, sum(values) / count
    spread = sum((s - mean) ** 2 for s in steps)
    rate = sum((s - mean) * (v - level) for s, v in zip(steps, values, strict=True)) / spread
    rest = sum((v - level - rate * (s - mean)) ** 2 for s, v in zip(steps, values, strict=True))
    free = count - 2
    half = math.inf if free < 1 else STUDENT[min(free, len(STUDENT) - 1)] * math.sqrt(rest / free / spread)
    return Slope(100 * rate, 100 * (rate - half), 100 * (rate + half), round(steps[-1] - steps[0]))


def shown(value: Value) -> Value:
    """A number as a person reads it, the same everywhere: text with one decimal from ten on, else with two digits that count; whole numbers and words as they are."""
    if isinstance(value, int | str):
        return value
    if not math.isfinite(value):
        return str(value)
    if abs(value) >= 10:
        return f"{value:.1f}".removesuffix(".0")
    mantissa, _, exponent = f"{value:.2g}".partition("e")
    return f"{mantissa}e{int(exponent)}" if exponent else mantissa


def signed(value: float) -> str:
    """A change in % with its sign."""
    text = str(shown(abs(value)))
    return text if text == "0" else f"{'-' if value < 0 else '+'}{text}"
