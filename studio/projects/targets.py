"""Where an export goes: a folder that is there, a new one that appears whole, or a zip that appears whole; no other file is ever replaced."""

import errno
import shutil
import tempfile
import time
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Protocol

from studio.errors import Conflict, InputError, OutOfSpace
from studio.projects.copying import place_new, settle, write_new
from studio.projects.names import Names

_PACKED = frozenset({".png", ".jpg", ".jpeg", ".webp", ".gif", ".avif"})
"""Files that hardly shrink further."""


class Target(Protocol):
    """Takes files by their path in the export."""

    whole: bool
    """Whether nothing is there until everything is."""
    discarded: bool
    """Set when what appears only as a whole shall not appear."""

    def taken(self, folder: PurePosixPath) -> list[str]:
        """Names that a folder of the export holds before anything is put."""

    def put(self, path: PurePosixPath, pieces: Iterable[bytes], changed: float | None = None) -> None:
        """Keep one new file; raises FileExistsError, OutOfSpace."""


class Folder:
    """A folder on disk."""

    def __init__(self, root: Path, whole: bool) -> None:
        self.root = root
        self.whole = whole
        self.discarded = False
        self.written: list[Path] = []

    def taken(self, folder: PurePosixPath) -> list[str]:
        """Names that are there."""
        path = self.root / folder
        return [entry.name for entry in path.iterdir()] if path.is_dir() else []

    def put(self, path: PurePosixPath, pieces: Iterable[bytes], changed: float | None = None) -> None:
        """Write one new file."""
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        write_new(pieces, target, changed)
        self.written.append(target)


class Zip:
    """A zip that is being written."""

    whole = True

    def __init__(self, file: zipfile.ZipFile) -> None:
        self.discarded = False
        self._file = file

    def taken(self, folder: PurePosixPath) -> list[str]:
        """Nothing, as a zip is always new."""
        return []

    def put(self, path: PurePosixPath, pieces: Iterable[bytes], changed: float | None = None) -> None:
        """Write one member; raises OutOfSpace."""
        when = time.localtime(changed) if changed else time.localtime()
        info = zipfile.ZipInfo(str(path), when[:6] if 1980 <= when.tm_year <= 2107 else (1980, 1, 1, 0, 0, 0))
        info.compress_type = zipfile.ZIP_STORED if path.suffix.lower() in _PACKED else zipfile.ZIP_DEFLATED
        info.external_attr = 0o644 << 16
        self._file.writestr(info, b"".join(pieces))  # read whole before anything is written: half a member could not be taken back


@contextmanager
def opened(destination: Path) -> Iterator[tuple[Target, Path]]:
    """Where to put files, and the path under which they will be found; raises InputError, Conflict, OutOfSpace."""
    try:
        destination.parent.mkdir(parents=True, exist_ok=True)
        if destination.suffix.lower() == ".zip":
            with _new_zip(destination) as found:
                yield found
        elif destination.is_dir():
            folder = Folder(destination, whole=False)
            yield folder, destination
            settle(folder.written)
        elif destination.exists():
            raise InputError(f"{str(destination)!r} is a file.", "Choose a folder, or a name that ends in .zip.")
        else:
            with _new_folder(destination) as new:
                yield new, destination
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise OutOfSpace(f"The disk is full: {destination.name} was not written.", "Free some space and try again.") from error
        raise InputError(f"{str(destination)!r} cannot be written to ({error.strerror}).", "Choose another folder.") from error


@contextmanager
def _new_folder(destination: Path) -> Iterator[Folder]:
    """A folder that gets its name when everything is in it."""
    temporary = Path(tempfile.mkdtemp(dir=destination.parent, prefix=".export-", suffix=".tmp"))
    try:
        temporary.chmod(0o755)
        folder = Folder(temporary, whole=True)
        yield folder
        if folder.discarded:
            return
        settle(folder.written)
        try:
            temporary.rename(destination)
        except OSError as error:
            if error.errno not in (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR):
                raise
            raise Conflict(f"{str(destination)!r} was made by somebody else meanwhile.", "Export again, or choose another name.") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def _new_zip(destination: Path) -> Iterator[tuple[Zip, Path]]:
    """A zip that gets its name, or a free one like it, when it is whole."""
    handle, name = tempfile.mkstemp(dir=destination.parent, prefix=".export-", suffix=".tmp")
    temporary = Path(name)
    final = destination.with_name(Names(entry.name for entry in destination.parent.iterdir()).give(destination.name)) if destination.exists() else destination
    try:
        with open(handle, "wb") as raw, zipfile.ZipFile(raw, "w") as file:
            packed = Zip(file)
            yield packed, final
        if packed.discarded:
            return
        temporary.chmod(0o644)
        settle([temporary])
        try:
            place_new(temporary, final)
        except FileExistsError as error:
            raise Conflict(f"{str(final)!r} was made by somebody else meanwhile.", "Export again, or choose another name.") from error
    finally:
        temporary.unlink(missing_ok=True)
