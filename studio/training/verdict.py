"""The verdict on a training that runs: what its vectors and the losses of its steps say at once, else the diagnosis of its curve. Pure functions."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from studio.runs import sentences as say
from studio.runs.diagnosis import Progress, Rise, Verdict, diagnose, filled
from studio.runs.smoothing import Measured, Value

STILL_STEPS, STILL = 20, 1e-5
"""Steps after which vectors count as unmoved, and the share of an ordinary word's length that is no movement."""
LONG = 100.0
"""Times an ordinary word's length that no training needs: trained words stay within a few tens."""
LATE, BEFORE, HIGH = 10, 10, 3.0
"""Newest steps whose mean error is compared, least steps before them, and the ratio that is no accident."""
BROKEN, BROKEN_WINDOW = 3, 20
"""Steps without finite numbers, among so many, that mean divergence."""


@dataclass(frozen=True)
class Movement:
    """How the vectors moved: mean length and distance from the start, length of an ordinary word, rate, steps taken in this run, and how many of all its prompts hold the word."""

    norm: float
    distance: float
    ordinary: float
    rate: float
    steps: int
    naming: tuple[int, int] = (1, 1)


def judge(readings: Sequence[Measured], movement: Movement, progress: Progress, train: Rise | None = None, held: Rise | None = None) -> Verdict:
    """The verdict on measurements, oldest first, the first of them at the start; `train` and `held` say how far each line lies above its best."""
    return _unmoved(movement, progress) or _long(movement, progress) or diagnose(readings, progress, train, held)


def alarm(losses: Sequence[float], movement: Movement, progress: Progress | None = None) -> Verdict | None:
    """What must be said at once, from the errors of the newest steps (not a number where a step had none), oldest first."""
    now = progress or Progress(movement.rate)
    broken = sum(not math.isfinite(loss) for loss in losses[-BROKEN_WINDOW:])
    if broken >= BROKEN:
        return broken_steps(broken, min(BROKEN_WINDOW, len(losses)), now)
    return _long(movement, now) or _high([loss for loss in losses if math.isfinite(loss)], now)


def broken_steps(count: int, window: int, progress: Progress) -> Verdict:
    """The verdict on steps without finite numbers."""
    return _said(say.BROKEN, say.RESTART, progress, count=count, window=window)


def _unmoved(movement: Movement, progress: Progress) -> Verdict | None:
    """Prompts without the word, or vectors that stay where they are."""
    if movement.naming[0] == 0 and movement.naming[1] > 0:
        return _said(say.UNNAMED, say.NAME_IT, progress, count=movement.naming[1])
    if movement.steps >= STILL_STEPS and movement.distance <= STILL * movement.ordinary:
        return _said(say.STILL, say.RAISE, progress, steps=movement.steps, rate=movement.rate)
    return None


def _long(movement: Movement, progress: Progress) -> Verdict | None:
    """Vectors without measure."""
    if math.isfinite(movement.norm) and movement.norm <= LONG * movement.ordinary:
        return None
    return _said(say.LONG, say.RESTART, progress, times=movement.norm / movement.ordinary, norm=movement.norm, ordinary=movement.ordinary)


def _high(losses: Sequence[float], progress: Progress) -> Verdict | None:
    """Errors of the newest steps far above those before them, and beyond the spread of those."""
    late, early = losses[-LATE:], losses[:-LATE]
    if len(early) < BEFORE:
        return None
    now, before = sum(late) / LATE, sum(early) / len(early)
    spread = math.sqrt(sum((v - before) ** 2 for v in early) / (len(early) - 1))
    if now <= HIGH * before or now <= before + 4 * spread / math.sqrt(LATE):
        return None
    return _said(say.HIGH, say.RESTART, progress, count=LATE, times=now / max(before, 1e-12), loss=now, before=before)


def _said(text: str, advice: str, progress: Progress, **values: Value) -> Verdict:
    """A verdict with its numbers as a person reads them."""
    known = filled((text, advice), {"rate": progress.rate, "lower": progress.rate / 10, **values})
    return Verdict(say.SENTENCES[text], text, advice, known, learning_rate=progress.rate or None, ended=progress.ended)
