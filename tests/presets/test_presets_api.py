"""Presets over HTTP, on a server without a page."""

from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from studio.api.app import bare_app
from studio.engine import Engine
from studio.settings import Paths
from tests.presets.test_importing import LORA, TOML, written

ROUTE = "/studio/v1/presets"


@pytest.fixture
def http(root: Paths) -> TestClient:
    """A client of a server that has no worker: presets need none."""
    return TestClient(bare_app(Engine(root)), base_url="http://127.0.0.1")


def test_a_preset_and_what_differs(http: TestClient) -> None:
    case = {"intent": "style", "family": "SDXL", "method": "lora", "pictures": 12}
    told = http.get(ROUTE, params={**case, "vram_gb": 8}).json()
    assert told["values"]["gradient_checkpointing"] is True
    assert set(told["reasons"]) == set(told["values"]) | set(told["beside"])
    assert "8 GB" in told["fits"]["sentence"]
    differing = http.post(f"{ROUTE}/differences", json={**case, "config": {**told["values"], "rank": 3}}).json()["differences"]
    assert [(d["knob"], d["preset"], d["value"]) for d in differing] == [("rank", 32, 3)]
    assert http.get(ROUTE, params={**case, "intent": "horse"}).status_code == 422
    assert http.get(ROUTE, params={**case, "vram_gb": "inf"}).status_code == 422


def test_a_file_and_a_text_are_taken_over(http: TestClient, tmp_path: Path) -> None:
    path = written(tmp_path / "hero.safetensors", LORA)
    told = http.post(f"{ROUTE}/import", files={"file": ("C:\\x\\hero.safetensors", path.read_bytes())}).json()
    assert (told["method"], told["values"]["rank"]) == ("lora", 32)
    assert all(note["sentence"] for note in told["notes"])
    assert http.post(f"{ROUTE}/import", data={"text": TOML}).json()["values"]["steps"] == 1500
    for wrong in ({"data": {"text": str(path)}}, {"data": {"text": " "}}, {"files": {"file": ("a.json", b"{")}}):
        assert http.post(f"{ROUTE}/import", **wrong).status_code == 422, wrong
