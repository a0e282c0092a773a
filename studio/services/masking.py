"""Mask: cut the subjects of a data set out as one step that can be taken back; a picture that cannot be cut is told, never a stop."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from studio.dataset.crew import Crew
from studio.dataset.cutting import Masked, Order, masked
from studio.dataset.masks import mask_file, trouble
from studio.dataset.segmenters import Entry, choose
from studio.errors import Conflict, InputError, NotFound, StudioError
from studio.jobs import JobStore, Lane
from studio.projects.facts import Change, Item
from studio.projects.findings import keep_mask_trouble
from studio.projects.project import Project
from studio.projects.streams import Stream
from studio.requests.mask import MaskRequest
from studio.services.desk import Desk
from studio.services.pace import tell_pace
from studio.shelves import natural_key

TURN = 2.0
"""Seconds for which a network is lent, and at least for one picture, before it may make place for another job."""
FEW = 8
"""Fewer pictures than this are cut by this process alone: starting others takes longer."""
Found = Masked | StudioError | None
"""What came of a picture: a mask, why there is none, or nothing because its own alpha is kept."""


@dataclass
class Walk:
    """One run over the pictures: what it works with, and what came of it."""

    request: MaskRequest
    lane: Lane
    desk: Desk
    project: Project
    total: int
    step: int = 0
    kept: int = 0
    masks: list[str] = field(default_factory=list)
    skipped: list[dict[str, str]] = field(default_factory=list)
    looked: int = 0
    stopped: bool = False
    began: float = field(default_factory=time.monotonic)

    def stopping(self) -> bool:
        """Whether a stop was asked; remembered."""
        self.stopped = self.stopped or self.lane.stopping()
        return self.stopped

    def order(self, item: Item) -> Order:
        """What is to be done with a picture."""
        wish = self.request
        return Order(self.project.folder / item.name, item.facts, item.choices, wish.grow, wish.feather, wish.invert, words=wish.words, fill_holes=wish.fill_holes, keep_alpha=wish.keep_existing)

    def skip(self, name: str, reason: str) -> None:
        """A picture that gets no mask."""
        self.skipped.append({"source": name, "reason": reason})
        self.lane.emit("warning", text=reason, name=name)

    def result(self) -> dict[str, Any]:
        """What the job gives back."""
        found = {"masks": len(self.masks), "kept": self.kept, "skipped": self.skipped, "folder": str(self.project.folder)}
        return {**found, "stopped": True} if self.stopped else found


def run(request: MaskRequest, lane: Lane, desk: Desk) -> dict[str, Any]:
    """Cut the subjects out; returns how many masks were written, how many were there and kept, and what was skipped, with reasons. Raises InputError, NotFound, Unreadable."""
    project = Project(Path(request.folder))
    entry, path = choose(request.segmenter, desk.paths, request.words)
    items = _chosen(project, request)
    walk = Walk(request, lane, desk, project, len(items))
    waiting = _waiting(walk, items, _told(lane, desk))
    lane.emit("progress", step=walk.step, total=walk.total, text="")
    with project.edit_stream("Cut out the subjects") as stream:
        for item, found in _found(walk, waiting, entry, path):
            _write(walk, item, found, stream)
            tell_pace(walk, item.name)
            lane.breathe()
    keep_mask_trouble(project, {name: trouble(project.folder / name) for name in walk.masks})
    walk.skipped.sort(key=lambda one: natural_key(Path(one["source"])))
    if items and not walk.stopped and len(walk.skipped) == len(items):
        raise InputError("No subject could be cut out. " + " ".join(one["reason"] for one in walk.skipped[:5]))
    return walk.result()


def _chosen(project: Project, request: MaskRequest) -> list[Item]:
    """The pictures that are meant; raises NotFound for a name that is none, InputError for an empty folder."""
    items = project.items()
    if not items:
        raise InputError(f"There is no picture in {project.name}.", "Put pictures into the data set first.")
    if not request.names:
        return [item for item in items if not item.choices.left_out]
    by_name = {item.name: item for item in items}
    if missing := [name for name in request.names if name not in by_name]:
        raise NotFound(f"There is no picture {missing[0]!r} in {project.name}.", "It may have been moved or deleted.")
    return [by_name[name] for name in dict.fromkeys(request.names)]


def _told(lane: Lane, desk: Desk) -> set[str]:
    """Pictures that this job masked before its worker died."""
    return {event.data["name"] for event in JobStore(desk.paths.database).events(lane.job, kinds=("item",), limit=1_000_000)}


def _waiting(walk: Walk, items: Sequence[Item], told: set[str]) -> list[Item]:
    """The pictures that are to be cut: those that were done, that keep their masks, or whose mask would be another picture's too are passed over."""
    waiting: list[Item] = []
    owners: dict[str, str] = {}
    for item in items:
        file = mask_file(Path(item.name)).name
        if item.name in told:
            walk.masks.append(item.name)
            owners.setdefault(file, item.name)
        elif file in owners:
            walk.skip(item.name, f"{item.name} shares the mask file {file} with {owners[file]}. Rename one of them to give it a mask of its own.")
        elif walk.request.keep_existing and item.mask_name:
            walk.kept += 1
        else:
            owners[file] = item.name
            waiting.append(item)
    walk.step = len(items) - len(waiting)
    return waiting


def _found(walk: Walk, waiting: Sequence[Item], entry: Entry, path: Path) -> Iterator[tuple[Item, Found]]:
    """What comes of each picture until a stop: the classical cut on all cores as they get done, a network one after the other."""
    if entry.name == "GrabCut":
        orders = (walk.order(item) for item in waiting if not walk.stopping())
        with Crew(1 if len(waiting) < FEW else None) as crew:
            yield from ((waiting[index], found) for index, found in crew.run(masked, orders))
        return
    rest = iter(waiting)
    while turn := _by_network(walk, rest, entry, path):
        yield from turn


def _by_network(walk: Walk, rest: Iterator[Item], entry: Entry, path: Path) -> list[tuple[Item, Found]]:
    """What a network makes of the next pictures; it is given back before they are written. Nothing when there are no more. Raises Unreadable when it cannot be loaded."""
    done: list[tuple[Item, Found]] = []
    until = time.monotonic() + TURN
    with walk.desk.cache.lend_part(entry.name, path, lambda: entry.load(path, walk.desk.cache.device)) as segmenter:
        while not walk.stopping() and (time.monotonic() < until or not done) and (item := next(rest, None)) is not None:
            try:
                done.append((item, masked(walk.order(item), segmenter.mask)))
            except StudioError as error:
                done.append((item, error))
    return done


def _write(walk: Walk, item: Item, found: Found, stream: Stream) -> None:
    """Write one mask into the step, and tell it."""
    if found is None:
        walk.kept += 1
        return
    if isinstance(found, StudioError) or found.problem:
        walk.skip(item.name, str(found) if isinstance(found, StudioError) else found.problem)
        return
    try:
        _unchanged(walk.project, item)
        stream.add([Change(item.name, "mask", walk.project.mask_digest(item.name), walk.project.keep_mask(found.png))])
    except (Conflict, InputError, NotFound) as error:
        walk.skip(item.name, str(error))
        return
    walk.masks.append(item.name)
    walk.lane.emit("item", name=item.name, confidence=found.confidence)


def _unchanged(project: Project, item: Item) -> None:
    """Raise Conflict when somebody has painted the mask since the job began."""
    file = mask_file(project.folder / item.name)
    if (file.stat().st_mtime_ns if file.is_file() else 0) != item.mask_changed:
        raise Conflict(f"The mask of {item.name} was changed meanwhile.", "It is left as it is; cut this picture out again to replace it.")
