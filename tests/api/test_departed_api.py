"""A client of A1111's API that closes its connection, on a real server: its job is taken off the queue while it waits, and goes on once it runs."""

import json
import socket
import threading
import time
from collections.abc import Iterator

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


def asked(address: str, prompt: str) -> socket.socket:
    """An open connection over which a picture was asked for."""
    port, body = int(address.rpartition(":")[2]), json.dumps({"prompt": prompt, "steps": 1}).encode()
    connection = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
    connection.sendall(b"POST /sdapi/v1/txt2img HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (port, len(body), body))
    return connection


def test_only_the_waiting_job_of_a_client_that_left_is_taken_off(engine: Engine, address: str) -> None:
    connections, jobs = {}, {}
    for prompt in ("running", "stays", "left"):
        connections[prompt] = asked(address, prompt)
        until(lambda prompt=prompt: any(job.request["prompt"] == prompt for job in engine.jobs()))
        jobs[prompt] = engine.jobs(1)[0].id
        if prompt == "running":
            engine.store.claim("w")
    connections["running"].close()
    connections["left"].close()
    until(lambda: engine.job(jobs["left"]).state is State.STOPPED)
    assert (engine.job(jobs["stays"]).state, engine.job(jobs["running"]).state) == (State.QUEUED, State.RUNNING)
    engine.store.finish(jobs["running"], State.DONE, {"images": []})
    engine.store.finish(jobs["stays"], State.FAILED, error="no")
    assert connections["stays"].recv(100).startswith(b"HTTP/1.1 500")
    connections["stays"].close()
