"""Diagnosis of a training from its curve: how it goes, which step is best, and what to do. Pure functions, without torch.

The curve is the loss on held-out images where there are any, else on training images, in % against step 0, smoothed as TensorBoard does (exponential moving average).
Every number in a sentence is a point of that curve or a difference of two, with the steps they belong to; nothing is extrapolated.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from studio.runs import sentences as say
from studio.runs.smoothing import SLIGHT, Measured, Value, best_of, figure, line, shown, signed, smoothed

NEEDED, IDLE_NEEDED, FLAT_NEEDED = 2, 4, 6
"""Measurements after the first before anything is said, before nothing learned is said, and before a plateau is said of a training that goes on."""
WINDOW = 5
"""Newest measurements whose trend is looked at first."""
NOTHING, CLEAR, LARGE = 0.1, 3.0, 20.0
"""Changes in %: too small to be learning; worse beyond doubt when it lasts; worse beyond doubt at once."""
RISE, SIGMAS, SEEN = 0.5, 1.65, 5.0
"""How far, in % points, and by how many standard errors the curve must lie above its best to be rising; and how far for three measurements to be believed without the second."""
FEWEST = 6
"""Measurements with two neighbours from which noise is told."""
PART = 0.05
"""Part of all that was gained, below which a rise is none worth telling."""
SURE, LONGER, NEWER = 2.0, 8, 0.25
"""By how many standard errors, known from the noise of the whole curve, a slope must fall; measurements of a longer window; part of its fall that must lie in its newer half."""
SPENT, DECAYED = 0.02, 0.01
"""Share of all that the learning rate still has to give, and share of its peak, below which little more will change."""


@dataclass(frozen=True)
class Progress:
    """Where a run is: `rate` is the learning rate of its newest step and `peak` the highest so far; `left` is the share of the sum of all rates that is still to come.

    `ended` says that the run is over, `keeps` that it keeps the weights of its best step.
    """

    rate: float = 0.0
    peak: float = 0.0
    left: float = 1.0
    ended: bool = False
    keeps: bool = True

    @property
    def spent(self) -> bool:
        """Whether the schedule has nothing more to give, however many steps are left."""
        return self.decayed and self.left < SPENT

    @property
    def decayed(self) -> bool:
        """Whether the rate fell to almost nothing."""
        return 0 < self.rate < DECAYED * self.peak


@dataclass(frozen=True)
class Rise:
    """The step at which a line was best, by how many % of its loss then it is worse now, and the standard error of that over paired items."""

    step: int
    amount: float
    error: float


@dataclass(frozen=True)
class Verdict:
    """A diagnosis: its state, a finding and an advice in English with {places}, and what fills them; and for programs what it is made of.

    `since`: the step from which the state holds. `best_step`: the lowest point of the curve, None while nothing is better than step 0. `advised_step`: the step to use now, or None.
    `change`: the change in % points over `span` (first and last step) that the sentence speaks of. `learning_rate`: that of the newest step. `ended`: whether the run is over.
    """

    state: str
    text: str
    advice: str = ""
    values: Mapping[str, Value] = field(default_factory=dict)
    since: int | None = None
    best_step: int | None = None
    advised_step: int | None = None
    change: float | None = None
    span: tuple[int, int] | None = None
    learning_rate: float | None = None
    ended: bool = False

    @property
    def sentence(self) -> str:
        """Finding and advice in English."""
        return f"{self.text} {self.advice}".strip().format(**self.values)

    @property
    def facts(self) -> dict[str, Any]:
        """Everything, as plain JSON."""
        known = asdict(self)
        finite = self.change is not None and math.isfinite(self.change)
        return {**known, "values": dict(self.values), "change": round(self.change, 4) if finite and self.change is not None else None, "span": list(self.span) if self.span else None}


def diagnose(readings: Sequence[Measured], progress: Progress, train: Rise | None = None, held: Rise | None = None) -> Verdict:
    """The diagnosis of measurements, oldest first, the first of them at the start; `train` and `held` say how far each line lies above its best over paired items, where that is known."""
    curve = _Curve.of(readings, progress, train, held)
    return _rising(curve) or _diverged(curve) or _early(curve) or _idle(curve) or _trend(curve)


@dataclass(frozen=True)
class _Curve:
    """Measurements with their smoothed curve, the place of its best point, and what else a diagnosis looks at."""

    readings: Sequence[Measured]
    raw: list[float]
    smooth: list[float]
    best: int | None
    progress: Progress
    train: Rise | None
    held: Rise | None

    @classmethod
    def of(cls, readings: Sequence[Measured], progress: Progress, train: Rise | None, held: Rise | None) -> "_Curve":
        """The curve of measurements."""
        raw = [figure(r) for r in readings]
        return cls(readings, raw, smoothed(raw), best_of(readings), progress, train, held)

    @property
    def steps(self) -> list[int]:
        """Steps of the measurements."""
        return [r.step for r in self.readings]

    @property
    def count(self) -> int:
        """Measurements after the first."""
        return len(self.readings) - 1

    @property
    def noise(self) -> float:
        """Standard deviation of a single measurement, from how far each lies off the middle of its neighbours; 0 where these are too few to tell noise from a bend."""
        ends = zip(self.raw[1:], self.raw[2:], self.raw[3:], strict=False)
        off = sorted(abs(b - (a + c) / 2) for a, b, c in ends if all(map(math.isfinite, (a, b, c))))
        return off[len(off) // 2] * 1.4826 / math.sqrt(1.5) if len(off) >= FEWEST else 0.0

    @property
    def luck(self) -> float:
        """By how many times the noise the best of so many smoothed measurements is expected to lie below its true value, and what the newest add: less is no rise."""
        return 1.2 + 0.7 * math.sqrt(2 * math.log(max(2, self.count)))

    def said(self, state: str, finding: str, advice: str, span: tuple[int, int] | None = None, **values: Value) -> Verdict:
        """A verdict; `span` are places of the curve. Where the best weights were not kept, it doesn't advise to use them."""
        best = None if self.best is None else self.steps[self.best]
        steps = (self.steps[span[0]], self.steps[span[1]]) if span else None
        change = self.smooth[span[1]] - self.smooth[span[0]] if span else None
        known: dict[str, Value] = {"rate": self.progress.rate, "lower": self.progress.rate / 10, **values}
        known |= {} if best is None else {"best": best}
        known |= {"from": steps[0], "to": steps[1]} if steps else {}
        if "{best}" in advice and not self.progress.keeps and best != self.steps[-1]:
            advice = say.NOT_KEPT
        since = values.get("since")
        return Verdict(
            state,
            finding,
            advice,
            filled((finding, advice), known),
            since if isinstance(since, int) else None,
            best,
            None if state == "not_learning" else best,
            change,
            steps,
            self.progress.rate or None,
            self.progress.ended,
        )


def _rising(curve: _Curve) -> Verdict | None:
    """The curve rose clearly from its best: overfitting where training images still improve, else getting worse."""
    best, last, ended = curve.best, curve.count, curve.progress.ended
    if best is None or not _risen(curve, best):
        return None
    level, now = curve.smooth[best], curve.smooth[last]
    values: dict[str, Value] = {"since": curve.steps[best], "low": signed(level), "now": signed(now)}
    if curve.readings[-1].held is not None:
        train = smoothed([r.train for r in curve.readings])
        if train[last] <= train[best] + SLIGHT and curve.readings[-1].high < 0:
            return curve.said("overfitting", say.OVERFITTING, say.USE_MORE_IMAGES if ended else say.STOP_USE_BEST, (best, last), **values)
    if now - level <= max(CLEAR, -level / 10):
        return None
    return curve.said("diverging", say.WORSENING, say.LOWER_AFTER if ended else say.STOP_OR_LOWER, (best, last), **values)


def _risen(curve: _Curve, best: int) -> bool:
    """Whether the newest measurements lie above the best by more than noise and the items' spread explain, or so far and for so long that anybody sees it."""
    level = curve.smooth[best]
    after = [value - level for value in curve.smooth[best + 1 :]]
    if len(after) < NEEDED or not math.isfinite(after[-1]):
        return len(after) >= NEEDED
    newest = [value - level for value in curve.raw[max(best + 1, len(curve.raw) - 3) :]]
    if min(after[-1], sum(newest) / len(newest)) <= max(RISE, PART * -level, curve.luck * curve.noise):
        return False
    rise = curve.held if curve.readings[-1].held is not None else curve.train
    if rise is None or rise.amount > SIGMAS * rise.error:
        return True
    return min(after[-2:]) > LARGE or (len(after) >= 3 and min(after[-3:]) > SEEN)


def _diverged(curve: _Curve) -> Verdict | None:
    """The loss on training images is clearly above step 0: far, or for two measurements."""
    after = curve.readings[1:]
    if not after:
        return None
    last = after[-1]
    lasting = len(after) > 1 and all(r.train > CLEAR and r.low > NOTHING for r in after[-2:])
    if not math.isfinite(last.train) or (last.low > NOTHING and (lasting or last.train > LARGE)):
        return curve.said("diverging", say.WORSE, say.RESTART, (0, curve.count), change=last.train)
    return None


def _early(curve: _Curve) -> Verdict | None:
    """Too few measurements."""
    if curve.count >= NEEDED:
        return None
    return curve.said("too_early", say.EARLY, _wait(curve), count=max(0, curve.count), needed=NEEDED)


def _wait(curve: _Curve) -> str:
    """What to advise while nothing can be said."""
    return say.COMPARE if curve.progress.ended or curve.progress.spent else say.KEEP_TRAINING


def _idle(curve: _Curve) -> Verdict | None:
    """Nothing gained, on any images or only on those that were never seen; said as such once there are measurements enough, or no more will come."""
    newest, last, span = curve.readings[-IDLE_NEEDED:], curve.readings[-1], (0, curve.count)
    change, now = signed(curve.smooth[-1]), {"now": signed(curve.smooth[-1]), "gain": -last.train}
    still = all(abs(r.train) < NOTHING and abs(figure(r)) < NOTHING for r in newest)
    inside = all(r.low <= 0 <= r.high for r in newest) and not _falls(curve, 0)
    many = curve.count >= IDLE_NEEDED
    if (still or inside) and (many or (curve.progress.ended and still)):
        return curve.said("not_learning", say.IDLE, say.RAISE, span, change=change)
    if last.high >= 0 or last.train > -NOTHING:
        return curve.said("too_early", say.UNCLEAR, _wait(curve), span, change=change)
    if curve.best is None:
        return curve.said("overfitting", say.UNSEEN, say.MORE_IMAGES, span, **now) if many and last.train < -CLEAR else curve.said("too_early", say.UNCLEAR, _wait(curve), span, change=change)
    return None


def _trend(curve: _Curve) -> Verdict:
    """The curve falls, stays, or does not say yet."""
    first, last, progress = _falling(curve), curve.count, curve.progress
    if first is not None:
        return _improving(curve, (first, last))
    if curve.count >= FLAT_NEEDED or (progress.ended and curve.count >= IDLE_NEEDED):
        since = _since(curve)
        advice = say.USE_BEST if progress.ended or progress.spent else say.STOP_OR_LOWER if progress.rate else say.STOP_USE_BEST
        return curve.said("plateau", say.PLATEAU, advice, (since, last), since=curve.steps[since])
    return curve.said("too_early", say.NO_TREND, say.USE_BEST if progress.ended or progress.spent else say.KEEP_TRAINING, (0, last), change=signed(curve.smooth[-1]))


def _improving(curve: _Curve, span: tuple[int, int]) -> Verdict:
    """A falling curve: go on, unless the run has ended or its learning rate has."""
    change, progress = curve.smooth[span[0]] - curve.smooth[span[1]], curve.progress
    if progress.ended:
        finding, advice = (say.DECAYED, say.EXTEND) if progress.decayed else (say.IMPROVED, say.USE_OR_EXTEND)
    else:
        finding, advice = (say.SPENT, say.USE_BEST) if progress.spent else (say.IMPROVING, say.KEEP_TRAINING)
    return curve.said("improving", finding, advice, span, change=change)


def _falling(curve: _Curve) -> int | None:
    """The place since which the curve falls to its end: over the newest measurements, or, where noise hides that, over a longer stretch; None when it does not."""
    count = len(curve.raw)
    for window in sorted({min(window, count) for window in (WINDOW, LONGER, count // 3, count // 2) if window >= WINDOW}):
        if _falls(curve, count - window):
            return count - window
    return None


def _falls(curve: _Curve, first: int) -> bool:
    """Whether the curve falls clearly from a place to its end; a long stretch must fall in its newer half too."""
    raw, steps = curve.raw[first:], curve.steps[first:]
    fall = curve.smooth[first] - curve.smooth[-1]
    if len(raw) < 2 or not all(map(math.isfinite, raw)) or fall < SLIGHT:
        return False
    if len(raw) < 4:
        return raw[-1] < raw[-2]
    found, half = line(steps, raw), len(raw) // 2
    spread = math.sqrt(sum((step - sum(steps) / len(steps)) ** 2 for step in steps))
    if found.none or -found.rate / 100 < SURE * curve.noise / spread:
        return False
    newer = line(steps[-half:], raw[-half:])
    return len(raw) <= WINDOW or -newer.rate * newer.span / 100 >= max(SLIGHT, NEWER * fall)


def _since(curve: _Curve) -> int:
    """The place from which the curve stays as near to its best as noise and a slight change explain; its best place at the latest."""
    at = best = curve.best if curve.best is not None else curve.count
    near = max(SLIGHT, curve.luck * curve.noise)
    while at > 1 and curve.smooth[at - 1] <= curve.smooth[best] + near:
        at -= 1
    return at


def sentence_of(said: Mapping[str, Any] | None) -> str:
    """The English sentence of a diagnosis in JSON; empty when there is none."""
    if not said:
        return ""
    text = " ".join(str(said[part]) for part in ("text", "advice") if said.get(part))
    for name, value in (said.get("values") or {}).items():
        text = text.replace(f"{{{name}}}", str(shown(value)))
    return text


def filled(texts: Sequence[str], known: Mapping[str, Value]) -> dict[str, Value]:
    """Those of some values that sentences have places for, as a person reads them."""
    return {name: shown(value) for name, value in known.items() if any(f"{{{name}}}" in text for text in texts)}
