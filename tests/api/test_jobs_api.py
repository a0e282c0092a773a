"""The jobs API over a real store."""

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from studio.api.app import jobs_api
from studio.api.hosts import HostGuard, Hosts
from studio.engine import Engine
from studio.jobs import State
from studio.settings import Paths


@pytest.fixture
def engine(root: Paths) -> Engine:
    return Engine(root)


@pytest.fixture
def client(engine: Engine) -> TestClient:
    app = FastAPI()
    jobs_api(app, engine)
    app.add_middleware(HostGuard, hosts=Hosts())
    return TestClient(app)


def test_submit_watch_and_stop(client: TestClient, engine: Engine) -> None:
    name = client.post("/studio/v1/jobs/generate", json={"prompt": "a cat"}).json()["id"]
    assert client.get(f"/studio/v1/jobs/{name}").json()["request"]["prompt"] == "a cat"
    assert [j["id"] for j in client.get("/studio/v1/jobs").json()] == [name]
    assert client.post(f"/studio/v1/jobs/{name}/asks/stop").json() == {"taken": True}
    assert engine.job(name).state is State.STOPPED
    assert [e["kind"] for e in client.get(f"/studio/v1/jobs/{name}/events").json()] == ["state"]


def test_mistakes_are_told_with_a_status_of_the_caller(client: TestClient) -> None:
    assert client.post("/studio/v1/jobs/generate", json={"steps": -1}).status_code == 422
    assert "Steps" in client.post("/studio/v1/jobs/generate", json={"steps": -1}).json()["detail"]
    assert client.post("/studio/v1/jobs/dance", json={}).status_code == 422
    assert client.get("/studio/v1/jobs/nobody").status_code == 404
    assert client.post("/studio/v1/jobs/train", json={"config": {"embedding": "none", "data": "/nowhere"}}).status_code == 422


def test_another_page_may_not_use_the_studio(client: TestClient) -> None:
    refused = client.post("/studio/v1/jobs/generate", json={}, headers={"Origin": "https://evil.example"})
    assert refused.status_code == 403
    own = client.post("/studio/v1/jobs/generate", json={}, headers={"Origin": "http://127.0.0.1"})
    assert own.status_code == 200


def test_the_pulse_tells_that_something_happened_and_who_serves(client: TestClient) -> None:
    before = client.get("/studio/v1/pulse").json()
    assert client.get("/studio/v1/pulse").json() == before
    client.post("/studio/v1/jobs/generate", json={"prompt": "a cat"})
    after = client.get("/studio/v1/pulse").json()
    assert after["pulse"] != before["pulse"]
    assert after["server"] == before["server"]


def test_asks_carry_values_that_are_checked_at_the_door(client: TestClient, engine: Engine) -> None:
    name = client.post("/studio/v1/jobs/generate", json={"prompt": "a cat"}).json()["id"]
    engine.store.claim("w")
    asks = f"/studio/v1/jobs/{name}/asks"
    assert client.post(f"{asks}/change", json={"learn_rate": "0.001:50, 1e-4", "steps": 700}).json() == {"taken": True}
    assert client.post(f"{asks}/sample", json={"prompt": "[name] on a boat", "seed": 4}).json() == {"taken": True}
    assert [(a.kind, a.data) for a in engine.store.asks(name)] == [("change", {"learn_rate": "0.001:50, 1e-4", "steps": 700}), ("sample", {"prompt": "[name] on a boat", "seed": 4})]
    for kind, data, words in (
        ("change", {"steps": 0, "learn_rate": "fast"}, ("Steps", "fast")),
        ("change", {"batch_size": 2}, ("batch_size", "learn_rate")),
        ("change", {}, ("Nothing",)),
        ("stop", {"now": 1}, ("now",)),
    ):
        refused = client.post(f"{asks}/{kind}", json=data)
        assert refused.status_code == 422 and all(word in refused.json()["detail"] for word in words), refused.json()
    assert client.post(f"{asks}/discard").json() == {"taken": True}
    assert [a.kind for a in engine.store.asks(name)] == ["change", "sample", "discard", "stop"]
    assert engine.job(name).state is State.STOPPING
