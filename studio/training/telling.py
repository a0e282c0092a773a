"""Telling: the figures of a run as rows of its curve, as events no more often than a page can use, and as lines of its log."""

import time
from collections import deque
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from studio.jobs import Lane
from studio.training.run import Run

SMOOTH = 0.98
"""How much the smoothed loss keeps of itself at each step."""
METRIC_SECONDS, PROGRESS_SECONDS = 0.1, 0.5
"""Least time between two events of a kind; curve.csv has every step."""
NEWEST = 60
"""Losses that are remembered, to see whether the newest are out of the common."""


@dataclass(frozen=True)
class Step:
    """One step that was taken: steps done so far, mean squared error, rate, a prompt it saw, and whether its numbers could be used."""

    done: int
    loss: float
    rate: float
    prompt: str
    used: bool


@dataclass
class Tally:
    """Figures that a resumed run takes up again: first step, smoothed loss, newest losses, steps without finite numbers, good steps since, halvings of the rate, loss scale."""

    first: int = 0
    average: float = 0.0
    counted: int = 0
    bad: int = 0
    scale: float = 1.0
    calm: int = 0
    halvings: int = 0
    losses: list[float] = field(default_factory=list)

    def add(self, loss: float) -> None:
        """Count one loss."""
        self.average = SMOOTH * self.average + (1 - SMOOTH) * loss
        self.counted += 1
        self.losses = [*self.losses[-NEWEST + 1 :], loss]

    @property
    def smoothed(self) -> float | None:
        """Moving average with the bias of its start taken out (Kingma & Ba 2015, section 3); None before the first loss."""
        return self.average / (1 - SMOOTH**self.counted) if self.counted else None


@dataclass
class Teller:
    """Says what a run does, to the page and into its folder."""

    run: Run
    lane: Lane
    durations: deque[float] = field(default_factory=lambda: deque(maxlen=20))
    _told: dict[str, float] = field(default_factory=dict)
    _pending: dict[str, Any] | None = None

    def metric(self, figures: dict[str, Any], left: int, extra: float) -> None:
        """Tell a step: `left` steps are still to be taken, and `extra` seconds of other work."""
        rate = len(self.durations) / max(sum(self.durations), 1e-9)
        eta = left / rate + extra
        self._pending = {**figures, "rate": rate, "eta": eta}
        if self.due("metric", METRIC_SECONDS) or left <= 0:
            self.flush()
        if self.due("progress", PROGRESS_SECONDS) or left <= 0:
            step, total = figures["step"], figures["total"]
            self.lane.emit("progress", step=step, total=total, rate=rate, eta=eta, text=f"Step {step} of {total}")

    def flush(self) -> None:
        """Emit the newest figures if they were not yet."""
        if self._pending:
            self.lane.emit("metric", **self._pending)
            self._pending = None

    def due(self, kind: str, seconds: float) -> bool:
        """Whether something of this kind may happen again; notes that it does."""
        now = time.monotonic()
        if now - self._told.get(kind, -1e9) < seconds:
            return False
        self._told[kind] = now
        return True

    def note(self, kind: str, step: int, text: str, **facts: Any) -> None:
        """Tell a "warning", a "log" or something "saved", and keep it in the run's log; a log that cannot be written is no reason to stop."""
        self.lane.emit(kind, **{**({} if kind == "saved" else {"text": text}), "step": step, **facts})
        try:
            self.run.tell("log", {"at": datetime.now().astimezone().isoformat(timespec="seconds"), "step": step, "kind": kind, "text": text})
        except OSError:
            return
