"""The durable queue on a real SQLite file."""

import multiprocessing
import sqlite3
from pathlib import Path

import pytest

from studio.database import Watch
from studio.errors import Conflict, NotFound
from studio.jobs import JobStore, State


@pytest.fixture
def store(tmp_path: Path) -> JobStore:
    return JobStore(tmp_path / "deep" / "studio.db")


def test_a_job_goes_through_its_life(store: JobStore) -> None:
    name = store.submit("generate", {"prompt": "一只猫"})
    assert store.job(name).state is State.QUEUED
    job = store.claim("w")
    assert job is not None
    assert (job.id, job.state, job.attempts, job.request) == (name, State.RUNNING, 1, {"prompt": "一只猫"})
    store.finish(name, State.DONE, {"images": ["a.png"]})
    job = store.job(name)
    assert (job.state, job.result, job.error) == (State.DONE, {"images": ["a.png"]}, None)
    assert job.ended >= job.started >= job.created
    assert store.claim("w") is None


def test_events_come_in_order_and_only_once(store: JobStore) -> None:
    name, other = store.submit("train", {}), store.submit("train", {})
    for step in range(5):
        store.emit(name, "metric", {"step": step})
        store.emit(other, "metric", {"step": -1})
    events = store.events(name)
    assert [e.data["step"] for e in events] == [0, 1, 2, 3, 4]
    assert [e.seq for e in events] == sorted({e.seq for e in events})
    assert [e.data["step"] for e in store.events(name, after=events[2].seq)] == [3, 4]
    assert store.events(name, kinds=("preview",)) == []


def test_oldest_first_but_interrupted_before_all(store: JobStore) -> None:
    first, second = store.submit("a", {}), store.submit("a", {})
    assert store.claim("w").id == first
    third = store.submit("a", {})
    store.interrupt(first)
    assert [store.claim("w").id for _ in range(3)] == [first, second, third]
    assert store.job(first).attempts == 2


def test_only_asked_kinds_are_claimed(store: JobStore) -> None:
    store.submit("train", {})
    short = store.submit("generate", {})
    assert store.claim("w", ("generate",)).id == short
    assert store.claim("w", ("generate",)) is None


def test_one_live_job_per_key(store: JobStore) -> None:
    name = store.submit("train", {}, key="training of hero")
    with pytest.raises(Conflict, match="training of hero"):
        store.submit("train", {}, key="training of hero")
    store.submit("train", {}, key="training of villain")
    store.ask(name, "stop")
    assert store.job(name).state is State.STOPPED
    store.submit("train", {}, key="training of hero")


def test_stop_twice_is_one_stop(store: JobStore) -> None:
    name = store.submit("train", {})
    store.claim("w")
    assert store.ask(name, "stop")
    assert store.ask(name, "stop")
    assert store.job(name).state is State.STOPPING
    store.finish(name, State.STOPPED, {})
    assert not store.ask(name, "stop")
    with pytest.raises(NotFound):
        store.ask("nobody", "stop")


def test_asks_are_taken_once(store: JobStore) -> None:
    name = store.submit("train", {})
    store.claim("w")
    store.ask(name, "save")
    (ask,) = store.asks(name)
    store.take(ask)
    assert store.asks(name) == []


def _submit_many(path: Path, count: int) -> None:
    store = JobStore(path)
    for _ in range(count):
        store.submit("generate", {})


def _claim_all(path: Path, queue: "multiprocessing.Queue[list[str]]") -> None:
    store, mine = JobStore(path), []
    while (job := store.claim("w")) is not None:
        mine.append(job.id)
    queue.put(mine)


def test_many_processes_share_the_file(store: JobStore) -> None:
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_submit_many, args=(store.path, 20)) for _ in range(2)]
    for process in writers:
        process.start()
    for process in writers:
        process.join()
    queue = context.Queue()
    claimers = [context.Process(target=_claim_all, args=(store.path, queue)) for _ in range(2)]
    for process in claimers:
        process.start()
    claimed = queue.get(timeout=60) + queue.get(timeout=60)
    for process in claimers:
        process.join()
    assert len(claimed) == len(set(claimed)) == 40


def test_cards_and_workers(store: JobStore) -> None:
    store.put_cards({"a.pt": {"vectors": 2}})
    assert store.cards() == {"a.pt": {"vectors": 2}}
    store.put_cards({})
    assert store.cards() == {}
    store.beat("w", 12, {"role": "worker"})
    assert [w["pid"] for w in store.workers()] == [12]
    assert store.workers(within=-1) == []
    store.forget("w")
    assert store.workers() == []


def test_a_watch_notices_what_others_write_and_nothing_else(tmp_path: Path) -> None:
    store = JobStore(tmp_path / "studio.db")
    watch = Watch(store.path)
    assert not watch.wait(0)
    name = store.submit("generate", {})
    assert watch.wait(0)
    assert not watch.wait(0.02)
    assert store.job(name).state == State.QUEUED
    assert not watch.wait(0)
    store.emit(name, "log", {"text": "x"})
    assert watch.wait(5)


def test_a_person_orders_what_waits(store: JobStore) -> None:
    names = [store.submit("generate", {}) for _ in range(4)]
    running = store.claim("w").id
    assert running == names[0]
    a, b, c = names[1:]
    for where, other, order in (("first", "", [c, a, b]), ("after", b, [a, b, c]), ("before", b, [a, c, b]), ("last", "", [a, b, c]), ("before", c, [a, b, c])):
        store.move(c, where, other)
        assert [job.id for job in store.queue()] == [running, *order], (where, other)
    for _ in range(200):
        store.move(c, "before", b)
        store.move(b, "before", c)
    late = store.submit("generate", {})
    store.interrupt(running)
    assert [store.claim("w").id for _ in range(5)] == [running, a, b, c, late]
    with pytest.raises(Conflict, match="running"):
        store.move(a, "last")
    with pytest.raises(NotFound):
        store.move("nobody", "last")


def test_a_database_of_an_earlier_version_gets_places_and_browsers(tmp_path: Path) -> None:
    path = tmp_path / "studio.db"
    with sqlite3.connect(path) as db:
        db.execute(
            "CREATE TABLE jobs (id TEXT PRIMARY KEY, kind TEXT NOT NULL, request TEXT NOT NULL, state TEXT NOT NULL, created REAL NOT NULL,"
            " started REAL, ended REAL, result TEXT, error TEXT, attempts INTEGER NOT NULL DEFAULT 0, worker TEXT, claim TEXT, key TEXT)"
        )
        db.executemany("INSERT INTO jobs (id, kind, request, state, created) VALUES (?, 'generate', '{}', 'queued', ?)", [("old", 1.0), ("older", 0.5)])
    store = JobStore(path)
    store.move("old", "first")
    assert [job.id for job in JobStore(path).queue()] == ["old", "older"]
    mine = store.submit("generate", {}, browser="b" * 20)
    assert [(job.id, job.browser) for job in store.jobs()] == [(mine, "b" * 20), ("old", ""), ("older", "")]
    assert [job.id for job in store.jobs(browser="b" * 20)] == [mine]
