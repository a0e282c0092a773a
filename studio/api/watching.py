"""What the running job said last: its step, its batch and its newest preview."""

import threading
from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any

from studio.engine import Engine
from studio.jobs import Job, State

BUSY = (State.RUNNING, State.STOPPING, State.PAUSED)
KINDS = ("progress", "preview", "metric")


@dataclass
class Sight:
    """What the newest events of one job said; read on from `seq`."""

    job: str = ""
    seq: int = 0
    step: int = 0
    total: int = 0
    eta: float = 0.0
    text: str = ""
    preview: str = ""
    preview_seq: int = -1

    def take(self, seq: int, kind: str, data: dict[str, Any]) -> None:
        """Fold one event in."""
        self.seq = seq
        if kind == "preview":
            if "image" in data:
                self.preview, self.preview_seq = data["image"], seq
            return
        self.step, self.total = int(data.get("step", self.step)), int(data.get("total") or self.total)
        self.eta, self.text = float(data.get("eta") or 0.0), str(data.get("text", ""))

    @property
    def progress(self) -> float:
        """From 0 to 1 over the whole job."""
        return min(1.0, self.step / self.total) if self.total else 0.0


class Watcher:
    """Sights of the jobs that clients look at, one at a time: a server has one lane."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._sight = Sight()
        self._lock = threading.Lock()

    def current(self, first: Collection[str] = ()) -> Job | None:
        """The job the worker is at: one of the ids in `first` before all others, else the one that began last, which between the steps of a training is the short one."""
        running = self.engine.store.jobs(states=BUSY, limit=10)
        return max(running, key=lambda job: (job.id in first, job.started or 0), default=None)

    def sight(self, job: Job) -> Sight:
        """What a job said so far."""
        with self._lock:
            if self._sight.job != job.id:
                self._sight = Sight(job.id)
            for event in self.engine.events(job.id, self._sight.seq, KINDS):
                self._sight.take(event.seq, event.kind, event.data)
            return replace(self._sight)
