"""The real server as a person starts it: kill -9 it, and the training goes on."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from studio import shelves
from studio.jobs import JobStore
from studio.settings import Paths

PATIENCE = 240.0


def free_port() -> int:
    """A port nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def serve(paths: Paths, port: int) -> "subprocess.Popen[bytes]":
    """Start `studio serve` and wait until it answers."""
    server = subprocess.Popen([sys.executable, "-m", "studio", "serve", "--root", str(paths.root), "--port", str(port), "--no-browser"], stdout=subprocess.DEVNULL)
    until(lambda: answers(port))
    return server


def answers(port: int) -> bool:
    """Whether the jobs API is up."""
    try:
        return httpx.get(f"http://127.0.0.1:{port}/studio/v1/jobs", timeout=5).status_code == 200
    except httpx.TransportError:
        return False


def until(condition: Callable[[], object]) -> object:
    """Wait for something to be true and return it."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        if value := condition():
            return value
        time.sleep(0.2)
    raise AssertionError("it did not happen in time")


@pytest.fixture
def workers_end(root: Paths) -> Iterator[None]:
    """End the worker that the servers of a test left running."""
    yield
    for worker in JobStore(root.database).workers():
        if worker["facts"].get("role") == "worker":
            os.kill(worker["pid"], signal.SIGKILL)


def test_a_killed_server_does_not_end_the_training(root: Paths, workers_end: None) -> None:
    port = free_port()
    base = f"http://127.0.0.1:{port}/studio/v1/jobs"
    first = serve(root, port)
    made = httpx.post(f"{base}/create_embedding", json={"name": "hero", "initialization_text": "monster"}).json()["id"]
    until(lambda: httpx.get(f"{base}/{made}").json()["state"] == "done")
    data = str(shelves.sample_pictures())
    config = {"embedding": "hero", "data": data, "steps": 100_000, "preview_every": 0, "width": 64, "height": 64, "learn_rate": "0.01"}
    training = httpx.post(f"{base}/train", json={"config": config}).json()["id"]

    def told() -> int:
        return sum(e["kind"] == "metric" for e in httpx.get(f"{base}/{training}/events").json())

    until(lambda: told() > 3)
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    second = serve(root, port)
    before = told()
    until(lambda: told() > before)
    assert httpx.get(f"{base}/{training}").json()["state"] == "running"
    workers = [w for w in JobStore(root.database).workers() if w["facts"].get("role") == "worker"]
    assert len(workers) == 1
    httpx.post(f"{base}/{training}/asks/stop")
    until(lambda: httpx.get(f"{base}/{training}").json()["state"] == "stopped")
    second.terminate()
    second.wait(timeout=30)


def test_the_page_is_there_and_faces_do_not_import_torch(root: Paths, workers_end: None) -> None:
    port = free_port()
    server = serve(root, port)
    page = httpx.get(f"http://127.0.0.1:{port}/")
    assert page.status_code == 200
    assert "gradio" in page.text
    server.terminate()
    server.wait(timeout=30)
    probe = subprocess.run([sys.executable, "-c", "import sys, studio.ui.app, studio.api.app, studio.cli; assert 'torch' not in sys.modules"], check=False, cwd=Path(__file__).parent.parent)
    assert probe.returncode == 0
