"""The data set room over HTTP: which data sets there are, what comes into them and goes out."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any
from uuid import uuid4

from fastapi import APIRouter, Request, UploadFile
from fastapi.concurrency import run_in_threadpool

from studio.api.waiting import Here
from studio.config import Config
from studio.engine import Engine
from studio.errors import InputError, StudioError
from studio.projects.data_sets import DataSet
from studio.projects.names import safe_name
from studio.requests.transfer import ImportRequest

router = APIRouter(prefix="/studio/v1/datasets", tags=["data sets"])
MOST_FILES = 2000
"""Files of one request; a page sends more in several."""
_PIECE = 2**20


class NameOf(Config):
    """A new data set's name."""

    name: str


class PathOf(Config):
    """A folder or file on the machine the studio runs on."""

    path: str
    recursive: bool = False
    regularisation: bool = False


def shown(entry: DataSet) -> dict[str, Any]:
    """An entry of the list as JSON."""
    return {"id": entry.id, "name": entry.name, "folder": str(entry.folder), "pictures": entry.pictures}


@router.get("")
def data_sets(here: Here) -> list[dict[str, Any]]:
    """Every data set."""
    return [shown(entry) for entry in here.engine.data_sets.all()]


@router.post("")
def create(wish: NameOf, here: Here) -> dict[str, Any]:
    """Make a new, empty data set."""
    return shown(here.engine.data_sets.create(wish.name))


@router.post("/open")
def open_folder(wish: PathOf, here: Here) -> dict[str, Any]:
    """Take a folder that lies elsewhere into the list; its pictures stay where they are."""
    return shown(here.engine.data_sets.open_folder(wish.path))


@router.delete("/{name}")
def forget(name: str, here: Here) -> dict[str, str]:
    """Take a folder that was opened by path off the list; nothing in it is touched."""
    here.engine.data_sets.forget(name)
    return {"forgotten": name}


@router.post("/{name}/import")
def import_path(name: str, wish: PathOf, here: Here) -> dict[str, str]:
    """Copy pictures of a folder, .zip, kohya tree or .toml into a data set, as a job."""
    source = Path(wish.path.strip().strip("\"'")).expanduser()
    source = source if source.is_absolute() else here.engine.paths.root / source
    if not wish.path.strip() or not source.exists():
        raise InputError(f"{wish.path!r} does not exist.", "Type the path of a folder, a .zip or a .toml on the machine the studio runs on.")
    return {"job": _import(here.engine, name, source, wish)}


@router.post("/{name}/upload")
async def upload(name: str, files: list[UploadFile], here: Here, request: Request) -> dict[str, Any]:
    """Take dropped files into a data set, as a job: pictures, captions, masks and .zip files, mixed as they come."""
    if len(files) > MOST_FILES:
        raise InputError(f"{len(files)} files are too many for one request.", f"Send at most {MOST_FILES} at a time.")
    await run_in_threadpool(here.engine.data_sets.project, name)
    folder = here.engine.paths.uploads / f"drop-{uuid4().hex[:12]}"
    folder.mkdir(parents=True)
    taken: set[str] = set()
    for file in files:
        bare = Path((file.filename or "picture").replace("\\", "/")).name
        kept = bare if bare not in taken and _writable(folder / bare) else safe_name(bare, taken)
        taken.add(kept)
        await run_in_threadpool(_save, file, folder / kept)
    return {"job": await run_in_threadpool(_import, here.engine, name, folder, None), "files": len(taken)}


def _writable(path: Path) -> bool:
    """Whether this system can keep a file of this name."""
    try:
        path.touch()
    except (OSError, ValueError):
        return False
    return True


def _save(file: UploadFile, path: Path) -> None:
    """Write what came to disk, piece by piece."""
    try:
        with path.open("wb") as target:
            while piece := file.file.read(_PIECE):
                target.write(piece)
    except OSError as error:
        path.unlink(missing_ok=True)
        raise StudioError(f"{path.name} could not be taken in ({error.strerror}).", "Free some space and drop it again.", "out_of_space") from error


def _import(engine: Engine, name: str, source: Path, wish: PathOf | None) -> str:
    """Queue the import."""
    folder = engine.data_sets.project(name).folder
    options = {"recursive": wish.recursive, "regularisation": wish.regularisation} if wish else {}
    return engine.submit(ImportRequest(folder=str(folder), source=str(source), **options))


def names_of(chosen: Iterable[Any]) -> tuple[str, ...]:
    """Names of pictures as a client sends them."""
    return tuple(str(name) for name in chosen)
