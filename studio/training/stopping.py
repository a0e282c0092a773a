"""Rules that end a training by themselves: a curve gone flat, and patience. Pure functions of the measurements."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import pvariance

from studio.runs import sentences as say
from studio.runs.smoothing import Measured, Value, figure, line, shown, smoothed

FLAT_WINDOW, FLAT_SHARE = 8, 0.15
"""Measurements in DVAR's window, and its limit: eight measurements of 25 steps are the 200 steps of the authors' code, whose limit is this too."""
FALL = 0.02
"""Part of all that was gained, which is too little for a window to go on for."""
LEAST = 0.2
"""Change in % that counts as better to patience."""


@dataclass(frozen=True)
class Reason:
    """Why a training ends: an English sentence with {places}, and what fills them."""

    text: str
    values: Mapping[str, Value] = field(default_factory=dict)

    @property
    def sentence(self) -> str:
        """The sentence in English."""
        return self.text.format(**self.values)


def stop(rule: str, readings: Sequence[Measured], patience: int) -> Reason | None:
    """The reason why `rule` ("never", "flat", "patience") ends a training now; None when it does not."""
    if rule == "flat":
        return flat(readings)
    return out_of_patience(readings, patience) if rule == "patience" else None


def flat(readings: Sequence[Measured], window: int = FLAT_WINDOW, limit: float = FLAT_SHARE) -> Reason | None:
    """DVAR (Voronov et al. 2023, arXiv 2302.04841, section 4): stop when the variance of the newest `window` measurements is less than `limit` of that of all.

    By that alone a curve that falls evenly would end after 2.6 windows, so those measurements must not fall clearly either, or by no more than FALL of what was gained.
    """
    values = [r.train for r in readings]
    if len(values) < 2 * window:
        return None
    everything = pvariance(values)
    share = pvariance(values[-window:]) / everything if everything > 0 else 0.0
    if share >= limit or _falls(readings[-window:], max(values) - min(values)):
        return None
    return _because(say.WENT_FLAT, step=readings[-1].step, window=window, share=100 * share, limit=100 * limit)


def out_of_patience(readings: Sequence[Measured], patience: int, least: float = LEAST) -> Reason | None:
    """Stop when `patience` measurements in a row were no better, by `least` %, than the best before them; on the held line where there is one, smoothed as its curve is."""
    curve = smoothed([figure(reading) for reading in readings])
    best, since = 0, 0
    for place, value in enumerate(curve[1:], 1):
        if value < curve[best] - least:
            best, since = place, 0
        else:
            since += 1
    if since < patience:
        return None
    return _because(say.NO_BETTER, step=readings[-1].step, count=since, best=readings[best].step, gain=-curve[best])


def _falls(newest: Sequence[Measured], gained: float) -> bool:
    """Whether measurements fall clearly, and by a part of what was gained that is worth the time."""
    now = line([r.step for r in newest], [r.train for r in newest])
    return not now.none and -now.rate * now.span / 100 > FALL * gained


def _because(text: str, **values: Value) -> Reason:
    """A reason with its numbers as a person reads them."""
    return Reason(text, {name: shown(value) for name, value in values.items()})
