"""Files that are whole or not there: atomic writes, safe reads, hashes."""

import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from studio.errors import OutOfSpace, Unreadable


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
        _sync_folder(path.parent)
    except OSError as error:
        if error.errno == 28:
            raise OutOfSpace(f"The disk is full: {path.name} was not written.", "Free some space and try again; the file that was there before is untouched.") from error
        raise
    finally:
        temporary.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    """Make a rename survive a power cut, where the system can."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def load_pickle(path: Path, mmap: bool = False) -> Any:
    """Read a torch file without running code from it, its tensors mapped and not read with `mmap`; raises Unreadable naming what was refused."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
    except FileNotFoundError:
        raise
    except Exception as error:
        lines = [line.strip() for line in str(error).splitlines() if "GLOBAL" in line or "global" in line]
        reason = lines[0] if lines else f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'it is damaged'}"
        raise Unreadable(f"{path.name} cannot be read safely ({reason[:200]}).", "Nothing in it was run. Get the file again, as .safetensors if there is one.") from error


def sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def short_hash(path: Path) -> str:
    """The first ten digits of the SHA-256, as A1111 shows it."""
    return sha256(path)[:10]
