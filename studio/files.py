"""Files that are whole or not there: atomic writes and hashes, without torch."""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from studio.cancellation import raise_if_stopped
from studio.errors import OutOfSpace


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; when the block ends well it is flushed and renamed over `path`. Raises OutOfSpace."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".tmp")
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.chmod(0o644)
        os.replace(temporary, path)
        sync_folder(path.parent)
    except OSError as error:
        if error.errno == 28:
            raise OutOfSpace(f"The disk is full: {path.name} was not written.", "Free some space and try again; the file that was there before is untouched.") from error
        raise
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield a new folder beside `path`; when the block ends well it gets that name, and what had it before goes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(dir=path.parent, prefix=".making-"))
    try:
        yield made
        made.chmod(0o755)
        if path.exists():
            aside = Path(tempfile.mkdtemp(dir=path.parent, prefix=".replaced-"))
            os.replace(path, aside / "old")
            os.replace(made, path)
            shutil.rmtree(aside)
        else:
            os.replace(made, path)
        sync_folder(path.parent)
    finally:
        shutil.rmtree(made, ignore_errors=True)


def sync_folder(folder: Path) -> None:
    """Make a rename survive a power cut, where the system can."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal. Raises Stopped."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(2**24):
            raise_if_stopped()
            digest.update(block)
    return digest.hexdigest()
