"""Which pictures a person left out or held out, for training: read from a data set's notes without making any."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path

from studio.errors import Unreadable
from studio.projects.sidecar import HIDDEN, unkey


def left_out(folder: Path) -> frozenset[str]:
    """Names of pictures that are neither written nor trained on; none without notes. Raises Unreadable when the notes are damaged."""
    return _marked(folder, "left_out")


def held_out(folder: Path) -> frozenset[str]:
    """Names of pictures that are kept for validation; none without notes. Raises Unreadable when the notes are damaged."""
    return _marked(folder, "held_out")


def _marked(folder: Path, field: str) -> frozenset[str]:
    """Names whose choices have a field set."""
    path = folder / HIDDEN / "project.db"
    if not path.is_file():
        return frozenset()
    try:
        return frozenset(unkey(item) for item, choices in _choices(path) if json.loads(choices).get(field))
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
