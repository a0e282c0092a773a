"""Write: a data set's pictures as prepared copies, cut and described as was decided; originals are only read, and what is current already stays."""

import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from studio import shelves
from studio.dataset.crew import in_order
from studio.dataset.faces import yunet_file
from studio.dataset.manifest import Entry, Manifest, Mark, digest
from studio.dataset.prepare import Kind, Made, Task, prepare, put
from studio.dataset.sizing import FLIPS, Piece, Sizing, pieces
from studio.errors import InputError, NotFound, OutOfSpace, StudioError
from studio.jobs import Lane
from studio.projects.facts import Item
from studio.projects.initial import put_repeats
from studio.projects.names import Names, clean
from studio.projects.project import Project
from studio.projects.sidecar import HIDDEN
from studio.requests.write import WriteRequest
from studio.services.desk import Desk
from studio.services.examination import measure_all
from studio.services.preprocess import crew_for

VERSION = 1
"""Raised when the same request would make other pixels than before."""
VALIDATION = "validation"
"""Sub-folder of what is held out."""
COPIES = {"Horizontal": "mirrored", "Vertical": "flipped", "Both": "turned"}
"""What the name of a mirrored copy ends with."""


@dataclass(frozen=True)
class Plan:
    """What is to be made of one picture: the folder below the destination, its stems, the pieces, a digest of all it is made from, and the caption (None without a file)."""

    item: Item
    folder: str
    stems: tuple[str, ...]
    made: list[Piece]
    rules: Sizing
    key: str
    caption: str | None


@dataclass
class _Work:
    """One run of the job and what came of it."""

    project: Project
    request: WriteRequest
    lane: Lane
    destination: Path
    kind: Kind
    manifest: Manifest
    offset: int = 0
    total: int = 0
    written: int = 0
    unchanged: int = 0
    sizes: Counter[str] = field(default_factory=Counter)
    skipped: list[dict[str, str]] = field(default_factory=list)
    stopped: bool = False


def run(request: WriteRequest, lane: Lane, desk: Desk) -> dict[str, Any]:
    """Bring the copies up to date; returns how many were written, were current and were taken away, the count of each size, and what was skipped with reasons."""
    project = Project(Path(request.folder))
    items = _chosen(project, request)
    missing = [item.name for item in items if item.facts is None]
    total = len(items) + len(missing)
    if missing:
        _, stopped = measure_all(project, missing, lane, total, yunet_file(desk.paths.opencv))
        if stopped:
            return {"written": 0, "skipped": [], "destination": str(destination_of(request)), "stopped": True}
    destination = _made(destination_of(request), project)
    colour = {"keep": "", "white": "#ffffff"}.get(request.background, request.background_colour)
    work = _Work(project, request, lane, destination, Kind(request.format, request.quality, request.masks, colour), Manifest(destination), len(missing), total)
    plans = _plans(work)
    _write_all(work, plans)
    _keep_repeats(work, plans)
    return _result(work)


def destination_of(request: WriteRequest) -> Path:
    """The folder that receives the copies."""
    if request.destination:
        return Path(request.destination)
    width, height = request.target
    name = {"crop": f"{width}x{height}", "buckets": f"buckets-{width}x{height}", "auto": "auto", "keep": "original"}[request.sizing]
    return Path(request.folder) / "exports" / name


def _chosen(project: Project, request: WriteRequest) -> list[Item]:
    """The pictures that are to be written; raises NotFound for names that are not there, InputError when none is left."""
    items = project.items()
    unknown = sorted(set(request.names) - {item.name for item in items})
    if unknown:
        raise NotFound(f"There is no picture {unknown[0]!r} in {project.name}.", "It may have been moved or deleted.")
    chosen = [item for item in items if not item.choices.left_out and (not request.names or item.name in request.names)]
    if not chosen:
        raise InputError(f"There is no picture to write in {project.name}.", "Add pictures, or take back that they are left out.")
    return chosen


def _made(destination: Path, project: Project) -> Path:
    """Make the destination; raises InputError when it is the data set itself or cannot be made."""
    place = destination.resolve()
    if place == project.folder or place.is_relative_to(project.folder / HIDDEN):
        raise InputError("The destination is the data set itself, whose pictures must stay untouched.", "Choose another folder, such as one inside it.")
    try:
        place.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"The destination {str(destination)!r} cannot be made ({error.strerror}).", "Choose another folder.") from error
    return place


def _plans(work: _Work) -> list[Plan]:
    """What is to be made, picture by picture in natural order; what cannot be is skipped with the reason.

    Names are found over the whole data set, so that they do not depend on which pictures are written.
    """
    names, found = Names(), []
    items = [item for item in work.project.items() if not item.choices.left_out]
    stems = {item.name: _given(names, clean(item.name)[0]) for item in items}
    for item in items:
        flips = tuple(flip for flip in FLIPS if flip in work.request.flips) if work.request.flip or item.choices.flipped else ()
        copies = (stems[item.name], *(_given(names, f"{stems[item.name]}-{COPIES[flip]}") for flip in flips))
        if work.request.names and item.name not in work.request.names:
            continue
        problem = _unusable(item)
        try:
            plan = None if problem else _plan(work, item, copies, Sizing.of(work.request, flips=flips))
        except InputError as error:
            plan, problem = None, f"{item.name}: {error}"
        if plan is None:
            _skip(work, item.name, problem)
        else:
            found.append(plan)
    return found


def _given(names: Names, stem: str) -> str:
    """A stem that is free in every folder that is written."""
    return names.give(f"{stem}.png").removesuffix(".png")


def _unusable(item: Item) -> str:
    """Why a picture cannot be written; empty when it can."""
    if item.facts is None:
        return f"{item.name} could not be measured."
    return item.facts.problem


def _plan(work: _Work, item: Item, stems: tuple[str, ...], rules: Sizing) -> Plan:
    """What is to be made of one picture; raises InputError when no size suits it."""
    request, choices = work.request, item.choices
    assert item.facts is not None
    made = pieces(item.facts, rules, choices.crop)
    folder = VALIDATION if choices.held_out else f"{choices.repeats}_{''.join(clean(work.project.name))}" if request.repeats else ""
    key = digest(VERSION, item.bytes, item.changed, [asdict(piece) for piece in made], asdict(work.kind), _mask_mark(work, item))
    caption = item.caption if request.captions and (item.captioned or item.caption) else None
    return Plan(item, folder, stems, made, rules, key, caption)


def _mask_mark(work: _Work, item: Item) -> tuple[str, int, int]:
    """Which mask a picture has, as far as it counts."""
    if not item.mask_name or (work.kind.masks == "none" and not work.kind.colour):
        return "", 0, 0
    status = (work.project.folder / item.mask_name).stat()
    return item.mask_name, status.st_size, status.st_mtime_ns


def _below(plan: Plan, name: str) -> str:
    """A file of a plan as the manifest names it."""
    return f"{plan.folder}/{name}" if plan.folder else name


def _names(work: _Work, plan: Plan) -> tuple[list[str], list[str], list[str]]:
    """The pictures, captions and masks of a plan."""
    pictures = [_below(plan, f"{stem}.{work.kind.format}") for stem in plan.stems]
    captions = [_below(plan, f"{stem}.txt") for stem in plan.stems] if plan.caption is not None else []
    masks = [_below(plan, stem + shelves.MASK_SUFFIX) for stem in plan.stems] if work.kind.masks == "sidecar" else []
    return pictures, captions, masks


def _write_all(work: _Work, plans: list[Plan]) -> None:
    """Write what is not current, by the crew and in order; a stop lets what is in hand be finished."""
    work.manifest.begin(name for plan in plans for part in _names(work, plan) for name in part)
    todo = [plan for plan in plans if not _is_current(work, plan)]
    done = work.total - len(todo)
    work.lane.emit("progress", step=done, total=work.total, text=todo[0].item.name if todo else "")
    with crew_for([work.project.folder / plan.item.name for plan in todo]) as crew:
        for place, found in in_order(crew.run(prepare, _tasks(work, todo))):
            _take(work, todo[place], found)
            work.manifest.keep()
            work.lane.emit("progress", step=done + place + 1, total=work.total, text=todo[place].item.name)
            work.lane.breathe()


def _is_current(work: _Work, plan: Plan) -> bool:
    """Whether the pictures of a plan are there as they would be made; captions, which are quickly written, are brought up to date here."""
    pictures, captions, masks = _names(work, plan)
    if not work.manifest.current(plan.item.name, plan.key, pictures):
        return False
    before = work.manifest.entries[plan.item.name].files
    kept: dict[str, Mark] = {name: before[name] for name in pictures}
    lost = False
    for name in masks:  # a picture without a mask has none to lose
        if name in before:
            kept[name] = before[name]
            lost = lost or not work.manifest.intact(name, before[name])
    if lost:
        return False
    for name in captions:
        data = (plan.caption or "").encode()
        same = name in before and before[name][2] == hashlib.sha256(data).hexdigest() and work.manifest.intact(name, before[name])
        kept[name] = before[name] if same else put(work.destination / name, data)
    work.manifest.entries[plan.item.name] = Entry(plan.key, kept)
    work.unchanged += len(pictures)
    work.sizes.update(_size(piece) for piece in plan.made)
    return True


def _size(one: Piece | Made) -> str:
    """The size of a copy as it is counted."""
    return f"{one.size[0]}x{one.size[1]}"


def _tasks(work: _Work, todo: list[Plan]) -> Iterator[Task]:
    """The tasks in order, until a stop is asked."""
    for plan in todo:
        if work.lane.stopping():
            work.stopped = True
            return
        picture, item = work.project.folder / plan.item.name, plan.item
        yield Task(picture, work.destination / plan.folder, plan.rules, plan.stems, kind=work.kind, facts=item.facts, crop=item.choices.crop, caption=plan.caption)


def _take(work: _Work, plan: Plan, found: list[Made] | StudioError) -> None:
    """Count and tell what became of one picture."""
    if isinstance(found, OutOfSpace):
        raise found
    if isinstance(found, StudioError):
        _skip(work, plan.item.name, str(found))
        return
    files = {_below(plan, name): mark for made in found for name, mark in made.marks.items()}
    work.manifest.entries[plan.item.name] = Entry(plan.key, files)
    work.written += len(found)
    work.sizes.update(_size(made) for made in found)
    source = str(work.project.folder / plan.item.name)
    for made in found:
        work.lane.emit("item", source=source, path=str(made.path), caption=plan.caption or "", box=list(made.box), size=list(made.original), flipped=bool(made.flip))


def _keep_repeats(work: _Work, plans: list[Plan]) -> None:
    """Note in the destination how often each copy counts in an epoch, as in the data set it is from; folders such as 10_name say it themselves."""
    repeats = {f"{stem}.{work.kind.format}": plan.item.choices.repeats for plan in plans if not plan.folder for stem in plan.stems}
    if any(count != 1 for count in repeats.values()) or (repeats and (work.destination / HIDDEN / "project.db").is_file()):
        put_repeats(Project(work.destination), repeats)


def _skip(work: _Work, name: str, reason: str) -> None:
    """Leave a picture out and say why; what an earlier Write made of it stays."""
    work.skipped.append({"source": name, "reason": reason})
    work.lane.emit("warning", text=reason, source=name)


def _result(work: _Work) -> dict[str, Any]:
    """What a Write answers, after what belongs to no picture any more was taken away; raises InputError when nothing is there."""
    if not work.stopped and not work.request.names:
        there = {item.name for item in work.project.items() if not item.choices.left_out}
        work.manifest.entries = {name: entry for name, entry in work.manifest.entries.items() if name in there}
    removed, changed = work.manifest.end()
    for name in changed:
        work.lane.emit("warning", text=f"{name} belongs to no picture any more and stays, because it was changed since it was written.", source=name)
    if not work.written + work.unchanged and not work.stopped:
        raise InputError("None of the pictures could be used. " + " ".join(s["reason"] for s in work.skipped[:5]))
    result = {"written": work.written, "unchanged": work.unchanged, "removed": removed, "skipped": work.skipped, "destination": str(work.destination), "sizes": dict(sorted(work.sizes.items()))}
    return {**result, "stopped": True} if work.stopped else result
