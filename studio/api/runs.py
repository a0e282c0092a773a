"""Runs over HTTP: the table, one run, comparing, what a person does with kept runs, recipe cards, and the queue."""

import shutil
import tempfile
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, UploadFile
from pydantic import Field

from studio.api.run_views import kept, seen, trainings
from studio.api.waiting import Here
from studio.config import Config
from studio.engine import Engine
from studio.errors import InputError
from studio.jobs import Job
from studio.requests import TrainRequest, request_of
from studio.requests.train import subject_of
from studio.runs import acts, card, using
from studio.runs.comparing import MOST, comparison
from studio.runs.listing import Rows, listing
from studio.runs.reading import made_of

router = APIRouter(prefix="/studio/v1/runs", tags=["runs"])
queue = APIRouter(prefix="/studio/v1", tags=["runs"])
MADE = {"grid": "run_grid", "sheet": "sheet", "average": "average"}
"""What can be made of a run, and the kind of job that does it."""
LARGEST_CARD = card.MOST_CARD


class UseOf(Config):
    """Which weights go onto the shelf."""

    step: int | str | None = None
    """A step, "best" or "last"; without it the best where one was measured, else the last."""
    path: str = Field("", max_length=1000)
    """A file of the run instead of a step."""
    name: str = Field("", max_length=300)
    """A new name for it; empty = the one that the run taught."""


class UndoOf(Config):
    """What `use` put into the trash."""

    undo: tuple[Annotated[str, Field(max_length=1000)], ...] = Field(max_length=100)


class TitleOf(Config):
    """A run's name for people."""

    title: str = Field(max_length=1000)


class NoteOf(Config):
    """What a person notes about a run."""

    text: str


class StepsOf(Config):
    """The step a run shall go on to."""

    steps: int = Field(ge=1, le=1_000_000)


class MoveOf(Config):
    """A place in the queue: first, last, or before or after another job."""

    before: str = ""
    after: str = ""
    first: bool = False
    last: bool = False


@router.get("")
def runs(here: Here, request: Request) -> list[dict[str, Any]]:
    """Every run, newest first, in short."""
    rows: Rows = kept(request, "run_rows")
    return listing(here.engine.paths.runs, trainings(here.engine), rows)


@router.get("/trash")
def in_trash(here: Here) -> list[str]:
    """Runs in the trash, newest first."""
    return acts.trashed(here.engine.paths)


@router.get("/compare")
def compare(ids: Annotated[list[str], Query()], here: Here, request: Request) -> dict[str, Any]:
    """Two to six runs beside each other; `ids` is given for each, or once with commas between."""
    names = list(dict.fromkeys(name for name in (ids[0].split(",") if len(ids) == 1 else ids) if name))
    if len(names) > MOST:
        raise InputError(f"{len(names)} runs are chosen.", f"Choose two to {MOST} to compare.")
    return comparison([seen(here.engine, request, name) for name in names])


@router.post("/import")
def import_card(file: UploadFile, here: Here) -> dict[str, Any]:
    """A recipe card as the form's values, with notes on what is missing here."""
    if (file.size or 0) > LARGEST_CARD:
        raise InputError(f"{file.filename} is larger than {LARGEST_CARD // 2**20} MB.", "A recipe card is smaller.")
    with tempfile.TemporaryDirectory() as folder:
        kept = Path(folder) / "card"
        with kept.open("wb") as target:
            shutil.copyfileobj(file.file, target)
        return card.import_card(here.engine.paths, kept, file.filename or "", here.engine.checkpoint_hashes())


@router.get("/{name}")
def run(name: str, here: Here, request: Request) -> dict[str, Any]:
    """All that is known of a run."""
    return seen(here.engine, request, name)


@router.get("/{name}/values")
def values(name: str, here: Here) -> dict[str, Any]:
    """The settings of a run as the form takes them."""
    return acts.clone(acts.run_folder(here.engine.paths, name))


@router.get("/{name}/made")
def made(name: str, here: Here) -> list[str]:
    """Sheets, films and grids that were made of a run, newest first."""
    return made_of(acts.run_folder(here.engine.paths, name))


@router.post("/{name}/use")
def use(name: str, wish: UseOf, here: Here) -> dict[str, Any]:
    """Put weights of a run onto the shelf; `undo` of the answer brings back what lay there."""
    done = using.use(here.engine.paths, acts.run_folder(here.engine.paths, name), wish.path or wish.step, wish.name)
    return {**done, "undo": done["kept"] or None}


@router.post("/{name}/restore_used")
def restore_used(name: str, wish: UndoOf, here: Here) -> dict[str, Any]:
    """Bring back what `use` replaced."""
    return using.undo_use(here.engine.paths, acts.run_folder(here.engine.paths, name), wish.undo)


@router.post("/{name}/rename")
def rename(name: str, wish: TitleOf, here: Here) -> dict[str, Any]:
    """Give a run a name for people; its folder keeps its own."""
    return acts.rename(acts.run_folder(here.engine.paths, name), wish.title)


@router.post("/{name}/note")
def note(name: str, wish: NoteOf, here: Here) -> dict[str, Any]:
    """Note something beside a run."""
    return acts.note(acts.run_folder(here.engine.paths, name), wish.text)


@router.post("/{name}/trash")
def trash(name: str, here: Here) -> dict[str, str]:
    """Move a run to the trash; `trashed` of the answer brings it back."""
    return acts.trash(here.engine.paths, name, trainings(here.engine))


@router.post("/{name}/restore")
def restore(name: str, here: Here) -> dict[str, str]:
    """Bring a run back from the trash."""
    return acts.restore(here.engine.paths, name)


@router.post("/{name}/resume")
def resume(name: str, here: Here) -> dict[str, str]:
    """Go on with a run that did not reach its end."""
    return {"id": go_on(here.engine, name)}


@router.post("/{name}/extend")
def extend(name: str, wish: StepsOf, here: Here) -> dict[str, str]:
    """Go on with a run to a later step."""
    return {"id": go_on(here.engine, name, wish.steps)}


def go_on(engine: Engine, name: str, steps: int = 0) -> str:
    """Submit a run again and return the job."""
    return engine.submit(TrainRequest.check(acts.going_on(engine.paths, name, trainings(engine), steps)))


@router.post("/{name}/{kind}")
def make(name: str, kind: Literal["grid", "sheet", "average"], wish: dict[str, Any], here: Here) -> dict[str, str]:
    """Make something of a run as a job: a grid of moments and prompts, a sheet or film of its previews, an average of its weights."""
    acts.run_folder(here.engine.paths, name)
    return {"id": here.engine.submit(request_of(MADE[kind], {**wish, "run": name}))}


@queue.get("/queue")
def waiting(here: Here) -> list[dict[str, Any]]:
    """Jobs that are not over, in the order in which they are done."""
    return [{"id": j.id, "kind": j.kind, "state": j.state, "about": about(j), "created": j.created, "started": j.started, "run": j.request.get("run", "")} for j in here.engine.store.queue()]


def about(job: Job) -> str:
    """What a job is about, in its own words."""
    asked = job.request
    return str(subject_of(asked.get("config") or {}) or asked.get("prompt") or asked.get("name") or asked.get("run") or asked.get("destination") or asked.get("folder") or "")[:200]


@queue.post("/jobs/{name}/move")
def move(name: str, wish: MoveOf, here: Here) -> list[dict[str, Any]]:
    """Give a waiting job another place; answers the queue."""
    places = [(where, value if isinstance(value, str) else "") for where, value in wish.model_dump().items() if value]
    if len(places) != 1:
        raise InputError("Say one place.", "Send one of before, after, first, last.")
    here.engine.store.move(name, places[0][0], places[0][1])
    return waiting(here)
