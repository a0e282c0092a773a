"""A real worker and what befalls its queue: the database is locked, replaced by noise, and the worker stands still. Nothing that was finished is lost and everything goes on."""

import contextlib
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from html import unescape
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from studio import cli, shelves, worker_keeper
from studio.api.app import bare_app
from studio.engine import Engine
from studio.errors import Unavailable
from studio.jobs import State
from studio.requests import CreateEmbeddingRequest, GenerateRequest, TrainRequest
from studio.settings import Paths
from studio.ui.header import _engine
from studio.worker import PATIENCE as WORKER_PATIENCE

PATIENCE = 240.0


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """An engine with a worker on the tiny world, ended with the file."""
    engine = Engine(Paths(tmp_path_factory.mktemp("queue") / "studio").prepare())
    engine.keep_worker("test")
    yield engine
    engine.close()
    for one in engine.store.workers(within=float("inf")):
        if one["facts"].get("role") == "worker":
            with contextlib.suppress(ProcessLookupError):
                os.kill(one["pid"], signal.SIGKILL)


def until(condition: Callable[[], object]) -> object:
    """Wait for something to be true and return it; a database that can't be read at this moment is asked again."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        with contextlib.suppress(Unavailable):
            if value := condition():
                return value
        time.sleep(0.1)
    raise AssertionError("it did not happen in time")


def small(**more: object) -> GenerateRequest:
    """A picture of the tiny world."""
    return GenerateRequest.check({"prompt": "a cat", "steps": 2, "width": 64, "height": 64, **more})


def shown(engine: Engine, lang: str = "en") -> str:
    """The head of the page: the chip and what is below it."""
    chip, _row, notice, button = _engine(lang, engine)
    return unescape(f"{chip}{notice}{'[restart]' if button['visible'] else ''}")


@contextlib.contextmanager
def locked(engine: Engine) -> Iterator[None]:
    """Another program holds the database's write lock."""
    with closing(sqlite3.connect(engine.paths.database, isolation_level=None)) as holder:
        holder.execute("BEGIN IMMEDIATE")
        yield
        holder.execute("ROLLBACK")


def start_training(engine: Engine, folder: Path, steps: int) -> str:
    """Teach an embedding."""
    made = engine.wait(engine.submit(CreateEmbeddingRequest(name=folder.name, initialization_text="monster")), PATIENCE)
    assert made.state is State.DONE, made.error
    shutil.copytree(shelves.sample_pictures(), folder)
    values = {"embedding": folder.name, "data": str(folder), "steps": steps, "batch_size": 1, "preview_every": 0, "save_every": 5, "probe_every": 0, "width": 64, "height": 64}
    return engine.submit(TrainRequest.check({"config": values}))


def steps(engine: Engine, job: str) -> int:
    """The newest checkpoint of a training."""
    return max((int(path.stem) for path in engine.paths.runs.glob(f"*-{job}/checkpoints/*.json")), default=0)


def test_a_result_that_can_not_be_written_is_kept_and_the_queue_goes_on(engine: Engine) -> None:
    until(lambda: engine.device()["device"] not in ("", "starting"))
    assert engine.wait(engine.submit(small()), PATIENCE).state is State.DONE
    name, before = engine.submit(small(batch_count=3)), set(engine.paths.images.rglob("*.png"))
    until(lambda: len(set(engine.paths.images.rglob("*.png")) - before) >= 1)
    with locked(engine):
        until(lambda: len(set(engine.paths.images.rglob("*.png")) - before) >= 3)
        until(lambda: engine.device()["problem"])
        assert "database can't be written (database is locked)" in shown(engine)
        assert "数据库无法写入（数据库被其他程序锁定）" in shown(engine, "zh")
        assert engine.pulse().endswith("unwritable")
        with pytest.raises(Unavailable, match="locked"):
            engine.submit(small())
        time.sleep(2 * WORKER_PATIENCE)  # every thread of the worker and of the engine has met the lock
    ended = engine.wait(name, PATIENCE)
    assert (ended.state, ended.attempts, len(ended.result["images"])) == (State.DONE, 1, 3)
    assert engine.wait(engine.submit(small()), PATIENCE).state is State.DONE
    until(lambda: not engine.device()["problem"] and engine.device()["alive"])
    assert "written" not in shown(engine)


def test_a_training_outlives_a_database_of_noise_and_a_worker_that_stands_still(engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    job = start_training(engine, tmp_path / "gnarl", 2_000)
    until(lambda: steps(engine, job) >= 5)
    with closing(sqlite3.connect(engine.paths.database)) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        engine.paths.database.write_bytes(b"noise" * 20_000)
    aside = until(lambda: next(engine.paths.outputs.glob("studio.db.damaged-*[0-9]"), None))
    until(lambda: any(one.id == job and one.state is State.RUNNING for one in engine.jobs()))
    assert aside.name in shown(engine) and "已损坏" in shown(engine, "zh")
    at = steps(engine, job)
    until(lambda: steps(engine, job) > at)
    assert engine.wait(engine.submit(small()), PATIENCE).state is State.DONE

    monkeypatch.setattr(worker_keeper, "UNRESPONSIVE", 6.0)
    pid = engine.device()["pid"]
    os.kill(pid, signal.SIGSTOP)
    until(lambda: engine.device()["unresponsive"])
    assert "doesn't respond" in shown(engine) and "[restart]" in shown(engine)
    assert "无响应" in shown(engine, "zh")
    with TestClient(bare_app(engine)) as http:
        assert http.get("/studio/v1/worker").json()["unresponsive"] >= 6
        assert http.post("/studio/v1/worker/restart").json() == {"ended": pid}
    monkeypatch.undo()
    until(lambda: engine.device().get("pid", pid) != pid and engine.job(job).state is State.RUNNING)
    assert engine.job(job).attempts == 2
    kept = steps(engine, job)
    until(lambda: steps(engine, job) > kept)
    assert "[restart]" not in shown(engine)
    assert cli.main(["worker", "restart", "--json", "--root", str(engine.paths.root)]) == 0
    assert '"ended"' in capsys.readouterr().out
    until(lambda: engine.job(job).attempts == 3)
    kept = steps(engine, job)
    until(lambda: steps(engine, job) > kept)
    engine.ask(job, "stop")
    ended = engine.wait(job, PATIENCE)
    assert ended.state is State.STOPPED, ended.error
    assert Path(ended.result["run"]).is_dir()


def test_a_clock_that_jumps_and_a_busy_worker_are_no_alarm(root: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    keeper = worker_keeper.WorkerKeeper(root, "test")
    clock = [1000.0]
    monkeypatch.setattr(worker_keeper.time, "monotonic", lambda: clock[0])
    keeper._looked = clock[0]
    keeper.lives = True

    def look(beat: float, passed: float) -> bool:
        clock[0] += passed
        keeper._observe([{"id": "worker-1", "beat": beat}])
        return keeper.unresponsive

    assert not look(5000.0, 3)
    assert not look(5003.6e3, 3)  # the clock jumped an hour ahead, then back
    assert not look(4000.0, 3)
    assert not any(look(4000.0, 3) for _ in range(9))  # 27 s without a heartbeat
    assert not look(4030.0, 3)
    assert not look(4030.0, 8 * 3600)  # this process stood still itself
    assert any(look(4030.0, 3) for _ in range(10))
    keeper.problem = "database is locked"
    assert not any(look(4030.0, 3) for _ in range(30))


def test_rows_of_dead_processes_are_removed_and_living_ones_stay(root: Paths) -> None:
    keeper, dead = worker_keeper.WorkerKeeper(root, "test"), subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    for name, pid in (("worker-dead", dead.pid), ("worker-silent", os.getpid()), ("web-fresh", dead.pid)):
        keeper.store.beat(name, pid, {"role": name.partition("-")[0]})
    with keeper.store._connect(write=True) as db:
        db.execute("UPDATE workers SET beat = beat - 600 WHERE id != 'web-fresh'")
    assert [row["id"] for row in keeper._rows()] == ["worker-dead", "worker-silent"]
    assert {row["id"] for row in keeper.store.workers(within=float("inf"))} == {keeper.name, "worker-silent", "web-fresh"}


def test_threads_that_died_are_started_again(root: Paths) -> None:
    keeper = worker_keeper.WorkerKeeper(root, "test")
    dead = threading.Thread(target=lambda: None)
    dead.start()
    dead.join()
    keeper._thread = dead
    keeper._start = lambda: None  # type: ignore[method-assign]
    keeper.ensure()
    assert keeper._thread is not dead and keeper._thread.is_alive()
    keeper.close()
    assert not keeper._thread.is_alive()
    code = (
        "from studio.worker import Worker; from studio.settings import Paths; import threading, sys, pathlib;"
        "w = Worker(Paths(pathlib.Path(sys.argv[1]))); dead = threading.Thread(target=int); dead.start(); dead.join(); w._threads = {'heart': dead};"
        "w.serve_short('x'); assert w._threads['heart'] is not dead and w._threads['heart'].is_alive()"
    )
    done = subprocess.run([sys.executable, "-c", code, str(root.root)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
