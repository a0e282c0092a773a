"""Data sets over HTTP: which there are, what comes into them, and that nobody gets to another folder or in without being let in."""

import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fastapi.routing import APIRoute
from fastapi.testclient import TestClient

from studio.api.app import bare_app
from studio.api.auth import Access
from studio.diffusion.cache import ModelCache
from studio.engine import Engine
from studio.errors import StudioError
from studio.jobs import SilentLane, State
from studio.requests import request_of
from studio.services import transfer
from studio.services.desk import Desk
from studio.settings import Paths
from tests.projects.small_pictures import encoded, lay, masked, said

SETS = "/studio/v1/datasets"
PNG = encoded(7)
BODIES: dict[tuple[str, str], dict[str, Any]] = {
    ("POST", "/import"): {"json": {"path": "."}},
    ("POST", "/upload"): {"files": [("files", ("a.png", PNG, "image/png"))]},
    ("PUT", "/caption"): {"json": {"name": "a.png", "text": "x", "seen": "a cat"}},
    ("POST", "/choices"): {"json": {"names": ["a.png"], "field": "flipped", "value": True}},
    ("PUT", "/settings"): {"json": {}},
    ("POST", "/restore"): {"json": {"at": 0}},
    ("PUT", "/mask"): {"content": PNG},
    ("POST", "/bulk"): {"json": {"edit": {"kind": "prefix", "text": "x"}}},
    ("POST", "/template-preview"): {"json": {"text": "a [name]"}},
    ("POST", "/doctor/fix"): {"json": {"key": "x"}},
    ("POST", "/doctor/ignore"): {"json": {"key": "x"}},
}
"""What routes of one data set must be sent beside `picture`."""
OUTSIDE = ["..%2f..", "%2e%2e", "%2e", "%00", "cats%00", "..%5c..", "%2fetc", "C%3a", "%5c%5cserver%5cshare", ".hidden", "cats%2f.studio", "x" * 300, "x" * 9000, "%ff%fe", "~", "cats%20"]
"""Names of data sets, as they stand in an address, of somebody who wants another folder."""


@pytest.fixture
def engine(root: Paths) -> Engine:
    return Engine(root)


@pytest.fixture
def http(engine: Engine) -> TestClient:
    """A client, with one data set of one captioned picture there."""
    client = TestClient(bare_app(engine))
    assert client.post(SETS, json={"name": "cats"}).json() == {"id": "cats", "name": "cats", "folder": str(engine.paths.datasets / "cats"), "pictures": 0}
    lay(engine.paths.datasets / "cats", {"a.png": encoded(1), "a.txt": "a cat"})
    return client


def work(engine: Engine) -> dict[str, Any]:
    """Do the import that waits, as a worker would; returns its result."""
    job = engine.store.claim("somebody")
    result = transfer.run(request_of(job.kind, job.request), SilentLane(), Desk(engine.paths, ModelCache(engine.paths, device="cpu")))
    engine.store.finish(job.id, State.DONE, result)
    return result


def drop(http: TestClient, files: list[tuple[str, bytes]], name: str = "cats") -> Any:
    """Send files as a page does."""
    return http.post(f"{SETS}/{name}/upload", files=[("files", (called, data, "application/octet-stream")) for called, data in files])


def of_one_set(http: TestClient) -> list[tuple[str, str]]:
    """Every route of one data set, as method and what follows its name."""
    routes = http.app.routes  # type: ignore[attr-defined]
    found = [(method, r.path.removeprefix(f"{SETS}/{{name}}")) for r in _flat(routes) if r.path.startswith(f"{SETS}/{{name}}") for method in r.methods]
    assert len(found) > 25
    return found


def _flat(routes: Any) -> list[APIRoute]:
    """Routes, also those of routers inside."""
    return [one for r in routes for one in ([r] if isinstance(r, APIRoute) else _flat(getattr(getattr(r, "original_router", r), "routes", ())))]


def test_sets_are_made_listed_opened_and_forgotten(http: TestClient, engine: Engine, tmp_path: Path) -> None:
    away = lay(tmp_path / "away", {"b.png": encoded(2), "c.png": encoded(3)})
    opened = http.post(f"{SETS}/open", json={"path": f'"{away}"'}).json()
    assert (opened["name"], opened["folder"], opened["pictures"]) == ("away", str(away), 2)
    assert [entry["id"] for entry in http.get(SETS).json()] == ["cats", opened["id"]]
    assert http.get(f"{SETS}/{opened['id']}/names").json() == {"names": ["b.png", "c.png"]}
    assert http.delete(f"{SETS}/{opened['id']}").json() == {"forgotten": opened["id"]}
    assert [entry["id"] for entry in http.get(SETS).json()] == ["cats"]
    assert (away / "b.png").is_file()
    assert http.delete(f"{SETS}/cats").status_code == 404
    assert http.get(f"{SETS}/cats/room").json()["total"] == 1


@pytest.mark.parametrize(
    ("name", "status"),
    [("cats", 409), ("CATS", 409), ("", 422), ("..", 422), ("a/b", 422), ("a\\b", 422), ("a\0", 422), ("CON", 422), ("x" * 10**6, 422), (".x", 422), ("<b>", 422), (5, 422), (None, 422), ([], 422)],
)
def test_a_name_that_cannot_be_is_refused_in_words(http: TestClient, engine: Engine, name: Any, status: int) -> None:
    answer = http.post(SETS, json={"name": name})
    assert answer.status_code == status
    assert set(answer.json()) == {"error", "detail"}
    assert [entry["id"] for entry in http.get(SETS).json()] == ["cats"]
    assert http.post(SETS, content=b"{", headers={"Content-Type": "application/json"}).status_code == 422


@pytest.mark.parametrize("path", ["", " ", "nowhere", "a\0b", "x" * 5000, "~nobody-of-that-name/x", "\\\\server\\share", "C:\\pictures", 5, None], ids=lambda path: ascii(path)[:20])
def test_a_path_that_leads_to_nothing_is_refused_in_words(http: TestClient, engine: Engine, path: Any) -> None:
    for route in (f"{SETS}/open", f"{SETS}/cats/import"):
        answer = http.post(route, json={"path": path})
        assert (answer.status_code, len(answer.json()["detail"]) < 600) == (422, True), answer.text
    assert engine.jobs() == []


def test_a_folder_is_imported_as_a_job(http: TestClient, engine: Engine, tmp_path: Path) -> None:
    source = lay(tmp_path / "source", {"b.png": encoded(2), "b.txt": "二", "deep/c.png": encoded(3)})
    job = http.post(f"{SETS}/cats/import", json={"path": str(source), "recursive": True}).json()["job"]
    pulse = http.get(f"{SETS}/cats/pulse").json()
    assert [(line["id"], line["kind"], line["state"]) for line in pulse["jobs"]] == [(job, "import", "queued")]
    assert engine.job(job).request == {"folder": str(engine.paths.datasets / "cats"), "source": str(source), "recursive": True, "regularisation": False}
    assert work(engine)["added"] == 2
    after = http.get(f"{SETS}/cats/pulse").json()
    assert (after["revision"] != pulse["revision"], after["jobs"][0]["state"], after["jobs"][0]["result"]["added"]) == (True, "done", 2)
    assert said(engine.paths.datasets / "cats") == {"a.png": "a cat", "b.png": "二", "c.png": ""}
    assert http.get(SETS).json()[0]["pictures"] == 3


def test_dropped_files_come_in_whatever_they_are_called(http: TestClient, engine: Engine) -> None:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as file:
        file.writestr("in.png", encoded(20))
        file.writestr("../../up.png", encoded(21))
    names = ["..", ".", "/", "x/..", "猫.png", "..\\..\\dos.png", "/etc/up.png", "C:\\drive.png", "nul\0.png", "CON.png", "n" * 300 + ".png", "<img src=x>.png", "end .png "]
    answer = drop(http, [*((name, encoded(30 + at)) for at, name in enumerate(names)), ("more.zip", stream.getvalue()), ("x.svg", b"<svg onload=alert(1)>")])
    assert (answer.status_code, answer.json()["files"]) == (200, len(names) + 2)
    result = work(engine)
    found = {path.name for path in (engine.paths.datasets / "cats").iterdir()}
    assert {"猫.png", "dos.png", "up.png", "drive.png", "CON_.png", "_img src=x_.png", "end.png", "in.png"} <= found
    assert sum(name.startswith("nnnn") for name in found) == 1
    assert {"x.svg", "picture"} <= {one["source"].rpartition("/")[2] for one in result["skipped"]}
    assert list(engine.paths.uploads.glob("drop-*")) == []
    assert {p.name for p in engine.paths.root.rglob("up.png")} == {"up.png"}
    assert list(engine.paths.root.parent.glob("up.png")) == []


@pytest.mark.parametrize(
    ("files", "captions"),
    [
        (["a.png", "a.txt", "a.png", "a.txt"], {"a.png": "1", "1-a.png": "3"}),
        (["A.png", "A.txt", "a.png", "a.txt"], {"A.png": "1", "a-2.png": "3"}),
        (["x/a.png", "y/a.png", "y/a.txt", "x/a.txt"], {"a.png": "3", "y-a.png": "2"}),
        (["x/a.png", "y/a.txt", "y/a.png"], {"a.png": "", "y-a.png": "1"}),
        (["x/a.png", "z/a.txt"], {"a.png": "1"}),
    ],
)
def test_dropped_files_of_one_name_keep_their_captions(http: TestClient, engine: Engine, files: list[str], captions: dict[str, str]) -> None:
    http.post(SETS, json={"name": "new"})
    drop(http, [(name, encoded(40 + at) if name.endswith("png") else str(at).encode()) for at, name in enumerate(files)], "new")
    work(engine)
    assert said(engine.paths.datasets / "new") == captions


def test_a_drop_that_cannot_be_taken_leaves_nothing_behind(http: TestClient, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    assert drop(http, [("b.png", PNG)], "nobody").status_code == 404
    many = drop(http, [(f"{number}.png", b"") for number in range(1001)])
    assert (many.status_code, "Too many files" in many.json()["detail"]) == (400, True)
    for wrong in ({}, {"data": {"files": "x"}}, {"json": {"files": []}}):
        assert http.post(f"{SETS}/cats/upload", **wrong).status_code == 422

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("studio.api.datasets._save", full)
    answer = drop(http, [("b.png", PNG)])
    assert (answer.status_code, "No space left" in answer.json()["detail"]) == (507, True)
    assert (engine.jobs(), list(engine.paths.uploads.glob("drop-*"))) == ([], [])


def test_nothing_usable_in_a_drop_is_told_with_reasons(http: TestClient, engine: Engine) -> None:
    drop(http, [("page.jpg", b"<html>"), ("empty.png", b""), ("bad.zip", b"PK\x03\x04nothing")])
    with pytest.raises(StudioError, match=r"Nothing was taken in\. .*page\.jpg.*not a picture"):
        work(engine)


@pytest.mark.parametrize("name", OUTSIDE, ids=lambda name: name[:16])
def test_no_route_serves_another_folder(http: TestClient, engine: Engine, name: str) -> None:
    lay(engine.paths.outputs, {"a.png": encoded(9), "a.txt": "a secret"})
    for method, path in of_one_set(http):
        answer = http.request(method, f"{SETS}/{name}{path}", params={"picture": "a.png"}, **BODIES.get((method, path), {}))
        # `..` and `.` are taken out of an address before it is sent or routed: another route may answer, but no data set.
        assert answer.status_code in (404, 405) or (name in ("%2e%2e", "%2e") and "secret" not in answer.text and answer.status_code < 500), (method, path, answer.text[:200])
    assert (engine.paths.outputs / "a.txt").read_text() == "a secret"
    assert engine.jobs() == []


def test_every_route_of_a_set_that_is_there_answers_in_json_or_with_a_picture(http: TestClient, engine: Engine) -> None:
    lay(engine.paths.datasets / "cats", {"a-masklabel.png": masked()})
    for method, path in of_one_set(http):
        if (method, path) != ("DELETE", ""):
            answer = http.request(method, f"{SETS}/cats{path}", params={"picture": "a.png"}, **BODIES.get((method, path), {}))
            assert answer.status_code == (409 if path == "/doctor/fix" else 200), (method, path, answer.text)
            assert answer.headers["content-type"].startswith(("application/json", "image/"))


ACCESS = Access(page=(("ann", "secret"),))


def knock(engine: Engine, do: Callable[[TestClient], Any]) -> Any:
    """Ask a server that has accounts."""
    return do(TestClient(bare_app(engine, ACCESS)))


def test_with_accounts_nothing_of_a_set_is_seen_without_one(http: TestClient, engine: Engine) -> None:
    paths = [f"{SETS}{path}" for path in ("", "/cats/room", "/cats/thumb?picture=a.png", "/cats/view?picture=a.png", "/cats/mask?picture=a.png", "/cats/doctor", "/nobody/room")]
    paths += [f"/studio/v1/{path}" for path in ("room", "captioners", "segmenters", "bulk", "templates/one?name=subject", "jobs")]
    for path in paths:
        refused = knock(engine, lambda client, path=path: client.get(path))
        assert (refused.status_code, refused.headers["WWW-Authenticate"], "cat" in refused.text) == (401, "Basic", False)
    for method, path, sent in [
        ("post", SETS, {"json": {"name": "new"}}),
        ("put", f"{SETS}/cats/caption", {"json": {"name": "a.png", "text": "x"}}),
        ("post", f"{SETS}/cats/upload", {"files": {"files": PNG}}),
    ]:
        assert knock(engine, lambda client, m=method, p=path, s=sent: client.request(m, p, **s)).status_code == 401
    assert said(engine.paths.datasets / "cats") == {"a.png": "a cat"}
    assert [entry.id for entry in engine.data_sets.all()] == ["cats"]
    assert knock(engine, lambda client: client.get(SETS, auth=("ann", "secret"))).status_code == 200


@pytest.mark.parametrize("origin", ["https://evil.example", "http://127.0.0.1.evil.example", "http://evil.example:80", "null", "http://127.0.0.1:81"])
def test_another_page_changes_nothing(http: TestClient, engine: Engine, origin: str) -> None:
    for method, path in of_one_set(http):
        if method != "GET":
            refused = http.request(method, f"{SETS}/cats{path}", params={"picture": "a.png"}, headers={"Origin": origin}, **BODIES.get((method, path), {}))
            assert (refused.status_code, refused.json()["error"]) == (403, "forbidden"), (method, path)
    assert http.post(SETS, json={"name": "new"}, headers={"Origin": origin}).status_code == 403
    assert http.put("/studio/v1/templates/one", json={"name": "x", "text": "x"}, headers={"Origin": origin}).status_code == 403
    assert http.post(SETS, json={"name": "new"}, headers={"Origin": "http://127.0.0.1"}).status_code == 200
    assert said(engine.paths.datasets / "cats") == {"a.png": "a cat"}
    assert engine.jobs() == []
