"""New files that are whole or not there, and never in the place of another one."""

import errno
import hashlib
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path

from studio.errors import OutOfSpace

INCOMING = ".incoming-"
"""How the temporary name of a file that is being written begins."""
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


def write_new(pieces: Iterable[bytes], path: Path, changed: float | None = None) -> str:
    """Write a file under a temporary name and give it its own when it is whole; returns its SHA-256. `changed` is its time in seconds since 1970. Raises FileExistsError, OutOfSpace."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=INCOMING, suffix=".tmp")
    temporary, digest = Path(name), hashlib.sha256()
    try:
        with os.fdopen(handle, "wb") as file:
            for piece in pieces:
                file.write(piece)
                digest.update(piece)
        temporary.chmod(0o644)
        if changed is not None:
            os.utime(temporary, (changed, changed))
        place_new(temporary, path)
    except OSError as error:
        if error.errno in _FULL:
            raise OutOfSpace(f"The disk is full: {path.name} was not written.", "Free some space and try again; nothing that was there before was touched.") from error
        raise
    finally:
        temporary.unlink(missing_ok=True)
    return digest.hexdigest()


def place_new(temporary: Path, path: Path) -> None:
    """Give a finished file its name, also where another program wants the same one; raises FileExistsError."""
    try:
        os.link(temporary, path)
    except FileExistsError:
        raise
    except OSError:  # a file system without links
        if os.path.lexists(path):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path)) from None
        temporary.rename(path)


def clear(folder: Path) -> None:
    """Remove what writers that were killed left half done in a folder; only for one who knows that no other is at work there."""
    for path in folder.glob(f"{INCOMING}*.tmp"):
        path.unlink(missing_ok=True)


def settle(paths: Iterable[Path]) -> None:
    """Bring files and their folders to the disk, so that a power cut cannot take them; what is gone meanwhile is passed over."""
    paths = list(paths)
    folders = {path.parent for path in paths} if os.name == "posix" else set()
    for path in [*paths, *folders]:
        try:
            handle = os.open(path, os.O_RDONLY if os.name == "posix" else os.O_RDWR)
        except OSError:
            continue
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
