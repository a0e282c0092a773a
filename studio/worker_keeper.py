"""Keeps one worker running: starts it, notices when it died or no longer responds, and ends it on request."""

import contextlib
import logging
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, BinaryIO

import psutil

from studio.errors import Conflict, StudioError, Unavailable
from studio.jobs import JobStore
from studio.retention import Housekeeping
from studio.settings import SHIPPED_ROOT, Paths

log = logging.getLogger("studio.engine")

PATIENT_THREADS = {"GOMP_SPINCOUNT": "2000"}
"""Torch's threads wait for each other awake for a moment only: just as fast on an idle machine, and several times faster beside a busy browser (`ARCHITECTURE.md`)."""
RESTART_WAIT = 3.0
"""Seconds between two looks at the worker."""
LONGEST_WAIT = 60.0
"""Most seconds between two starts of a worker that ends at once."""
SHORT_LIFE = 20.0
"""A worker that ended sooner, in seconds, is started again after a growing wait."""
PATIENCE = 3.0
"""Seconds that a look waits for another program's lock on the database."""
UNRESPONSIVE = 30.0
"""Seconds without a heartbeat after which a running worker counts as not responding; a step that holds the interpreter for some seconds is far below."""
GONE = 60.0
"""Seconds after which the row of a process that no longer exists is removed."""


class WorkerKeeper:
    """One per face. `problem` says why the database can't be written, `silent` for how many seconds of our own clock the worker's heartbeat has not changed."""

    def __init__(self, paths: Paths, role: str) -> None:
        self.paths, self.name, self.role = paths, f"{role}-{os.getpid()}", role
        self.store = JobStore(paths.database, PATIENCE)
        self.problem = ""
        self.silent = 0.0
        self.lives = False
        self._beat: tuple[Any, ...] = ()
        self._looked = time.monotonic()
        self._child: subprocess.Popen[bytes] | None = None
        self._started, self._quick, self._next = 0.0, 0, 0.0
        self._leave, self._wake = threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None
        self._housekeeping = Housekeeping(paths, self.store)

    @property
    def unresponsive(self) -> bool:
        """Whether a worker process is there that no longer gives a sign of life."""
        return self.lives and self.silent > UNRESPONSIVE

    def ensure(self) -> None:
        """Run the thread that looks after the worker; start it again should it have died."""
        if self._leave.is_set() or (self._thread is not None and self._thread.is_alive()):
            return
        if self._thread is not None:
            log.error("the thread that looks after the worker had died and is started again")
        self._thread = threading.Thread(target=self._keep, name="keep-worker", daemon=True)
        self._thread.start()

    def _keep(self) -> None:
        """Look every few seconds until `close`."""
        while not self._leave.is_set():
            try:
                self._look()
            except (StudioError, OSError, psutil.Error) as error:
                log.warning("the worker cannot be looked after now: %s", error)
            self._wake.wait(RESTART_WAIT if self._child else 0.5)
            self._wake.clear()
        with contextlib.suppress(Unavailable):
            self.store.forget(self.name)

    def _look(self) -> None:
        """Send this face's heartbeat, read the worker's, and start one if none is there."""
        rows = self._rows()
        self._observe(rows)
        self.lives = self._worker_lives(rows)
        if not self.lives and time.monotonic() >= self._next:
            self._start()
        if self.role == "web" and not self.problem:
            self._housekeeping.look()

    def _rows(self) -> list[dict[str, Any]]:
        """All workers and faces in the database; notes whether it can be written."""
        try:
            self.store.beat(self.name, os.getpid(), {"role": self.role})
            rows = self.store.workers(within=float("inf"))
            for row in rows:
                if time.time() - row["beat"] > GONE and not psutil.pid_exists(row["pid"]):
                    self.store.forget(row["id"])
        except Unavailable as error:
            if not self.problem:
                log.warning("%s", error)
            self.problem = error.reason
            return []
        self.problem = ""
        return [row for row in rows if row["facts"].get("role") == "worker"]

    def _observe(self, rows: list[dict[str, Any]]) -> None:
        """Count the time in which no heartbeat came. Neither clock that jumps, nor a time in which this process stood still or nobody could write, is counted."""
        now = time.monotonic()
        passed, self._looked = now - self._looked, now
        newest = max(((row["id"], row["beat"]) for row in rows), key=lambda one: one[1], default=())
        if self.problem or newest != self._beat:
            self._beat, self.silent = newest, 0.0
        else:
            self.silent += min(passed, 2 * RESTART_WAIT)

    def _worker_lives(self, rows: list[dict[str, Any]]) -> bool:
        """Whether the worker this face started, or any other, is there."""
        if self._child is not None and self._child.poll() is None:
            return True
        return any(is_worker(row["pid"]) for row in rows)

    def _start(self) -> None:
        """Start a worker; one that ends at once, again and again, waits longer each time."""
        if self._child is not None:
            self._quick = self._quick + 1 if time.monotonic() - self._started < SHORT_LIFE else 0
        self._started = time.monotonic()
        self._next = self._started + (min(LONGEST_WAIT, RESTART_WAIT * 2 ** (self._quick - 1)) if self._quick else 0.0)
        self._child = start_worker(self.paths)

    def restart(self) -> int:
        """End the worker and all it started, and start another one; its job goes on from its last checkpoint.

        Returns the id of the process that ended; raises Conflict when there is none, StudioError when it can't be ended.
        """
        pid = end_worker(self.store, self._child.pid if self._child is not None and self._child.poll() is None else 0)
        self.silent, self._quick, self._next = 0.0, 0, 0.0
        self._wake.set()
        return pid

    def close(self) -> None:
        """Stop looking after the worker; it ends by itself when it has nothing left to do."""
        self._leave.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join(timeout=10)


def end_worker(store: JobStore, pid: int = 0) -> int:
    """Kill the worker, by default the newest of the database, with every process it started; returns its id. Raises Conflict when no worker runs, StudioError when it does not end."""
    if not pid:
        rows = [row["pid"] for row in store.workers(within=float("inf")) if row["facts"].get("role") == "worker"]
        pid = next((one for one in reversed(rows) if is_worker(one)), 0)
    if not pid:
        raise Conflict("No worker is running.", "One is started as soon as there is something to do.")
    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        family = [*process.children(recursive=True), process]
        for one in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                one.kill()
        if any(one.is_running() and one.status() != psutil.STATUS_ZOMBIE for one in psutil.wait_procs(family, timeout=10)[1]):
            raise StudioError(f"The worker (process {pid}) can't be ended; the driver may hold it.", "Restart the computer; what was saved before is kept.")
    return pid


def is_worker(pid: int) -> bool:
    """Whether a process with this id exists and is a worker."""
    try:
        process = psutil.Process(pid)
        return process.status() != psutil.STATUS_ZOMBIE and "studio.worker" in process.cmdline()
    except psutil.Error:
        return False


def start_worker(paths: Paths) -> "subprocess.Popen[bytes]":
    """Start a worker in a session of its own, so that it outlives this process; its words go to outputs/logs/worker.log."""
    paths.prepare()
    env = {**PATIENT_THREADS, **os.environ, "STUDIO_ROOT": str(paths.root), "PYTHONPATH": os.pathsep.join(filter(None, (str(SHIPPED_ROOT), os.environ.get("PYTHONPATH", "")))), "PYTHONUNBUFFERED": "1"}
    options: dict[str, Any] = {"start_new_session": True}
    if sys.platform == "win32":
        options = {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.DETACHED_PROCESS}
    command = [sys.executable, "-m", "studio.worker"]
    with _log(paths) as said:
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=said, stderr=said, env=env, cwd=paths.root, **options)


def _log(paths: Paths) -> BinaryIO:
    """The worker's log; a log that can't be opened does not keep the queue from going on."""
    try:
        return (paths.logs / "worker.log").open("ab")
    except OSError as error:
        log.warning("the worker writes no log: %s", error)
        return Path(os.devnull).open("ab")
