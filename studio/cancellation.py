"""Stop inside long work: reading, hashing, tiles and captions look here whether the user stopped the job they are done for.

A job that works through units (images, cells, steps) asks its `Lane` between them. What takes longer than a moment within a unit calls
`raise_if_stopped`, which costs a look at the clock. Outside `stoppable` it does nothing, so that saving and command line tools are never cut short.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_stopping: ContextVar[Callable[[], bool] | None] = ContextVar("stopping", default=None)


class Stopped(Exception):
    """The user stopped the job; what it was in the middle of left nothing behind."""


@contextmanager
def stoppable(stopping: Callable[[], bool] | None) -> Iterator[None]:
    """Within the block, `raise_if_stopped` asks `stopping`; None makes the block one that is not interrupted."""
    token = _stopping.set(stopping)
    try:
        yield
    finally:
        _stopping.reset(token)


def raise_if_stopped() -> None:
    """Raise Stopped when the job that this is done for was stopped."""
    stopping = _stopping.get()
    if stopping is not None and stopping():
        raise Stopped
