"""Who may come in, what the server tells about itself, and jobs taken off the list."""

import re

import pytest
from fastapi.testclient import TestClient

from studio.api.app import bare_app, create_app
from studio.api.auth import Access, accounts
from studio.engine import Engine
from studio.errors import InputError
from studio.jobs import State
from studio.settings import SHIPPED_ROOT, Paths


@pytest.fixture
def engine(root: Paths) -> Engine:
    return Engine(root)


def test_accounts_are_read_from_words() -> None:
    assert accounts("ann:secret, bob:a:b") == (("ann", "secret"), ("bob", "a:b"))
    for wrong in ("", "ann", "ann:", ":x", "ann:secret,bob"):
        with pytest.raises(InputError) as error:
            accounts(wrong, "--gradio-auth")
        assert "--gradio-auth" in str(error.value)
        assert "secret," not in str(error.value).replace("ann:secret,bob:word", "")


@pytest.mark.parametrize("access", [Access(api=(("ann", "sécret"), ("bob", "b"))), Access(page=(("ann", "sécret"),))], ids=["--api-auth", "--gradio-auth alone"])
def test_the_api_asks_for_a_name_and_a_password(engine: Engine, access: Access) -> None:
    client = TestClient(bare_app(engine, access))
    for path in ("/sdapi/v1/samplers", "/studio/v1/jobs", "/internal/pending-tasks"):
        refused = client.get(path)
        assert (refused.status_code, refused.headers["WWW-Authenticate"]) == (401, "Basic")
        assert set(refused.json()) == {"error", "detail", "body", "errors"}
        assert client.get(path, auth=("ann", "wrong")).status_code == 401
        assert client.get(path, auth=("ann", "")).status_code == 401
        assert client.get(path, headers={"Authorization": "Basic %%%"}).status_code == 401
        assert client.get(path, auth=("ann", "sécret".encode())).status_code == 200
    assert client.get("/studio/v1/pulse").status_code == 401
    assert client.get("/internal/ping").status_code == 200
    assert client.post("/sdapi/v1/txt2img", json={}).status_code == 401
    assert engine.jobs() == []


def test_a_body_beyond_all_measure_is_not_read(engine: Engine) -> None:
    refused = TestClient(bare_app(engine)).post("/sdapi/v1/png-info", content=b"{}", headers={"Content-Length": str(2**40)})
    assert (refused.status_code, str(2**40) in refused.json()["detail"]) == (413, True)


def test_without_accounts_everybody_may_come_in(engine: Engine) -> None:
    assert TestClient(bare_app(engine)).get("/sdapi/v1/samplers").status_code == 200


def test_the_server_is_stopped_by_a_client_only_when_that_is_wanted(engine: Engine) -> None:
    for path in ("server-stop", "server-kill", "server-restart"):
        assert TestClient(bare_app(engine)).post(f"/sdapi/v1/{path}").status_code == 404
    open_to_all = TestClient(bare_app(engine, Access(server_stop=True)))
    restart = open_to_all.post("/sdapi/v1/server-restart")
    assert (restart.status_code, restart.json()["error"]) == (501, "StudioError")
    assert "/sdapi/v1/server-stop" in open_to_all.get("/openapi.json").json()["paths"]


def test_jobs_that_wait_or_are_over_can_be_deleted(engine: Engine) -> None:
    client = TestClient(bare_app(engine))
    first, second = (client.post("/studio/v1/jobs/generate", json={"prompt": str(i)}).json()["id"] for i in range(2))
    assert engine.store.claim("somebody").id == first
    running = client.delete(f"/studio/v1/jobs/{first}")
    assert (running.status_code, "Stop it first" in running.json()["detail"]) == (409, True)
    assert client.delete(f"/studio/v1/jobs/{second}").json() == {"deleted": second}
    engine.store.finish(first, State.DONE, {})
    assert client.delete(f"/studio/v1/jobs/{first}").status_code == 200
    assert (engine.jobs(), engine.events(first)) == ([], [])
    assert client.delete(f"/studio/v1/jobs/{first}").status_code == 404


def test_progress_names_what_waits(engine: Engine) -> None:
    client = TestClient(bare_app(engine))
    name = client.post("/studio/v1/jobs/generate", json={"prompt": "a cat"}).json()["id"]
    told = client.get("/sdapi/v1/progress").json()
    assert (told["progress"], told["state"]["job_count"]) == (0, 1)
    assert client.get("/internal/pending-tasks").json() == {"size": 1, "tasks": [name]}
    task = client.post("/internal/progress", json={"id_task": name}).json()
    assert (task["active"], task["queued"], task["completed"]) == (False, True, False)
    nobody = client.post("/internal/progress", json={"id_task": "task(nobody)"}).json()
    assert (nobody["active"], nobody["queued"], nobody["completed"]) == (False, False, False)
    assert client.post("/sdapi/v1/interrupt").json() == {}
    assert engine.job(name).state is State.QUEUED


def test_progress_shares_the_bar_between_batches(engine: Engine) -> None:
    client = TestClient(bare_app(engine))
    name = client.post("/studio/v1/jobs/generate", json={"prompt": "a cat", "batch_count": 4}).json()["id"]
    engine.store.claim("somebody")
    engine.store.emit(name, "progress", {"step": 15, "total": 40, "eta": 3.0})
    engine.store.emit(name, "preview", {"step": 5, "total": 10, "image": "data:image/jpeg;base64,AAAA"})
    told = client.get("/sdapi/v1/progress").json()
    assert (told["progress"], told["eta_relative"], told["current_image"]) == (0.375, 3.0, "AAAA")
    assert {"job": "Batch 2 out of 4", "job_count": 4, "job_no": 1, "sampling_step": 5, "sampling_steps": 10, "interrupted": False}.items() <= told["state"].items()
    client.post("/sdapi/v1/interrupt")
    assert client.get("/sdapi/v1/progress").json()["state"]["interrupted"] is True
    client.post("/sdapi/v1/skip")
    assert [ask.kind for ask in engine.store.asks(name)] == ["stop", "skip"]


def test_another_page_may_not_use_a1111s_routes(engine: Engine) -> None:
    client = TestClient(bare_app(engine))
    assert client.post("/sdapi/v1/txt2img", json={}, headers={"Origin": "https://evil.example"}).status_code == 403
    assert engine.jobs() == []


def test_the_description_fetches_nothing_from_elsewhere() -> None:
    text = (SHIPPED_ROOT / "static" / "docs.html").read_text(encoding="utf-8")
    assert re.findall(r"https?://", text) == []


def test_docs_and_page_live_side_by_side(engine: Engine) -> None:
    client = TestClient(create_app(engine, Access(page=(("ann", "secret"),))))
    for path in ("/", "/docs", "/openapi.json", "/config"):
        assert client.get(path).status_code == 401
    assert client.post("/login", data={"username": "ann", "password": "wrong"}).status_code == 401
    assert client.post("/login", data={"username": "ann", "password": "secret"}).json() == {"success": True}
    docs = client.get("/docs")
    assert docs.headers["content-type"].startswith("text/html")
    assert "HTTP API" in docs.text
    paths = client.get("/openapi.json").json()["paths"]
    assert {"/sdapi/v1/txt2img", "/sdapi/v1/img2img", "/sdapi/v1/progress", "/studio/v1/jobs/{kind}", "/internal/ping"} <= set(paths)
    assert "gradio" in client.get("/").text
    assert client.get("/config").status_code == 200
