"""Every route of the server, gradio's included: refused without a login, under a foreign name, and to a foreign page; no mistake of a client is a 500 or tells a path."""

import json
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
from studio.requests import REQUESTS
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


WRONG = {
    "long": LONG,
    "traversal": "../../etc/passwd",
    "NUL": "a\0b",
    "surrogate": "\ud800x",
    "list": [[LONG], {"\udfff": 1}],
    "huge": 10**30,
    "not a number": float("nan"),
}
"""Values that some field of a body can't take: names no file can have, text that can't be encoded, wrong types, numbers out of range."""
DEEP = (b"[" * 100_000 + b"]" * 100_000, b'{"a":' * 5000 + b"1" + b"}" * 5000, b'{"a":' + b"9" * 5000 + b"}", b"\xff\xfe", b"", b"null", b"NaN", b'"x"')
"""Bodies that are no object of fields."""
TELLS_FOLDERS = frozenset({"/studio/v1/datasets", "/studio/v1/datasets/open", "/sdapi/v1/create/embedding", "/sdapi/v1/create/hypernetwork"})
"""Routes that answer success with the place of what was made, as A1111 does."""


def fields_of_bodies(described: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Method, path and name of every field of every JSON body, those of each kind of job too; a body without named fields has one called `x`."""
    for path, methods in described["paths"].items():
        for method, about in methods.items():
            schema = about.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema")
            if schema is None:
                continue
            if path.endswith("/jobs/{kind}"):
                yield from (("POST", path.format(kind=kind), field) for kind, cls in REQUESTS for field in cls.model_fields)
                continue
            named = described["components"]["schemas"].get(schema.get("$ref", "").rpartition("/")[2], {}).get("properties", {})
            yield from ((method.upper(), re.sub(r"\{[^}]*\}", "x", path), field) for field in named or {"x": {}})


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
def test_a_wrong_value_in_a_body_is_a_mistake_of_the_client(app: FastAPI, engine: Engine, answered: None, wrong: Any) -> None:
    client = TestClient(app, raise_server_exceptions=False)
    described = client.get("/openapi.json", auth=("ann", "secret")).json()
    fields = list(fields_of_bodies(described))
    assert {("POST", "/sdapi/v1/txt2img", "hr_upscaler"), ("POST", "/studio/v1/jobs/train", "config"), ("PUT", "/studio/v1/datasets/x/caption", "text")} <= set(fields)
    for method, path, field in fields:
        answer = client.request(method, path, auth=("ann", "secret"), content=json.dumps({field: wrong}), headers={"Content-Type": "application/json"})
        assert answer.status_code < 500, (method, path, field, answer.text[:300])
        assert str(engine.paths.root) not in answer.text or (path in TELLS_FOLDERS and answer.status_code == 200), (method, path, field, answer.text[:300])
        if answer.status_code >= 400:
            assert "detail" in answer.json() and len(answer.json()["detail"]) >= len("nonsense"), (method, path, field, answer.text[:300])


def test_a_body_that_is_no_object_is_a_mistake_of_the_client(app: FastAPI, engine: Engine) -> None:
    client = TestClient(app, raise_server_exceptions=False)
    described = client.get("/openapi.json", auth=("ann", "secret")).json()
    for method, path in sorted({(method, path) for method, path, _ in fields_of_bodies(described)}):
        for body in DEEP:
            answer = client.request(method, path, auth=("ann", "secret"), content=body, headers={"Content-Type": "application/json"})
            assert answer.status_code < 500, (method, path, body[:20], answer.text[:300])
            assert str(engine.paths.root) not in answer.text, (method, path, body[:20])
