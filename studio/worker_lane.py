"""What services see of the worker, and the writes of the worker to the database, which are kept until it takes them."""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from studio.errors import Unavailable
from studio.jobs import Ask, Job, JobStore
from studio.settings import Paths

log = logging.getLogger("studio.worker")

LOOK = 0.2
"""Seconds between two looks into the database."""
RETRY = 2.0
"""Seconds between two attempts to write what the database refused."""
MOST = 5000
"""Events that are kept while the database can't be written; of more, the oldest figures and previews are dropped."""
DROPPABLE = frozenset({"progress", "preview", "metric"})
"""Kinds of events of which a later one tells the same."""


@dataclass(frozen=True)
class Bench:
    """What a job that needs no model works with."""

    paths: Paths


class Outbox:
    """Writes in their order. One that the database refuses is kept, with all later ones, and tried again by `flush`, so that no result is lost and no job ends because it can't be told."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[Callable[[], object], bool]] = deque()
        self._order, self._writing = threading.Lock(), threading.Lock()
        self._again = 0.0
        self.problem = ""
        """Why writes wait; empty when none does."""

    @property
    def waiting(self) -> bool:
        """Whether a write waits."""
        return bool(self._waiting)

    def put(self, write: Callable[[], object], droppable: bool = False) -> None:
        """Write now if nothing waits, else after what waits; a `droppable` write may be left out when too many wait."""
        with self._order:
            if not self._waiting:
                try:
                    write()
                except Unavailable as error:
                    self._refused(error)
                else:
                    return
            self._waiting.append((write, droppable))
            if len(self._waiting) > MOST:
                self._drop()

    def _refused(self, error: Unavailable) -> None:
        """Remember why, and wait before the next attempt."""
        if not self.problem:
            log.warning("writes wait: %s", error)
        self.problem, self._again = str(error), time.monotonic() + RETRY

    def _drop(self) -> None:
        """Leave out the oldest write that may be left out; the first one may be in hand at this moment."""
        for at in range(1, len(self._waiting)):
            if self._waiting[at][1]:
                del self._waiting[at]
                return

    def flush(self) -> bool:
        """Write what waits, if it is time for another attempt; whether nothing waits any more."""
        with self._writing:
            while self._waiting:
                if time.monotonic() < self._again:
                    return False
                try:
                    self._waiting[0][0]()
                except Unavailable as error:
                    self._refused(error)
                    return False
                with self._order:
                    self._waiting.popleft()
                    if not self._waiting:
                        log.warning("the database can be written again")
                        self.problem = ""
        return True

    def drain(self, seconds: float) -> bool:
        """Flush until nothing waits, for at most so long; whether nothing waits."""
        end = time.monotonic() + seconds
        while not self.flush():
            if time.monotonic() > end:
                return False
            time.sleep(LOOK)
        return True


class Host(Protocol):
    """What a lane needs of its worker."""

    store: JobStore
    outbox: Outbox

    def tell(self, name: str, text: str = "") -> None:
        """Tell the webhook what became of a training."""

    def serve_short(self, inside: str) -> None:
        """Run the short jobs that wait, between two steps of job `inside`."""


class WorkerLane:
    """The lane of one running job, as services see it. While the database can't be used, events wait in the outbox and no ask is seen."""

    def __init__(self, worker: Host, job: Job) -> None:
        self.worker, self.job, self.store, self.outbox = worker, job.id, worker.store, worker.outbox
        self._looked = float("-inf")
        self._asks: list[Ask] = []
        self._taken: set[int] = set()

    def emit(self, kind: str, /, **data: Any) -> None:
        """Write an event into the journal; a job that pauses by itself is told elsewhere too."""
        self.outbox.put(lambda: self.store.emit(self.job, kind, data), droppable=kind in DROPPABLE)
        if kind == "paused" and data.get("reason"):
            self.worker.tell(self.job, str(data["reason"]))

    def _look(self) -> None:
        """Read the asks again if the last look is old."""
        now = time.monotonic()
        if now - self._looked <= LOOK:
            return
        self._looked = now
        try:
            self._asks = [ask for ask in self.store.asks(self.job) if ask.id not in self._taken]
        except Unavailable:
            self._looked = time.monotonic() + RETRY

    def stopping(self) -> bool:
        """Whether the person asked to stop."""
        self._look()
        return any(ask.kind == "stop" for ask in self._asks)

    def asked(self, kind: str) -> bool:
        """Take one ask of this kind, if there is one."""
        return self.take(kind) is not None

    def take(self, kind: str) -> dict[str, Any] | None:
        """Take one ask of this kind and return what was said with it; None when there is none."""
        self._look()
        for ask in self._asks:
            if ask.kind == kind:
                self._asks.remove(ask)
                self._taken.add(ask.id)
                self.outbox.put(partial(self.store.take, ask))
                return ask.data
        return None

    def resting(self, paused: bool) -> None:
        """Say that the job is paused, or goes on."""
        self.outbox.put(lambda: self.store.rest(self.job, paused))

    def breathe(self) -> None:
        """Let short jobs run on the same loaded weights."""
        self.worker.serve_short(self.job)


class AsideLane(WorkerLane):
    """The lane of a job beside the lane: nothing runs in between, since the models belong to the other thread."""

    def breathe(self) -> None:
        """Nothing waits here."""


def progress_of(job: Job, paths: Paths, store: JobStore) -> int:
    """How far a job has come, in a unit that grows: the step of a training's newest checkpoint, else how many items are done."""
    if job.kind != "train":
        return len(store.events(job.id, kinds=("item",), limit=1_000_000))
    run = str(job.request.get("run") or "")
    folders = [paths.runs / Path(run).name] if run else list(paths.runs.glob(f"*-{job.id}"))
    return max((int(file.stem) for folder in folders for file in (folder / "checkpoints").glob("*.json") if file.stem.isdigit()), default=0)
