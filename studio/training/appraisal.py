"""The appraiser: measures what is learned as often as a training can afford, says the verdict, keeps the best, and tells when to stop."""

import math
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from torch import Tensor

from studio.dataset.batches import Sample
from studio.diffusion.model import Model
from studio.runs.diagnosis import Progress, Rise, Verdict
from studio.runs.smoothing import best_of, figure, smoothed
from studio.training.methods.trainable import Trainable
from studio.training.passes import Plan
from studio.training.probe import MOST_PAIRS, PAIRS, STRATA, Errors, Material, Probe, Reading, changes, draw, unseen
from studio.training.stopping import Reason, stop
from studio.training.verdict import Movement, alarm, judge

SHARE = 0.08
"""Part of the time that measuring may take by count; what the clock says stays under a tenth."""
SINGLE, SEVERAL = 4.0, 2.5
"""Visits without gradients, many at once, that take as long as one picture's share of a step with gradients, for steps of one picture and of several.
Measured on the tiny world on one core: 3.7 and 2.3, the prompts of a measurement not counted."""
MEMORY = 60
"""Newest errors of steps that the alarm looks at."""


@dataclass(frozen=True)
class Rules:
    """How often to measure, in steps (0 = never), the last step, the rule that may end the run, and its patience in measurements."""

    every: int
    end: int
    rule: str = "never"
    patience: int = 5


@dataclass(frozen=True)
class Appraisal:
    """One look: the reading, the verdict, whether it is the best so far, why the run should stop, and what measuring took in seconds."""

    reading: Reading
    verdict: Verdict
    best: bool
    reason: Reason | None
    seconds: float

    @property
    def stop(self) -> str | None:
        """Why the run should stop, in English; None when it should not."""
        return self.reason.sentence if self.reason else None

    @property
    def event(self) -> dict[str, Any]:
        """What the probe event says."""
        known = {name: value if value is None or math.isfinite(value) else None for name, value in asdict(self.reading).items()}
        return {**known, "seconds": round(self.seconds, 4)}


@dataclass
class Appraiser:
    """Looks at the live `words` with a probe; `ordinary` is the length of an ordinary word, 0 where no word learns, `naming` how many of all training prompts hold the word.

    `progress` says where the run is in its learning rate schedule; a run that sets none has a constant rate.
    """

    probe: Probe
    words: Callable[[], Mapping[str, Tensor]]
    rules: Rules
    ordinary: float
    naming: tuple[int, int] = (1, 1)
    history: list[Reading] = field(default_factory=list)
    first: int = 0
    progress: Callable[[], Progress] | None = None
    _start: Errors | None = None
    _best: dict[str, Errors] = field(default_factory=dict)
    _last: Errors | None = None
    _losses: deque[float] = field(default_factory=lambda: deque(maxlen=MEMORY))
    _movement: Movement | None = None
    _alarmed: bool = False

    @classmethod
    def of(cls, model: Model, learner: Trainable, plan: Plan, held: tuple[Sample, ...], rules: Rules) -> "Appraiser":
        """The appraiser of a run, made while the network is untouched; its `rules.every` may come out larger than asked, so that measuring stays affordable."""
        batches, changing = plan.batches, learner.changes_network
        material = Material(batches.samples, held, batches.templates, batches.name, batches.seed, batches.flip)
        lines = 1 + bool(unseen(material)) + changing
        count, every = afford(rules.every, batches.size, batches.parts, lines)
        probe = draw(model, material, count, changing, (plan.clip_skip, plan.others))
        if not learner.words():  # what is beside words has no usual length, and may learn without its name
            return cls(probe, learner.words, replace(rules, every=every), 0.0)
        return cls(probe, learner.words, replace(rules, every=every), math.hypot(*model.median_norms), batches.naming())

    def begin(self, step: int) -> Appraisal | None:
        """Measure the untouched start at `step`; nothing when it was restored, or when nothing is measured."""
        if self._start is not None or not self.rules.every:
            return None
        self.first = step
        return self.look(step)

    def due(self, step: int) -> bool:
        """Whether to look after `step`: every so often, and at the end."""
        return bool(self.rules.every) and (step % self.rules.every == 0 or step == self.rules.end) and (not self.history or self.history[-1].step < step)

    def stepped(self, loss: float, rate: float, figures: Mapping[str, float], done: int) -> Verdict | None:
        """Hear of the step after which `done` are done; a verdict when something must be said at once, once until it is over."""
        self._losses.append(loss)
        self._movement = Movement(*self._moved(figures), rate, done - self.first, self.naming)
        found = alarm(tuple(self._losses), self._movement)
        new, self._alarmed = found is not None and not self._alarmed, found is not None
        return found if new else None

    def _moved(self, figures: Mapping[str, float]) -> tuple[float, float, float]:
        """Length, distance from the start, and usual length; for what has no usual length whether it moved at all and is finite."""
        norm, distance = figures["norm"], figures["distance"]
        if self.ordinary:
            return norm, distance, self.ordinary
        return 0.0 if math.isfinite(norm) else math.inf, math.inf if distance else 0.0, 1.0

    def look(self, step: int) -> Appraisal:
        """Measure now; the first look of all is what later ones are compared with."""
        began = time.monotonic()
        now = self._last = self.probe.measure(self.words())
        start = self._start = self._start or now
        reading = self.probe.reading(step, now, start)
        self.history.append(reading)
        for line in ("train", "held"):
            self._note_best(line, now)
        better = best_of(self.history) == len(self.history) - 1
        return Appraisal(reading, self.verdict(), better, stop(self.rules.rule, self.history, self.rules.patience), time.monotonic() - began)

    def verdict(self, ended: bool = False) -> Verdict:
        """The diagnosis of what was measured so far; `ended` says that the run is over."""
        movement = self._movement or Movement(*self._moved({"norm": self.ordinary, "distance": math.inf}), 0.0, 0, self.naming)
        progress = replace(self.progress() if self.progress else Progress(movement.rate, movement.rate), ended=ended)
        return alarm(tuple(self._losses), movement, progress) or judge(self.history, movement, progress, self._rise("train"), self._rise("held"))

    @property
    def best(self) -> tuple[int, float] | None:
        """Step of the lowest point of the smoothed curve so far and what was measured there, in %; None before one is better than the start."""
        at = best_of(self.history)
        return None if at is None else (self.history[at].step, figure(self.history[at]))

    def state(self) -> dict[str, Any]:
        """Everything needed to go on, as plain JSON; numbers come back bit for bit."""
        return {
            "first": self.first,
            "start": asdict(self._start) if self._start else None,
            "best": {line: asdict(errors) for line, errors in self._best.items()},
            "last": asdict(self._last) if self._last else None,
            "losses": [None if math.isnan(loss) else loss for loss in self._losses],
            "history": [asdict(reading) for reading in self.history],
            "movement": asdict(self._movement) if self._movement else None,
            "alarmed": self._alarmed,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from `state`."""
        self.first, self._alarmed = state["first"], state["alarmed"]
        self._start = _errors(state["start"]) if state["start"] else None
        self._best = {line: _errors(kept) for line, kept in state["best"].items()}
        self._last = _errors(state["last"]) if state.get("last") else None
        self._losses = deque((math.nan if loss is None else loss for loss in state["losses"]), maxlen=MEMORY)
        self.history = [Reading(**kept) for kept in state["history"]]
        moved = state["movement"]
        self._movement = Movement(**{**moved, "naming": tuple(moved["naming"])}) if moved else None

    def change(self, **rules: Any) -> None:
        """Take up other rules, such as another end, while the run goes on."""
        self.rules = replace(self.rules, **rules)

    def _lowest(self, line: str) -> int:
        """The place of the lowest point of a line, smoothed."""
        values = smoothed([math.inf if (value := getattr(reading, line)) is None else value for reading in self.history])
        return min(range(len(values)), key=values.__getitem__)

    def _note_best(self, line: str, now: Errors) -> None:
        """Keep the errors of a line's lowest point, with which later ones are compared item by item."""
        if getattr(self.history[-1], line) is not None and self._lowest(line) == len(self.history) - 1:
            self._best[line] = now

    def _rise(self, line: str) -> Rise | None:
        """How far a line lies above its lowest point, over paired items."""
        if self._last is None or not self.history or line not in self._best or getattr(self.history[-1], line) is None:
            return None
        paired = changes(getattr(self._last, line), getattr(self._best[line], line))
        return Rise(self.history[self._lowest(line)].step, float(paired.mean()), float(paired.std(ddof=1)) / math.sqrt(len(paired)))


def afford(every: int, size: int, parts: int = 1, lines: int = 1) -> tuple[int, int]:
    """Evaluations in each of `lines` lines, and steps between measurements, so that measuring takes at most SHARE of the time; by count, not by the clock, so that a run that goes on is the same.

    A step sees `parts` batches of `size` pictures, each worth SINGLE or SEVERAL evaluations without gradients. Where even the fewest evaluations are too many for `every` steps,
    measurements come at a multiple of it: 25 steps of one picture pay for 25 x 4 x 0.08 = 8 evaluations, one line of 4 pairs; with a held-out line beside it they come every 50 steps.
    """
    if not every:
        return 2 * PAIRS, 0
    worth = every * size * parts * (SINGLE if size == 1 else SEVERAL) * SHARE
    pairs = int(worth / lines / 2)
    if pairs >= PAIRS:
        return 2 * min(MOST_PAIRS, pairs // STRATA * STRATA or PAIRS), every
    return 2 * PAIRS, every * math.ceil(2 * PAIRS * lines / worth)


def _errors(kept: Mapping[str, Any]) -> Errors:
    """Errors from JSON."""
    lines: dict[str, Sequence[float]] = {name: kept[name] for name in ("train", "held")}
    return Errors(tuple(lines["train"]), tuple(lines["held"]), kept["drift"])
