"""What a person noted about a network: A1111's `<stem>.json` beside the file."""

import json
import math
from dataclasses import dataclass, fields
from functools import lru_cache
from pathlib import Path
from typing import Any

from studio.errors import InputError
from studio.files import atomic_write

FAMILIES = ("", "SD1", "SD2", "SDXL", "Unknown")
LONGEST = 20_000
STRONGEST = 10.0
_KEYS = {"description": "description", "family": "sd version", "trigger": "activation text", "weight": "preferred weight", "negative": "negative text", "notes": "notes"}
"""Our names, and the keys of A1111's file."""


@dataclass(frozen=True)
class Notes:
    """A person's words on a network; `trigger` is None when nothing was noted, so that the file's own words are used; `weight` 0 means the usual one."""

    description: str = ""
    family: str = ""
    trigger: str | None = None
    weight: float = 0.0
    negative: str = ""
    notes: str = ""


def file_of(path: Path) -> Path:
    """The file of notes beside a network."""
    return path.with_suffix(".json")


def read_notes(path: Path) -> Notes:
    """What is noted about a network; a file of another kind or a damaged one counts as none."""
    file = file_of(path)
    try:
        status = file.stat()
        return _read(file, status.st_mtime_ns, status.st_size)
    except OSError:
        return Notes()


@lru_cache(8192)
def _read(file: Path, changed: int, size: int) -> Notes:
    """Notes of this time and size."""
    said = _object(file)
    weight = said.get(_KEYS["weight"])
    good = isinstance(weight, int | float) and not isinstance(weight, bool) and math.isfinite(weight)
    family = str(said.get(_KEYS["family"]) or "")
    trigger = said.get(_KEYS["trigger"])
    return Notes(
        description=_text(said, "description"),
        family=family if family in FAMILIES[1:4] else "",
        trigger=trigger if isinstance(trigger, str) else None,
        weight=float(weight) if good and weight is not None else 0.0,
        negative=_text(said, "negative"),
        notes=_text(said, "notes"),
    )


def write_notes(path: Path, notes: Notes) -> None:
    """Keep notes beside a network, with everything else that stands in the file; raises InputError naming what cannot be kept, OSError."""
    wrong = [f"{_KEYS[f.name]} has {len(text)} letters; use at most {LONGEST}." for f in fields(notes) if isinstance(text := getattr(notes, f.name), str) and len(text) > LONGEST]
    if notes.family not in FAMILIES:
        wrong.append(f"sd version: {notes.family!r} is none of {', '.join(FAMILIES[1:])}.")
    if not math.isfinite(notes.weight) or abs(notes.weight) > STRONGEST:
        wrong.append(f"preferred weight: {notes.weight} is not between -{STRONGEST:g} and {STRONGEST:g}.")
    if wrong:
        raise InputError(" ".join(wrong))
    file = file_of(path)
    said = {**_object(file), **{key: getattr(notes, name) for name, key in _KEYS.items()}}
    if notes.trigger is None:
        said.pop(_KEYS["trigger"])
    with atomic_write(file) as temporary:
        temporary.write_text(json.dumps(said, indent=4, ensure_ascii=False), encoding="utf-8")


def _object(file: Path) -> dict[str, Any]:
    """The JSON object in a file; empty for anything else."""
    try:
        said = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return said if isinstance(said, dict) else {}


def _text(said: dict[str, Any], name: str) -> str:
    """A text by our name for it."""
    value = said.get(_KEYS[name])
    return value if isinstance(value, str) else ""
