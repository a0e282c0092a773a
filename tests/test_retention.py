"""What is deleted by itself: old logs, caches and temporary copies beyond their limits, and nothing that is needed or that a person made."""

import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from studio.jobs import JobStore, State
from studio.retention import DAY, LIMITS, clean, rotate_log
from studio.settings import Paths


@pytest.fixture
def store(root: Paths) -> JobStore:
    return JobStore(root.database)


def made(path: Path, days: float, size: int = 10) -> Path:
    """A file that is so many days old."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x" * size)
    at = time.time() - days * DAY
    os.utime(path, (at, at))
    return path


@pytest.fixture
def old_inodes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file's change time can't be set back: it is left out of what a file says of its age."""
    real = Path.lstat

    def lstat(path: Path) -> os.stat_result:
        status = list(real(path))
        status[9] = min(status[7], status[8])
        return os.stat_result(status)

    monkeypatch.setattr(Path, "lstat", lstat)


@pytest.mark.usefixtures("old_inodes")
def test_old_copies_go_and_whatever_is_needed_stays(root: Paths, store: JobStore) -> None:
    job = store.submit("generate", {"init_image": str(root.uploads / "api" / "needed.png")})
    gone = [
        made(root.uploads / "api" / "old.png", 40),
        made(root.uploads / "20260101-120000-000001" / "a.png", 40).parent,
        made(root.uploads / "drop-1" / "0" / "a.png", 3).parent.parent,
        made(root.uploads / "pictures-abc.zip", 2),
        made(root.crops / "abc" / "00000.jpg", 40).parent,
        made(root.logs / "train-abc.log", 40),
    ]
    for folder in (gone[1], gone[2], gone[4]):
        for each in (folder, *folder.rglob("*")):
            os.utime(each, (time.time() - 40 * DAY,) * 2)
    run = made(root.runs / "r" / "config.json", 400)
    run.write_text(json.dumps({"config": {"data": str(root.uploads / "learned")}}))
    made(root.uploads / "room" / ".studio" / "project.db", 400)
    kept = [
        made(root.uploads / "api" / "needed.png", 400),
        made(root.uploads / "api" / "recent.png", 20),
        made(root.uploads / "learned" / "a.png", 400),
        made(root.uploads / "room" / "a.png", 400),
        made(root.uploads / "pictures-new.zip", 0.5),
        made(root.crops / job / "done.jsonl", 400),
        made(root.logs / f"train-{job}.log", 400),
        made(root.logs / "worker.log", 400),
        made(root.images / "2026-01-01" / "0.png", 4000),
        made(root.datasets / "monster" / "a.png", 4000),
        made(root.embeddings / "hero.pt", 4000),
        made(root.runs / "r" / "checkpoints" / "00000001.safetensors", 4000),
        made(root.outputs / "studio.db.damaged-20260101-000000", 4000),
    ]
    assert sorted(clean(root, store)) == sorted(gone)
    assert [path for path in gone if path.exists()] == []
    assert [path for path in kept if not path.exists()] == []
    assert clean(root, store) == []


def test_thumbnails_are_kept_within_their_size_the_newest_first(root: Paths, store: JobStore) -> None:
    files = [made(root.thumbnails / f"{number:02d}" / "a.jpg", 20 - number, 1000) for number in range(10)]
    assert clean(root, store, replace(LIMITS, thumbnails=4500)) == files[:6]
    assert [path.exists() for path in files] == [False] * 6 + [True] * 4


def test_a_log_is_rotated_while_a_process_writes_it(root: Paths) -> None:
    file = root.logs / "worker.log"
    code = "import sys\nfor line in sys.stdin: sys.stdout.write(line * 100); sys.stdout.flush(); sys.stderr.write('.'); sys.stderr.flush()"
    with file.open("ab") as log:
        writer = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=log, stderr=subprocess.PIPE)
    assert writer.stdin is not None and writer.stderr is not None
    limits = replace(LIMITS, log_bytes=800, old_logs=3)
    for number in range(6):
        writer.stdin.write(f"line {number:03d}\n".encode())
        writer.stdin.flush()
        writer.stderr.read(1)
        assert rotate_log(file, limits) is True
        assert rotate_log(file, limits) is False
        assert file.stat().st_size == 0
    writer.stdin.close()
    assert writer.wait() == 0
    assert [path.read_bytes()[:9] for path in sorted(root.logs.glob("worker.log.*"))] == [b"line 005\n", b"line 004\n", b"line 003\n"]


def test_events_of_old_jobs_shrink_to_what_the_page_needs(root: Paths, store: JobStore) -> None:
    names = [store.submit("train", {}) for _ in range(3)]
    for name in names:
        for step in range(5):
            store.emit(name, "metric", {"step": step})
            store.emit(name, "item", {"name": step})
            store.emit(name, "preview", {"step": step})
        store.emit(name, "warning", {"text": "w"})
    store.finish(names[0], State.DONE, {})
    store.finish(names[1], State.FAILED, error="no")
    with store._connect(write=True) as db:
        db.execute("UPDATE jobs SET ended = ended - ? WHERE id = ?", (2 * DAY, names[0]))
    clean(root, store)
    assert [(event.kind, event.data.get("step")) for event in store.events(names[0]) if event.kind in ("metric", "preview")] == [("metric", 4), ("preview", 4)]
    assert [event.data["name"] for event in store.events(names[0], kinds=("item",))] == [0, 1, 2, 3, 4]
    assert [event.kind for event in store.events(names[0], kinds=("warning", "state"))] == ["warning", "state"]
    assert [len(store.events(name, kinds=("metric",))) for name in names[1:]] == [5, 5]
