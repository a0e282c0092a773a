"""The data set room over HTTP: which data sets there are, what comes into them and goes out."""

import shutil
from pathlib import Path, PurePosixPath
from typing import Any
from uuid import uuid4

from fastapi import APIRouter, UploadFile

from studio.api.waiting import Here
from studio.config import Config
from studio.engine import Engine
from studio.errors import InputError, StudioError
from studio.projects.data_sets import DataSet, sayable
from studio.projects.names import key, safe_name
from studio.requests.transfer import ImportRequest

router = APIRouter(prefix="/studio/v1/datasets", tags=["data sets"])
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
    told: dict[str, Any] = sayable({"id": entry.id, "name": entry.name, "folder": str(entry.folder), "pictures": entry.pictures})
    return told


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
    source = here.engine.data_sets.typed(wish.path)
    if source is None or not source.exists():
        raise InputError(f"{wish.path[:200]!r} does not exist.", "Type the path of a folder, a .zip or a .toml on the machine the studio runs on.")
    return {"job": _import(here.engine, name, source, wish)}


@router.post("/{name}/upload")
def upload(name: str, files: list[UploadFile], here: Here) -> dict[str, Any]:
    """Take dropped files into a data set, as a job: pictures, captions, masks and .zip files, mixed as they come."""
    here.engine.data_sets.project(name)
    drop = _Drop(here.engine.paths.uploads / f"drop-{uuid4().hex[:12]}")
    try:
        for file in files:
            _save(file, drop.place(file.filename or ""))
        return {"job": _import(here.engine, name, drop.folder, None), "files": len(files)}
    except BaseException as error:
        shutil.rmtree(drop.folder, ignore_errors=True)
        if isinstance(error, OSError):
            raise StudioError(f"The files could not be taken in ({error.strerror}).", "Free some space and drop them again.", "out_of_space") from error
        raise


class _Drop:
    """Where dropped files are kept until they are imported: those of one folder together, and apart where two are called alike, so that each caption stays with its picture."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._count = 0
        self._places: dict[str, tuple[Path, set[str]]] = {}

    def place(self, sent: str) -> Path:
        """A free path for a file that a client calls so, whatever that name holds."""
        path = PurePosixPath(sent.replace("\\", "/"))
        name, above = path.name if path.name not in ("", "..") else "picture", str(path.parent)
        place, taken = self._places.get(above) or self._new(path.parent.name)
        if key(name) in taken:
            place, taken = self._new(path.parent.name)
        taken.add(key(name))
        self._places[above] = place, taken
        return place / name if _writable(place / name) else place / safe_name(name, [file.name for file in place.iterdir()])

    def _new(self, label: str) -> tuple[Path, set[str]]:
        """An empty folder, called like the one the files come from."""
        place = self.folder / str(self._count) / (safe_name(label, ()) if label else "")
        place.mkdir(parents=True)
        self._count += 1
        return place, set()


def _writable(path: Path) -> bool:
    """Whether this system can keep a file of this name."""
    try:
        path.touch()
    except (OSError, ValueError):
        return False
    return True


def _save(file: UploadFile, path: Path) -> None:
    """Write what came to disk, piece by piece."""
    with path.open("wb") as target:
        while piece := file.file.read(_PIECE):
            target.write(piece)


def _import(engine: Engine, name: str, source: Path, wish: PathOf | None) -> str:
    """Queue the import."""
    folder = engine.data_sets.project(name).folder
    options = {"recursive": wish.recursive, "regularisation": wish.regularisation} if wish else {}
    return engine.submit(ImportRequest(folder=str(folder), source=str(source), **options))
