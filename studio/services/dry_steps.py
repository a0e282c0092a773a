"""Dry steps: the loop, a row of previews, a measurement and the autoencoder at work for a moment, timed, with nothing written and nothing learned."""

import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Any

import psutil
import torch

from studio.dataset.batches import cover, pixels
from studio.dataset.folder import open_upright
from studio.diffusion.model import Model
from studio.jobs import Lane
from studio.projects.facts import Size
from studio.requests.train import TrainConfig
from studio.services.desk import Desk
from studio.services.previewing import Previews
from studio.training.appraisal import Appraiser, Rules
from studio.training.loop import Plan, train
from studio.training.methods.trainable import Trainable
from studio.training.passes import spare
from studio.training.preparation import prepared
from studio.training.watch import Step

LEAST, MOST, SECONDS = 3, 20, 1.0
"""Steps that are timed after the first: so many at least, more until they took so long."""
SHORT = 3.0
"""A row of previews that takes no longer than so many seconds is painted whole; of a longer one some sampling steps tell."""
FEW = (2, 4)
"""Those sampling steps: what one more takes is the difference."""
BEAT = 0.005
"""Seconds between two looks at the memory of the process."""


@dataclass(frozen=True)
class Scene:
    """All that dry steps need."""

    config: TrainConfig
    model: Model
    learner: Trainable
    optimizer: torch.optim.Optimizer
    plan: Plan
    lane: Lane


@dataclass
class Dry:
    """Stands where a run's watch does: says a rate, keeps the time of each step, and ends when it knows enough."""

    lane: Lane
    learner: Trainable
    pictures: int
    constant: float
    step: int = 0
    scale: float = 1.0
    times: list[float] = field(default_factory=list)
    _mark: float = 0.0

    @property
    def end(self) -> int:
        """The number of steps that are enough."""
        enough = len(self.times) > LEAST and (sum(self.times[1:]) > SECONDS or len(self.times) > MOST)
        return self.step if enough else sys.maxsize

    def rate(self) -> float:
        """The same for every step."""
        return self.constant

    def note(self, kind: str, text: str) -> None:
        """Tell what the loop has to say."""
        self.lane.emit(kind, text=text)

    def stopping(self) -> bool:
        """Whether a person asked to stop."""
        return self.lane.stopping()

    def stepped(self, step: Step) -> None:
        """One more step is done; its figures are made, as in a run."""
        self.learner.figures()
        now = time.monotonic()
        self.step = step.done
        self.times.append(now - self._mark)
        self._mark = now

    def begin(self) -> None:
        """Start the clock."""
        self._mark = time.monotonic()

    @property
    def seconds_per_step(self) -> float:
        """Seconds of a usual step."""
        return statistics.median(self.times[1:] or self.times or [0.0])

    @property
    def extra(self) -> float:
        """Seconds the first step takes more than the others, where a network is compiled."""
        return max(0.0, self.times[0] - self.seconds_per_step) if self.times else 0.0


def take(scene: Scene, rate: float) -> Dry:
    """Let the real loop take steps on what learns, which is a copy that nothing else sees."""
    batches = scene.plan.batches
    dry = Dry(scene.lane, scene.learner, batches.size * batches.parts, rate)
    with scene.learner.attached(), prepared(scene.model, scene.config.gradient_checkpointing, scene.config.compile, dry.note, spare(scene.learner, scene.plan)) as network:
        dry.begin()
        train(network, scene.learner, scene.optimizer, scene.plan, dry)
    return dry


def previews_seconds(scene: Scene, desk: Desk) -> float:
    """Seconds of one row of previews, painted into a folder that is gone afterwards."""

    def row(steps: int) -> float:
        config = scene.config.model_copy(update={"preview_steps": steps})
        with tempfile.TemporaryDirectory() as folder:
            previews = Previews(config, scene.model, scene.learner.words, scene.plan.others, Path(folder), desk)
            with scene.learner.attached(), scene.learner.shown():
                previews.paint(0)
            return previews.seconds

    return extrapolated(row, scene.config.preview_steps)


def extrapolated(cost: Callable[[int], float], steps: int) -> float:
    """Seconds of so many steps from those of a few, or measured whole where that is quick; the first measurement warms up."""
    few, more = FEW
    first = cost(min(few, steps))
    if steps <= more or first * steps / few < SHORT:
        return cost(steps)
    low, high = cost(few), cost(more)
    return low + max(0.0, high - low) / (more - few) * (steps - few)


def probe_seconds(scene: Scene, first: int, end: int, held: int) -> float:
    """Seconds of all measurements from step `first` to `end`, those at both ends among them, with so many pictures held out; 0 when nothing is measured."""
    if not scene.config.probe_every:
        return 0.0
    samples = scene.plan.batches.samples
    kept = tuple(replace(samples[number % len(samples)], key=f"held {number}") for number in range(held))
    appraiser = Appraiser.of(scene.model, scene.learner, scene.plan, kept, Rules(scene.config.probe_every, end))
    every = appraiser.rules.every
    with scene.learner.attached(), scene.learner.shown():
        appraiser.look(first)
        seconds = appraiser.look(first).seconds
    return seconds * (1 + end // every - first // every + bool(end % every))


def encoding_seconds(model: Model, pictures: Sequence[tuple[Path, Size]]) -> float:
    """Seconds that one picture takes from file to latent."""
    times = []
    for path, size in [pictures[0], *pictures]:
        began = time.monotonic()
        mean, _ = model.encode_images(pixels(cover(open_upright(path), *size))[None])
        mean.cpu()
        times.append(time.monotonic() - began)
    return statistics.mean(times[1:])


class Peak:
    """The most memory that is in use while it is entered: of the card, or of this process where there is none."""

    def __init__(self, device: torch.device) -> None:
        self.device, self.cuda = device, device.type == "cuda"
        self._process = psutil.Process()
        self._done = threading.Event()
        self._watcher = threading.Thread(target=self._look, daemon=True)
        self.before = self.peak = 0

    def _now(self) -> int:
        """Bytes in use now."""
        return torch.cuda.memory_allocated(self.device) if self.cuda else self._process.memory_info().rss

    def _look(self) -> None:
        """Look again and again."""
        while not self._done.wait(BEAT):
            self.peak = max(self.peak, self._now())

    def __enter__(self) -> "Peak":
        self.before = self.peak = self._now()
        if self.cuda:
            torch.cuda.reset_peak_memory_stats(self.device)
        else:
            self._watcher.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self.cuda:
            self.peak = torch.cuda.max_memory_allocated(self.device)
            return
        self._done.set()
        self._watcher.join()
        self.peak = max(self.peak, self._now())

    def figures(self) -> dict[str, Any]:
        """Bytes at most, how many more than before, and how many there are."""
        total = torch.cuda.get_device_properties(self.device).total_memory if self.cuda else psutil.virtual_memory().total
        return {"memory": self.peak, "memory_added": self.peak - self.before, "memory_total": total}
