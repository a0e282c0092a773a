"""Masks that were ever in a data set, kept by their digest in `.studio/masks`, so that a step can bring each one back."""

import hashlib
import shutil
from pathlib import Path

from studio.errors import InputError, NotFound
from studio.files import atomic_write, sha256
from studio.projects.captions import is_file
from studio.projects.sidecar import HIDDEN
from studio.projects.staging import in_words

_PNG = b"\x89PNG\r\n\x1a\n"


def kept_mask(folder: Path, digest: str) -> Path:
    """Where the mask of that digest is kept; raises NotFound when it is not there."""
    path = folder / HIDDEN / "masks" / f"{digest}.png"
    if len(digest) != 64 or not digest.isalnum() or not path.is_file():
        raise NotFound(f"The mask {digest[:12]!r} is not kept in {folder.name}.", f"It may have been deleted from {HIDDEN}/masks.")
    return path


def keep_mask(folder: Path, data: bytes) -> str:
    """Keep the bytes of a mask and return their SHA-256; raises InputError for what is no PNG."""
    if not data.startswith(_PNG):
        raise InputError("The mask is not a PNG picture.", "Save masks as PNG.")
    digest = hashlib.sha256(data).hexdigest()
    path = folder / HIDDEN / "masks" / f"{digest}.png"
    try:
        if not path.is_file():
            with atomic_write(path) as temporary:
                temporary.write_bytes(data)
    except OSError as error:
        raise in_words(error, path) from error
    return digest


def keep_found(folder: Path, file: Path) -> str | None:
    """Keep a mask file that lies beside a picture, whatever is in it, and return its SHA-256; None when there is none."""
    if not is_file(file):
        return None
    digest = sha256(file)
    path = folder / HIDDEN / "masks" / f"{digest}.png"
    try:
        if not path.is_file():
            with atomic_write(path) as temporary:
                shutil.copyfile(file, temporary)
    except OSError as error:
        raise in_words(error, path) from error
    return digest
