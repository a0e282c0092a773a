"""What the queue holds: jobs and their states, events, asks, and notices about its file."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class State(StrEnum):
    """Where a job is in its life."""

    QUEUED = "queued"
    RUNNING = "running"
    PAUSED = "paused"
    STOPPING = "stopping"
    DONE = "done"
    STOPPED = "stopped"
    FAILED = "failed"
    INTERRUPTED = "interrupted"

    @property
    def over(self) -> bool:
        """Whether nothing more will happen."""
        return self in (State.DONE, State.STOPPED, State.FAILED)


LIVE = (State.QUEUED, State.RUNNING, State.PAUSED, State.STOPPING, State.INTERRUPTED)
"""States of a job that will still do something; INTERRUPTED waits to be resumed."""


@dataclass(frozen=True)
class Job:
    """One piece of queued work; times are seconds since 1970, None until they happen; `browser` is the id of the browser that asked for it, empty for the HTTP API and the command line."""

    id: str
    kind: str
    request: dict[str, Any]
    state: State
    created: float
    started: float | None
    ended: float | None
    result: dict[str, Any] | None
    error: str | None
    attempts: int
    worker: str | None
    browser: str = ""


@dataclass(frozen=True)
class Event:
    """Something that happened in a job; `seq` grows over the whole database."""

    seq: int
    job: str
    at: float
    kind: str
    data: dict[str, Any]


@dataclass(frozen=True)
class Ask:
    """Something a person asked of a running job."""

    id: int
    job: str
    kind: str
    data: dict[str, Any]


@dataclass(frozen=True)
class Notice:
    """What happened to an earlier file of the database: `kind` is "damaged" (moved to `file`) or "missing"."""

    at: float
    kind: str
    file: str
