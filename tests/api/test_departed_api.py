"""A client of A1111's API that closes its connection, on a real server: its job is taken off the queue while it waits, and goes on once it runs."""

import socket
import threading
import time
from collections.abc import Iterator

import httpx
import pytest
import uvicorn

from studio.api.app import bare_app
from studio.engine import Engine
from studio.jobs import State
from studio.settings import Paths

PATIENCE = 60.0


@pytest.fixture
def engine(root: Paths) -> Engine:
    """An engine without a worker: what is queued waits."""
    return Engine(root)


@pytest.fixture
def address(engine: Engine) -> Iterator[str]:
    """Where the server listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = uvicorn.Server(uvicorn.Config(bare_app(engine), host="127.0.0.1", port=port, log_level="error"))
    thread = threading.Thread(target=server.run)
    thread.start()
    until(lambda: server.started)
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    thread.join()


def until(condition: object) -> None:
    """Wait for something to be true."""
    end = time.monotonic() + PATIENCE
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < end
        time.sleep(0.05)


def test_only_the_waiting_job_of_a_client_that_left_is_taken_off(engine: Engine, address: str) -> None:
    left, stays, running = (httpx.Client(base_url=address, timeout=0.5 if leaves else PATIENCE) for leaves in (True, False, True))
    answers: list[int] = []

    def ask(client: httpx.Client, prompt: str) -> None:
        try:
            answers.append(client.post("/sdapi/v1/txt2img", json={"prompt": prompt, "steps": 1}).status_code)
        except httpx.TimeoutException:
            client.close()

    threads = []
    for client, prompt in ((running, "running"), (stays, "stays"), (left, "left")):
        threads.append(threading.Thread(target=ask, args=(client, prompt)))
        threads[-1].start()
        until(lambda prompt=prompt: any(job.request["prompt"] == prompt for job in engine.jobs()))
        if prompt == "running":
            engine.store.claim("w")
    jobs = {job.request["prompt"]: job.id for job in engine.jobs()}
    until(lambda: engine.job(jobs["left"]).state is State.STOPPED)
    threads[0].join()
    assert (engine.job(jobs["stays"]).state, engine.job(jobs["running"]).state) == (State.QUEUED, State.RUNNING)
    engine.store.finish(jobs["running"], State.DONE, {"images": []})
    engine.store.finish(jobs["stays"], State.FAILED, error="no")
    for thread in threads:
        thread.join()
    assert answers == [500]
    assert engine.job(jobs["stays"]).state is State.FAILED
    stays.close()
