"""Networks over HTTP: cards, pictures, notes and acts, and nothing outside their folders."""

import io
import time
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from PIL import Image

from studio.api.app import bare_app
from studio.engine import Engine
from studio.jobs import State
from studio.settings import Paths
from tests.test_networks import lora

HERE = "/studio/v1/networks"


def png(colour: str) -> bytes:
    """A small picture."""
    data = io.BytesIO()
    Image.new("RGB", (40, 30), colour).save(data, "PNG")
    return data.getvalue()


@pytest.fixture
def engine(root: Paths) -> Engine:
    lora(root.lora / "people" / "hero.safetensors")
    return Engine(root)


@pytest.fixture
def http(engine: Engine) -> TestClient:
    return TestClient(bare_app(engine))


def colour(http: TestClient, **query: object) -> tuple[int, ...]:
    """The middle of a card's picture."""
    answer = http.get(f"{HERE}/lora/picture", params={"name": "hero", **query})
    assert answer.headers["content-type"] == "image/jpeg"
    return Image.open(io.BytesIO(answer.content)).convert("RGB").getpixel((20, 15))


def test_a_card_is_seen_noted_and_given_a_picture(http: TestClient, engine: Engine) -> None:
    [card] = http.get(f"{HERE}/lora").json()
    assert (card["name"], card["method"], card["rank"], card["family"], card["picture"]) == ("hero", "LoRA", 4, "SD1", "")
    assert http.get(f"{HERE}/lora/picture", params={"name": "hero"}).status_code == 404
    card = http.post(f"{HERE}/lora/notes", json={"name": "hero", "trigger": "ohwx", "weight": 0.6}).json()
    assert (card["text"], card["trigger"]) == ("<lora:hero:0.6>", "ohwx")
    card = http.post(f"{HERE}/lora/picture", params={"name": "hero"}, files={"file": ("x.png", png("red"))}).json()
    assert card["picture"] and colour(http, v=card["picture"])[0] > 240
    assert http.post(f"{HERE}/lora/picture", params={"name": "hero"}, files={"file": ("x.png", b"words")}).status_code == 422
    assert http.post(f"{HERE}/lora/newest_picture", params={"name": "hero"}).status_code == 422
    picture = engine.paths.images / "new.png"
    picture.parent.mkdir(parents=True, exist_ok=True)
    picture.write_bytes(png("lime"))
    engine.store.finish(engine.store.submit("generate", {"prompt": "x"}), State.DONE, {"images": [str(picture)], "infotexts": [""]})
    assert http.post(f"{HERE}/lora/newest_picture", params={"name": "hero"}).json()["picture"] and colour(http)[1] > 240
    assert http.post(f"{HERE}/lora/write", json={"name": "hero", "title": "Hero", "description": "d"}).json()["description"] == "d"
    one = http.get(f"{HERE}/lora/one", params={"name": "hero"}).json()
    assert (one["title"], one["noted"]["trigger"], one["writable"]) == ("Hero", "ohwx", True) and any(part["title"] == "Model card" for part in one["sections"])
    next((engine.paths.lora / "people").glob("*.png")).unlink()
    assert colour(http)[1] > 240, "the picture inside the file is shown then"


def test_rename_duplicate_trash_and_undo(http: TestClient) -> None:
    assert http.post(f"{HERE}/lora/rename", json={"name": "hero", "to": "villain"}).json()["before"] == "hero"
    assert http.post(f"{HERE}/lora/duplicate", json={"name": "villain", "to": "twin"}).status_code == 200
    gone = http.delete(f"{HERE}/lora/one", params={"name": "twin"}).json()
    assert http.get(f"{HERE}/lora/trash").json() == [gone]
    assert http.post(f"{HERE}/lora/restore", json={"id": gone["id"]}).json()["name"] == "twin"
    assert [card["name"] for card in http.get(f"{HERE}/lora").json()] == ["twin", "villain"]


def test_only_networks_are_reached(http: TestClient, root: Paths) -> None:
    (root.outputs / "secret.safetensors").write_bytes(b"x")
    for name in ("../../outputs/secret", "people/../../outputs/secret", "people/nobody", "nobody", "", "/etc/hostname"):
        assert http.get(f"{HERE}/lora/one", params={"name": name}).status_code == 404, name
    assert http.get(f"{HERE}/lora/one", params={"name": "people/hero"}).json()["name"] == "hero"
    assert [http.get(f"{HERE}/{kind}").status_code for kind in ("hypernet", "embedding", "dance")] == [200, 200, 422]
    assert http.post(f"{HERE}/lora/notes", json={"name": "hero", "family": "SD9"}).status_code == 422
    assert http.post(f"{HERE}/lora/notes", json={"name": "hero", "wrong": 1}).status_code == 422


def test_headers_are_read_once(http: TestClient, root: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(30):
        lora(root.lora / f"many{number}.safetensors")
    seen: list[Path] = []
    from studio.networks import facts

    read = facts.read_header
    monkeypatch.setattr(facts, "read_header", lambda path: seen.append(path) or read(path))
    assert len(http.get(f"{HERE}/lora").json()) == 31 and len(seen) == 31
    assert len(http.get(f"{HERE}/lora").json()) == 31 and len(seen) == 31
    facts._facts.cache_clear()
    assert len(http.get(f"{HERE}/lora").json()) == 31 and len(seen) == 31, "another server knows them from the disk"
    time.sleep(0.01)
    lora(root.lora / "many3.safetensors", rank=8)
    assert {card["name"]: card["rank"] for card in http.get(f"{HERE}/lora").json()}["many3"] == 8 and len(seen) == 32
