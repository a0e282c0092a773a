"""The database beside a data set's pictures: facts, choices, settings and the journal, in `.studio/project.db`; versions, damage and locks."""

import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from studio.errors import Conflict, InputError, OutOfSpace, StudioError, Unreadable

HIDDEN = ".studio"
"""Folder inside a data set that holds its database, kept masks and thumbnails."""
VERSION = 1
"""What this program writes, in `PRAGMA user_version`."""
WAIT = 20.0
"""Seconds that one edit waits for another one to end."""

_FIRST = (
    "CREATE TABLE IF NOT EXISTS facts (item TEXT PRIMARY KEY, changed INTEGER NOT NULL, bytes INTEGER NOT NULL, facts TEXT NOT NULL)",
    "CREATE TABLE IF NOT EXISTS choices (item TEXT PRIMARY KEY, choices TEXT NOT NULL)",
    "CREATE TABLE IF NOT EXISTS settings (key TEXT PRIMARY KEY, value TEXT NOT NULL)",
    "CREATE TABLE IF NOT EXISTS edits (id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL, at REAL NOT NULL, state TEXT NOT NULL)",
    "CREATE TABLE IF NOT EXISTS changes (edit INTEGER NOT NULL, place INTEGER NOT NULL, item TEXT NOT NULL, field TEXT NOT NULL, before TEXT, after TEXT, original BLOB, PRIMARY KEY (edit, place))",
    "CREATE INDEX IF NOT EXISTS changes_item ON changes(item, edit)",
)
"""Tables of version 0."""
_SECOND = (
    # Rows carry the count at which they were written, so that a reader takes only what is new to it.
    "CREATE TABLE counter (revision INTEGER NOT NULL, born INTEGER NOT NULL)",
    "ALTER TABLE facts ADD COLUMN revision INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE choices ADD COLUMN revision INTEGER NOT NULL DEFAULT 0",
    "CREATE INDEX facts_revision ON facts(revision)",
    "CREATE INDEX choices_revision ON choices(revision)",
    # `applied`: how many changes of an open step are in their files; `kind`: what may be folded into it.
    "ALTER TABLE edits ADD COLUMN kind TEXT NOT NULL DEFAULT ''",
    "ALTER TABLE edits ADD COLUMN applied INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE changes ADD COLUMN file TEXT NOT NULL DEFAULT ''",
    "ALTER TABLE changes ADD COLUMN at REAL NOT NULL DEFAULT 0",
    # Every doing and undoing of a step, in the order in which they came to their end.
    "CREATE TABLE turns (seq INTEGER PRIMARY KEY AUTOINCREMENT, edit INTEGER NOT NULL, at REAL NOT NULL, way TEXT NOT NULL)",
    "CREATE INDEX turns_edit ON turns(edit, seq)",
    "UPDATE changes SET at = (SELECT at FROM edits WHERE id = edit)",
    "INSERT INTO turns (edit, at, way) SELECT id, at, 'after' FROM edits WHERE state != 'pending' ORDER BY id",
    "INSERT INTO turns (edit, at, way) SELECT id, at, 'before' FROM edits WHERE state IN ('undone', 'dropped') ORDER BY id DESC",
)
"""From version 0 to version 1."""


class Sidecar:
    """Short transactions on the database of one data set; any number of threads and processes may share it."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / HIDDEN / "project.db"
        self.trouble = ""
        """What was wrong when it was opened, in words; empty when nothing was."""
        try:
            self._open()
        except Unreadable:
            self._replace_damaged()

    def _open(self) -> None:
        """Create, check and bring to this version. Raises Unreadable when it is damaged, InputError when it cannot be kept or is newer."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self._connection() as db:
                db.execute("PRAGMA journal_mode=WAL")
                if db.execute("PRAGMA quick_check(1)").fetchone()[0] != "ok":
                    raise _damaged(self.path)
                self._upgrade(db)
        except (OutOfSpace, Unreadable, InputError, Conflict):
            raise
        except (OSError, StudioError) as error:
            raise InputError(
                f"The data set's notes cannot be kept in {str(self.path.parent)!r} ({error}).", "Choose a folder that can be written to, or import its pictures into a new data set."
            ) from error

    def _upgrade(self, db: sqlite3.Connection) -> None:
        """Bring an older database to this version, with a copy of it beside; a new one gets its tables the same way."""
        version = db.execute("PRAGMA user_version").fetchone()[0]
        if version > VERSION:
            raise InputError(
                f"The notes of this data set were made by a newer studio (their version is {version}, this one knows {VERSION}).",
                f"Update the studio. Nothing was changed; the notes are {str(self.path)!r}.",
            )
        if version == VERSION:
            return
        if db.execute("SELECT 1 FROM sqlite_master").fetchone():
            with closing(sqlite3.connect(self.path.with_name(f"{self.path.name}.version-{version}"))) as copy:
                db.backup(copy)
        db.execute("BEGIN IMMEDIATE")
        if db.execute("PRAGMA user_version").fetchone()[0] == VERSION:
            return  # another process was faster
        for statement in (*_FIRST, *_SECOND):
            db.execute(statement)
        names = db.execute("SELECT edit, place, item FROM changes WHERE field = 'caption'").fetchall()
        db.executemany("UPDATE changes SET file = ? WHERE edit = ? AND place = ?", [(str(Path(row["item"]).with_suffix(".txt")), row["edit"], row["place"]) for row in names])
        # Beginning with the time tells it from a database that was here before.
        db.execute("INSERT INTO counter VALUES (:now, :now)", {"now": time.time_ns() // 1000})
        db.execute(f"PRAGMA user_version = {VERSION}")
        db.execute("COMMIT")

    def _replace_damaged(self) -> None:
        """Move a damaged database aside and begin a new one; what was in it is told in `trouble`."""
        with self.alone():
            try:
                self._open()
            except Unreadable:
                number = next(n for n in range(1, 1_000_000) if not self.path.with_name(f"project.db.damaged-{n}").exists())
                for suffix in ("", "-wal", "-shm"):
                    file = self.path.with_name(self.path.name + suffix)
                    if file.exists():
                        os.replace(file, self.path.with_name(f"project.db.damaged-{number}{suffix}"))
                self._open()
                self.trouble = (
                    f"The data set's notes were damaged. They were moved to {HIDDEN}/project.db.damaged-{number} and new ones begun: crops, other choices and the steps"
                    " that could be taken back are gone, pictures and captions are as they were."
                )

    @contextmanager
    def connect(self, write: bool = False) -> Iterator[sqlite3.Connection]:
        """A connection for one transaction, committed when the block ends well; one that writes moves the revision on. Raises StudioError for what goes wrong on the disk."""
        if not self.path.exists():
            self._open()
        with self._connection() as db:
            if write:
                db.execute("BEGIN IMMEDIATE")
            yield db
            if db.in_transaction:
                db.execute("UPDATE counter SET revision = revision + 1")
                db.execute("COMMIT")

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        """A connection that is rolled back and closed, with its failures in words."""
        try:
            with closing(sqlite3.connect(self.path, timeout=30, isolation_level=None)) as db:
                db.row_factory = sqlite3.Row
                db.execute("PRAGMA synchronous=FULL")
                yield db
        except sqlite3.Error as error:
            raise self._in_words(error) from error

    def _in_words(self, error: sqlite3.Error) -> Exception:
        """What a failure of the database means for a person; a mistake of the program stays what it is."""
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code == sqlite3.SQLITE_FULL:
            return OutOfSpace("The disk is full: the data set's notes were not written.", "Free some space and try again; nothing was changed.")
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            return Conflict("The data set's notes are in use by another program.", "Wait a moment and try again; nothing was changed.")
        if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            return _damaged(self.path)
        if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_AUTH):
            return StudioError(f"The data set's notes {str(self.path)!r} cannot be used ({error}).", "See that the folder can be written to; nothing was changed.")
        return error

    def revision(self) -> int:
        """A number that grows with every transaction that wrote."""
        with self.connect() as db:
            return int(db.execute("SELECT revision FROM counter").fetchone()[0])

    @contextmanager
    def alone(self, wait: float | None = None, name: str = "edit") -> Iterator[None]:
        """Hold the data set's lock of that name, which a dead process loses at once. Raises Conflict when another one holds it for longer than `wait` seconds (WAIT by default)."""
        lock = FileLock(self.path.with_name(f"{name}.lock"))
        try:
            lock.acquire(timeout=WAIT if wait is None else wait)
        except Timeout as error:
            raise Conflict("Another window or job is changing this data set at the moment.", "Wait until it is done and try again; nothing was changed.") from error
        except OSError as error:
            raise StudioError(f"The data set's lock {lock.lock_file!r} cannot be used ({error.strerror}).", "See that the folder can be written to; nothing was changed.") from error
        try:
            yield
        finally:
            lock.release()


def _damaged(path: Path) -> Unreadable:
    """The failure of a database whose bytes make no sense."""
    return Unreadable(f"The data set's notes {str(path)!r} are damaged.", "Open the data set again: they are moved aside then and new ones begun; pictures and captions are untouched.")


def key(name: str) -> str:
    """A file name as the database keeps it: itself, or for one that is no valid unicode a slash and its bytes in hexadecimal."""
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return "/" + os.fsencode(name).hex()
    return name


def unkey(kept: str) -> str:
    """The file name that `key` was made from."""
    return os.fsdecode(bytes.fromhex(kept[1:])) if kept.startswith("/") else kept
