"""`python -m studio.launched FILE`: one process of a training that `accelerate launch` started, or the only one; `studio train FILE` becomes this."""

import contextlib
import hashlib
import json
import logging
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import psutil
from filelock import FileLock, Timeout

from studio.errors import EXIT_CODES, Conflict, InputError, NotFound, OutOfSpace, StudioError, Unavailable
from studio.jobs import Job, SilentLane
from studio.requests.train import TrainRequest
from studio.settings import Paths
from studio.worker import Worker
from studio.worker_lane import WorkerLane

log = logging.getLogger("studio.launched")
LEAVE = 60.0
"""Seconds that an earlier process of the same job has to leave."""


class ChildLane(WorkerLane):
    """The lane of a job whose worker waits for this process: it ends with that worker, which takes the job up again when it comes back."""

    def __init__(self, worker: Worker, job: str, waiting: int) -> None:
        super().__init__(worker, _known(worker, job))
        try:
            self.parent: psutil.Process | None = psutil.Process(waiting)
        except psutil.NoSuchProcess:
            self.parent = None

    def breathe(self) -> None:
        """Nothing runs in between but the writes that had to wait; raises StudioError when the worker is gone."""
        self.outbox.flush()
        if self.parent is None or not self.parent.is_running() or self.parent.status() == psutil.STATUS_ZOMBIE:
            raise StudioError("The worker that waited for this training is gone.", "The next one goes on from the newest checkpoint.")


def _known(worker: Worker, job: str) -> Job:
    """A job of the queue, also when the database can't be read for a while; raises NotFound, Unavailable."""
    end = time.monotonic() + LEAVE
    while True:
        try:
            return worker.store.job(job)
        except Unavailable:
            if time.monotonic() > end:
                raise
            time.sleep(1)


class HandLane(SilentLane):
    """The lane of a training that a person launched: says what happens on stderr, and stops when the process is asked to end."""

    def emit(self, kind: str, /, **data: Any) -> None:
        """Say how far it is, and whatever has words."""
        if kind == "metric":
            log.info("step %s of %s, loss %s", data["step"], data["total"], "-" if data["smoothed"] is None else f"{data['smoothed']:.4f}")
        elif kind in ("warning", "log", "saved"):
            log.log(logging.WARNING if kind == "warning" else logging.INFO, "%s", data.get("text") or data.get("path"))

    def end(self, *_signal: object) -> None:
        """Finish the step in hand, save, and end."""
        self.stop = True


class Task:
    """What a file says: the request, and for a launched job its id, its folders and its worker."""

    def __init__(self, file: Path) -> None:
        try:
            text = file.read_text(encoding="utf-8")
            said = json.loads(text)
        except OSError as error:
            raise NotFound(f"{str(file)!r} cannot be opened ({error.strerror}).", "Name a run.json.") from error
        except ValueError as error:
            raise InputError(f"{file.name} is not JSON ({error}).", "It holds method and config, as config.json of a run does.") from error
        if not isinstance(said, dict) or not isinstance(said.get("config"), dict):
            raise InputError(f"{file.name} does not say what to train.", 'Write {"method": "lora", "config": {...}}, or take the config.json of a run.')
        self.request = TrainRequest.check({name: said[name] for name in ("method", "config", "run") if name in said})
        self.paths = Paths(Path(said["root"])) if said.get("root") else Paths.default()
        self.job, self.worker = str(said.get("job") or ""), int(said.get("worker") or 0)
        self.name = self.job or hashlib.sha256(f"{file.resolve()}\0{text}".encode()).hexdigest()[:12]

    def lane(self) -> SilentLane | ChildLane:
        """Where it tells and is asked."""
        return ChildLane(Worker(self.paths), self.job, self.worker) if self.job else HandLane(self.name)


def main(argv: list[str]) -> int:
    """Train what the file says, or take part in it; returns the exit code."""
    from studio.training.several import Team

    team, file = None, Path(argv[0])
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        task = Task(file)
        team = Team.joined()
        result = _take_part(task, team)
    except StudioError as error:
        log.error("%s", error)  # noqa: TRY400 - words for a person, not where they come from
        _note(file, team.rank if team else int(os.environ.get("RANK", "0")), None, error)
        return EXIT_CODES.get(error.code, 1)
    if result is not None:
        _note(file, 0, result)
        if not task.job:
            sys.stdout.write(json.dumps(result, ensure_ascii=False) + "\n")
    return 0


def _take_part(task: Task, team: Any) -> dict[str, Any] | None:
    """Lead or follow; what the training gave where it is led."""
    from studio.diffusion.cache import ModelCache
    from studio.services.desk import Desk
    from studio.services.several import follow, lead

    paths = task.paths.prepare()
    desk = Desk(paths, ModelCache(paths, device=team.device if team.size > 1 else None), team=team)
    lane = task.lane() if team.leads else None
    _hear_signals(lane)
    if lane is None:
        follow(desk)
        return None
    try:
        with FileLock(paths.logs / f"train-{task.name}.lock", timeout=LEAVE):
            result = lead(task.request, lane, desk)
            if isinstance(lane, ChildLane):
                lane.outbox.drain(LEAVE)
            return result
    except Timeout as error:
        raise Conflict("Another process trains this already.", "Wait until it is over, or end it.") from error


def _hear_signals(lane: Any) -> None:
    """Let a person's Ctrl-C end the training after the step in hand; the others, and what a worker started, are ended by who leads them."""
    ends = lane.end if isinstance(lane, HandLane) else signal.SIG_IGN
    for number in (signal.SIGINT, signal.SIGTERM):
        with contextlib.suppress(ValueError):
            signal.signal(number, ends)


def _note(file: Path, rank: int, result: dict[str, Any] | None, error: StudioError | None = None) -> None:
    """Note how it ended, for the worker that started it; while the disk can't be written it tries again, for as long as that worker is there."""
    from studio.services.several import ended

    try:
        said = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return
    while said.get("job"):
        try:
            return ended(file, rank, result, error)
        except (OSError, OutOfSpace):
            log.warning("how the training ended cannot be written to %s", file.parent)
            if not psutil.pid_exists(int(said.get("worker") or 0)):
                return
            time.sleep(1)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
