"""Every route of the server, gradio's included: refused without a login, under a foreign name, and to a foreign page; no mistake of a client is a 500 or tells a path."""

import re
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from starlette.routing import BaseRoute, Mount

from studio.api.app import create_app
from studio.api.auth import OPEN, Access
from studio.engine import Engine
from studio.jobs import State
from studio.settings import Paths

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"})
LOGIN = ("/login", "/login/")
"""The login page is for those who are not logged in."""


def every_route(routes: list[BaseRoute], above: str = "") -> Iterator[tuple[str, str]]:
    """Method and path of every route, those of mounted applications and included routers too; parameters stand as {name}."""
    for route in routes:
        inner = getattr(route, "routes", None) or getattr(getattr(route, "original_router", None), "routes", None)
        path = above + getattr(route, "path", "")
        if inner:
            yield from every_route(inner, path if isinstance(route, Mount) else above)
        elif isinstance(route, Mount):
            yield "GET", f"{path}/x"
        else:
            for method in sorted(getattr(route, "methods", None) or {"GET"}):
                if method in METHODS:
                    yield method, path


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    return Engine(Paths(tmp_path_factory.mktemp("routes")).prepare())


@pytest.fixture
def answered(engine: Engine) -> Iterator[None]:
    """Ends every job at once, as a worker does that is given nonsense."""
    over = threading.Event()

    def end_jobs() -> None:
        while not over.wait(0.02):
            if job := engine.store.claim("nobody"):
                engine.store.emit(job.id, "fault", {"code": "invalid"})
                engine.store.finish(job.id, State.FAILED, error="nonsense")

    thread = threading.Thread(target=end_jobs)
    thread.start()
    yield
    over.set()
    thread.join()


@pytest.fixture(scope="module")
def app(engine: Engine) -> FastAPI:
    """The whole server, with an account of the API alone: what was weakest."""
    return create_app(engine, Access(api=(("ann", "secret"),), server_stop=True))


@pytest.fixture(scope="module")
def routes(app: FastAPI) -> list[tuple[str, str]]:
    found = sorted({(method, re.sub(r"\{[^}]*\}", "x", path)) for method, path in every_route(app.routes)})
    paths = {path for _, path in found}
    assert {
        "/sdapi/v1/txt2img",
        "/studio/v1/jobs/x",
        "/studio/v1/datasets/x/thumb",
        "/docs",
        "/openapi.json",
        "/config",
        "/gradio_api/queue/join",
        "/gradio_api/file=x",
        "/sdapi/v1/server-stop",
    } <= paths
    assert len(found) > 200
    return found


def refused(app: FastAPI, routes: list[tuple[str, str]], status: int, **request: Any) -> None:
    """Every route answers with this status and with nothing of the studio."""
    client = TestClient(app)
    for method, path in routes:
        answer = client.request(method, path, follow_redirects=False, **request)
        assert answer.status_code == status, (method, path, answer.status_code)
        assert "tiny" not in answer.text and len(answer.text) < 4000, (method, path)


def test_without_a_login_every_route_refuses(app: FastAPI, routes: list[tuple[str, str]]) -> None:
    guarded = [(method, path) for method, path in routes if path not in (*LOGIN, *OPEN)]
    refused(app, guarded, 401)
    refused(app, guarded, 401, headers={"Cookie": "studio-session-80=x; access-token-x=y"})
    refused(app, [(method, path) for method, path in guarded if method == "GET"], 401, headers={"Accept": "text/html"})


def test_under_a_foreign_name_every_route_refuses(app: FastAPI, routes: list[tuple[str, str]]) -> None:
    refused(app, routes, 403, headers={"Host": "evil.example"}, auth=("ann", "secret"))


def test_to_a_foreign_page_every_route_refuses(app: FastAPI, routes: list[tuple[str, str]]) -> None:
    refused(app, routes, 403, headers={"Origin": "https://evil.example"}, auth=("ann", "secret"))


LONG = "n" * 5000
AWKWARD = (LONG, "猫" * 100, "%00", "a%00b", "..", "%2e%2e%2f%2e%2e%2fetc%2fpasswd", "..%5c..%5cx", "C:%5cx", "con", "%ff", "%0d%0aX: y", "%ed%a0%80")


@pytest.mark.parametrize("awkward", AWKWARD, ids=lambda text: text[:12])
def test_an_awkward_name_is_a_mistake_of_the_client(app: FastAPI, engine: Engine, answered: None, awkward: str) -> None:
    client = TestClient(app, raise_server_exceptions=False)
    own = [(method, path) for method, path in every_route(app.routes) if path.startswith("/studio/")]
    described = client.get("/openapi.json", auth=("ann", "secret")).json()["paths"]
    for method, path in own:
        about = described.get(path, {}).get(method.lower(), {})
        names = [part["name"] for part in about.get("parameters", []) if part["in"] == "query" and part.get("schema", {}).get("type", "string") == "string"]
        if method == "HEAD" or not ("{" in path or names):
            continue
        query = "&".join(f"{name}={awkward}" for name in names)
        address = re.sub(r"\{[^}]*\}", awkward, path) + (f"?{query}" if query else "")
        answer = client.request(method, address, auth=("ann", "secret"), json={} if method in ("POST", "PUT", "PATCH") else None)
        assert answer.status_code < 500, (method, path, answer.text[:300])
        assert str(engine.paths.root) not in answer.text.replace(awkward, ""), (method, path, answer.text[:300])
