"""Files a person brings are saved by a browser, never run; bodies end at their limit."""

from collections.abc import Iterator

import pytest
from fastapi import FastAPI, Request
from fastapi.testclient import TestClient
from PIL import Image

from studio.api.app import create_app
from studio.api.body_limit import BodyLimit
from studio.engine import Engine
from studio.settings import Paths

ACTIVE = {
    "a.html": b"<script>parent.ran = 1</script>",
    "a.htm": b"<script>1</script>",
    "a.xhtml": b"<html xmlns='http://www.w3.org/1999/xhtml'><script>1</script></html>",
    "a.svg": b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>",
    "a.SVG": b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>",
    "a.xml": b"<x/>",
    "a.mht": b"x",
    "a.js": b"alert(1)",
    "a.txt": b"<script>1</script>",
    "a.pdf": b"%PDF",
    "a": b"<script>1</script>",
    "a.png.html": b"<script>1</script>",
}


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    return Engine(Paths(tmp_path_factory.mktemp("files")).prepare())


@pytest.fixture(scope="module")
def client(engine: Engine) -> TestClient:
    return TestClient(create_app(engine))


@pytest.mark.parametrize("name", ACTIVE)
def test_what_is_no_raster_image_is_an_attachment_in_a_sandbox(client: TestClient, engine: Engine, name: str) -> None:
    path = engine.paths.datasets / name
    path.write_bytes(ACTIVE[name])
    uploaded = client.post("/gradio_api/upload", files={"files": (name, ACTIVE[name])}).json()[0]
    for place in (path, uploaded):
        for address, headers in ((f"/gradio_api/file={place}", {}), (f"/gradio_api/file={place}", {"Range": "bytes=0-2"}), (f"/gradio_api/file/{place}", {})):
            answer = client.get(address, headers=headers)
            if answer.status_code != 403:
                assert answer.status_code in (200, 206), (address, answer.text)
                told = (answer.headers["content-disposition"].startswith("attachment"), answer.headers["content-security-policy"].startswith("sandbox;"), answer.headers["x-content-type-options"])
                assert told == (True, True, "nosniff"), address
    assert client.get(f"/gradio_api/file={path}").status_code == 200


@pytest.mark.parametrize("kind", ["png", "jpg", "webp", "gif"])
def test_a_raster_image_is_shown(client: TestClient, engine: Engine, kind: str) -> None:
    path = engine.paths.images / f"a.{kind}"
    Image.new("RGB", (4, 4)).save(path)
    answer = client.get(f"/gradio_api/file={path}")
    assert (answer.status_code, answer.headers["content-type"].startswith("image/"), "attachment" in answer.headers.get("content-disposition", "")) == (200, True, False)


def test_markup_under_an_images_name_is_no_markup(client: TestClient, engine: Engine) -> None:
    path = engine.paths.images / "b.png"
    path.write_bytes(ACTIVE["a.html"])
    answer = client.get(f"/gradio_api/file={path}")
    assert (answer.headers["content-type"], answer.headers["x-content-type-options"]) == ("image/png", "nosniff")


def test_a_body_of_unknown_length_ends_at_the_limit() -> None:
    app, taken = FastAPI(), []

    @app.post("/json")
    def of_json(body: dict[str, str]) -> int:
        return len(body)

    @app.post("/stream")
    async def of_stream(request: Request) -> int:
        async for piece in request.stream():
            taken.append(len(piece))
        return sum(taken)

    app.add_middleware(BodyLimit, largest=1000)
    http = TestClient(app, headers={"Content-Type": "application/json"})

    def pieces(count: int) -> Iterator[bytes]:
        yield b'{"a":"'
        for _ in range(count):
            yield b"x" * 100
        yield b'"}'

    assert http.post("/json", content=pieces(5)).json() == 1
    for path in ("/json", "/stream"):
        refused = http.post(path, content=pieces(500))
        assert (refused.status_code, refused.json()["error"], "1000" in refused.json()["detail"]) == (413, "too_large", True)
    assert http.post("/stream", content=pieces(2)).status_code == 200
    assert http.post("/json", content=b"x" * 2000).status_code == 413
