"""One data set over HTTP: its pictures as a grid shows them, their captions and crops, and every step taken back and done again."""

import time
from collections.abc import Callable
from typing import Any

from fastapi import APIRouter
from pydantic import Field

from studio.api.waiting import Here
from studio.config import Config
from studio.engine import Engine
from studio.errors import InputError, NotFound
from studio.jobs import Job, State
from studio.projects.captions import split_tags
from studio.projects.cropping import box_of, suggest
from studio.projects.data_sets import sayable
from studio.projects.facts import Change, Crop, Edit, Facts, Item
from studio.projects.filters import Context, compile_filter
from studio.projects.final_prompts import places
from studio.projects.likeness import alike
from studio.projects.project import Project
from studio.projects.room import keep_settings, settings_of, weights_of
from studio.requests.room import RoomSettings
from studio.wording import for_reader

router = APIRouter(prefix="/studio/v1/datasets/{name}", tags=["data sets"])
MOST_SHOWN = 500
RECENT = 600.0
"""Seconds for which a job that is over is still shown."""
MAKING = ("import", "examine", "caption", "mask", "write", "export", "compare", "download")
CHOICES = ("crop", "flipped", "left_out", "held_out", "repeats")
FULL = 75
"""Tokens a prompt holds before it is cut."""
COUNTED = 20_000
"""Letters of a caption whose tokens are counted; a whole book beside a picture must not keep the page waiting."""


class CaptionOf(Config):
    """What a person typed; `seen` is what the caption was when it was begun (null without one), so that nobody's words are overwritten unseen."""

    name: str
    text: str
    seen: str | None = None
    force: bool = False


class ChoiceOf(Config):
    """One decision for some pictures: `crop` {x, y, zoom} or null, `flipped`, `left_out`, `held_out` or `repeats`."""

    names: tuple[str, ...]
    field: str
    value: Any = None


class MomentOf(Config):
    """A time in seconds since 1970."""

    at: float = Field(ge=0, le=32_503_680_000)


def box_shares(facts: Facts | None, crop: Crop | None, settings: RoomSettings) -> list[float] | None:
    """Where a picture is cut, as shares of its sides; None while it was not examined."""
    if facts is None or facts.problem or not facts.width or not facts.height:
        return None
    target = (settings.width, settings.height)
    left, top, right, bottom = box_of(facts.size, target, crop or suggest(facts, target, weights_of(settings)))
    return [left / facts.width, top / facts.height, right / facts.width, bottom / facts.height]


def shown(item: Item, settings: RoomSettings, shared: frozenset[str] = frozenset()) -> dict[str, Any]:
    """One picture as JSON."""
    facts, choices, tokens = item.facts, item.choices, places(item.caption[:COUNTED])
    measured = facts or Facts()
    return {
        "name": sayable(item.name),
        "caption": item.caption,
        "captioned": item.captioned,
        "shared": item.caption_name in shared,
        "tokens": tokens,
        "over": tokens > FULL,
        "examined": facts is not None,
        "width": measured.width,
        "height": measured.height,
        "format": measured.format,
        "faces": len(measured.faces),
        "sharpness": round(measured.sharpness, 1),
        "alpha": measured.alpha,
        "problem": measured.problem,
        "box": box_shares(facts, choices.crop, settings),
        "crop": {"x": choices.crop.x, "y": choices.crop.y, "zoom": choices.crop.zoom} if choices.crop else None,
        "mask": sayable(f"{item.mask_name}-{item.mask_changed}") if item.mask_name else "",
        "flipped": choices.flipped,
        "left_out": choices.left_out,
        "held_out": choices.held_out,
        "repeats": choices.repeats,
        "version": f"{item.changed}-{item.bytes}",
    }


ORDERS: dict[str, Callable[[Item], Any]] = {
    "newest": lambda item: -item.changed,
    "tokens": lambda item: -places(item.caption[:COUNTED]),
    "size": lambda item: item.facts.width * item.facts.height if item.facts else 0,
    "sharpness": lambda item: item.facts.sharpness if item.facts else 0.0,
    "tags": lambda item: -len(split_tags(item.caption)),
}
"""Orders of a grid beside that by name."""


def matching(project: Project, text: str, items: list[Item]) -> list[Item]:
    """Pictures a filter lets through; raises InputError that points at a mistake in it."""
    if not text.strip():
        return items
    wanted = compile_filter(text)
    duplicates: frozenset[str] = frozenset()
    if "duplicate" in text.lower():
        duplicates = frozenset(name for group in alike(tuple((item.name, item.facts) for item in items if item.facts)) for name in group)
    return wanted.choose(items, Context(str(project.folder), settings_of(project).trigger, duplicates))


def shared_files(items: list[Item]) -> frozenset[str]:
    """Caption files that more than one picture has."""
    seen: set[str] = set()
    return frozenset(item.caption_name for item in items if item.caption_name in seen or seen.add(item.caption_name))  # type: ignore[func-returns-value]


@router.get("/room")
def room(name: str, here: Here, filter: str = "", order: str = "name", offset: int = 0, limit: int = 60) -> dict[str, Any]:
    """A page of the grid, with everything the room shows around it."""
    project = here.engine.data_sets.project(name)
    revision, items, settings = project.revision(), project.items(), settings_of(project)
    found = matching(project, filter, items)
    if order in ORDERS:
        found = sorted(found, key=ORDERS[order])
    limit, offset, shared = min(max(limit, 1), MOST_SHOWN), max(offset, 0), shared_files(items)
    return {
        "revision": revision,
        "name": sayable(project.name),
        "folder": sayable(str(project.folder)),
        "settings": settings.model_dump(),
        "templates": here.engine.template_names(),
        "total": len(items),
        "matched": len(found),
        "captioned": sum(1 for item in items if item.caption.strip()),
        "left_out": sum(1 for item in items if item.choices.left_out),
        "unexamined": sum(1 for item in items if item.facts is None),
        "offset": offset,
        "limit": limit,
        "notes": notes(project, items),
        **steps(project),
        "items": [shown(item, settings, shared) for item in found[offset : offset + limit]],
    }


def notes(project: Project, items: list[Item]) -> list[str]:
    """What a person should know about a data set: damage of its own notes, steps that a crash cut short, and names that no page can send back."""
    found = [project.trouble] if project.trouble else []
    if odd := [name for item in items if (name := sayable(item.name)) != item.name]:
        found.append(f"Pictures whose names are not UTF-8 cannot be opened or changed here: {', '.join(odd[:5])}. Import this folder into a new data set; there they get names that can be read.")
    for step in project.recovered:
        kept = f" Left as they are, since somebody else had changed them: {', '.join(step.kept[:5])}." if step.kept else ""
        found.append(f"The step “{step.name}” was cut short by a crash and is complete now.{kept}")
    return found


def steps(project: Project) -> dict[str, str | None]:
    """Names of the steps that undo and redo would take."""
    history = project.history(200)
    done = next((edit.name for edit in history if edit.state == "done"), None)
    undone = [edit.name for edit in history if edit.state == "undone"]
    return {"undo": done, "redo": undone[-1] if undone else None}


@router.get("/pulse")
def pulse(name: str, here: Here) -> dict[str, Any]:
    """A word that changes whenever the data set does, and what is being done with it."""
    project = here.engine.data_sets.project(name)
    folder, now = str(project.folder), time.time()
    jobs = [job for job in here.engine.jobs(40) if job.kind in MAKING and job.request.get("folder", folder) == folder and (not job.state.over or now - (job.ended or 0) < RECENT)]
    newest = {job.kind: job for job in reversed(jobs) if job.state.over}
    return {"revision": project.revision(), "jobs": [sayable(_job(here.engine, job)) for job in jobs if not job.state.over or newest[job.kind] is job]}


def _job(engine: Engine, job: Job) -> dict[str, Any]:
    """A job as a line of the room."""
    now = engine.latest(job.id, "progress") if not job.state.over else {}
    told = engine.events(job.id, kinds=("warning",))[-20:] if job.state.over else []
    return {
        "id": job.id,
        "kind": job.kind,
        "state": State(job.state),
        "error": for_reader(job.error) if job.error else job.error,
        "result": job.result,
        "step": now.get("step", 0),
        "total": now.get("total", 0),
        "text": now.get("text", ""),
        "rate": now.get("rate"),
        "left": now.get("left") or now.get("eta"),
        "warnings": [for_reader(str(event.data.get("text", ""))) for event in told],
    }


@router.get("/names")
def names(name: str, here: Here, filter: str = "") -> dict[str, list[str]]:
    """Names of all pictures a filter lets through."""
    project = here.engine.data_sets.project(name)
    return {"names": [sayable(item.name) for item in matching(project, filter, project.items())]}


@router.get("/item")
def one(name: str, here: Here, picture: str = "") -> dict[str, Any]:
    """One picture; `picture` is its file name."""
    project = here.engine.data_sets.project(name)
    return shown(project.item(picture), settings_of(project))


@router.put("/caption")
def caption(name: str, typed: CaptionOf, here: Here) -> dict[str, Any]:
    """Keep a caption; 409 when it is no longer what the person saw."""
    project = here.engine.data_sets.project(name)
    now = project.item(typed.name)
    seen = (now.caption if now.captioned else None) if typed.force else typed.seen
    project.write_caption(typed.name, typed.text, seen)
    return {"item": shown(project.item(typed.name), settings_of(project)), "revision": project.revision(), **steps(project)}


@router.post("/choices")
def choose(name: str, wish: ChoiceOf, here: Here) -> dict[str, Any]:
    """Decide something about some pictures, as one step."""
    project = here.engine.data_sets.project(name)
    if wish.field not in CHOICES:
        raise InputError(f"{_cut(wish.field)} is nothing that can be chosen.", f"Choose one of {', '.join(CHOICES)}.")
    value = _value(wish.field, wish.value)
    items = {item.name: item for item in project.items()}
    chosen = [items[each] for each in dict.fromkeys(wish.names) if each in items]
    if wish.names and not chosen:
        raise NotFound(f"There is no picture {wish.names[0][:100]!r} in {project.name}.", "It may have been moved or deleted.")
    edit = project.edit(_step(wish.field, len(chosen)), [Change(item.name, wish.field, _plain(getattr(item.choices, wish.field)), value) for item in chosen])
    return told(edit)


def _value(field: str, value: Any) -> Any:
    """A decision's value as the journal keeps it; raises InputError."""
    if field == "crop":
        if value is None:
            return None
        if not isinstance(value, dict) or not all(isinstance(value.get(key), (int, float)) for key in ("x", "y", "zoom")):
            raise InputError(f"Crop: {_cut(value)} has not the form {{x, y, zoom}}.")
        return {key: float(min(most, max(least, value[key]))) for key, least, most in (("x", 0.0, 1.0), ("y", 0.0, 1.0), ("zoom", 1.0, 64.0))}
    if field == "repeats":
        if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= 1000:
            raise InputError(f"Repeats: {_cut(value)} is not a whole number from 1 to 1000.")
        return value
    if not isinstance(value, bool):
        raise InputError(f"{field}: {_cut(value)} is neither true nor false.")
    return value


def _cut(value: Any) -> str:
    """A value as it is repeated in an error."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _plain(value: Any) -> Any:
    """A decision as JSON."""
    return {"x": value.x, "y": value.y, "zoom": value.zoom} if isinstance(value, Crop) else value


def _step(field: str, count: int) -> str:
    """What a step is called."""
    label = {"crop": "Crop", "flipped": "Mirrored copies", "left_out": "Leave out", "held_out": "Hold out", "repeats": "Repeats"}[field]
    return f"{label} ({count})" if count > 1 else label


def told(edit: Edit | None) -> dict[str, Any]:
    """A step as JSON."""
    return {"name": edit.name if edit else "", "count": edit.count if edit else 0}


@router.put("/settings")
def put_settings(name: str, values: dict[str, Any], here: Here) -> dict[str, Any]:
    """Change what the data set is prepared for; what is not named stays."""
    project = here.engine.data_sets.project(name)
    return keep_settings(project, values).model_dump()


@router.post("/undo")
def undo(name: str, here: Here, force: bool = False) -> dict[str, Any]:
    """Take the newest step back; 409 when something was changed from outside since."""
    return told(here.engine.data_sets.project(name).undo(force=force))


@router.post("/redo")
def redo(name: str, here: Here, force: bool = False) -> dict[str, Any]:
    """Do the step that was taken back again; 409 when something was changed from outside since."""
    return told(here.engine.data_sets.project(name).redo(force=force))


@router.get("/history")
def history(name: str, here: Here) -> dict[str, Any]:
    """Steps, newest first."""
    return {"edits": [{"id": e.id, "name": e.name, "at": e.at, "count": e.count, "state": e.state} for e in here.engine.data_sets.project(name).history()]}


@router.get("/revisions")
def revisions(name: str, picture: str, here: Here) -> dict[str, Any]:
    """Earlier captions of one picture, newest first."""
    return {"revisions": [{"at": at, "edit": edit, "text": text} for at, edit, text in here.engine.data_sets.project(name).revisions(picture)]}


@router.post("/restore")
def restore(name: str, moment: MomentOf, here: Here) -> dict[str, Any]:
    """Bring all captions back to what they were at a time, as a step of its own."""
    return told(here.engine.data_sets.project(name).restore(moment.at))
