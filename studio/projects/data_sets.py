"""All data sets a page can open: the folders in outputs/datasets by name, and other folders that were opened by path."""

import hashlib
import json
import os
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from studio import shelves
from studio.errors import Conflict, InputError, NotFound
from studio.files import atomic_write
from studio.projects.names import data_set_name, key
from studio.projects.project import Project
from studio.projects.staging import in_words
from studio.settings import Paths

KEPT = 8
"""Open data sets whose lists stay in memory."""


@dataclass(frozen=True)
class DataSet:
    """One entry of the list; `id` stands in addresses."""

    id: str
    name: str
    folder: Path
    pictures: int


class DataSets:
    """Finds, makes and opens data sets; one Project for each folder, shared by all threads."""

    def __init__(self, paths: Paths) -> None:
        self.paths = paths
        self._open: dict[Path, Project] = {}
        self._lock = threading.Lock()

    def all(self) -> list[DataSet]:
        """Every data set there is now: own ones by name, then folders opened by path."""
        own = [DataSet(name, name, folder, count) for name, folder, count in shelves.datasets(self.paths)]
        others = [folder for folder in map(Path, self._opened()) if os.path.isdir(folder)]
        return own + [DataSet(_id(folder), folder.name, folder, _count(folder)) for folder in others]

    def create(self, name: str) -> DataSet:
        """Make a new, empty data set; raises InputError for a name no system can keep, Conflict when there is one."""
        name = data_set_name(name)
        taken = {key(entry.name) for entry in self.paths.datasets.iterdir()} if self.paths.datasets.is_dir() else set()
        if key(name) in taken:
            raise Conflict(f"There is a data set {name!r} already.", "Open it, or choose another name.")
        try:
            (self.paths.datasets / name).mkdir(parents=True)
        except OSError as error:
            raise in_words(error, self.paths.datasets / name) from error
        return DataSet(name, name, self.paths.datasets / name, 0)

    def open_folder(self, path: str) -> DataSet:
        """Take a folder of pictures that lies elsewhere into the list; its pictures stay where they are. Raises InputError."""
        folder = self.typed(path)
        if folder is None or not folder.is_dir():
            raise InputError(f"{path[:200]!r} is not a folder.", "Type the path of a folder with pictures on the machine the studio runs on.")
        Project(folder)
        if folder.parent == self.paths.datasets.resolve():
            return DataSet(folder.name, folder.name, folder, _count(folder))
        with self._lock:
            opened = [str(folder), *(other for other in self._opened() if other != str(folder))]
            with atomic_write(self._list) as temporary:
                temporary.write_text(json.dumps(opened, ensure_ascii=False, indent=1), encoding="utf-8", errors="surrogateescape")
        return DataSet(_id(folder), folder.name, folder, _count(folder))

    def typed(self, text: str) -> Path | None:
        """What a path means that a person typed or pasted with quotes, seen from the studio's root; None for what no file can be called."""
        bare = text.strip().strip("\"'").strip()
        try:
            path = (self.paths.root / Path(bare).expanduser()).resolve()
            path.exists()
        except (OSError, ValueError, RuntimeError):
            return None
        return path if bare else None

    def forget(self, name: str) -> None:
        """Take a folder that was opened by path off the list; nothing in it is touched. Raises NotFound."""
        with self._lock:
            opened = self._opened()
            rest = [folder for folder in opened if _id(Path(folder)) != name]
            if len(rest) == len(opened):
                raise NotFound(f"{name!r} is not a folder that was opened by path.")
            with atomic_write(self._list) as temporary:
                temporary.write_text(json.dumps(rest, ensure_ascii=False, indent=1), encoding="utf-8", errors="surrogateescape")

    def project(self, name: str) -> Project:
        """The data set of an entry of the list; raises NotFound."""
        own = self.paths.datasets / name
        if name and Path(name).name == name and not name.startswith(".") and os.path.isdir(own):
            return self._project(own.resolve())
        found = next((Path(folder) for folder in self._opened() if _id(Path(folder)) == name), None)
        if found is None or not os.path.isdir(found):
            raise NotFound(f"There is no data set {name[:200]!r}.", "It may have been moved or deleted; choose another one.")
        return self._project(found)

    def _project(self, folder: Path) -> Project:
        """One Project for each folder; one that was taken away while open is opened anew."""
        with self._lock:
            project = self._open.pop(folder, None)
            if project is None or not project.sidecar.path.is_file():
                project = Project(folder)
            self._open[folder] = project
            while len(self._open) > KEPT:
                del self._open[next(iter(self._open))]
            return project

    @property
    def _list(self) -> Path:
        """Where the folders that were opened by path are written down."""
        return self.paths.outputs / "opened.json"

    def _opened(self) -> list[str]:
        """Folders opened by path, the newest first."""
        try:
            found = json.loads(self._list.read_text(encoding="utf-8", errors="surrogateescape"))
        except (OSError, ValueError):
            return []
        return [folder for folder in found if isinstance(folder, str) and os.path.isabs(folder)] if isinstance(found, list) else []


def sayable(value: Any) -> Any:
    """Names as JSON and terminals can carry them, also inside lists and dictionaries: bytes that are no UTF-8 are written out, as in `\\udce8.png`."""
    if isinstance(value, str):
        return value if value.isascii() else value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, dict):
        return {sayable(name): sayable(each) for name, each in value.items()}
    return [sayable(each) for each in value] if isinstance(value, list | tuple) else value


def _count(folder: Path) -> int:
    """How many pictures lie in a folder; none when it cannot be read."""
    try:
        return len(shelves.images(folder))
    except OSError:
        return 0


def _id(folder: Path) -> str:
    """How a folder that was opened by path is called in addresses."""
    return "~" + hashlib.sha256(str(folder).encode("utf-8", "surrogateescape")).hexdigest()[:12]
