"""Resting: a run that waits - because a person paused it, because it went wrong, or because the disk cannot be written - while others use the card."""

import errno
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from safetensors import SafetensorError

from studio.errors import OutOfSpace
from studio.jobs import Lane

BREATH = 0.05
"""Seconds between two breaths of a run that rests."""
AGAIN = 2.0
"""Seconds between two attempts to write."""
FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""Errors that mean that there is no room."""
PASSING = FULL | {errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOENT, errno.ENOTDIR, errno.EIO, errno.ESTALE, errno.ENODEV, errno.ENOTCONN}
"""Errors of a place that may come back: no room, read-only, unmounted, unplugged."""

T = TypeVar("T")


@dataclass
class Rest:
    """Waits on a lane, telling why; `answer` serves what a person asks meanwhile."""

    lane: Lane
    answer: Callable[[], None]
    _reasons: list[dict[str, Any]] = field(default_factory=list)

    def until(self, over: Callable[[], bool], reason: str, needed: int | None = None, **facts: Any) -> bool:
        """Rest until `over` (True) or until a stop is asked (False); while `needed` bytes are waited for, nothing else is answered."""
        self._reasons.append({"reason": reason, **facts, **({} if needed is None else {"needed": needed})})
        self.lane.resting(True)
        self.lane.emit("paused", **self._reasons[-1])
        try:
            return self._wait(over, answering=needed is None)
        finally:
            self._reasons.pop()
            if self._reasons:
                self.lane.emit("paused", **self._reasons[-1])
            else:
                self.lane.resting(False)
                self.lane.emit("resumed")

    def _wait(self, over: Callable[[], bool], answering: bool) -> bool:
        """Breathe, and answer, until it is over."""
        while not self.lane.stopping():
            if answering:
                self.answer()
            if over():
                return True
            self.lane.breathe()
            time.sleep(BREATH)
        return False

    def patiently(self, act: Callable[[], T], what: str, needed: int = 4096) -> T:
        """Do what needs the disk; where waiting helps, rest and try again until it works. Raises the last error when a stop is asked meanwhile, and any other at once."""
        try:
            return act()
        except (OSError, OutOfSpace, SafetensorError, RuntimeError) as error:
            if passing(error) is None:
                raise
            done: list[T] = []
            failed: list[Exception] = [error]
            if not self.until(self._trying(act, done, failed), reason_of(failed[0], what, needed), needed=needed):
                raise failed[0] from None
            return done[0]

    def _trying(self, act: Callable[[], T], done: list[T], failed: list[Exception]) -> Callable[[], bool]:
        """Try again every few seconds: whether it worked."""
        last = [time.monotonic()]

        def over() -> bool:
            if time.monotonic() - last[0] < AGAIN:
                return False
            try:
                done.append(act())
            except (OSError, OutOfSpace, SafetensorError, RuntimeError) as error:
                if passing(error) is None:
                    raise
                failed[0] = error
            last[0] = time.monotonic()
            return bool(done)

        return over


def passing(error: Exception) -> int | None:
    """The system's number of an error that may pass by waiting; None for any other. Tensors' writers say it in words only."""
    if isinstance(error, OutOfSpace):
        return errno.ENOSPC
    if isinstance(error, OSError):
        return error.errno if error.errno in PASSING else None
    said = re.search(r"os error (\d+)", str(error))
    number = int(said[1]) if said else errno.ENOSPC if "No space left" in str(error) else None
    return number if number in PASSING else None


def reason_of(error: Exception, what: str, needed: int) -> str:
    """Why a run rests, and what to do, in words."""
    number = passing(error)
    size = f"{needed / 2**20:.1f} MB" if needed >= 2**20 else f"{max(1, needed // 1024)} KB"
    if number in FULL:
        return f"The disk is full: {what} needs {size}. Free some space; the training waits and goes on by itself."
    words = {errno.EROFS: "it is read-only", errno.EACCES: "it may not be written", errno.EPERM: "it may not be written", errno.ENOENT: "it is not there"}
    return f"The output folder cannot be written ({words.get(number or 0, 'it does not answer')}): {what} needs {size}. Make it writable again; the training waits and goes on by itself."
