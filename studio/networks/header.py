"""The header of a safetensors file: read without its tensors, and written anew in front of the same bytes."""

import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from studio.errors import InputError, Unreadable
from studio.files import atomic_write

LIMIT = 64 * 2**20
"""A longer header is not read."""
_ALIGNED = 8
"""The format pads a header with blanks, so that tensors begin at a multiple of 8 bytes."""


@dataclass(frozen=True)
class Header:
    """What stands before the tensors: texts, the entry of every tensor in the file's order (dtype, shape, offsets), and how many bytes it takes with its own length."""

    metadata: Mapping[str, str]
    entries: Mapping[str, Mapping[str, Any]]
    size: int

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shapes by name."""
        return {name: tuple(entry["shape"]) for name, entry in self.entries.items()}


def read_header(path: Path) -> Header:
    """The header of a safetensors file; raises Unreadable in words."""
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            said = json.loads(file.read(length)) if 2 <= length <= LIMIT else None
    except FileNotFoundError as error:
        raise Unreadable(f"There is no file {path.name!r} any more.", "It may have been moved; look again.") from error
    except OSError as error:
        raise Unreadable(f"{path.name} cannot be read ({error.strerror}).", "See whether it may be read.") from error
    except (ValueError, RecursionError):
        said = None
    entries = {key: entry for key, entry in said.items() if key != "__metadata__"} if isinstance(said, dict) else {}
    if not isinstance(said, dict) or not all(isinstance(entry, dict) and isinstance(entry.get("shape"), list) for entry in entries.values()):
        raise Unreadable(f"{path.name} is damaged, or no safetensors file.", "Copy it again from where it came.")
    texts = said.get("__metadata__")
    return Header({str(k): str(v) for k, v in texts.items()} if isinstance(texts, dict) else {}, entries, 8 + length)


def write_metadata(path: Path, metadata: Mapping[str, str]) -> None:
    """Put other texts into a file's header; every byte behind it stays as it was. Raises InputError, Unreadable, OutOfSpace, OSError; until all is written the old file stays."""
    if path.suffix.lower() != ".safetensors":
        raise InputError(f"{path.name} has no place for texts.", "Only .safetensors files have one; the notes beside the file are kept in any case.")
    header = read_header(path)
    said = {**({"__metadata__": dict(metadata)} if metadata else {}), **header.entries}
    text = json.dumps(said, ensure_ascii=False, separators=(",", ":")).encode("utf-8")
    text += b" " * (-len(text) % _ALIGNED)
    if len(text) > LIMIT:
        raise InputError(f"The texts take {len(text) // 2**20} MiB.", "Choose a smaller picture.")
    with atomic_write(path) as temporary:
        with path.open("rb") as source, temporary.open("wb") as target:
            source.seek(header.size)
            target.write(len(text).to_bytes(8, "little") + text)
            shutil.copyfileobj(source, target, 2**20)
        if tensors_hash(temporary) != tensors_hash(path):
            raise Unreadable(f"{path.name} changed while it was copied, so it was left as it is.", "Is a training writing it? Try again after that.")


def tensors_hash(path: Path) -> str:
    """SHA-256 of the bytes behind the header, which A1111 shows for a LoRA (kohya's sshs_model_hash); raises Unreadable."""
    size = read_header(path).size
    with path.open("rb") as file:
        file.seek(size)
        return hashlib.file_digest(file, "sha256").hexdigest()
