"""Download: bring a captioner's files into models/ on an explicit click; it appears there whole or not at all."""

import shutil
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from studio.dataset import hub
from studio.errors import Conflict, OutOfSpace, StudioError
from studio.jobs import Lane
from studio.projects.captioner_shelf import CATALOGUE_OF_MODELS, FOLDERS, Offer
from studio.requests.download import DownloadRequest

if TYPE_CHECKING:
    from studio.services.desk import Desk

OFTEN = 0.5
"""Seconds between two events of progress."""
MB = 10**6


@dataclass
class Meter:
    """Tells progress, and looks whether to stop."""

    lane: Lane
    total: int
    before: int = 0
    """Bytes of the files that are done."""
    began: float = field(default_factory=time.monotonic)
    at_start: int | None = None
    told: float = 0.0

    def __call__(self, there: int) -> bool:
        """So many bytes of the file that is fetched now are there; whether to go on."""
        done, now = self.before + there, time.monotonic()
        if self.at_start is None:
            self.at_start = done
        if now - self.told >= OFTEN:
            self.told = now
            self.tell(done, now)
        return not self.lane.stopping()

    def tell(self, done: int, now: float) -> None:
        """Write the event: bytes, bytes per second, seconds left."""
        rate = (done - (self.at_start or 0)) / max(1e-9, now - self.began)
        text = f"{done / MB:.0f} of {self.total / MB:.0f} MB" if self.total else f"{done / MB:.0f} MB"
        left = round((self.total - done) / rate, 1) if rate > 0 and self.total else None
        self.lane.emit("progress", step=done, total=max(self.total, done), text=text, rate=round(rate), left=left)


def run(request: DownloadRequest, lane: Lane, desk: "Desk") -> dict[str, Any]:
    """Fetch one captioner; returns where it lies. Raises NotFound, Conflict, OutOfSpace, StudioError."""
    offer = next(offer for offer in CATALOGUE_OF_MODELS if offer.label == request.captioner)
    shelf = desk.paths.models / FOLDERS[offer.kind]
    final, staging = shelf / offer.name, shelf / f".fetching-{offer.name}"
    if final.exists():
        return {"captioner": offer.label, "path": str(final), "fetched": False}
    try:
        staging.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StudioError(f"models/{FOLDERS[offer.kind]} cannot be made ({error.strerror}).", "Check that models/ can be written to.") from error
    try:
        with FileLock(desk.paths.outputs / f"fetching-{offer.name}.lock", timeout=0):
            return _fetch(offer, final, staging, lane)
    except Timeout as error:
        raise Conflict(f"{offer.label} is being fetched already.", "Wait for it, or stop it first.") from error
    except hub.Cancelled:
        return {"captioner": offer.label, "path": "", "fetched": False, "stopped": True}


def _fetch(offer: Offer, final: Path, staging: Path, lane: Lane) -> dict[str, Any]:
    """Bring every file into the hidden folder, then give it its name."""
    lane.emit("progress", step=0, total=offer.size_mb * MB, text=f"Asking for {offer.repository or offer.name}")
    files = hub.files_of(offer.repository, offer.files) if offer.repository else [hub.Remote(offer.name, offer.address)]
    meter = Meter(lane, sum(remote.size or 0 for remote in files) or offer.size_mb * MB)
    _check_space(staging, meter.total)
    for remote in files:
        hub.fetch(remote, staging, meter)
        meter.before += (staging / remote.name).stat().st_size
        if lane.stopping():
            raise hub.Cancelled
    _publish(offer, final, staging, {remote.name for remote in files})
    meter.tell(meter.before, time.monotonic())
    return {"captioner": offer.label, "path": str(final), "fetched": True}


def _check_space(staging: Path, total: int) -> None:
    """Raise OutOfSpace before anything is fetched when it cannot fit."""
    missing = total - sum(p.stat().st_size for p in staging.iterdir())
    free = shutil.disk_usage(staging).free
    if missing > free:
        raise OutOfSpace(f"There are {free / MB:.0f} MB free and {missing / MB:.0f} MB are to be fetched.", "Free some space and fetch again.")


def _publish(offer: Offer, final: Path, staging: Path, names: set[str]) -> None:
    """Name what was fetched as the captioner; what older listings left behind goes."""
    for entry in staging.iterdir():
        if entry.name not in names:
            entry.unlink()
    if offer.repository:
        staging.rename(final)
    else:
        (staging / offer.name).rename(final)
        staging.rmdir()
