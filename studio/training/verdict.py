"""The verdict: one sentence on how a training goes, from its measurements and from how its vectors moved. Pure functions."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from studio.runs import sentences as say
from studio.training.probe import Reading

NEEDED, IDLE_NEEDED, FLAT_NEEDED = 2, 4, 6
"""Measurements after the first before anything is said, before nothing learned is said, and before flat is said."""
WINDOW = 5
"""Newest measurements whose slope is told."""
NOTHING, SLIGHT, CLEAR, LARGE = 0.1, 0.3, 3.0, 20.0
"""Changes in %: too small to be learning; too small over a window to be a trend; worse beyond doubt when it lasts; worse beyond doubt at once."""
LAG, SIGMAS, SEEN = 0.5, 1.65, 5.0
"""How far, in %, and by how many of its standard errors a line must lie above its best; and how far for three measurements to be believed without the second."""
STILL_STEPS, STILL = 20, 1e-5
"""Steps after which vectors count as unmoved, and the share of an ordinary word's length that is no movement."""
LONG = 100.0
"""Times an ordinary word's length that no training needs: trained words stay within a few tens."""
LATE, BEFORE, HIGH = 10, 10, 3.0
"""Newest steps whose mean error is compared, least steps before them, and the ratio that is no accident."""
BROKEN, BROKEN_WINDOW = 3, 20
"""Steps without finite numbers, among so many, that mean divergence."""
STUDENT = (math.inf, 6.31, 2.92, 2.35, 2.13, 2.02, 1.94, 1.89, 1.86, 1.83, 1.81)
"""95th percentiles of Student's t by degrees of freedom: bounds of a two-sided 90 % interval."""

Value = float | int | str


@dataclass(frozen=True)
class Movement:
    """How the vectors moved: mean length and distance from the start, length of an ordinary word, rate, steps taken in this run, and how many of all its prompts hold the word."""

    norm: float
    distance: float
    ordinary: float
    rate: float
    steps: int
    naming: tuple[int, int] = (1, 1)


@dataclass(frozen=True)
class Lag:
    """A line's best step, by how many % of its error then it is worse now, and the standard error of this over paired items."""

    step: int
    amount: float
    error: float


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


@dataclass(frozen=True)
class Verdict:
    """What is said: its kind, an English sentence with {places}, what fills them, and the step since which it holds."""

    kind: str
    text: str
    values: Mapping[str, Value] = field(default_factory=dict)
    since: int | None = None

    @property
    def sentence(self) -> str:
        """The sentence in English."""
        return self.text.format(**self.values)


def judge(readings: Sequence[Reading], movement: Movement, train: Lag | None = None, held: Lag | None = None) -> Verdict:
    """The verdict on measurements, oldest first, the first of them at the start; `train` and `held` say how far each line lies above its best."""
    return (
        _unmoved(movement)
        or _long(movement)
        or _worse(readings, movement)
        or _memorising(readings, held)
        or _unlearning(readings, train)
        or _early(readings)
        or _idle(readings)
        or _flat(readings)
        or _learning(readings)
    )


def alarm(losses: Sequence[float], movement: Movement) -> Verdict | None:
    """What must be said at once, from the errors of the newest steps (not a number where a step had none), oldest first."""
    broken = sum(not math.isfinite(loss) for loss in losses[-BROKEN_WINDOW:])
    if broken >= BROKEN:
        return _said(say.BROKEN, count=broken, window=min(BROKEN_WINDOW, len(losses)), rate=movement.rate)
    return _long(movement) or _high([loss for loss in losses if math.isfinite(loss)], movement)


def slope(readings: Sequence[Reading]) -> Slope:
    """Least squares through the train line, with Student's interval of the residuals; two measurements have no interval."""
    return line([r.step for r in readings], [r.train for r in readings])


def line(steps: Sequence[float], values: Sequence[float]) -> Slope:
    """Least squares through values over steps, per 100 steps."""
    count = len(steps)
    mean, level = sum(steps) / count, sum(values) / count
    spread = sum((s - mean) ** 2 for s in steps)
    rate = sum((s - mean) * (v - level) for s, v in zip(steps, values, strict=True)) / spread
    rest = sum((v - level - rate * (s - mean)) ** 2 for s, v in zip(steps, values, strict=True))
    free = count - 2
    half = math.inf if free < 1 else STUDENT[min(free, len(STUDENT) - 1)] * math.sqrt(rest / free / spread)
    return Slope(100 * rate, 100 * (rate - half), 100 * (rate + half), round(steps[-1] - steps[0]))


def _unmoved(movement: Movement) -> Verdict | None:
    """Prompts without the word, or vectors that stay where they are."""
    if movement.naming[0] == 0 and movement.naming[1] > 0:
        return _said(say.UNNAMED, count=movement.naming[1])
    if movement.steps >= STILL_STEPS and movement.distance <= STILL * movement.ordinary:
        return _said(say.STILL, steps=movement.steps, rate=movement.rate)
    return None


def _long(movement: Movement) -> Verdict | None:
    """Vectors without measure."""
    if math.isfinite(movement.norm) and movement.norm <= LONG * movement.ordinary:
        return None
    return _said(say.LONG, times=movement.norm / movement.ordinary, norm=movement.norm, ordinary=movement.ordinary, rate=movement.rate)


def _high(losses: Sequence[float], movement: Movement) -> Verdict | None:
    """Errors of the newest steps far above those before them, and beyond the spread of those."""
    late, early = losses[-LATE:], losses[:-LATE]
    if len(early) < BEFORE:
        return None
    now, before = sum(late) / LATE, sum(early) / len(early)
    spread = math.sqrt(sum((v - before) ** 2 for v in early) / (len(early) - 1))
    if now <= HIGH * before or now <= before + 4 * spread / math.sqrt(LATE):
        return None
    return _said(say.HIGH, count=LATE, times=now / max(before, 1e-12), loss=now, before=before, rate=movement.rate)


def _worse(readings: Sequence[Reading], movement: Movement) -> Verdict | None:
    """A train line clearly above the start: far, or for two measurements."""
    after = readings[1:]
    if not after:
        return None
    last = after[-1]
    lasting = len(after) > 1 and all(r.train > CLEAR and r.low > NOTHING for r in after[-2:])
    if not math.isfinite(last.train) or (last.low > NOTHING and (lasting or last.train > LARGE)):
        return _said(say.WORSE, loss=last.train, rate=movement.rate)
    return None


def _memorising(readings: Sequence[Reading], held: Lag | None) -> Verdict | None:
    """Pictures never seen are matched clearly worse than they were, while those learned from are not."""
    if held is None or not _risen([(r.step, math.inf if r.held is None else r.held) for r in readings], held):
        return None
    then = next((r.train for r in readings if r.step == held.step), math.inf)
    if readings[-1].train > then + SLIGHT:
        return None
    return _said(say.MEMORISING, held.step, loss=held.amount)


def _unlearning(readings: Sequence[Reading], train: Lag | None) -> Verdict | None:
    """Pictures learned from are matched clearly worse than they were, by a tenth of what was gained or more."""
    if train is None or not _risen([(r.step, r.train) for r in readings], train):
        return None
    gained = -min(r.train for r in readings)
    return _said(say.UNLEARNING, train.step, loss=train.amount) if train.amount > max(CLEAR, gained / 10) else None


def _risen(line: Sequence[tuple[int, float]], lag: Lag) -> bool:
    """Whether a line of (step, change in %) rose from its best: by more than its items' spread explains, or so far and for so long that anybody sees it."""
    best = min(value for _, value in line)
    after = [value - best for step, value in line if step > lag.step]
    if len(after) < NEEDED or lag.amount <= LAG:
        return False
    return lag.amount > SIGMAS * lag.error or min(after[-2:]) > LARGE or (len(after) >= 3 and min(after[-3:]) > SEEN)


def _early(readings: Sequence[Reading]) -> Verdict | None:
    """Too few measurements."""
    count = len(readings) - 1
    if count >= NEEDED:
        return None
    return _said(say.EARLY, count=max(0, count), needed=NEEDED)


def _idle(readings: Sequence[Reading]) -> Verdict | None:
    """Nothing gained: said as such once there are measurements enough."""
    last = readings[-4:]
    inside = all(r.low <= 0 <= r.high for r in last)
    if len(readings) > IDLE_NEEDED and (inside or all(abs(r.train) < NOTHING for r in last)):
        return _said(say.IDLE, steps=last[-1].step - readings[0].step, change=last[-1].train)
    return _said(say.UNCLEAR, change=last[-1].train) if last[-1].high >= 0 or last[-1].train > -NOTHING else None


def _flat(readings: Sequence[Reading]) -> Verdict | None:
    """No fall over the newest measurements; since the first one from which the line stays where they are."""
    if len(readings) <= FLAT_NEEDED or not slope(readings[-WINDOW:]).none:
        return None
    newest = [r.train for r in readings[-WINDOW:]]
    count = WINDOW
    while count < len(readings) and min(newest) - SLIGHT <= readings[-count - 1].train <= max(newest) + SLIGHT:
        count += 1
    since = readings[-count].step
    return _said(say.FLAT, since, gain=-readings[-1].train)


def _learning(readings: Sequence[Reading]) -> Verdict:
    """The line falls, or fell and is not yet called flat."""
    now = slope(readings[-WINDOW:])
    if now.rate >= 0:
        return _said(say.PAUSING, gain=-readings[-1].train)
    return _said(say.LEARNING, rate=-now.rate, gain=-readings[-1].train)


def _said(text: str, since: int | None = None, **values: Value) -> Verdict:
    """A verdict with its numbers as a person reads them."""
    shown: dict[str, Value] = {name: shortened(value) for name, value in values.items()}
    if since is not None:
        shown["since"] = since
    return Verdict(say.SENTENCES[text], text, shown, since)


def shortened(value: Value) -> Value:
    """A number with one decimal from ten on, else with two digits that count; whole numbers and words as they are, what is not finite as a word."""
    if isinstance(value, int | str):
        return value
    if not math.isfinite(value):
        return str(value)
    short = round(value, 1) if abs(value) >= 10 else float(f"{value:.2g}")
    return int(short) if short.is_integer() else short
