"""Whose job A1111's interrupt and skip end, when browsers and API clients share the queue."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from fastapi.testclient import TestClient

from studio.api.app import bare_app
from studio.engine import Engine
from studio.jobs import Job, State
from studio.requests import GenerateRequest
from studio.settings import Paths

BROWSER = "b" * 20


@pytest.fixture
def engine(root: Paths) -> Engine:
    return Engine(root)


@contextmanager
def awaited(engine: Engine, client: TestClient) -> Iterator[Job]:
    """A job whose end a request to /sdapi/v1/txt2img waits for."""
    thread = threading.Thread(target=lambda: client.post("/sdapi/v1/txt2img", json={"prompt": "the client's"}))
    thread.start()
    while not (job := engine.active("generate", "")):
        assert thread.is_alive()
        time.sleep(0.01)
    try:
        yield job
    finally:
        if not engine.job(job.id).state.over:
            engine.store.finish(job.id, State.STOPPED, {})
        thread.join(60)


def asks(engine: Engine, job: str) -> list[str]:
    return [ask.kind for ask in engine.store.asks(job)]


def test_a_client_whose_job_waits_ends_its_own_and_not_the_running_one(engine: Engine) -> None:
    running = engine.submit(GenerateRequest(prompt="a browser's"), BROWSER)
    engine.store.claim("somebody")
    with TestClient(bare_app(engine)) as client, awaited(engine, client) as own:
        client.post("/sdapi/v1/skip")
        client.post("/sdapi/v1/interrupt")
        assert engine.job(own.id).state is State.STOPPED
        assert (engine.job(running).state, asks(engine, running), asks(engine, own.id)) == (State.RUNNING, [], [])


def test_a_running_job_of_a_client_comes_before_one_that_began_later(engine: Engine) -> None:
    with TestClient(bare_app(engine)) as client, awaited(engine, client) as own:
        engine.store.claim("somebody")
        later = engine.submit(GenerateRequest(prompt="a browser's"), BROWSER)
        engine.store.claim("somebody")
        client.post("/sdapi/v1/skip")
        client.post("/sdapi/v1/interrupt")
        assert (asks(engine, own.id), asks(engine, later)) == (["skip", "stop"], [])
        assert client.get("/sdapi/v1/progress").json()["state"]["interrupted"] is True


def test_without_a_job_of_its_own_a_client_means_the_current_one_but_never_a_training(engine: Engine) -> None:
    client = TestClient(bare_app(engine))
    training = engine.store.submit("train", {}, browser=BROWSER)
    engine.store.claim("somebody")
    client.post("/sdapi/v1/interrupt")
    assert (engine.job(training).state, asks(engine, training)) == (State.RUNNING, [])
    painting = engine.submit(GenerateRequest(prompt="a browser's"), BROWSER)
    engine.store.claim("somebody")
    client.post("/sdapi/v1/interrupt")
    assert (engine.job(painting).state, engine.job(training).state) == (State.STOPPING, State.RUNNING)


def test_jobs_of_the_api_belong_to_no_browser(engine: Engine) -> None:
    with TestClient(bare_app(engine), cookies={"studio_browser": BROWSER}) as client, awaited(engine, client) as own:
        assert (engine.job(own.id).browser, engine.jobs(browser=BROWSER)) == ("", [])
