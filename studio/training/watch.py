"""Watch: what happens around the steps of a run - figures, previews, copies, checkpoints, asks."""

import time
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from studio.errors import Diverged
from studio.jobs import Lane
from studio.training.methods.trainable import Trainable
from studio.training.optim import Schedule, optimizer_tensors
from studio.training.run import Checkpoint, Run

SMOOTH = 0.98
"""How much the smoothed loss keeps of itself at each step."""
CHECKPOINT_STEPS, CHECKPOINT_SECONDS = 25, 10.0
"""A killed run loses at most this much."""
METRIC_SECONDS, PROGRESS_SECONDS = 0.1, 0.5
"""Least time between two events of a kind; curve.csv has every step."""
STILL = 20
"""Steps after which a word that has not moved is reported."""
BAD = 3
"""Steps in a row without finite numbers that end a run."""


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
    """Figures that a resumed run takes up again."""

    first: int = 0
    average: float = 0.0
    counted: int = 0
    bad: int = 0
    scale: float = 1.0

    def add(self, loss: float) -> None:
        """Count one loss."""
        self.average = SMOOTH * self.average + (1 - SMOOTH) * loss
        self.counted += 1

    @property
    def smoothed(self) -> float | None:
        """Moving average with the bias of its start taken out (Kingma & Ba 2015, section 3); None before the first loss."""
        return self.average / (1 - SMOOTH**self.counted) if self.counted else None


@dataclass(frozen=True)
class Rhythm:
    """The rates of a run and its end, and how often it saves a copy and paints a preview, in steps (0 = never)."""

    schedule: Schedule
    save_every: int
    preview_every: int

    @property
    def end(self) -> int:
        """The step after which training is finished."""
        return self.schedule.end


@dataclass
class Watch:
    """Hears of every step; `paint` makes a preview of the live words and returns (path, prompt)."""

    run: Run
    lane: Lane
    learner: Trainable
    optimizer: torch.optim.Optimizer
    rhythm: Rhythm
    shelf: Path
    paint: Callable[[int], tuple[Path, str]]
    tally: Tally = field(default_factory=Tally)
    step: int = 0
    _durations: deque[float] = field(default_factory=lambda: deque(maxlen=20))
    _paint_seconds: float = 0.0
    _mark: float = 0.0
    _told: dict[str, float] = field(default_factory=dict)
    _pending: dict[str, Any] | None = None
    _before: list[torch.Tensor] = field(default_factory=list)
    _still_said: bool = False

    @property
    def scale(self) -> float:
        """Loss scale of the next step: keeps fp16 gradients from vanishing, 1 for other types."""
        return self.tally.scale

    @property
    def end(self) -> int:
        """The step after which training is finished."""
        return self.rhythm.end

    def rate(self) -> float:
        """The learning rate of the next step."""
        return self.rhythm.schedule.at(self.step)

    def note(self, kind: str, text: str) -> None:
        """Tell something of the step that is being taken: a "warning" or a "log"."""
        self.lane.emit(kind, text=text, step=self.step)

    def begin(self, resumed: bool) -> None:
        """Before the first step: a checkpoint to come back to, and the baseline preview."""
        self._before = [p.detach().clone() for p in self.learner.parameters()]
        self.run.cut_back(self.step)
        if not resumed:
            self.checkpoint()
            if self.rhythm.preview_every:
                self.preview()
        self._mark = time.monotonic()

    def stopping(self) -> bool:
        """Whether a person asked to stop."""
        return self.lane.stopping()

    def stepped(self, step: Step) -> None:
        """After each step: count, tell, preview, save, answer asks, let others in."""
        now = time.monotonic()
        self._durations.append(now - self._mark)
        self.step = step.done
        self._count(step)
        self._tell(step)
        self._look_still()
        self._every()
        self.lane.breathe()
        self._mark = time.monotonic()

    def _count(self, step: Step) -> None:
        """Tally the loss, or the failure; raises Diverged after three in a row."""
        if step.used:
            self.tally.bad = 0
            self.tally.add(step.loss)
            return
        if self.tally.scale > 1:
            self.tally.scale = max(1.0, self.tally.scale / 4)
            return
        self.tally.bad += 1
        self.lane.emit("warning", text=f"Step {step.done} gave numbers that are not finite (loss {step.loss}); it was skipped.", step=step.done)
        if self.tally.bad >= BAD:
            copy = self._last_good()
            raise Diverged(
                f"{BAD} steps in a row up to step {step.done} gave numbers that are not finite (loss {step.loss}, learning rate {step.rate:g}).",
                f"The last good vectors are in {copy}; {self.shelf.name} was left as it was saved before. Try a lower learning rate.",
            )

    def _tell(self, step: Step) -> None:
        """One line of the curve, and events no more often than a page can use."""
        figures = self.learner.figures()
        rate = len(self._durations) / max(sum(self._durations), 1e-9)
        left = self.rhythm.end - step.done
        previews = left // self.rhythm.preview_every if self.rhythm.preview_every else 0
        eta = left / rate + previews * self._paint_seconds
        smoothed = self.tally.smoothed
        row = (step.done, step.loss, smoothed, step.rate, figures["norm"], figures["distance"])
        with self.run.curve.open("a", encoding="utf-8") as curve:
            curve.write(",".join("" if v is None else repr(v) for v in row) + "\n")
        loss = step.loss if step.used else None
        self._pending = {"step": step.done, "total": self.rhythm.end, "loss": loss, "smoothed": smoothed, "rate": rate, "learn_rate": step.rate, "prompt": step.prompt, **figures, "eta": eta}
        if self._due("metric", METRIC_SECONDS) or step.done == self.rhythm.end:
            self._flush()
        if self._due("progress", PROGRESS_SECONDS) or step.done == self.rhythm.end:
            self.lane.emit("progress", step=step.done, total=self.rhythm.end, rate=rate, eta=eta, text=f"Step {step.done} of {self.rhythm.end}")

    def _flush(self) -> None:
        """Emit the newest figures if they were not yet."""
        if self._pending:
            self.lane.emit("metric", **self._pending)
            self._pending = None

    def _due(self, kind: str, seconds: float) -> bool:
        """Whether an event of this kind may be emitted again; notes that it is."""
        now = time.monotonic()
        if now - self._told.get(kind, -1e9) < seconds:
            return False
        self._told[kind] = now
        return True

    def _look_still(self) -> None:
        """Say once when the words have not moved in twenty steps."""
        if (self.step - self.tally.first) % STILL or self._still_said:
            return
        now = [p.detach().clone() for p in self.learner.parameters()]
        if all(torch.equal(a, b) for a, b in zip(now, self._before, strict=True)):
            self._still_said = True
            text = f"The embedding has not moved in {STILL} steps: it learns nothing. Check that the template or the captions hold [name] and that the learning rate is not far too small."
            self.lane.emit("warning", text=text, step=self.step)
        self._before = now

    def _every(self) -> None:
        """Previews, copies and checkpoints that are due, and what a person asked for."""
        rhythm = self.rhythm
        if self.lane.asked("sample") or (rhythm.preview_every and self.step % rhythm.preview_every == 0):
            self.preview()
        if rhythm.save_every and self.step % rhythm.save_every == 0 and self.step < rhythm.end:
            self.lane.emit("saved", path=str(self.copy()), step=self.step)
        if self.lane.asked("save"):
            self.shelve()
        if self.step % CHECKPOINT_STEPS == 0 or self._due("checkpoint", CHECKPOINT_SECONDS):
            self.checkpoint()

    def preview(self) -> None:
        """Paint the live words and tell where the picture is."""
        started = time.monotonic()
        path, prompt = self.paint(self.step)
        self._paint_seconds = time.monotonic() - started
        self._flush()
        self.lane.emit("preview", step=self.step, path=str(path), prompt=prompt)

    def copy(self) -> Path:
        """Keep a copy of the words as they are now in the run's folder, and return its path."""
        path = self.run.copies / f"{self.shelf.stem}-{self.step}{self.shelf.suffix}"
        self.learner.shelve(path, self.step)
        return path

    def _last_good(self) -> Path:
        """A copy of the words as they are, or as they were at the last checkpoint when they are spoilt too."""
        kept = None if self._finite() else self.run.latest()
        if kept is not None:
            self.learner.restore(kept.tensors)
            self.step = kept.step
        return self.copy()

    def _finite(self) -> bool:
        """Whether every number that learns is finite."""
        return all(bool(torch.isfinite(p).all()) for p in self.learner.parameters())

    def shelve(self) -> None:
        """Save the words where prompts find them."""
        self.learner.shelve(self.shelf, self.step)
        self.lane.emit("saved", path=str(self.shelf), step=self.step)

    def checkpoint(self) -> None:
        """Make this step one the run can go on from, bit for bit."""
        self._due("checkpoint", 0)
        if not self._finite():
            return  # never put a spoilt state above a good one
        self.run.save(Checkpoint(self.step, {**self.learner.state(), **optimizer_tensors(self.optimizer)}, asdict(self.tally)))

    def finish(self) -> None:
        """After the last step: tell the newest figures, save for resuming and for use."""
        self._flush()
        self.checkpoint()
        self.shelve()
