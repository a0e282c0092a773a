"""From a request to its job's end: submit, wait without holding a thread, and remember the ids clients gave."""

import asyncio
import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Annotated

from fastapi import Depends, Request
from fastapi.concurrency import run_in_threadpool

from studio.api.watching import Watcher
from studio.config import Config
from studio.engine import Engine
from studio.errors import StudioError
from studio.jobs import Job, State

LOOK = 0.02
"""Seconds between two looks when one client waits; with more clients each looks less often, so that the database sees the same number."""
SLOWEST = 0.5
REMEMBERED = 256


class Tasks:
    """Jobs by the ids that clients chose for them (`force_task_id`), the newest few hundred."""

    def __init__(self) -> None:
        self._jobs: OrderedDict[str, str] = OrderedDict()
        self._lock = threading.Lock()

    def put(self, task: str, job: str) -> None:
        """Remember a job."""
        with self._lock:
            self._jobs[task] = job
            while len(self._jobs) > REMEMBERED:
                self._jobs.popitem(last=False)

    def job(self, task: str) -> str:
        """The job of a task; a job's own id is a task too."""
        return self._jobs.get(task, task)

    def task(self, job: str) -> str:
        """The id a client knows a job by."""
        with self._lock:
            return next((task for task, known in reversed(self._jobs.items()) if known == job), job)


class Counter:
    """What the routes share: the engine, the clients' ids, and how many clients wait."""

    def __init__(self, engine: Engine) -> None:
        self.engine, self.tasks, self.watcher = engine, Tasks(), Watcher(engine)
        self._waiting = 0
        self.awaited: set[str] = set()
        """Ids of the jobs whose end a client of A1111's API waits for."""

    async def finished(self, make: Callable[[], Config], task: str | None = None) -> Job:
        """Make a request away from the event loop, submit it and wait for its end; raises StudioError when it failed."""
        name = await run_in_threadpool(lambda: self.engine.submit(make()))
        if task:
            self.tasks.put(task, name)
        self.awaited.add(name)
        self._waiting += 1
        try:
            while (job := await run_in_threadpool(self.engine.seen, name)) is None or not job.state.over:
                await asyncio.sleep(min(LOOK * self._waiting, SLOWEST))
        finally:
            self._waiting -= 1
            self.awaited.discard(name)
        if job.state is State.FAILED:
            raise StudioError(job.error or "The job failed.", code=self._code(name))
        return job

    def _code(self, name: str) -> str:
        """Whose mistake a failure was, as the worker told it."""
        told = self.engine.events(name, kinds=("fault",))
        return str(told[-1].data.get("code", "")) if told else ""


def counter_of(request: Request) -> Counter:
    """The counter of the app that serves this request."""
    counter: Counter = request.app.state.counter
    return counter


Here = Annotated[Counter, Depends(counter_of)]
