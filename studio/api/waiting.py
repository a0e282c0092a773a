"""From a request to its job's end: submit, wait without holding a thread, and remember the ids clients gave."""

import asyncio
import copy
import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Annotated

from fastapi import Depends, Request
from fastapi.concurrency import run_in_threadpool
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from studio.api.watching import Watcher
from studio.config import Config
from studio.engine import Engine
from studio.errors import Conflict, StudioError
from studio.jobs import Job, State

LOOK = 0.02
"""Seconds between two looks when one client waits; with more clients each looks less often, so that the database sees the same number."""
SLOWEST = 0.5
REMEMBERED = 256
API_PATHS = ("/sdapi/", "/studio/v1/")
"""Where a client may wait for the end of a job."""
LEFT = "studio.client_left"
"""Key of the scope."""


class Departures:
    """ASGI middleware that notes in the scope when a client of the HTTP API closes its connection; behind other middleware `Request.is_disconnected` never says so."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Once the body is read, go on listening beside the answer."""
        if scope["type"] != "http" or not scope["path"].startswith(API_PATHS):
            await self.app(scope, receive, send)
            return
        left = scope[LEFT] = asyncio.Event()
        listening: list[asyncio.Task[Message]] = []

        async def listen() -> Message:
            message = await receive()
            left.set()
            return message

        async def listened() -> Message:
            if listening:
                return await asyncio.shield(listening[0])
            message = await receive()
            if message["type"] == "http.request" and not message.get("more_body"):
                listening.append(asyncio.create_task(listen()))
            return message

        try:
            await self.app(scope, listened, send)
        finally:
            for task in listening:
                task.cancel()


def client_left(request: Request) -> bool:
    """Whether the client of this request has closed its connection."""
    return LEFT in request.scope and request.scope[LEFT].is_set()


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
        self.request: Request | None = None
        """The request that is answered; None for the server's own counter."""
        self.awaited: set[str] = set()
        """Ids of the jobs whose end a client of A1111's API waits for."""

    async def finished(self, make: Callable[[], Config], task: str | None = None) -> Job:
        """Make a request away from the event loop, submit it and wait for its end; raises StudioError when it failed. A job that still waits when its client leaves is taken off the queue."""
        name = await run_in_threadpool(lambda: self.engine.submit(make()))
        if task:
            self.tasks.put(task, name)
        self.awaited.add(name)
        try:
            while (job := await run_in_threadpool(self.engine.seen, name)) is None or not job.state.over:
                if job is not None and job.state is State.QUEUED and self.request is not None and client_left(self.request):
                    await run_in_threadpool(self.engine.ask, name, "stop")
                    raise Conflict("The client left before its job began.", "Send the request again.")
                await asyncio.sleep(min(LOOK * len(self.awaited), SLOWEST))
        finally:
            self.awaited.discard(name)
        if job.state is State.FAILED:
            raise StudioError(job.error or "The job failed.", code=self._code(name))
        return job

    def _code(self, name: str) -> str:
        """Whose mistake a failure was, as the worker told it."""
        told = self.engine.events(name, kinds=("fault",))
        return str(told[-1].data.get("code", "")) if told else ""


def counter_of(request: Request) -> Counter:
    """The counter of the app that serves this request, which knows the request."""
    counter: Counter = copy.copy(request.app.state.counter)
    counter.request = request
    return counter


Here = Annotated[Counter, Depends(counter_of)]
