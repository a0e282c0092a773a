"""Import and export: pictures come into a data set and are measured at once; a data set is given away as other trainers read it."""

import shutil
import time
from pathlib import Path
from typing import Any

from studio.dataset.faces import yunet_file
from studio.errors import InputError, OutOfSpace, StudioError
from studio.jobs import Lane
from studio.projects.exporting import ExportOptions, export
from studio.projects.importing import Imported, ImportOptions, import_into
from studio.projects.project import Project
from studio.requests.transfer import ExportRequest, ImportRequest
from studio.services.desk import Desk
from studio.services.examination import measure_all

DROPPED = "drop-"
"""How a folder of the uploads begins whose files a page dropped: each stands for itself, and a .zip among them is opened."""
EVERY = 0.2
"""Seconds between two words about the progress."""


def run(request: ImportRequest | ExportRequest, lane: Lane, desk: Desk) -> dict[str, Any]:
    """Do one import or export; raises StudioError in words. What a page dropped is deleted once it was imported, or could not be."""
    if isinstance(request, ExportRequest):
        return _export(request, lane)
    source = Path(request.source)
    if source.parent.resolve() != desk.paths.uploads.resolve() or not source.name.startswith(DROPPED):
        return _import(request, source, lane, desk)
    try:
        result = _import(request, sorted(path for path in source.rglob("*") if path.is_file()), lane, desk)
    except StudioError:
        shutil.rmtree(source, ignore_errors=True)
        raise
    shutil.rmtree(source, ignore_errors=True)
    return result


class _Progress:
    """Tells the lane how far a copy is, a few times a second."""

    def __init__(self, lane: Lane) -> None:
        self.lane, self._told = lane, 0.0

    def __call__(self, done: int, total: int, name: str) -> None:
        """One file is done."""
        now = time.monotonic()
        if done == total or now - self._told > EVERY:
            self._told = now
            self.lane.emit("progress", step=done, total=total, text=name)


def _import(request: ImportRequest, source: Path | list[Path], lane: Lane, desk: Desk) -> dict[str, Any]:
    """Copy, then measure what was copied; raises OutOfSpace when the disk was full before all was there, InputError when nothing could be used."""
    folder = Path(request.folder)
    came = import_into(folder, source, ImportOptions(request.recursive, request.regularisation), _Progress(lane), lane.stopping)
    for refused in came.skipped:
        lane.emit("warning", text=f"{refused.name}: {refused.reason}", name=refused.name)
    for note in came.notes:
        lane.emit("warning", text=note)
    if came.added:
        project = Project(folder)
        added = set(came.added)
        measure_all(project, [item.name for item in project.items() if item.name in added and item.facts is None], lane, yunet=yunet_file(desk.paths.opencv))
    if came.problem:
        raise OutOfSpace(came.problem)
    if not (came.added or came.changed or came.stopped):
        raise InputError("Nothing was taken in. " + " ".join(f"{refused.name}: {refused.reason}" for refused in came.skipped[:5]), "" if came.skipped else "There is no picture in it.")
    return _told(came)


def _told(came: Imported) -> dict[str, Any]:
    """What came of it as JSON."""
    facts = {"added": len(came.added), "captions": came.captions, "masks": came.masks, "changed": len(came.changed)}
    skipped = [{"source": refused.name, "reason": refused.reason} for refused in came.skipped]
    return {**facts, "skipped": skipped, "notes": list(came.notes), **({"stopped": True} if came.stopped else {})}


def _export(request: ExportRequest, lane: Lane) -> dict[str, Any]:
    """Give a data set away."""
    options = ExportOptions(tokens=request.tokens, masks=request.masks, captions=request.captions)
    project = Project(Path(request.folder))
    destination = Path(request.destination)
    destination = destination if destination.is_absolute() else project.folder / "exports" / destination
    made = export(project, destination, request.layout, options, _Progress(lane), lane.stopping)
    for refused in made.skipped:
        lane.emit("warning", text=f"{refused.name}: {refused.reason}", name=refused.name)
    facts = {"destination": str(made.destination), "pictures": made.pictures, "captions": made.captions, "masks": made.masks, "left_out": made.left_out}
    return {**facts, "notes": list(made.notes), **({"stopped": True} if made.stopped else {})}
