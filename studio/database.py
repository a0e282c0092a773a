"""One SQLite file that several processes share: short transactions, failures in words, and a new file in place of a damaged or missing one."""

import contextlib
import logging
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from studio.errors import Unavailable

log = logging.getLogger("studio.database")

PATIENCE = 10.0
"""Seconds that a transaction waits for another program's lock."""
DAMAGED = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
"""Result codes of a file whose bytes make no sense."""
PASSING = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_AUTH,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_PROTOCOL,
    }
)
"""Result codes of a file that may be usable again later: locked, full, read-only, not there."""
_NOTICES = "CREATE TABLE IF NOT EXISTS notices (at REAL NOT NULL, kind TEXT NOT NULL, file TEXT NOT NULL)"


@dataclass(frozen=True)
class Schema:
    """Tables of a database: the script that makes those that are missing, columns added later by table, and what is carried over from a damaged file."""

    script: str
    added: tuple[tuple[str, str, str], ...] = ()
    """Table, column and its declaration, for files of earlier versions."""
    rescue: Callable[[sqlite3.Connection, sqlite3.Connection], None] = lambda _old, _new: None
    """`rescue(damaged, new)` copies what can still be read; called in an open transaction of the new file."""
    counted: tuple[str, ...] = ()
    """Tables whose AUTOINCREMENT numbers go on growing when a file is replaced."""


class _EmptyError(Exception):
    """The file has no tables, though it had."""


class Database:
    """Opens a connection for each transaction; any number of threads and processes may share the file."""

    def __init__(self, path: Path, schema: Schema, patience: float = PATIENCE) -> None:
        self.path, self.schema, self.patience = path, schema, patience
        self._checked: tuple[int, ...] = ()

    @contextmanager
    def connect(self, write: bool = False) -> Iterator[sqlite3.Connection]:
        """A connection for one transaction, committed when the block ends well. Raises Unavailable when the file can't be used now; a damaged file is replaced first."""
        try:
            with closing(self._whole()) as db:
                try:
                    if write:
                        db.execute("BEGIN IMMEDIATE")
                    yield db
                    if db.in_transaction:
                        db.execute("COMMIT")
                except BaseException:
                    if db.in_transaction:
                        with contextlib.suppress(sqlite3.Error):  # a full disk has rolled back by itself
                            db.execute("ROLLBACK")
                    raise
        except sqlite3.Error as error:
            code = getattr(error, "sqlite_errorcode", 0) & 0xFF
            if code in DAMAGED:
                self._replace("damaged")
                raise _unavailable(f"it was damaged ({error}) and has been replaced") from error
            if code in PASSING or "no such table" in str(error):
                raise _unavailable(str(error)) from error
            raise

    def _whole(self) -> sqlite3.Connection:
        """A connection to a file whose first page makes sense; one that doesn't is replaced."""
        try:
            return self._opened()
        except sqlite3.Error as error:
            if getattr(error, "sqlite_errorcode", 0) & 0xFF not in DAMAGED:
                raise
            self._replace("damaged")
        except _EmptyError:
            self._replace("missing")
        return self._opened()

    def _opened(self) -> sqlite3.Connection:
        """A connection to a file that has all tables."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise _unavailable(str(error)) from error
        db = sqlite3.connect(self.path, timeout=self.patience, isolation_level=None)
        try:
            db.row_factory = sqlite3.Row
            db.execute("PRAGMA synchronous=NORMAL")
            state = (*identity(self.path), _version(db))
            if state != self._checked:
                self._complete(db, state[:2])
                self._checked = (*state[:2], _version(db))
        except BaseException:
            db.close()
            raise
        return db

    def _complete(self, db: sqlite3.Connection, file: tuple[int, ...]) -> None:
        """Make the tables and columns that are missing in a file of this identity. Raises _EmptyError for an empty file where one with tables was."""
        if not self._missing(db):
            return
        if self._checked and not db.execute("SELECT 1 FROM sqlite_master").fetchone():
            raise _EmptyError
        with self._alone():
            if identity(self.path) != file:
                raise _unavailable("it was replaced meanwhile")
            db.execute("PRAGMA journal_mode=WAL")
            self._create(db)

    def _missing(self, db: sqlite3.Connection) -> bool:
        """Whether a table, an index or a column is missing."""
        with closing(sqlite3.connect(":memory:")) as model:
            model.row_factory = sqlite3.Row
            self._create(model)
            wanted = _parts(model)
        return not wanted <= _parts(db)

    def _create(self, db: sqlite3.Connection) -> None:
        """Run the script and add the columns of later versions."""
        db.executescript(self.schema.script)
        for table, column, declaration in self.schema.added:
            if column not in {row["name"] for row in db.execute(f"PRAGMA table_info({table})")}:
                db.execute(f"ALTER TABLE {table} ADD COLUMN {column} {declaration}")
        db.execute(_NOTICES)

    def _number_on(self, db: sqlite3.Connection) -> None:
        """Begin counted tables at the time in milliseconds, above every number of the file before, so that readers who ask for later rows find them."""
        for table in self.schema.counted:
            db.execute("DELETE FROM sqlite_sequence WHERE name = ?", (table,))
            db.execute("INSERT INTO sqlite_sequence (name, seq) VALUES (?, ?)", (table, time.time_ns() // 1_000_000))

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Hold the lock under which one process at a time creates or replaces the file."""
        try:
            with FileLock(self.path.with_name(f"{self.path.name}.lock"), timeout=self.patience):
                yield
        except (Timeout, OSError) as error:
            raise _unavailable(str(error)) from error

    def _replace(self, kind: str) -> None:
        """Put a new file in the place of one that is `damaged`, which is moved aside with its -wal and -shm, or that is `missing`; unless another process did. Raises Unavailable."""
        with self._alone():
            if self._sound(empty=kind == "damaged"):
                return
            aside, fresh = self._aside(), self.path.with_name(f"{self.path.name}.new")
            try:
                self._fill(fresh, kind, aside.name if kind == "damaged" else self.path.name)
                for suffix in ("-wal", "-shm", ""):
                    with contextlib.suppress(FileNotFoundError):
                        os.replace(_beside(self.path, suffix), _beside(aside, suffix))
                os.replace(fresh, self.path)
                if kind == "missing":
                    for suffix in ("-wal", "-shm", ""):
                        _beside(aside, suffix).unlink(missing_ok=True)
            except (sqlite3.Error, OSError) as error:
                raise _unavailable(f"it is {kind} and can't be replaced: {error}") from error
            log.error("%s was %s: a new one was started%s", self.path, kind, f", the old one is {aside.name}" if kind == "damaged" else "")

    def _fill(self, fresh: Path, kind: str, file: str) -> None:
        """Make a new file with what can still be read of the old one, and a notice."""
        for suffix in ("", "-wal", "-shm", "-journal"):
            _beside(fresh, suffix).unlink(missing_ok=True)
        with closing(sqlite3.connect(fresh, isolation_level=None)) as db:
            db.row_factory = sqlite3.Row
            self._create(db)
            db.execute("BEGIN IMMEDIATE")
            self._number_on(db)
            with contextlib.suppress(sqlite3.DatabaseError), closing(sqlite3.connect(self.path, timeout=1, isolation_level=None)) as old:
                old.row_factory = sqlite3.Row
                self.schema.rescue(old, db)
            db.execute("INSERT INTO notices VALUES (?, ?, ?)", (time.time(), kind, file))
            db.execute("COMMIT")
            db.execute("PRAGMA journal_mode=WAL")

    def _sound(self, empty: bool) -> bool:
        """Whether the file is a whole database, an `empty` one included. Raises Unavailable when that can't be told now."""
        try:
            with closing(sqlite3.connect(self.path, timeout=self.patience)) as db:
                whole = db.execute("PRAGMA integrity_check(1)").fetchone()[0] == "ok"
                return whole and (empty or bool(db.execute("SELECT 1 FROM sqlite_master").fetchone()))
        except sqlite3.Error as error:
            if getattr(error, "sqlite_errorcode", 0) & 0xFF in DAMAGED:
                return False
            raise _unavailable(str(error)) from error

    def _aside(self) -> Path:
        """A free name for the damaged file, with the date."""
        stem = f"{self.path.name}.damaged-{time.strftime('%Y%m%d-%H%M%S')}"
        names = (self.path.with_name(stem + (f"-{number}" if number else "")) for number in range(1000))
        return next(name for name in names if not name.exists())


def _beside(path: Path, suffix: str) -> Path:
    """One of the files that SQLite keeps beside a database."""
    return path.with_name(path.name + suffix)


def _version(db: sqlite3.Connection) -> int:
    """A number that changes with the tables."""
    return int(db.execute("PRAGMA schema_version").fetchone()[0])


def _parts(db: sqlite3.Connection) -> set[tuple[str, ...]]:
    """Names of tables and indexes, and of the tables' columns."""
    found = {(row["type"], row["name"]) for row in db.execute("SELECT type, name FROM sqlite_master WHERE name NOT LIKE 'sqlite_%'")}
    columns = {("column", name, row["name"]) for kind, name in found if kind == "table" for row in db.execute(f"PRAGMA table_info({name})")}
    return {*found, *columns}


def identity(path: Path) -> tuple[int, int]:
    """What tells a file from another one of the same name: device and inode; (0, 0) when there is none."""
    try:
        status = path.stat()
    except OSError:
        return (0, 0)
    return (status.st_dev, status.st_ino)


def _unavailable(reason: str) -> Unavailable:
    """The failure of a database that can't be used now."""
    return Unavailable(f"The queue's database can't be used ({reason}).", "Another program may hold it, or the disk may be full or read-only. Try again in a moment.", reason)


class Watch:
    """Notices that another process wrote into the database; one look costs some microseconds. Used by one thread; survives that the file is locked, damaged, replaced or deleted."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._db: sqlite3.Connection | None = None
        self._file = (0, 0)
        with contextlib.suppress(sqlite3.Error):
            self._open()

    def _open(self) -> None:
        """Connect to the file that has the name now."""
        self.close()
        self._file = identity(self.path)
        self._db = sqlite3.connect(f"{self.path.absolute().as_uri()}?mode=rw", uri=True, timeout=1, isolation_level=None)
        self._seen = self._version()

    def close(self) -> None:
        """Let go of the file."""
        if self._db is not None:
            self._db.close()
        self._db = None

    def _version(self) -> int:
        """SQLite's own count of changes by others."""
        assert self._db is not None
        return int(self._db.execute("PRAGMA data_version").fetchone()[0])

    def wait(self, seconds: float, every: float = 0.005) -> bool:
        """Wait until somebody writes or the file is another one, at most so long; whether that happened. While the file can't be read it waits the whole time."""
        end = time.monotonic() + seconds
        try:
            if self._db is None or identity(self.path) != self._file:
                self._open()
                return True
            while (now := self._version()) == self._seen:
                if time.monotonic() >= end:
                    return False
                time.sleep(every)
            self._seen = now
        except sqlite3.Error:
            self.close()
            time.sleep(max(0.0, end - time.monotonic()))
            return False
        return True
