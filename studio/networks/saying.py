"""What the header of a .safetensors file says, as a table for people; the tensors are not read."""

import json
import math
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from studio import shelves
from studio.errors import InputError, NotFound
from studio.networks.header import read_header
from studio.settings import Paths

LONGEST = 2000
"""Characters of a value that are shown; pictures and tag lists are longer."""
HASHES = (("modelspec.hash_sha256", "0x"), ("sshs_model_hash", ""))
"""Where a file keeps the hash of its own tensors, and what stands before it."""


@dataclass(frozen=True)
class Said:
    """What a file says: its path, size in bytes, tensors, numbers by type, the hash of its tensors as it states it (empty: it states none), and its texts by name."""

    path: Path
    size: int
    tensors: int
    numbers: dict[str, int]
    hash: str
    texts: dict[str, str]

    def rows(self) -> list[tuple[str, str]]:
        """Names and values in the order in which they are read: the file itself, modelspec, training, the rest."""
        types = ", ".join(f"{count:,} {kind}" for kind, count in sorted(self.numbers.items(), key=lambda item: -item[1]))
        facts = [("file", str(self.path)), ("size", f"{self.size:,} bytes"), ("tensors", f"{self.tensors:,}"), ("numbers", types), ("hash", self.hash)]
        order = sorted(self.texts, key=lambda key: (not key.startswith("modelspec."), not key.startswith("ss_"), key))
        return [(name, value) for name, value in facts if value] + [(key, self.texts[key]) for key in order]

    def as_json(self) -> dict[str, Any]:
        """The same for programs; texts that are JSON themselves are opened."""
        return {"path": str(self.path), "size": self.size, "tensors": self.tensors, "numbers": self.numbers, "hash": self.hash, "metadata": {key: _opened(text) for key, text in self.texts.items()}}


def said(paths: Paths, name: str) -> Said:
    """What a file says, by its path or its name on a shelf; raises NotFound, InputError, Unreadable."""
    path = found(paths, name)
    if path.suffix.lower() != ".safetensors":
        raise InputError(f"{path.name} is no .safetensors file; only these say something about themselves.", "Inspect it instead: `studio inspect`.")
    header = read_header(path)
    numbers: Counter[str] = Counter()
    for entry in header.entries.values():
        numbers[str(entry.get("dtype", "?"))] += math.prod(entry["shape"])
    stated = next((header.metadata[key].removeprefix(start) for key, start in HASHES if header.metadata.get(key)), "")
    return Said(path, path.stat().st_size, len(header.entries), dict(numbers), stated, {key: _short(text) for key, text in header.metadata.items()})


def found(paths: Paths, name: str) -> Path:
    """A file by its path, or by name among checkpoints, LoRAs, embeddings and VAEs; raises NotFound."""
    typed = Path(name.strip())
    if name.strip() and typed.is_absolute() and typed.is_file():
        return typed
    known = choices(paths)
    path = known.get(name.strip()) or next((p for p in known.values() if p.stem == name.strip()), None)
    if path is None:
        raise NotFound(f"There is no file {name[:120]!r}." if name.strip() else "No file is named.", "Choose one of the shelves, or write the whole path.")
    return path


def choices(paths: Paths) -> dict[str, Path]:
    """Every .safetensors file of the shelves, by the name it is chosen by."""
    files = [*shelves.checkpoint_files(paths).values(), *shelves.loras(paths).values(), *shelves.embedding_files(paths), *shelves.vae_files(paths).values()]
    named: dict[str, Path] = {}
    for path in (path for path in files if path.suffix.lower() == ".safetensors" and path.is_file()):
        named.setdefault(path.name if path.name not in named else f"{path.parent.name}/{path.name}", path)
    return named


def _short(text: str) -> str:
    """A text that is not too long to be shown."""
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}... ({len(text):,} characters)"


def _opened(text: str) -> Any:
    """JSON inside a text as what it is, any other text as it stands."""
    try:
        return json.loads(text) if text[:1] in ("{", "[") else text
    except ValueError:
        return text
