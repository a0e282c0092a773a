"""The database beside a data set's pictures: facts, choices, settings and the journal, in `.studio/project.db`."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from studio.errors import InputError

HIDDEN = ".studio"
"""Folder inside a data set that holds its database, kept masks and thumbnails."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS facts (item TEXT PRIMARY KEY, changed INTEGER NOT NULL, bytes INTEGER NOT NULL, facts TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS choices (item TEXT PRIMARY KEY, choices TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS settings (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS edits (id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL, at REAL NOT NULL, state TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS changes (edit INTEGER NOT NULL, place INTEGER NOT NULL, item TEXT NOT NULL, field TEXT NOT NULL, before TEXT, after TEXT, original BLOB, PRIMARY KEY (edit, place));
CREATE INDEX IF NOT EXISTS changes_item ON changes(item, edit);
"""


class Sidecar:
    """Short transactions on the database of one data set; any number of processes may share it."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / HIDDEN / "project.db"
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.connect() as db:
                db.executescript(_SCHEMA)
        except (OSError, sqlite3.Error) as error:
            raise InputError(
                f"The data set's notes cannot be kept in {str(self.path.parent)!r} ({error}).", "Choose a folder that can be written to, or import its pictures into a new data set."
            ) from error

    @contextmanager
    def connect(self, write: bool = False) -> Iterator[sqlite3.Connection]:
        """A connection for one transaction, committed when the block ends well."""
        db = sqlite3.connect(self.path, timeout=30, isolation_level=None)
        try:
            db.row_factory = sqlite3.Row
            db.execute("PRAGMA journal_mode=WAL")
            db.execute("PRAGMA synchronous=FULL")
            if write:
                db.execute("BEGIN IMMEDIATE")
            yield db
            if db.in_transaction:
                db.execute("COMMIT")
        except BaseException:
            if db.in_transaction:
                db.execute("ROLLBACK")
            raise
        finally:
            db.close()
