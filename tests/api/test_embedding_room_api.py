"""The embedding room over HTTP, as another program uses it: one real worker, real files."""

from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import torch

from studio.engine import Engine
from studio.formats.embedding import Embedding, read_embedding, write_embedding
from tests.api.served import Client

ROUTE = "/studio/v1/embeddings"


@pytest.fixture
def hero(served: Engine) -> Path:
    """An embedding of three vectors for the tiny world."""
    path = served.paths.embeddings / "room hero.pt"
    write_embedding(path, Embedding("room hero", torch.arange(3 * 128.0).reshape(3, 128) / 400, 30))
    return path


def said(answer: Any, status: int = 200) -> Any:
    """The JSON of an answer with this status."""
    assert answer.status_code == status, answer.text
    return answer.json()


def test_a_life_of_an_embedding(client: Client, served: Engine, hero: Path) -> None:
    http = client.http
    told = said(http.get(f"{ROUTE}/one", params={"name": "room hero", "nearest": 3}))
    assert (told["vectors"], told["width"], told["fits"], len(told["encoders"][0]["nearest"][2])) == (3, 128, True, 3)
    listed = next(one for one in said(http.get(ROUTE)) if one["name"] == "room hero")
    assert listed == {"name": "room hero", "file": "room hero.pt", "vectors": 3, "width": 128, "family": None, "step": 30, "problem": None}
    pruned = said(http.post(f"{ROUTE}/edit", json={"act": "prune", "names": ["room hero"], "keep": [3], "result": "room third"}))
    assert torch.equal(read_embedding(Path(pruned["path"])).vectors, read_embedding(hero).vectors[2:])
    merged = said(http.post(f"{ROUTE}/edit", json={"act": "merge", "names": ["room hero", "room third"], "result": "room four"}))
    assert merged["vectors"] == 4
    away = said(http.post(f"{ROUTE}/edit", json={"names": ["room hero"], "layout": "safetensors", "shelf": False}))
    file = http.get(f"{ROUTE}/exported", params={"path": away["path"]})
    assert file.content == Path(away["path"]).read_bytes()
    assert http.get(f"{ROUTE}/file?name=room%20hero").content == hero.read_bytes()
    assert "'room duke' in prompts" in said(http.post(f"{ROUTE}/rename", json={"name": "room third", "to": "room duke"}))["note"]
    said(http.post(f"{ROUTE}/duplicate", json={"name": "room duke", "to": "room twin"}))
    gone = said(http.delete(f"{ROUTE}/one", params={"name": "room hero"}))
    assert not hero.exists()
    assert gone in said(http.get(f"{ROUTE}/trash"))
    said(http.post(f"{ROUTE}/restore", json={"id": gone["id"]}))
    assert hero.exists()


def test_mistakes_are_told_in_words(client: Client, served: Engine, hero: Path) -> None:
    http = client.http
    assert "there is no 'nobody'" in said(http.get(f"{ROUTE}/one?name=nobody"), 404)["detail"]
    assert "no number 9" in said(http.post(f"{ROUTE}/edit", json={"act": "prune", "names": ["room hero"], "keep": [9], "result": "x"}), 422)["detail"]
    assert "at least two" in said(http.post(f"{ROUTE}/edit", json={"act": "merge", "names": ["room hero"]}), 422)["detail"]
    assert "taken by room hero.pt" in said(http.post(f"{ROUTE}/edit", json={"act": "convert", "names": ["room hero"], "layout": "safetensors"}), 409)["detail"]
    assert "Name: " in said(http.post(f"{ROUTE}/rename", json={"name": "room hero", "to": "../x"}), 422)["detail"]
    torch.save({"string_to_param": {"*": torch.full((1, 128), float("nan"))}}, served.paths.embeddings / "room spoilt.pt")
    assert "hold NaN" in said(http.get(f"{ROUTE}/one?name=room%20spoilt"), 422)["detail"]
    (served.paths.embeddings / "room spoilt.pt").unlink()


@pytest.mark.parametrize("path", ["../../studio.db", "/etc/passwd", "..%2f..%2fstudio.db", "\0", "", "."])
def test_only_what_is_to_be_given_away_is_given(client: Client, served: Engine, path: str) -> None:
    inside = served.paths.outputs / "exports" / "embeddings" / path.replace("\0", "")
    for wanted in (path, str(inside)):
        assert client.http.get(f"{ROUTE}/exported?path={quote(wanted)}").status_code == 404
    assert client.http.get(f"{ROUTE}/file?name={quote(path)}").status_code == 404
