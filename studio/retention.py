"""What the studio deletes by itself, and when: logs, caches and temporary copies only. Every limit is in `Limits`; nothing a person made, trained or painted is touched."""

import contextlib
import json
import logging
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from studio.errors import StudioError
from studio.jobs import LIVE, JobStore
from studio.settings import Paths

log = logging.getLogger("studio.retention")

DAY = 86400.0


@dataclass(frozen=True)
class Limits:
    """Ages in seconds, sizes in bytes."""

    log_bytes: int = 8 * 2**20
    """worker.log is put aside when it is larger."""
    old_logs: int = 3
    """So many earlier worker.log are kept."""
    training_logs: float = 30 * DAY
    """Logs of trainings on several devices, once their job is over."""
    uploads: float = 30 * DAY
    """Copies of files that were dropped into the page or sent by a client, counted from the last time one was written or read."""
    imported: float = 2 * DAY
    """Copies of files that were dropped into a data set, which has its own."""
    zips: float = DAY
    """Zips of pictures made for download."""
    crops: float = 30 * DAY
    """Drawings of crops made by Preprocess."""
    thumbnails: int = 1 * 2**30
    """Small copies of data sets' pictures, all together; the oldest go first and are made again when somebody looks."""
    events: float = DAY
    """Progress, figures and previews of a job that is over; the newest of each kind, and every other event, stays."""


LIMITS = Limits()


def rotate_log(file: Path, limits: Limits = LIMITS) -> bool:
    """Put a log aside that is too large and empty it, while a process goes on appending to it; whether that was done. Raises OSError."""
    if not file.exists() or file.stat().st_size <= limits.log_bytes:
        return False
    for number in range(limits.old_logs, 1, -1):
        older = file.with_name(f"{file.name}.{number - 1}")
        if older.exists():
            os.replace(older, file.with_name(f"{file.name}.{number}"))
    shutil.copyfile(file, file.with_name(f"{file.name}.1"))
    os.truncate(file, 0)
    return True


def clean(paths: Paths, store: JobStore, limits: Limits = LIMITS) -> list[Path]:
    """Delete what is older or larger than its limit; returns what was deleted. Raises Unavailable when the queue can't be read, since what it still needs is then unknown."""
    needed = _needed(paths, store)
    live = {job.id for job in store.jobs(states=LIVE, limit=100_000)}
    gone: list[Path] = []
    for path, age in (*_uploads(paths, limits, needed), *_of_jobs(paths, limits, live)):
        if time.time() - _last_use(path) > age and _deleted(path):
            gone.append(path)
    gone += _shrunk(paths.thumbnails, limits.thumbnails)
    store.prune_events(limits.events)
    if gone:
        log.info("%d caches and temporary copies were deleted", len(gone))
    return gone


def _needed(paths: Paths, store: JobStore) -> str:
    """Everything that names files which must stay: requests of live jobs, settings of runs, and the list of opened data sets."""
    requests = [json.dumps(job.request, ensure_ascii=False) for job in store.jobs(states=LIVE, limit=100_000)]
    texts = [file.read_text(encoding="utf-8", errors="replace") for file in (*paths.runs.glob("*/config.json"), *paths.outputs.glob("*.json")) if file.is_file()]
    return "\n".join((*requests, *texts))


def _uploads(paths: Paths, limits: Limits, needed: str) -> Iterator[tuple[Path, float]]:
    """Uploads that nothing names, with their ages. A folder that was opened as a data set holds a person's work and is left out."""
    for path in (*_entries(paths.uploads), *_entries(paths.uploads / "api")):
        if path.name == "api" or path.name in needed or (path / ".studio").exists():
            continue
        age = limits.imported if path.name.startswith("drop-") else limits.zips if path.name.startswith("pictures-") and path.suffix == ".zip" else limits.uploads
        yield path, age


def _of_jobs(paths: Paths, limits: Limits, live: set[str]) -> Iterator[tuple[Path, float]]:
    """Files of jobs that are over, with their ages."""
    yield from ((path, limits.crops) for path in _entries(paths.crops) if path.name not in live)
    for path in paths.logs.glob("train-*"):
        if not any(job in path.name for job in live):
            yield path, limits.training_logs


def _entries(folder: Path) -> list[Path]:
    """What lies in a folder that may not be there."""
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []


def _last_use(path: Path) -> float:
    """When a file, or any file of a folder, was written or read last, as far as the system notes it."""
    newest = 0.0
    for each in (path, *(path.rglob("*") if path.is_dir() else ())):
        with contextlib.suppress(OSError):
            status = each.lstat()
            newest = max(newest, status.st_mtime, status.st_ctime, 0.0 if each.is_dir() else status.st_atime)
    return newest


def _deleted(path: Path) -> bool:
    """Delete a file or folder; whether it is gone."""
    try:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
    except OSError as error:
        log.warning("%s could not be deleted: %s", path, error)
        return False
    return True


def _shrunk(folder: Path, limit: int) -> list[Path]:
    """Delete the oldest files of a cache until it fits."""
    files = []
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):
            if path.is_file():
                files.append((path.stat().st_mtime, path.stat().st_size, path))
    total, gone = sum(size for _, size, _ in files), []
    for _, size, path in sorted(files):
        if total <= limit:
            break
        if _deleted(path):
            total -= size
            gone.append(path)
    return gone


@dataclass
class Housekeeping:
    """Looks after the logs at every call, and after the rest once an hour; what fails is tried again."""

    paths: Paths
    store: JobStore
    every: float = 3600.0
    _next: float = 0.0

    def look(self) -> None:
        """Do what is due; never raises."""
        try:
            rotate_log(self.paths.logs / "worker.log")
            if time.monotonic() >= self._next:
                self._next = time.monotonic() + self.every
                clean(self.paths, self.store)
        except (OSError, StudioError) as error:
            log.warning("old files are not deleted now: %s", error)
