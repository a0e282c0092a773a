"""The faults of the soak: each does its harm, holds it for some seconds and takes it away again."""

import contextlib
import errno
import os
import random
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import psutil
from PIL import Image

from tests.faults.soak_studio import PATIENCE, SECOND_MODEL, Studio


@dataclass(frozen=True)
class Scene:
    """Where a fault happens: the studio, its dice, how many seconds it holds, and the folder a training learns from (None when none runs)."""

    studio: Studio
    dice: random.Random
    hold: float
    data: Path | None


Fault = Callable[[Scene], str]
"""Does its harm and heals it; returns what it did, in words."""


def lock(scene: Scene) -> str:
    """Another program holds the database's write lock."""
    with closing(sqlite3.connect(scene.studio.paths.database, timeout=60, isolation_level=None)) as holder:
        holder.execute("BEGIN IMMEDIATE")
        time.sleep(scene.hold)
        holder.execute("ROLLBACK")
    return f"write lock held for {scene.hold:.0f} s"


def full_disk(scene: Scene) -> str:
    """Not a byte is free."""
    ballast, size = scene.studio.disk / "ballast", 64 * 2**20
    handle = os.open(ballast, os.O_CREAT | os.O_WRONLY)
    try:
        at = 0
        while size >= 4096:
            try:
                os.posix_fallocate(handle, at, size)
                at += size
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise
                size //= 2
        time.sleep(scene.hold)
    finally:
        os.close(handle)
        ballast.unlink()
    return f"disk full for {scene.hold:.0f} s"


def read_only(scene: Scene) -> str:
    """Every file and folder of the outputs is immutable, which stops root too."""
    outputs = str(scene.studio.paths.outputs)
    subprocess.run(["chattr", "-R", "-f", "+i", outputs], capture_output=True, check=False)
    try:
        time.sleep(scene.hold)
    finally:
        subprocess.run(["chattr", "-R", "-f", "-i", outputs], capture_output=True, check=False)
    return f"outputs read-only for {scene.hold:.0f} s"


def stopped(scene: Scene) -> str:
    """The worker stands still, and then goes on."""
    worker = scene.studio.worker()
    if worker is None:
        return "no worker to stop"
    worker.send_signal(signal.SIGSTOP)
    time.sleep(scene.hold)
    with contextlib.suppress(psutil.NoSuchProcess):
        worker.send_signal(signal.SIGCONT)
    return f"worker stood still for {scene.hold:.0f} s"


def hung(scene: Scene) -> str:
    """The worker stands still until the studio notices; it is then restarted over HTTP."""
    worker = scene.studio.worker()
    if worker is None:
        return "no worker to stop"
    worker.send_signal(signal.SIGSTOP)
    began = time.monotonic()
    while not scene.studio.ask("GET", "/studio/v1/worker")[1]["unresponsive"]:
        if time.monotonic() - began > PATIENCE:
            raise AssertionError("nobody noticed that the worker stands still")
        time.sleep(0.5)
    noticed = time.monotonic() - began
    status, answer = scene.studio.ask("POST", "/studio/v1/worker/restart")
    if (status, answer) != (200, {"ended": worker.pid}):
        raise AssertionError(f"the worker could not be restarted: {status} {answer}")
    return f"worker hung, noticed after {noticed:.0f} s and restarted"


def kill_worker(scene: Scene) -> str:
    """kill -9 the worker."""
    worker = scene.studio.worker()
    if worker is not None:
        worker.kill()
    return "worker killed"


def kill_web(scene: Scene) -> str:
    """kill -9 the web process and start another one."""
    scene.studio.kill_web()
    scene.studio.start()
    return "web process killed and started again"


def garbage(scene: Scene) -> str:
    """The database is overwritten with noise."""
    scene.studio.paths.database.write_bytes(scene.dice.randbytes(100_000))
    return "database overwritten with noise"


def truncated(scene: Scene) -> str:
    """The database is cut."""
    size = scene.studio.paths.database.stat().st_size
    os.truncate(scene.studio.paths.database, scene.dice.choice((0, 1000, size // 2)))
    return "database cut"


def deleted(scene: Scene) -> str:
    """The database is deleted, with what SQLite keeps beside it."""
    for name in ("studio.db", "studio.db-wal", "studio.db-shm"):
        (scene.studio.paths.outputs / name).unlink(missing_ok=True)
    return "database deleted"


def clock(scene: Scene) -> str:
    """The clock of both processes jumps by an hour and back."""
    jump = scene.dice.choice((3600, -3600))
    scene.studio.clock.write_text(str(jump))
    time.sleep(scene.hold)
    scene.studio.clock.write_text("0")
    return f"clock off by {jump} s for {scene.hold:.0f} s"


def checkpoint(scene: Scene) -> str:
    """The newest checkpoint of a run that hasn't ended is noise when the worker dies: the run goes on from the one before."""
    runs = [folder for folder in scene.studio.paths.runs.glob("*") if not (folder / "result.json").exists()]
    files = sorted((file for folder in runs for file in folder.glob("checkpoints/*.safetensors")), key=lambda path: path.stat().st_mtime_ns)
    if files:
        files[-1].write_bytes(scene.dice.randbytes(5000))
    kill_worker(scene)
    return "newest checkpoint replaced by noise, worker killed"


def dataset(scene: Scene) -> str:
    """Images and captions of the data set change while it is learned from."""
    if scene.data is None:
        return "no training to disturb"
    images = sorted(scene.data.glob("*.png"))
    images[0].unlink()
    Image.new("RGB", (64, 64), "white").save(images[1])
    images[2].with_suffix(".txt").write_text("something else", encoding="utf-8")
    return "an image deleted, one replaced, a caption rewritten"


def model(scene: Scene) -> str:
    """The checkpoint file of a model in use is replaced: the next picture is drawn with the new file, bit for bit as when it was there before."""
    studio = scene.studio
    version = studio.replace_model()
    answer = studio.generate({"prompt": "a cat", "seed": 1, "steps": 2, "width": 64, "height": 64, "checkpoint": SECOND_MODEL})
    with Image.open(answer["result"]["images"][0]) as opened:
        pixels = opened.tobytes()
    if pixels != studio.drawn.setdefault(version, pixels):
        raise AssertionError(f"version {version} of the replaced model draws another picture than before")
    if len(set(studio.drawn.values())) != len(studio.drawn):
        raise AssertionError("the replaced model still draws the picture of the old one")
    return "checkpoint file replaced"


ANYWHERE: dict[str, Fault] = {
    "lock": lock,
    "stopped": stopped,
    "hung": hung,
    "kill worker": kill_worker,
    "kill web": kill_web,
    "garbage": garbage,
    "truncated": truncated,
    "deleted": deleted,
    "checkpoint": checkpoint,
    "dataset": dataset,
    "clock": clock,
    "model": model,
}
"""Faults that need nothing special."""
OWN_DISK: dict[str, Fault] = {"full disk": full_disk, "read only": read_only}
"""Faults that need a disk of their own."""
RESTARTING = frozenset({"hung", "kill worker", "kill web", "checkpoint"})
"""Faults that end a process."""
LOSING = frozenset({"garbage", "truncated", "deleted"})
"""Faults that may take queued jobs along: the requests were only in that file."""


def possible(studio: Studio) -> tuple[dict[str, Fault], list[str]]:
    """The faults that can be done here, and the others with the reason."""
    found, left_out = dict(ANYWHERE), []
    if studio.own:
        found |= OWN_DISK
    else:
        left_out += [f"{name}: no disk of its own (needs root, loop devices and mkfs.ext4)" for name in OWN_DISK]
    return found, left_out
