"""A real worker process on a real database: it serves, survives kill -9, and lets short jobs in."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from PIL import Image

from studio import shelves, worker
from studio.diffusion import assembly
from studio.engine import Engine
from studio.jobs import State
from studio.requests import CreateEmbeddingRequest, GenerateRequest, TrainRequest
from studio.settings import Paths

PATIENCE = 240.0


@pytest.fixture
def engine(root: Paths) -> Iterator[Engine]:
    """An engine with a worker, ended with it."""
    engine = Engine(root)
    engine.keep_worker("test")
    yield engine
    engine.close()
    for one in engine.store.workers():
        if one["facts"].get("role") == "worker":
            with contextlib.suppress(ProcessLookupError):  # one that a test has killed
                os.kill(one["pid"], signal.SIGKILL)


def until(condition: Callable[[], object]) -> object:
    """Wait for something to be true and return it."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        if value := condition():
            return value
        time.sleep(0.1)
    raise AssertionError("it did not happen in time")


def steps(engine: Engine, job: str) -> list[int]:
    """Steps told so far."""
    return [e.data["step"] for e in engine.events(job, kinds=("metric",))]


def pictures(folder: Path) -> str:
    """A folder with twelve training pictures."""
    folder.mkdir()
    for picture in shelves.images(shelves.sample_pictures()):
        shutil.copy(picture, folder)
    return str(folder)


def start_training(engine: Engine, folder: str, total: int) -> str:
    """Create an embedding and start to teach it."""
    made = engine.wait(engine.submit(CreateEmbeddingRequest(name="hero", initialization_text="monster", vectors=2)), PATIENCE)
    assert made.state is State.DONE, made.error
    values = {"embedding": "hero", "data": folder, "steps": total, "learn_rate": "0.01", "batch_size": 2, "preview_every": 0, "width": 64, "height": 64}
    return engine.submit(TrainRequest.check({"config": values}))


def hero(engine: Engine) -> torch.Tensor:
    """The vectors in the embedding's file, read as A1111 reads them."""
    data = torch.load(engine.paths.embeddings / "hero.pt", weights_only=True, map_location="cpu")
    return data["string_to_param"]["*"]


def test_a_killed_worker_comes_back_and_finishes(engine: Engine, tmp_path: Path) -> None:
    job = start_training(engine, pictures(tmp_path / "pictures"), 60)
    first = hero(engine)
    until(lambda: max(steps(engine, job), default=0) >= 30)
    os.kill(engine.device()["pid"], signal.SIGKILL)
    hero(engine)
    ended = engine.wait(job, PATIENCE)
    assert ended.state is State.DONE, ended.error
    assert ended.attempts == 2
    assert ended.result["steps"] == 60
    assert not torch.equal(hero(engine), first)


def test_stop_keeps_what_was_learned_and_generation_runs_between_steps(engine: Engine, tmp_path: Path) -> None:
    job = start_training(engine, pictures(tmp_path / "pictures"), 100_000)
    first = hero(engine)
    until(lambda: max(steps(engine, job), default=0) >= 10)
    painted = engine.wait(engine.submit(GenerateRequest(prompt="a photo of hero", steps=4, seed=1, width=128, height=128)), PATIENCE)
    assert painted.state is State.DONE, painted.error
    assert Image.open(painted.result["images"][0]).size == (128, 128)
    assert engine.job(job).state is State.RUNNING
    assert engine.ask(job, "stop")
    engine.ask(job, "stop")
    ended = engine.wait(job, PATIENCE)
    assert ended.state is State.STOPPED, ended.error
    assert 10 <= ended.result["steps"] < 100_000
    assert not torch.equal(hero(engine), first)
    assert torch.isfinite(hero(engine)).all()


def test_the_command_line_uses_the_same_queue(engine: Engine, tmp_path: Path) -> None:
    run = [sys.executable, "-m", "studio", "generate", "--root", str(engine.paths.root), "--out", str(tmp_path / "out"), "--json"]
    run += ["--prompt", "a cat", "--steps", "2", "--width", "128", "--height", "128"]
    done = subprocess.run(run, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "out").glob("*.png"))) == 1
    assert [job.kind for job in engine.jobs()] == ["generate"]
    wrong = subprocess.run([*run, "--sampler", "magic"], capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert wrong.returncode == 2
    assert "Sampler" in wrong.stderr
    assert "Traceback" not in wrong.stderr


def test_an_idle_worker_reads_in_what_painting_needs_once(root: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[float] = []
    monkeypatch.setattr(worker, "read_in", lambda: read.append(time.monotonic()))
    monkeypatch.setattr(worker, "WARM", 0.3)
    monkeypatch.setattr(worker, "LINGER", 1.5)
    began = time.monotonic()
    worker.Worker(root).run()
    assert len(read) == 1
    assert read[0] - began > 0.3


def test_nothing_is_left_to_import_when_it_was_read_in() -> None:
    words = "from studio import worker; worker.read_in(); import sys; before = set(sys.modules)"
    made = "from diffusers import AutoencoderKL, UNet2DConditionModel; from transformers import CLIPTextModel, CLIPTextModelWithProjection"
    done = subprocess.run([sys.executable, "-c", f"{words}; {made}; import studio.services.generation; print(sorted(set(sys.modules) - before))"], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "[]", done.stderr


def test_libraries_that_cannot_be_imported_do_not_end_the_worker(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    def broken() -> None:
        raise ImportError("libsomething.so.1 is not there")

    monkeypatch.setattr(assembly, "read_in", broken)
    worker.read_in()
    assert "libsomething.so.1" in caplog.text
