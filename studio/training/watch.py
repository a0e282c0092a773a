"""Watch: what happens around the steps of a run - figures, previews, measurements, checkpoints, what a person asks, and what goes wrong."""

import math
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch

from studio.cancellation import Stopped, stoppable
from studio.errors import InputError, StudioError
from studio.formats.provenance import Provenance
from studio.jobs import Lane
from studio.runs.diagnosis import Progress, Verdict
from studio.runs.smoothing import figure, smoothed
from studio.training import watchdog
from studio.training.appraisal import Appraisal, Appraiser
from studio.training.course import Course
from studio.training.journal import Journal
from studio.training.lines import objects
from studio.training.methods.trainable import Trainable
from studio.training.optim import optimizer_tensors, restore_optimizer
from studio.training.resting import Rest
from studio.training.rhythm import Rhythm
from studio.training.run import Checkpoint, Run
from studio.training.seams import Listener, Painted, Rows
from studio.training.telling import Step, Tally, Teller
from studio.training.verdict import broken_steps
from studio.trash import copy

__all__ = ["Rhythm", "Step", "Tally", "Watch"]

T = TypeVar("T")
TENTH = 0.1
"""What is left of the rate after a run went back."""


@dataclass
class Watch:
    """Hears of every step and answers for the run; `begin` comes before the first step and `finish` after the last."""

    run: Run
    lane: Lane
    learner: Trainable
    optimizer: torch.optim.Optimizer
    shelf: Path
    base: Course
    rows: Rows
    appraiser: Appraiser
    tally: Tally = field(default_factory=Tally)
    step: int = 0
    rhythm: Rhythm = field(default_factory=Rhythm)
    listeners: Sequence[Listener] = ()
    afford: Callable[[int], int] = lambda every: every
    ended: str = ""
    discarded: bool = False
    origin: Callable[[int], Provenance | None] = lambda _step: None

    def __post_init__(self) -> None:
        self.journal = Journal.open(self.run.journal)
        self.course = self.journal.course(self.base, self.step)
        self.teller = Teller(self.run, self.lane)
        self.rest = Rest(self.lane, self._answer)
        self.appraiser.progress = self._progress
        self._lookout = watchdog.Lookout()
        self._mark, self._alarm, self._saving = 0.0, "", 0.0

    @property
    def scale(self) -> float:
        """Loss scale of the next step: keeps fp16 gradients from vanishing, 1 for other types."""
        return self.tally.scale

    @property
    def end(self) -> int:
        """The step after which training is finished."""
        return self.course.end

    def rate(self) -> float:
        """The learning rate of the next step."""
        return self.course.rate(self.step, self.tally.halvings)

    def _progress(self) -> Progress:
        """Where the run is in its schedule, and whether its best weights are kept."""
        return replace(self.course.progress(self.step, self.tally.halvings), keeps=self.learner.copies)

    def note(self, kind: str, text: str) -> None:
        """Tell something of the step that is being taken: a "warning" or a "log"."""
        self.teller.note(kind, self.step, text)

    def stopping(self) -> bool:
        """Whether a person asked to stop, or a rule ended the run."""
        return bool(self.ended) or self.lane.stopping()

    def take_up(self, kept: Checkpoint) -> None:
        """Go on from a checkpoint: everything that learns, and every figure, as it was then."""
        self.step = kept.step
        self.learner.restore(kept.tensors)
        self.optimizer.state.clear()
        restore_optimizer(self.optimizer, kept.tensors)
        self.tally = Tally(**kept.facts["tally"])
        self.appraiser.restore(kept.facts["probe"])
        self.ended = kept.facts.get("ended", "")
        self._follow()

    def begin(self, resumed: bool) -> None:
        """Before the first step: the logs as they were, the baseline of the measurements and the previews, and a checkpoint to come back to. Raises Stopped during the baseline."""
        self.rest.patiently(partial(self.run.cut_back, self.step if resumed else self.base.first - 1), "the log")
        for listener in self.listeners:
            listener.began(self.step)
        self._follow()
        self._lookout.still.look(0, self.learner.parameters())
        if not resumed:
            self._measured(self._evaluated(partial(self.appraiser.begin, self.step)))
            if self.course.config.preview_every:
                self.preview()
            self.checkpoint()
        elif self.step > self.base.first:
            with suppress(Stopped):
                self._every(again=True)  # what a stop cut short
        self._rest_on()
        self._mark = time.monotonic()

    def _rest_on(self) -> None:
        """Rest again where a run rested when it was killed."""
        waiting = self.journal.resting
        if waiting is None or self.stopping():
            return
        if waiting["ask"] == "pause":
            self._pause()
            return
        good = self.run.latest(good=True)
        if good is not None and good.step < self.step:
            self.take_up(good)
        self._rest_after(waiting)

    def stepped(self, step: Step) -> None:
        """After each step: count, tell, look for trouble, measure, preview, save, answer asks, let others in."""
        now = time.monotonic()
        seconds = now - self._mark
        self.teller.durations.append(seconds)
        self.step = step.done
        trouble = self._count(step)
        found = self._tell(step)
        self._look(step, seconds)
        reason = trouble or (found.sentence if found else "")
        if reason:
            self._go_back(reason, found)
        else:
            with suppress(Stopped):  # what is due at this step is done when the run goes on
                self._every()
                self._answer()
            self._follow()
        self.lane.breathe()
        self._mark = time.monotonic()

    def _count(self, step: Step) -> str:
        """Tally the loss, or the failure; why the run must go back, if it must."""
        if step.used:
            watchdog.fine(self.tally, step.loss)
            return ""
        halvings = self.tally.halvings
        if not watchdog.all_finite(self.learner.parameters()):
            return f"What is learned is no longer finite numbers after step {step.done}."
        if watchdog.spoilt(self.tally):
            return f"Step {step.done} gave numbers that are not finite again (loss {step.loss}), though the learning rate was halved {self.tally.halvings} times."
        if self.tally.halvings > halvings:
            self.note("warning", f"Step {step.done} gave numbers that are not finite (loss {step.loss}); it was skipped, and the learning rate is halved to {self.rate():g}.")
        return ""

    def _tell(self, step: Step) -> Verdict | None:
        """One row of the curve, the events, and what the appraiser must say at once."""
        figures, config = self.learner.figures(), self.course.config
        smoothed = self.tally.smoothed
        row = (step.done, step.loss, smoothed, step.rate, figures["norm"], figures["distance"])
        self.rest.patiently(partial(self.run.count, "curve", row), "the log")
        left = self.end - step.done
        rows = left // config.preview_every if config.preview_every else 0
        told = {"step": step.done, "total": self.end, "loss": step.loss if step.used else None, "smoothed": smoothed, "learn_rate": step.rate, "prompt": step.prompt, **figures}
        self.teller.metric({**told, **{k: None for k, v in figures.items() if not math.isfinite(v)}}, left, rows * self.rows.seconds)
        for listener in self.listeners:
            listener.stepped(step.done, told)
        return self.appraiser.stepped(step.loss, step.rate, figures, step.done) if step.used else None

    def _look(self, step: Step, seconds: float) -> None:
        """Tell what the lookout sees."""
        for sentence in self._lookout.look(step, step.done - self.tally.first, seconds, self.learner):
            self.note("warning", sentence)

    def _every(self, again: bool = False) -> None:
        """Measurements, previews, copies and checkpoints that are due; `again` leaves out what an earlier job of the run made."""
        config, at = self.course.config, self.step
        if self.appraiser.due(at):
            self._measured(self._evaluated(partial(self.appraiser.look, at)))
        if config.preview_every and at % config.preview_every == 0 and not (again and self._has_preview(at)):
            self.preview()
        if config.save_every and at % config.save_every == 0 and at < self.end and not (again and self._copy_path.is_file()):
            self._saved(self.rest_copy())
        if self.rhythm.due(at, self._saving) or self.teller.due("checkpoint", self.rhythm.wait(self._saving)):
            self.checkpoint()

    def _measured(self, found: Appraisal | None) -> None:
        """Tell a measurement and its verdict, keep the best, and end the run where a rule says so."""
        if found is None:
            return
        reading = asdict(found.reading)
        self.rest.patiently(partial(self.run.count, "probe", tuple(reading.values())), "the log")
        self.teller.flush()
        self.lane.emit("probe", **found.event)
        self._judged(found.verdict)
        for listener in self.listeners:
            listener.measured(self.step, reading)
        if found.best:
            self._keep_best()
        if found.reason is not None:
            self.ended = found.reason.sentence
            self.note("log", self.ended)

    def _judged(self, verdict: Verdict) -> None:
        """Tell a verdict."""
        said = {"step": self.step, **verdict.facts}
        self.rest.patiently(partial(self.run.tell, "verdicts", said), "the log")
        self.lane.emit("verdict", **said)

    def _keep_best(self) -> None:
        """Keep the best words so far as a file of their own, unless a better one is there: one that this run reached before it was killed."""
        best, path = self.appraiser.best, self.run.copies / f"{self.shelf.stem}-best{self.shelf.suffix}"
        kept = self.run.noted("best") or {}
        level = min(smoothed([figure(reading) for reading in self.appraiser.history]))
        if best is None or (path.is_file() and kept.get("smoothed", kept.get("value", math.inf)) < level):
            return
        facts = {"step": best[0], "value": best[1], "smoothed": level, "path": self.run.relative(path)}
        if self.learner.copies:
            self.rest.patiently(partial(self._write_to, path), "the best so far", self._size())
        self.rest.patiently(partial(self.run.note, "best", facts), "the log")
        self.lane.emit("best", **facts)

    def preview(self) -> None:
        """Paint a row of the live words, keep the weights it shows, and tell."""
        row = self._evaluated(partial(self.rest.patiently, partial(self.rows.paint, self.step), "a preview", 1 << 20))
        self._painted(row)

    def _painted(self, row: Sequence[Painted]) -> None:
        """Tell of previews and keep their weights."""
        if not row:
            return
        weights = self.rest_copy() if self.learner.copies else None
        self.teller.flush()
        for one in row:
            facts = {
                "step": self.step,
                "path": self.run.relative(one.path),
                "prompt": one.prompt,
                "column": one.column,
                "seed": one.seed,
                "weights": "" if weights is None else self.run.relative(weights),
            }
            self.rest.patiently(partial(self.run.tell, "previews", facts), "the log")
            self.lane.emit("preview", **{**facts, "path": str(one.path), "weights": str(weights or "")})
            for listener in self.listeners:
                listener.painted(one.path, weights or one.path)

    def rest_copy(self) -> Path:
        """Keep a copy of the words as they are now, resting while the disk cannot take it."""
        return self.rest.patiently(self.copy, "a copy", self._size())

    def copy(self) -> Path:
        """Keep a copy of the words as they are now in the run's folder, and return its path."""
        self._write_to(self._copy_path)
        return self._copy_path

    @property
    def _copy_path(self) -> Path:
        """Where a copy of this step is kept."""
        return self.run.copies / f"{self.shelf.stem}-{self.step}{self.shelf.suffix}"

    def _write_to(self, path: Path) -> None:
        """Write what is learned, with what there is to say of it."""
        self.learner.provenance = self.origin(self.step)
        self._shown(partial(self.learner.shelve, path, self.step))

    def _shown(self, act: Callable[[], T]) -> T:
        """Do what looks at what is learned, as a person will use it."""
        with self.learner.shown():
            return act()

    def _has_preview(self, step: int) -> bool:
        """Whether a row was painted at a step, by this job or an earlier one."""
        return any(said.get("step") == step and said.get("column", 0) >= 0 for said in objects(self.run.folder / "previews.jsonl"))

    def _evaluated(self, act: Callable[[], T]) -> T:
        """Measure or paint what is learned, as a user will use it; raises Stopped as soon as a stop is asked."""
        with stoppable(self.lane.stopping):
            return self._shown(act)

    def shelve(self) -> None:
        """Save what is learned where prompts find it."""
        self._write_to(self.shelf)
        self.learner.remember(self.shelf, self.optimizer)
        self._saved(self.shelf)

    def _keep_last(self) -> None:
        """Keep what was saved in the run's folder too, so that it can be had back after another step was chosen."""
        for end, path in (self.learner.shelves or {self.shelf.suffix: self.shelf}).items():
            if path.is_file():
                copy(path, self.run.copies / f"{self.shelf.stem}-{self.step}{end}")

    def _saved(self, path: Path) -> None:
        """Tell that a file was saved."""
        self.teller.note("saved", self.step, f"Saved {path.name}.", path=str(path))
        for listener in self.listeners:
            listener.saved(path)

    def checkpoint(self) -> None:
        """Make this step one the run can go on from, bit for bit; rests while the disk cannot take it."""
        self.teller.due("checkpoint", 0)
        if not watchdog.all_finite(self.learner.parameters()):
            return  # never put a spoilt state above a good one
        for listener in self.listeners:
            listener.checkpoint()
        began = time.monotonic()
        self.rest.patiently(partial(self.run.save, self._moment()), "a checkpoint", self._size())
        self._saving = time.monotonic() - began

    def _moment(self) -> Checkpoint:
        """Everything this run needs to go on."""
        facts = {"tally": asdict(self.tally), "probe": self.appraiser.state(), "journal": self.journal.upto(self.step), "ended": self.ended}
        return Checkpoint(self.step, {**self.learner.state(), **optimizer_tensors(self.optimizer)}, facts, good=self.tally.bad == 0 and not self._alarm)

    def _size(self) -> int:
        """Bytes a checkpoint takes, about."""
        return 3 * sum(p.numel() * p.element_size() for p in self.learner.parameters()) + 65536

    def _answer(self) -> None:
        """Do what a person asked."""
        while (data := self.lane.take("sample")) is not None:
            one = self._evaluated(partial(self.rest.patiently, partial(self.rows.sample, self.step, str(data.get("prompt") or ""), data.get("seed")), "a preview", 1 << 20))
            self._painted([one] if one else [])
        if self.lane.take("save") is not None:
            self.rest.patiently(self.shelve, "the result", self._size())
        while (data := self.lane.take("change")) is not None:
            self._change(data)
        if self.lane.take("discard") is not None:
            self.discarded = True
            self._write("discard")
        if not self._resting:
            self.lane.take("resume")  # pressed while nothing rested
            if self.lane.take("pause") is not None:
                self.checkpoint()
                self._write("pause")
                self._pause()

    @property
    def _resting(self) -> bool:
        """Whether somebody is to say that the run goes on."""
        return self.journal.resting is not None

    def _write(self, ask: str, data: dict[str, Any] | None = None) -> None:
        """Take something into the journal."""
        self.rest.patiently(partial(self.journal.write, self.step, ask, data, self.tally.halvings), "the journal")

    def _pause(self) -> None:
        """Rest until a person goes on; whatever they generate meanwhile uses the live words."""
        self.teller.flush()
        if self.rest.until(lambda: self.lane.take("resume") is not None, "You paused the training.", step=self.step):
            self._write("resume")

    def _change(self, data: dict[str, Any]) -> None:
        """Change what may be changed, or say why not."""
        try:
            self.course.changed(data, self.step)
        except StudioError as error:
            self.note("warning", f"Nothing was changed: {error}")
            return
        self._write("change", data)
        self._follow()
        said = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in data.items())
        self.note("log", f"Changed after step {self.step}: {said}.")

    def _follow(self) -> None:
        """Take the course that is in force after this step, changes of an earlier life included."""
        before, self.course = self.course, self.journal.course(self.base, self.step)
        config = self.course.config
        self.appraiser.change(every=self.afford(config.probe_every), end=self.end, rule=config.stop_rule, patience=config.patience)
        if config.preview_prompt != before.config.preview_prompt:
            self.rows = self.rows.with_prompts(config.preview_prompt)

    def _go_back(self, reason: str, verdict: Verdict | None) -> None:
        """Something is wrong beyond waiting: take up the last good checkpoint, keep its words as a file, and rest until a person decides."""
        came_from, self._alarm = self.step, reason
        self.teller.flush()
        good = self.run.latest(good=True) or self.run.latest()
        if good is None:
            raise InputError(f"{reason} There is no checkpoint to go back to.", "Begin again with a lower learning rate.")
        verdict = verdict or broken_steps(self.tally.bad, self.tally.bad, Progress(self.rate()))
        self._judged(verdict)
        facts = {"text": verdict.text, "advice": verdict.advice, "values": dict(verdict.values)}
        self._write("alarm", {"reason": reason, "back": good.step, **facts})
        self.note("warning", reason)
        self.take_up(good)
        self._saved(self.rest_copy())
        self._rest_after({"step": came_from, "data": {"reason": reason, **facts}})

    def _rest_after(self, entry: dict[str, Any]) -> None:
        """Rest on the last good state; `resume` goes on from it with a tenth of the rate, or with the rate that was chosen meanwhile, and `stop` keeps it."""
        data = entry["data"]
        facts = {k: data[k] for k in ("text", "advice", "values") if k in data}
        written = len(self.journal.entries)
        reason = f"{data['reason']} It is again as it was at step {self.step}. Resume goes on from there with a tenth of the learning rate; stop keeps that."
        if not self.rest.until(lambda: self.lane.take("resume") is not None, reason, step=self.step, **facts):
            return
        chosen = any("learn_rate" in e["data"] for e in self.journal.entries[written:])
        self._alarm = ""
        self.rest.patiently(partial(self.journal.roll_back, self.step, entry["step"], 1.0 if chosen else TENTH), "the journal")
        self.rest.patiently(partial(self.run.cut_back, self.step), "the log")
        for listener in self.listeners:
            listener.began(self.step)
        self._follow()
        self.note("log", f"Going on from step {self.step} with the learning rate {self.rate():g}.")

    def finish(self) -> None:
        """After the last step: tell the newest figures, save for resuming and, unless it was given up, for use."""
        self.teller.flush()
        if self.lane.take("discard") is not None or self.journal.discarded:
            self.discarded = True
        self.checkpoint()
        self._conclude()
        if not self.discarded:
            self.rest.patiently(self.shelve, "the result", self._size())
            if self.learner.copies:
                self.rest.patiently(self._keep_last, "a copy", self._size())
        for listener in self.listeners:
            listener.ended()

    def _conclude(self) -> None:
        """Tell the diagnosis of the run that has ended, unless an alarm nobody answered is what ended it."""
        alarmed = self.journal.resting is not None and self.journal.resting["ask"] == "alarm"
        if self.appraiser.history and not alarmed:
            self._judged(self.appraiser.verdict(ended=True))
