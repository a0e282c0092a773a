"""The trash, where what a person deletes lies until it is brought back; and how files are moved and copied, whole or not at all."""

import json
import os
import re
import shutil
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from studio.errors import Conflict, NotFound, OutOfSpace, StudioError
from studio.files import atomic_write
from studio.settings import Paths

WHERE = "where.json"
"""Inside a folder of the trash: where its files lay."""
_STAMP = re.compile(r"~\d{8}-\d{6}(~\d+)?$")


@dataclass(frozen=True)
class Trashed:
    """Something in the trash: what brings it back, and how it was called."""

    id: str
    name: str


@dataclass(frozen=True)
class Shelf:
    """Things of one kind: what a person calls one, its part of the trash, the folder they lie in, and the endings of their files."""

    word: str
    trash: Path
    home: Path
    suffixes: Collection[str]

    def put(self, files: Sequence[Path]) -> Trashed:
        """Move what belongs together to the trash; the first file gives the name. Raises OSError."""
        main = files[0]
        place = free(self.trash / stamped(main.stem))
        place.mkdir(parents=True)
        with atomic_write(place / WHERE) as temporary:
            temporary.write_text(json.dumps({"file": main.name, "folder": main.parent.relative_to(self.home).as_posix()}, ensure_ascii=False), encoding="utf-8")
        move([(file, place / file.name) for file in files])
        return Trashed(place.name, main.stem)

    def bring_back(self, trashed: str, check: Callable[[Path], None]) -> Path:
        """Move something back to where it lay and return its file, after `check` allowed that; raises NotFound, Conflict, StudioError in words."""
        place = self.trash / trashed
        if not is_name(trashed) or not place.exists():
            raise NotFound(f"There is no {self.word} {trashed[:120]!r} in the trash.", "It may have been brought back already.")
        name, folder = self._where(place)
        files = [file for file in sorted(place.iterdir()) if file.name != WHERE] if place.is_dir() else [place]
        main = folder / name
        moves = [(file, folder / file.name if place.is_dir() else main) for file in files]
        if main not in [target for _, target in moves] or main.suffix.lower() not in self.suffixes:
            raise NotFound(f"{trashed[:120]!r} holds no {self.word} any more.", "Its files were taken out of the trash by hand.")
        check(main)
        with told(f"{main.stem!r} was not brought back"):
            folder.mkdir(parents=True, exist_ok=True)
            move(moves)
            if place.is_dir():
                shutil.rmtree(place)
        return main

    def trashed(self) -> list[Trashed]:
        """What lies in the trash, newest first."""
        found = [entry for entry in self.trash.iterdir() if not entry.name.startswith(".")] if self.trash.is_dir() else []
        found.sort(key=lambda entry: (_moment(entry), entry.stat().st_ctime_ns), reverse=True)
        return [Trashed(entry.name, Path(self._where(entry)[0]).stem) for entry in found]

    def _where(self, place: Path) -> tuple[str, Path]:
        """How the file of what lies in the trash was called and in which folder it lay; a file without a note lay at home."""
        if place.is_file():
            return _STAMP.sub("", place.stem) + place.suffix, self.home
        try:
            said = json.loads((place / WHERE).read_text(encoding="utf-8"))
            file, folder = Path(str(said["file"])).name, (self.home / str(said["folder"])).resolve()
        except (OSError, ValueError, KeyError, TypeError):
            held = [file.name for file in sorted(place.iterdir()) if file.suffix.lower() in self.suffixes]
            return min(held, key=len, default=""), self.home
        return file, folder if folder.is_relative_to(self.home.resolve()) else self.home


def of(paths: Paths, kind: str) -> Path:
    """Where deleted things of a kind lie."""
    return paths.outputs / "trash" / kind


def is_name(text: str) -> bool:
    """Whether a text names something directly inside a folder."""
    return bool(text) and not text.startswith(".") and Path(text).name == text and "\\" not in text and "\0" not in text


def stamped(name: str) -> str:
    """A name with the time."""
    return f"{name}~{time.strftime('%Y%m%d-%H%M%S')}"


def free(path: Path, suffix: str = "") -> Path:
    """The path, or one with a number when it is taken; with a `suffix` the number stands before that ending."""
    number, tried = 2, path
    while tried.exists():
        tried = path.with_name(f"{path.name.removesuffix(suffix)}~{number}{suffix}")
        number += 1
    return tried


def move(moves: Sequence[tuple[Path, Path]]) -> None:
    """Move files or folders one after another; when one cannot be moved, those before it go back. Raises Conflict when a place is taken, OSError."""
    done: list[tuple[Path, Path]] = []
    try:
        for source, target in moves:
            if target.exists() and not target.samefile(source):
                raise Conflict(f"{target.name} exists already.", "Choose another name, or move that file away.")
            shutil.move(source, target)
            done.append((source, target))
    except (OSError, StudioError):
        for source, target in reversed(done):
            os.replace(target, source)
        raise


def copy(source: Path, target: Path) -> Path:
    """Copy a file whole or not at all; raises OSError, OutOfSpace."""
    with atomic_write(target) as temporary:
        shutil.copyfile(source, temporary)
    return target


@contextmanager
def told(what: str) -> Iterator[None]:
    """Say in words what the disk refused; `what` is the first half of the sentence."""
    try:
        yield
    except OSError as error:
        if error.errno == 28:
            raise OutOfSpace(f"{what}: the disk is full.", "Free some space and try again.") from error
        raise StudioError(f"{what}: {error.strerror or error}.", "See whether the folder may be written to, and whether the file is open in another program.") from error


def _moment(entry: Path) -> str:
    """When something came into the trash, as its name tells."""
    found = _STAMP.search(entry.name if entry.is_dir() else entry.stem)
    return found[0] if found else ""
