"""Bringing many small files of a folder to new contents: all are written to the disk first, then switched one by one, and switched back when one cannot be."""

import errno
import os
import shutil
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from studio.errors import OutOfSpace, StudioError
from studio.files import sync_folder
from studio.projects.sidecar import HIDDEN

Content = bytes | Path | None
"""What a file shall hold: bytes, a copy of another file, or nothing at all because it goes."""
HANDS = 8
"""Threads that write at once: file systems flush several files in the time of one."""


class HalfDone(StudioError):
    """Some files could neither be switched nor switched back; the journal still knows what to do."""


class Staging:
    """The new contents of files of one folder, until they are switched; the caller holds the data set's lock."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.room = folder / HIDDEN / "staging"
        self._files: list[tuple[Path, Path | None]] = []

    def prepare(self, files: Mapping[str, Content]) -> None:
        """Write the contents to the disk, beside the data set and not over anything yet; raises StudioError in words and leaves nothing behind."""
        self.clear()
        try:
            self.room.mkdir(parents=True)
            self._files = [(self.folder / name, None if content is None else self.room / str(place)) for place, (name, content) in enumerate(files.items())]
            tasks = [(path, content) for (_, path), content in zip(self._files, files.values(), strict=True) if path is not None]
            if len(tasks) < HANDS:
                for path, content in tasks:
                    _write(path, content)
                return
            with ThreadPoolExecutor(HANDS) as pool:
                for done in [pool.submit(_write, path, content) for path, content in tasks]:
                    done.result()
        except OSError as error:
            self.clear()
            raise in_words(error, self.folder) from error

    def switch(self, was: Mapping[str, Content]) -> None:
        """Put the new contents in their places. When one cannot be, those before it get back what they were, and StudioError says why; HalfDone when that failed too."""
        done = []
        try:
            for target, staged in self._files:
                if staged is None:
                    target.unlink(missing_ok=True)
                else:
                    os.replace(staged, target)
                done.append(target.name)
            sync_folder(self.folder)
        except OSError as error:
            failure = in_words(error, target)
            self._back({name: was[name] for name in done}, failure)
            raise failure from error
        finally:
            self.clear()

    def _back(self, was: Mapping[str, Content], failure: StudioError) -> None:
        """Give files back what they held; raises HalfDone."""
        back = Staging(self.folder)
        try:
            back.prepare(was)
            for target, staged in back._files:
                if staged is None:
                    target.unlink(missing_ok=True)
                else:
                    os.replace(staged, target)
        except (OSError, StudioError) as error:
            raise HalfDone(f"{failure.message} What had been written could not be taken back either ({error}).", "Mend that and open the data set again: the step is completed then.") from error
        finally:
            back.clear()

    def clear(self) -> None:
        """Take away what was staged, also by a process that died."""
        shutil.rmtree(self.room, ignore_errors=True)


def _write(path: Path, content: bytes | Path | None) -> None:
    """Write one file and flush it to the disk."""
    if isinstance(content, Path):
        shutil.copyfile(content, path)
    with path.open("ab" if isinstance(content, Path) else "wb") as file:
        if isinstance(content, bytes):
            file.write(content)
        file.flush()
        os.fsync(file.fileno())


def in_words(error: OSError, path: Path) -> StudioError:
    """A failure of the disk as a person is told."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return OutOfSpace("The disk is full: nothing was changed.", "Free some space and try again.")
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return StudioError(f"{str(path)!r} cannot be written to ({error.strerror}): nothing was changed.", "Allow writing there, or import the pictures into a new data set.")
    if error.errno == errno.ENAMETOOLONG:
        return StudioError(f"The name {path.name!r} is longer than the disk allows: nothing was changed.", "Give the picture a shorter name.")
    return StudioError(f"{str(path)!r} could not be written ({error.strerror or error}): nothing was changed.", "See what is at that place.")
