"""What a person decided about the images of a data set, as far as training uses it: left out, held out, repeats. Read from its notes without making any."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from studio.errors import Unreadable
from studio.projects.sidecar import HIDDEN, unkey


def left_out(folder: Path) -> frozenset[str]:
    """Names of pictures that are neither written nor trained on; none without notes. Raises Unreadable when the notes are damaged."""
    return _marked(folder, "left_out")


def held_out(folder: Path) -> frozenset[str]:
    """Names of pictures that are kept for validation; none without notes. Raises Unreadable when the notes are damaged."""
    return _marked(folder, "held_out")


def noted_repeats(folder: Path) -> dict[str, int]:
    """Repeats by image name, of images that have more than one. Raises Unreadable when the notes are damaged."""
    found = _values(folder, "repeats")
    return {name: value for name, value in found.items() if isinstance(value, int) and value > 1}


def _marked(folder: Path, field: str) -> frozenset[str]:
    """Names whose choices have a field set."""
    return frozenset(name for name, value in _values(folder, field).items() if value)


def _values(folder: Path, field: str) -> dict[str, Any]:
    """A field of the choices by image name; empty without notes."""
    path = folder / HIDDEN / "project.db"
    if not path.is_file():
        return {}
    try:
        return {unkey(item): json.loads(choices).get(field) for item, choices in _choices(path)}
    except (sqlite3.Error, ValueError, AttributeError) as error:
        raise Unreadable(
            f"It cannot be told which pictures of {folder.name} are left out: its notes are damaged ({error}).", "Open the data set in the studio once: the notes are mended there."
        ) from error


def _choices(path: Path) -> list[tuple[str, str]]:
    """All choices; also from a folder that cannot be written to, where SQLite must be told that nobody else writes."""
    address = path.resolve().as_uri()
    try:
        return _selected(f"{address}?mode=ro")
    except sqlite3.OperationalError as error:
        if "no such table" in str(error):
            return []
        return _selected(f"{address}?mode=ro&immutable=1")


def _selected(address: str) -> list[tuple[str, str]]:
    """What a connection to that address reads."""
    with closing(sqlite3.connect(address, uri=True, timeout=30)) as db:
        return db.execute("SELECT item, choices FROM choices").fetchall()
