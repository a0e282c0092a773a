"""A crew of processes that work on pictures side by side: one core each, no torch, gone when their parent is gone."""

import contextlib
import logging
import os
import pickle
import queue
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from itertools import chain, islice
from types import TracebackType
from typing import Any, BinaryIO, Generic, ParamSpec, TypeVar

from studio.errors import StudioError

log = logging.getLogger("studio.dataset.crew")

T, R, P = TypeVar("T"), TypeVar("R"), ParamSpec("P")
AHEAD = 2
"""Tasks handed out per process before the first result is waited for: enough that none idles, few enough that memory stays bounded."""
PATIENCE = 600.0
"""Seconds after which a task is taken for one that never ends."""
LOOK = 1.0
"""Seconds between two looks at whether a task takes too long."""
_LENGTH = struct.Struct("<Q")
_START = "from studio.dataset.crew import serve; serve()"
_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OPENCV_FOR_THREADS_NUM"), "1")


class Lost(StudioError):
    """A task that could not be finished for a reason nobody foresaw: its process died, took too long, or failed."""

    code = "lost"


def cores() -> int:
    """How many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class Crew:
    """So many processes (all cores when not said), started when there is work for them. `with Crew() as crew: for index, result in crew.run(function, tasks)`."""

    def __init__(self, count: int | None = None, patience: float = PATIENCE) -> None:
        self.count, self.patience = max(1, count or cores()), patience
        self._threads = ThreadPoolExecutor(self.count, "crew")
        self._own = threading.local()
        self._mates: list[_Mate] = []
        self._lock = threading.Lock()
        self._stopped = False

    def __enter__(self) -> "Crew":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    def run(self, function: Callable[[T], R], tasks: Iterable[T]) -> Iterator[tuple[int, R | StudioError]]:
        """Yield (index of the task, what `function` gave for it, or the error in words), in the order they get done.

        `function` is known by its module and name; tasks are asked for as there is room for them, so a generator may end them early. One task, or one core, is worked on in this process.
        """
        tasks = iter(tasks)
        first = list(islice(tasks, 1 if self.count == 1 else 2))
        if self.count == 1 or len(first) < 2:
            yield from ((index, _guarded(function, task)) for index, task in enumerate(chain(first, tasks)))
            return
        yield from self._together(function, chain(first, tasks))

    def _together(self, function: Callable[[T], R], tasks: Iterable[T]) -> Iterator[tuple[int, R | StudioError]]:
        """The same by all processes, never with more than AHEAD tasks per process in hand."""
        hand: dict[Future[R | StudioError], int] = {}
        for index, task in enumerate(tasks):
            if self._stopped:
                break
            hand[self._threads.submit(self._ask, function, task)] = index
            while len(hand) >= AHEAD * self.count:
                yield from self._done(hand)
        while hand:
            yield from self._done(hand)

    def _done(self, hand: dict[Future[R | StudioError], int]) -> list[tuple[int, R | StudioError]]:
        """Wait until something is done and take it out of the hand; what takes too long is ended."""
        done: set[Future[R | StudioError]] = set()
        while not done:
            done, _ = wait(hand, LOOK, FIRST_COMPLETED)
            for mate in list(self._mates):
                mate.end_after(self.patience)
        return [(hand.pop(future), future.result()) for future in done]

    def _ask(self, function: Callable[[T], R], task: T) -> R | StudioError:
        """Let the process of this thread do one task."""
        if not hasattr(self._own, "mate"):
            with self._lock:
                self._own.mate = _Mate()
                self._mates.append(self._own.mate)
        if self._stopped:
            return Lost("The work was stopped.")
        result: R | StudioError = self._own.mate.do(function, task)
        return result

    def stop(self) -> None:
        """End all processes at once, whatever they are at."""
        self._stopped = True
        with self._lock:
            for mate in self._mates:
                mate.end(for_good=True)
        self._threads.shutdown(wait=True)


def in_order(results: Iterable[tuple[int, R]]) -> Iterator[tuple[int, R]]:
    """The results of a crew in the order of their tasks; what is early is kept until its turn."""
    early: dict[int, R] = {}
    due = 0
    for index, result in results:
        early[index] = result
        while due in early:
            yield due, early.pop(due)
            due += 1


class _Mate(Generic[T, R]):
    """One process and the pipes to it; it is started for its first task, and again after it has died."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()
        self._since: float | None = None
        self._late = self._ended = False

    def do(self, function: Callable[[T], R], task: T) -> R | StudioError:
        """Send a task and wait for its result; a process that dies over it is told as the task's problem."""
        data = pickle.dumps((function, task))
        process = self._ready()
        self._since, self._late = time.monotonic(), False
        if process is None:
            return Lost("The work was stopped.")
        try:
            _send(_pipe(process.stdin), data)
            result: R | StudioError = pickle.loads(_receive(_pipe(process.stdout)))
        except (OSError, EOFError):
            return self._last_words(process)
        finally:
            self._since = None
        return result

    def _ready(self) -> "subprocess.Popen[bytes] | None":
        """The process, alive; None when there shall be no more."""
        with self._lock:
            if not self._ended and (self._process is None or self._process.poll() is not None):
                _close(self._process)
                self._process = _start()
            return None if self._ended else self._process

    def _last_words(self, process: "subprocess.Popen[bytes]") -> Lost:
        """Why a process is gone, as far as can be seen from outside."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(10)
        if self._late:
            return Lost("Working on it took too long and was given up.", "Scale the picture down, or take it out of the folder.")
        code = process.returncode
        reason = f"signal {-code}" if code is not None and code < 0 else f"code {code}"
        return Lost(f"The process that worked on it died ({reason}).", "The file may be damaged, or there was too little memory; get it again or scale it down.")

    def end_after(self, seconds: float) -> None:
        """Kill the process if its task takes longer."""
        since = self._since
        if since is not None and time.monotonic() - since > seconds:
            self._late = True
            self.end()

    def end(self, for_good: bool = False) -> None:
        """Kill the process; a later task starts another, unless it is for good."""
        with self._lock:
            self._ended = self._ended or for_good
            if self._process is not None:
                self._process.kill()
                self._process.wait()
                if for_good:
                    _close(self._process)


def _start() -> "subprocess.Popen[bytes]":
    """A new process of the crew, with the search path of this one.

    It is not multiprocessing's: that would import this process's main module, which may be a test runner or the worker with all it needs.
    """
    path = os.pathsep.join(dict.fromkeys(str(part) or os.getcwd() for part in sys.path))
    return subprocess.Popen([sys.executable, "-P", "-c", _START], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={**os.environ, **_ONE_THREAD, "PYTHONPATH": path})


def _close(process: "subprocess.Popen[bytes] | None") -> None:
    """Let go of a dead process's pipes."""
    for pipe in (process.stdin, process.stdout) if process is not None else ():
        with contextlib.suppress(OSError):
            _pipe(pipe).close()


def _pipe(pipe: Any) -> BinaryIO:
    """A pipe that was asked for."""
    assert pipe is not None
    found: BinaryIO = pipe
    return found


def _send(pipe: BinaryIO, data: bytes) -> None:
    """Write one message."""
    pipe.write(_LENGTH.pack(len(data)))
    pipe.write(data)
    pipe.flush()


def _receive(pipe: BinaryIO) -> bytes:
    """Read one message; raises EOFError when the other side is gone."""
    head = pipe.read(_LENGTH.size)
    length = _LENGTH.unpack(head)[0] if len(head) == _LENGTH.size else -1
    data = pipe.read(length) if length >= 0 else b""
    if len(data) != length:
        raise EOFError
    return data


class _Guard:
    """Keeps what goes wrong inside as an error in words; a person's mistakes keep their own."""

    problem: StudioError | None = None

    def __enter__(self) -> "_Guard":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> bool:
        if not isinstance(error, Exception):
            return False
        if isinstance(error, StudioError):
            self.problem = error
        else:
            log.warning("a task failed", exc_info=error)
            self.problem = Lost(f"It could not be worked on ({type(error).__name__}: {str(error)[:200]}).", "outputs/logs/worker.log holds the details.")
        return True


def _guarded(function: Callable[P, R], *arguments: P.args, **more: P.kwargs) -> R | StudioError:
    """What a function gives, or the error in words."""
    with _Guard() as guard:
        return function(*arguments, **more)
    return guard.problem or Lost("It could not be worked on.")


def serve() -> None:
    """The life of one process: do what comes in, one after the other, until nothing can come any more."""
    import signal

    import cv2

    inward, outward = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)  # what a library prints must not get between the messages
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    cv2.setNumThreads(1)
    tasks: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(inward, tasks), daemon=True).start()
    while True:
        result = _guarded(_work, tasks.get())
        with contextlib.suppress(BrokenPipeError):
            _send(outward, result if isinstance(result, bytes) else pickle.dumps(result))


def _work(data: bytes) -> bytes:
    """One task from message to message."""
    function, task = pickle.loads(data)
    return pickle.dumps(function(task))


def _listen(inward: BinaryIO, tasks: "queue.SimpleQueue[bytes]") -> None:
    """Take messages in; when the other end is gone, however it died, leave at once, also in the middle of a task."""
    try:
        while True:
            tasks.put(_receive(inward))
    except (EOFError, OSError):
        os._exit(0)


def crew(count: int | None = None) -> Crew:
    """A crew of so many processes; all cores when it is not said."""
    return Crew(count)
