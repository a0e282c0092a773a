"""The durable queue and journal: jobs, their events by sequence number, asks and heartbeats, in one SQLite file."""

import json
import sqlite3
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from studio.database import PATIENCE, Database, Schema
from studio.errors import Conflict, NotFound
from studio.job_records import LIVE, Ask, Event, Job, Notice, State
from studio.runs.queue import ORDER, Where
from studio.runs.queue import move as place_job


class Lane(Protocol):
    """What a service may do while it works: tell, look whether to stop, and let others in."""

    job: str

    def emit(self, kind: str, /, **data: Any) -> None:
        """Write an event."""

    def stopping(self) -> bool:
        """Whether the person asked to stop; the service finishes its unit of work, saves and returns."""

    def asked(self, kind: str) -> bool:
        """Take one ask of this kind, if there is one."""

    def take(self, kind: str) -> dict[str, Any] | None:
        """Take one ask of this kind and return what was said with it; None when there is none."""

    def resting(self, paused: bool) -> None:
        """Say that the job is paused, or goes on; other jobs run while it breathes."""

    def breathe(self) -> None:
        """Between two units of work: beat the heart and let a short waiting job run."""


@dataclass
class SilentLane:
    """A lane without a queue: keeps the events, stops when `stop` is set."""

    job: str = "silent"
    stop: bool = False
    events: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    asks: list[str | tuple[str, dict[str, Any]]] = field(default_factory=list)
    paused: bool = False

    def emit(self, kind: str, /, **data: Any) -> None:
        """Keep the event."""
        self.events.append((kind, data))

    def stopping(self) -> bool:
        """Whether `stop` was set."""
        return self.stop

    def asked(self, kind: str) -> bool:
        """Take one ask of this kind, if there is one."""
        return self.take(kind) is not None

    def take(self, kind: str) -> dict[str, Any] | None:
        """Take one ask of this kind and return what was said with it; None when there is none."""
        for ask in self.asks:
            name, data = (ask, {}) if isinstance(ask, str) else ask
            if name == kind:
                self.asks.remove(ask)
                return data
        return None

    def resting(self, paused: bool) -> None:
        """Remember whether the job is paused."""
        self.paused = paused

    def breathe(self) -> None:
        """Nothing waits here."""


_SCHEMA = """
CREATE TABLE IF NOT EXISTS jobs (id TEXT PRIMARY KEY, kind TEXT NOT NULL, request TEXT NOT NULL, state TEXT NOT NULL, created REAL NOT NULL,
    started REAL, ended REAL, result TEXT, error TEXT, attempts INTEGER NOT NULL DEFAULT 0, worker TEXT, claim TEXT, key TEXT);
CREATE UNIQUE INDEX IF NOT EXISTS jobs_key ON jobs(key) WHERE key IS NOT NULL AND state NOT IN ('done', 'stopped', 'failed');
CREATE TABLE IF NOT EXISTS events (seq INTEGER PRIMARY KEY AUTOINCREMENT, job TEXT NOT NULL, at REAL NOT NULL, kind TEXT NOT NULL, data TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS events_job ON events(job, seq);
CREATE TABLE IF NOT EXISTS asks (id INTEGER PRIMARY KEY AUTOINCREMENT, job TEXT NOT NULL, kind TEXT NOT NULL, data TEXT NOT NULL, at REAL NOT NULL, taken REAL);
CREATE INDEX IF NOT EXISTS asks_job ON asks(job, taken);
CREATE TABLE IF NOT EXISTS library (path TEXT PRIMARY KEY, facts TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS workers (id TEXT PRIMARY KEY, pid INTEGER NOT NULL, started REAL NOT NULL, beat REAL NOT NULL, facts TEXT NOT NULL);
"""
_JOB_COLUMNS = "id, kind, request, state, created, started, ended, result, error, attempts, worker, browser"


ADDED = (("jobs", "place", "REAL"), ("jobs", "browser", "TEXT NOT NULL DEFAULT ''"), ("jobs", "progress", "INTEGER NOT NULL DEFAULT 0"), ("jobs", "deaths", "INTEGER NOT NULL DEFAULT 0"))
"""Columns that later versions added: the place in the queue; the browser that asked; how far the job was when it was last taken up, and how many workers had died of it until then."""


def _rescue(old: sqlite3.Connection, new: sqlite3.Connection) -> None:
    """Copy the jobs that can still be read out of a damaged file; their events stay behind."""
    for row in old.execute("SELECT * FROM jobs ORDER BY rowid"):
        try:
            values = {name: row[name] for name in row.keys() if name in (*_JOB_COLUMNS.split(", "), "key", "place")}  # noqa: SIM118 - a Row iterates over its values
            _job({name: values.get(name) for name in _JOB_COLUMNS.split(", ")})
        except (KeyError, ValueError, TypeError):
            continue
        new.execute(f"INSERT OR IGNORE INTO jobs ({', '.join(values)}) VALUES ({', '.join('?' * len(values))})", tuple(values.values()))


class JobStore:
    """The database; every call opens its own short transaction, so any number of processes may share the file. Every call raises Unavailable while the file can't be used."""

    def __init__(self, path: Path, patience: float = PATIENCE) -> None:
        self.path = path
        self._database = Database(path, Schema(_SCHEMA, ADDED, _rescue, ("events",)), patience)
        self._connect = self._database.connect

    def submit(self, kind: str, request: dict[str, Any], key: str | None = None, browser: str = "") -> str:
        """Queue a job and return its id; a live job with the same key raises Conflict."""
        name = uuid.uuid4().hex[:12]
        try:
            with self._connect(write=True) as db:
                db.execute(
                    "INSERT INTO jobs (id, kind, request, state, created, key, browser) VALUES (?, ?, ?, ?, ?, ?, ?)", (name, kind, json.dumps(request), State.QUEUED, time.time(), key, browser)
                )
        except sqlite3.IntegrityError as error:
            raise Conflict(f"This is already running or waiting: {key}.", "Watch it in Runs, or stop it first.") from error
        return name

    def job(self, name: str) -> Job:
        """One job; raises NotFound."""
        with self._connect() as db:
            row = db.execute(f"SELECT {_JOB_COLUMNS} FROM jobs WHERE id = ?", (name,)).fetchone()
        if row is None:
            raise NotFound(f"There is no job {name!r}.")
        return _job(row)

    def jobs(self, states: tuple[State, ...] = (), kind: str | None = None, limit: int = 100, browser: str | None = None) -> list[Job]:
        """Jobs, newest first; with `browser` only those of this browser."""
        where, values = ["1"], []
        if states:
            where.append(f"state IN ({','.join('?' * len(states))})")
            values += list(states)
        if kind:
            where.append("kind = ?")
            values.append(kind)
        if browser is not None:
            where.append("browser = ?")
            values.append(browser)
        with self._connect() as db:
            rows = db.execute(f"SELECT {_JOB_COLUMNS} FROM jobs WHERE {' AND '.join(where)} ORDER BY created DESC, rowid DESC LIMIT ?", (*values, limit)).fetchall()
        return [_job(row) for row in rows]

    def claim(self, worker: str, kinds: tuple[str, ...] = ()) -> Job | None:
        """Take the first job that waits (interrupted ones before all), marking it running."""
        chosen = f"AND kind IN ({','.join('?' * len(kinds))})" if kinds else ""
        with self._connect(write=True) as db:
            row = db.execute(f"SELECT id FROM jobs WHERE state IN ('queued', 'interrupted') {chosen} ORDER BY {ORDER} LIMIT 1", kinds).fetchone()
            if row is None:
                return None
            db.execute("UPDATE jobs SET state = 'running', worker = ?, attempts = attempts + 1, started = coalesce(started, ?) WHERE id = ?", (worker, time.time(), row["id"]))
            taken = db.execute(f"SELECT {_JOB_COLUMNS} FROM jobs WHERE id = ?", (row["id"],)).fetchone()
        return _job(taken)

    def queue(self) -> list[Job]:
        """Jobs that are not over, in the order in which they are done."""
        with self._connect() as db:
            rows = db.execute(f"SELECT {_JOB_COLUMNS} FROM jobs WHERE state IN ({','.join('?' * len(LIVE))}) ORDER BY {ORDER}", LIVE).fetchall()
        return [_job(row) for row in rows]

    def move(self, name: str, where: Where, other: str = "") -> None:
        """Give a waiting job another place: first, last, or before or after another one; raises NotFound, Conflict, InputError."""
        with self._connect(write=True) as db:
            place_job(db, name, where, other)
            _emit(db, name, "moved", {"where": where, "other": other})

    def finish(self, name: str, state: State, result: dict[str, Any] | None = None, error: str | None = None) -> None:
        """Close a job with its result or its reason, and say so in the journal."""
        with self._connect(write=True) as db:
            db.execute("UPDATE jobs SET state = ?, ended = ?, result = ?, error = ? WHERE id = ?", (state, time.time(), None if result is None else json.dumps(result), error, name))
            _emit(db, name, "state", {"state": state, "error": error})

    def rest(self, name: str, paused: bool) -> None:
        """Say that a running job is paused, or that a paused one runs again; a job that is being stopped stays so."""
        before, after = (State.RUNNING, State.PAUSED) if paused else (State.PAUSED, State.RUNNING)
        with self._connect(write=True) as db:
            if db.execute("UPDATE jobs SET state = ? WHERE id = ? AND state = ?", (after, name, before)).rowcount:
                _emit(db, name, "state", {"state": after, "error": None})

    def restore(self, job: Job) -> None:
        """Put a job back that the database has lost, because its file was replaced while the job ran."""
        values = (job.id, job.kind, json.dumps(job.request), State.RUNNING, job.created, job.started, job.attempts, job.worker, job.browser)
        with self._connect() as db:
            if db.execute("SELECT 1 FROM jobs WHERE id = ?", (job.id,)).fetchone():
                return
        with self._connect(write=True) as db:
            if db.execute("INSERT OR IGNORE INTO jobs (id, kind, request, state, created, started, attempts, worker, browser) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", values).rowcount:
                _emit(db, job.id, "state", {"state": State.RUNNING, "error": None})

    def deaths(self, name: str, progress: int) -> int:
        """How many workers died of a job since it last got further; `progress` is how far it is now, in any unit that grows."""
        with self._connect(write=True) as db:
            db.execute("UPDATE jobs SET progress = ?, deaths = max(attempts - 2, 0) WHERE id = ? AND progress < ?", (progress, name, progress))
            row = db.execute("SELECT attempts - 1 - deaths FROM jobs WHERE id = ?", (name,)).fetchone()
        return int(row[0]) if row else 0

    def interrupt(self, name: str) -> None:
        """Mark a job whose worker died: it waits to be resumed, unless a stop was asked before it did anything."""
        with self._connect(write=True) as db:
            db.execute("UPDATE jobs SET state = 'interrupted', worker = NULL WHERE id = ? AND state IN ('running', 'paused', 'stopping')", (name,))
            _emit(db, name, "state", {"state": State.INTERRUPTED, "error": None})

    def delete(self, name: str) -> None:
        """Take a job that waits or is over out of the database, with its events and asks; raises NotFound, and Conflict while it runs."""
        with self._connect(write=True) as db:
            row = db.execute("SELECT state FROM jobs WHERE id = ?", (name,)).fetchone()
            if row is None:
                raise NotFound(f"There is no job {name!r}.")
            if State(row["state"]) in (State.RUNNING, State.PAUSED, State.STOPPING):
                raise Conflict(f"Job {name} is {row['state']}.", "Stop it first.")
            db.execute("DELETE FROM jobs WHERE id = ?", (name,))
            db.execute("DELETE FROM events WHERE job = ?", (name,))
            db.execute("DELETE FROM asks WHERE job = ?", (name,))

    def emit(self, name: str, kind: str, data: dict[str, Any]) -> int:
        """Write an event and return its sequence number."""
        with self._connect(write=True) as db:
            return _emit(db, name, kind, data)

    def events(self, name: str, after: int = 0, kinds: tuple[str, ...] = (), limit: int = 20_000) -> list[Event]:
        """Events of a job after a sequence number, oldest first."""
        chosen = f"AND kind IN ({','.join('?' * len(kinds))})" if kinds else ""
        with self._connect() as db:
            rows = db.execute(f"SELECT * FROM events WHERE job = ? AND seq > ? {chosen} ORDER BY seq LIMIT ?", (name, after, *kinds, limit)).fetchall()
        return [Event(r["seq"], r["job"], r["at"], r["kind"], json.loads(r["data"])) for r in rows]

    def last(self, name: str, kind: str) -> Event | None:
        """The newest event of a kind in a job."""
        with self._connect() as db:
            row = db.execute("SELECT * FROM events WHERE job = ? AND kind = ? ORDER BY seq DESC LIMIT 1", (name, kind)).fetchone()
        return None if row is None else Event(row["seq"], row["job"], row["at"], row["kind"], json.loads(row["data"]))

    def pulse(self) -> str:
        """A word that changes with every event and every change of a job's state."""
        with self._connect() as db:
            newest = db.execute("SELECT max(seq) FROM events").fetchone()[0]
            states = db.execute("SELECT state, count(*) FROM jobs GROUP BY state ORDER BY state").fetchall()
        return f"{newest or 0}-" + "-".join(f"{row[0]}{row[1]}" for row in states)

    def prune_events(self, age: float) -> int:
        """Delete progress, figures and previews of jobs that were over `age` seconds ago, but the newest of each kind, and events of jobs that are gone; returns how many."""
        before = time.time() - age
        old = "job IN (SELECT id FROM jobs WHERE ended < ?) AND kind IN ('progress', 'metric', 'preview') AND seq NOT IN (SELECT max(seq) FROM events GROUP BY job, kind)"
        with self._connect(write=True) as db:
            return db.execute(f"DELETE FROM events WHERE ({old}) OR (at < ? AND job NOT IN (SELECT id FROM jobs))", (before, before)).rowcount

    def ask(self, name: str, kind: str, data: dict[str, Any] | None = None) -> bool:
        """Ask something of a job; False when the job is already over. A waiting job that is stopped never starts."""
        with self._connect(write=True) as db:
            row = db.execute("SELECT state FROM jobs WHERE id = ?", (name,)).fetchone()
            if row is None:
                raise NotFound(f"There is no job {name!r}.")
            state = State(row["state"])
            if state.over:
                return False
            if kind == "stop" and state is State.QUEUED:
                db.execute("UPDATE jobs SET state = 'stopped', ended = ? WHERE id = ?", (time.time(), name))
                _emit(db, name, "state", {"state": State.STOPPED, "error": None})
                return True
            if kind == "stop" and state in (State.RUNNING, State.PAUSED):
                db.execute("UPDATE jobs SET state = 'stopping' WHERE id = ?", (name,))
                _emit(db, name, "state", {"state": State.STOPPING, "error": None})
            db.execute("INSERT INTO asks (job, kind, data, at) VALUES (?, ?, ?, ?)", (name, kind, json.dumps(data or {}), time.time()))
        return True

    def asks(self, name: str) -> list[Ask]:
        """Asks of a job that nobody took yet, oldest first."""
        with self._connect() as db:
            rows = db.execute("SELECT id, job, kind, data FROM asks WHERE job = ? AND taken IS NULL ORDER BY id", (name,)).fetchall()
        return [Ask(r["id"], r["job"], r["kind"], json.loads(r["data"])) for r in rows]

    def take(self, ask: Ask) -> None:
        """Mark an ask as answered."""
        with self._connect(write=True) as db:
            db.execute("UPDATE asks SET taken = ? WHERE id = ?", (time.time(), ask.id))

    def beat(self, worker: str, pid: int, facts: dict[str, Any]) -> None:
        """Say that a worker is alive."""
        now = time.time()
        with self._connect(write=True) as db:
            db.execute("INSERT INTO workers VALUES (?, ?, ?, ?, ?) ON CONFLICT(id) DO UPDATE SET beat = excluded.beat, facts = excluded.facts", (worker, pid, now, now, json.dumps(facts)))

    def workers(self, within: float = 15.0) -> list[dict[str, Any]]:
        """Workers whose heart beat in the last seconds: id, pid, started, beat, facts."""
        with self._connect() as db:
            rows = db.execute("SELECT * FROM workers WHERE beat > ? ORDER BY started", (time.time() - within,)).fetchall()
        return [{**dict(r), "facts": json.loads(r["facts"])} for r in rows]

    def notices(self, within: float = 86400.0) -> list[Notice]:
        """What happened to earlier files of the database in the last seconds, newest first."""
        with self._connect() as db:
            rows = db.execute("SELECT at, kind, file FROM notices WHERE at > ? ORDER BY at DESC", (time.time() - within,)).fetchall()
        return [Notice(*row) for row in rows]

    def cards(self) -> dict[str, dict[str, Any]]:
        """What the worker found inside library files, by path."""
        with self._connect() as db:
            return {r["path"]: json.loads(r["facts"]) for r in db.execute("SELECT path, facts FROM library")}

    def put_cards(self, cards: dict[str, dict[str, Any]]) -> None:
        """Replace the library index."""
        with self._connect(write=True) as db:
            db.execute("DELETE FROM library")
            db.executemany("INSERT INTO library VALUES (?, ?)", [(path, json.dumps(facts)) for path, facts in cards.items()])

    def forget(self, worker: str) -> None:
        """Take a worker that has ended off the list."""
        with self._connect(write=True) as db:
            db.execute("DELETE FROM workers WHERE id = ?", (worker,))


def _emit(db: sqlite3.Connection, name: str, kind: str, data: dict[str, Any]) -> int:
    """Insert one event in the open transaction."""
    cursor = db.execute("INSERT INTO events (job, at, kind, data) VALUES (?, ?, ?, ?)", (name, time.time(), kind, json.dumps(data)))
    return int(cursor.lastrowid or 0)


def _job(row: sqlite3.Row | dict[str, Any]) -> Job:
    """A row as a Job."""
    values = dict(row)
    values["request"] = json.loads(values["request"])
    values["result"] = None if values["result"] is None else json.loads(values["result"])
    values["state"] = State(values["state"])
    return Job(**values)
