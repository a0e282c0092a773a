"""The queue's file when it is locked, damaged, emptied, deleted or lacks a table, with several users at once."""

import multiprocessing
import os
import random
import shutil
import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from studio import worker_lane
from studio.database import Watch
from studio.errors import Unavailable
from studio.jobs import JobStore, State
from studio.worker_lane import Outbox


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "outputs" / "studio.db"


def garbage(path: Path) -> None:
    """Overwrite a file with noise."""
    path.write_bytes(random.Random(1).randbytes(64_000))


def cut(path: Path) -> None:
    """Leave a page and a half."""
    os.truncate(path, 6000)


def damaged_beside(path: Path) -> list[Path]:
    """Files that were moved aside."""
    return sorted(p for p in path.parent.glob("studio.db.damaged-*") if not p.name.endswith(("-wal", "-shm")))


@pytest.mark.parametrize("live", [False, True], ids=["at the start", "while it is used"])
@pytest.mark.parametrize("damage", [garbage, cut])
def test_a_damaged_file_is_moved_aside_and_a_new_one_is_started(path: Path, damage: Callable[[Path], None], live: bool) -> None:
    store, other = JobStore(path), JobStore(path)
    for number in range(50):
        store.emit(other.submit("train", {"number": number}), "log", {"text": "x" * 500})
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    damage(path)
    spoilt = path.read_bytes()
    stores = (store, other) if live else (JobStore(path), JobStore(path))
    name = stores[0].submit("generate", {})
    assert stores[1].job(name).state is State.QUEUED
    (aside,) = damaged_beside(path)
    assert aside.read_bytes() == spoilt
    assert [(notice.kind, notice.file) for notice in stores[1].notices()] == [("damaged", aside.name)]


def test_jobs_that_can_be_read_are_carried_over_and_numbers_go_on(path: Path) -> None:
    store = JobStore(path)
    names = [store.submit("generate", {"prompt": f"p{number}"}) for number in range(5)]
    store.claim("w")
    store.finish(names[0], State.DONE, {"images": ["a.png"]})
    last = max(store.emit(names[1], "log", {"text": "x" * 3000}) for _ in range(60))
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        (page_size,) = db.execute("PRAGMA page_size").fetchone()
    with path.open("r+b") as file:
        file.seek(30 * page_size)
        file.write(random.Random(2).randbytes(20 * page_size))
    with pytest.raises(Unavailable, match="damaged"):
        store.events(names[1])
    assert [job.id for job in reversed(store.jobs())] == names
    assert store.job(names[0]).result == {"images": ["a.png"]}
    assert store.job(names[3]).request == {"prompt": "p3"}
    assert store.emit(names[1], "log", {}) > last
    assert len(damaged_beside(path)) == 1


def test_a_file_that_was_deleted_or_emptied_is_made_again(path: Path) -> None:
    store, other, watch = JobStore(path), JobStore(path), Watch(path)
    last = store.emit(store.submit("train", {}), "log", {})
    shutil.rmtree(path.parent)
    name = store.submit("generate", {})
    assert other.job(name).kind == "generate"
    assert watch.wait(5)
    assert not watch.wait(0)
    assert [notice.kind for notice in other.notices()] == ["missing"]
    assert store.emit(name, "log", {}) > last
    assert watch.wait(5)
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    os.truncate(path, 0)
    name = other.submit("generate", {})
    assert store.job(name).state is State.QUEUED


@pytest.mark.parametrize("table", ["jobs", "events", "asks", "library", "workers", "notices"])
def test_a_missing_table_is_made_again(path: Path, table: str) -> None:
    store = JobStore(path)
    store.beat("w", 1, {})
    with closing(sqlite3.connect(path)) as db:
        db.execute(f"DROP TABLE {table}")
        db.commit()
    name = store.submit("train", {})
    store.emit(name, "log", {})
    store.ask(name, "save")
    store.put_cards({})
    store.beat("w", 1, {})
    assert len(store.events(name)) == len(store.workers()) == len(store.asks(name)) == 1
    assert damaged_beside(path) == []


def _submit(path: Path, count: int) -> None:
    store = JobStore(path)
    for _ in range(count):
        while True:
            try:
                store.submit("generate", {})
                break
            except Unavailable:
                continue


def test_processes_that_find_the_damage_at_once_replace_the_file_once(path: Path) -> None:
    JobStore(path).jobs()
    garbage(path)
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_submit, args=(path, 10)) for _ in range(3)]
    for process in writers:
        process.start()
    for process in writers:
        process.join()
    assert [process.exitcode for process in writers] == [0, 0, 0]
    assert len(damaged_beside(path)) == 1
    assert len(JobStore(path).jobs()) == 30


def test_a_lock_of_another_program_is_told_and_passes(path: Path) -> None:
    store = JobStore(path, patience=0.1)
    name = store.submit("train", {})
    with closing(sqlite3.connect(path, isolation_level=None)) as holder:
        holder.execute("BEGIN IMMEDIATE")
        with pytest.raises(Unavailable, match="locked"):
            store.submit("train", {})
        assert store.job(name).state is State.QUEUED
        holder.execute("ROLLBACK")
    store.submit("train", {})


def test_a_full_disk_is_told_and_passes(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`max_page_count` is SQLite's own way to run out of room; it gives the error of a full disk."""
    store, real = JobStore(path), sqlite3.connect
    name = store.submit("train", {})

    def small(*values: object, **named: object) -> sqlite3.Connection:
        db = real(*values, **named)
        db.execute("PRAGMA max_page_count = 1")
        return db

    with monkeypatch.context() as within:
        within.setattr(sqlite3, "connect", small)
        with pytest.raises(Unavailable, match="full"):
            store.emit(name, "log", {"text": "x" * 100_000})
    assert store.events(name) == []
    assert store.emit(name, "log", {})


def test_what_the_database_refuses_is_written_later_and_in_order(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_lane, "MOST", 100)
    store, outbox = JobStore(path, patience=0.05), Outbox()
    name = store.submit("train", {})
    with closing(sqlite3.connect(path, isolation_level=None)) as holder:
        holder.execute("BEGIN IMMEDIATE")
        for step in range(150):
            outbox.put(lambda step=step: store.emit(name, "metric", {"step": step}), droppable=True)
            if step == 10:
                outbox.put(lambda: store.emit(name, "saved", {"path": "a"}))
        outbox.put(lambda: store.finish(name, State.DONE, {"steps": 150}))
        assert not outbox.flush()
        assert outbox.waiting and "locked" in outbox.problem
        holder.execute("ROLLBACK")
    threads = [threading.Thread(target=outbox.drain, args=(60,)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert store.job(name).result == {"steps": 150}
    events = store.events(name)
    steps = [e.data["step"] for e in events if e.kind == "metric"]
    assert steps == sorted(set(steps)) and steps[-1] == 149
    assert [e.kind for e in events].count("saved") == 1
    assert (outbox.waiting, outbox.problem) == (False, "")


def test_deaths_are_counted_since_the_job_last_got_further(path: Path) -> None:
    store = JobStore(path)
    name = store.submit("train", {})
    counted = []
    for step in (0, 100, 200, 200, 200, 300, 300, 300, 300):
        store.claim("w")
        counted.append(store.deaths(name, step))
        store.interrupt(name)
    assert counted == [0, 1, 1, 2, 3, 1, 2, 3, 4]
