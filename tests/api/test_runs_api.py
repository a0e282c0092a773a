"""Runs over HTTP: what a page and other programs do with kept runs, and the queue."""

import io
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from PIL import Image

from studio.api.app import bare_app
from studio.engine import Engine
from studio.jobs import State
from studio.settings import Paths
from tests.runs.folders import full, lines, png

HERO, OTHER = "2026-01-02-hero-abc", "2026-01-02-hero-def"
RUNS = "/studio/v1/runs"


@pytest.fixture
def engine(root: Paths) -> Engine:
    data = root.datasets / "photos"
    data.mkdir()
    (data / "a.png").write_bytes(png())
    full(root.runs / HERO, data=str(data))
    full(root.runs / OTHER, learn_rate="0.001")
    (root.embeddings / "hero.pt").write_bytes(b"by hand")
    return Engine(root)


@pytest.fixture
def http(engine: Engine) -> TestClient:
    return TestClient(bare_app(engine))


def test_the_table_and_one_run(http: TestClient, engine: Engine) -> None:
    rows = http.get(RUNS).json()
    assert [(r["id"], r["state"], r["verdict"]["state"]) for r in rows] == [(OTHER, "done", "improving"), (HERO, "done", "improving")]
    one = http.get(f"{RUNS}/{HERO}").json()
    assert (one["step"], len(one["curve"]), one["best"]["step"], one["job_state"]) == (40, 40, 20, None)
    lines(engine.paths.runs / HERO / "curve.csv", "41,0.5,0.6,0.005,0.4,0.01")
    assert http.get(f"{RUNS}/{HERO}").json()["step"] == 41
    for ids in (f"{HERO},{OTHER}", [HERO, OTHER]):
        assert [d["name"] for d in http.get(f"{RUNS}/compare", params={"ids": ids}).json()["settings"]] == ["learn_rate", "data"]
    assert http.get(f"{RUNS}/compare", params={"ids": HERO}).status_code == 422
    assert http.get(f"{RUNS}/nobody").status_code == 404


def test_pictures_are_shown_and_nothing_else(http: TestClient) -> None:
    path = {"path": "samples/000020-0.png"}
    whole, small = http.get(f"{RUNS}/{HERO}/picture", params=path), http.get(f"{RUNS}/{HERO}/picture", params={**path, "size": 256})
    assert (whole.headers["content-type"], small.headers["content-type"]) == ("image/png", "image/jpeg")
    assert Image.open(io.BytesIO(whole.content)).getpixel((0, 0)) == (20, 0, 0)
    for wrong in ("config.json", "../../settings.json", f"../{OTHER}/samples/000020-0.png", "/etc/hostname", "samples"):
        assert http.get(f"{RUNS}/{HERO}/picture", params={"path": wrong}).status_code == 404, wrong


def test_use_and_undo_rename_note_trash_and_restore(http: TestClient, engine: Engine) -> None:
    shelf = engine.paths.embeddings / "hero.pt"
    done = http.post(f"{RUNS}/{HERO}/use", json={}).json()
    assert shelf.read_bytes() == b"the best" and (done["step"], done["best"]) == (20, True), "without a choice it is the best"
    assert http.post(f"{RUNS}/{HERO}/use", json={"step": "last"}).json()["step"] == 20 and shelf.read_bytes() == b"weights at 20"
    assert http.post(f"{RUNS}/{HERO}/use", json={"step": "best"}).json()["path"] == done["path"] and shelf.read_bytes() == b"the best"
    assert http.post(f"{RUNS}/{HERO}/restore_used", json={"undo": done["undo"]}).status_code == 200
    assert shelf.read_bytes() == b"by hand"
    assert http.post(f"{RUNS}/{HERO}/use", json={"path": "embeddings/hero-0.pt", "name": "new"}).json()["undo"] is None
    http.post(f"{RUNS}/{HERO}/rename", json={"title": "the good one"})
    http.post(f"{RUNS}/{HERO}/note", json={"text": "keep"})
    gone = http.post(f"{RUNS}/{HERO}/trash").json()["trashed"]
    assert [r["id"] for r in http.get(RUNS).json()] == [OTHER] and http.get(f"{RUNS}/trash").json() == [gone]
    assert http.post(f"{RUNS}/{gone}/restore").json() == {"id": HERO}
    assert [r["name"] for r in http.get(RUNS).json() if r["id"] == HERO] == ["the good one"]


@pytest.mark.parametrize("kind", ["zip", "png"])
def test_a_card_goes_out_and_comes_in(http: TestClient, kind: str) -> None:
    out = http.get(f"{RUNS}/{HERO}/card", params={"kind": kind})
    assert out.status_code == 200 and f"recipe.{kind}" in out.headers["content-disposition"]
    back = http.post(f"{RUNS}/import", files={"file": (f"card.{kind}", out.content)}).json()
    values = http.get(f"{RUNS}/{HERO}/values").json()
    assert back["values"] == values and any("tiny" in note for note in back["notes"])
    assert http.post(f"{RUNS}/import", files={"file": ("card.zip", b"nothing")}).status_code == 422


def test_a_run_goes_on_as_a_training_in_its_folder(http: TestClient, engine: Engine) -> None:
    job = engine.job(http.post(f"{RUNS}/{HERO}/extend", json={"steps": 300}).json()["id"])
    assert (job.kind, job.request["run"], job.request["config"]["steps"], job.request["config"]["learn_rate"]) == ("train", HERO, 300, "0.005")
    assert http.get(f"{RUNS}/{HERO}").json()["state"] == "queued"
    assert http.post(f"{RUNS}/{HERO}/resume").status_code == 409
    assert http.post(f"{RUNS}/{HERO}/trash").status_code == 409
    engine.ask(job.id, "stop")
    assert http.post(f"{RUNS}/{HERO}/extend", json={"steps": 40}).status_code == 422
    assert engine.job(http.post(f"{RUNS}/{HERO}/resume").json()["id"]).request["config"]["steps"] == 100
    assert http.post(f"{RUNS}/{OTHER}/resume").status_code == 409, "another training of the same embedding waits"


def test_the_queue_is_put_in_another_order(http: TestClient, engine: Engine) -> None:
    names = [http.post("/studio/v1/jobs/generate", json={"prompt": prompt}).json()["id"] for prompt in ("a", "b", "c")]
    shown = http.post(f"/studio/v1/jobs/{names[2]}/move", json={"before": names[0]}).json()
    assert [job["about"] for job in shown] == ["c", "a", "b"] == [job["about"] for job in http.get("/studio/v1/queue").json()]
    assert http.post(f"/studio/v1/jobs/{names[2]}/move", json={"last": True}).json()[-1]["about"] == "c"
    assert engine.store.claim("w").id == names[0] and engine.job(names[0]).state is State.RUNNING
    assert [http.post(f"/studio/v1/jobs/{name}/move", json=wish).status_code for name, wish in ((names[0], {"last": True}), ("nobody", {"first": True}), (names[1], {}))] == [409, 404, 422]


def test_only_what_can_be_made_of_a_run_is_made(http: TestClient, engine: Engine) -> None:
    for kind, values in (("average", {"count": 2}), ("sheet", {"format": "GIF"}), ("grid", {"most": 3})):
        request = engine.job(http.post(f"{RUNS}/{HERO}/{kind}", json=values).json()["id"]).request
        assert request["run"] == HERO and values.items() <= request.items()
    assert http.post(f"{RUNS}/{HERO}/sheet", json={"format": "BMP"}).status_code == 422
    assert [http.post(f"{RUNS}/{name}/{kind}", json={}).status_code for name, kind in ((HERO, "dance"), ("nobody", "average"))] == [422, 404]


def test_runs_of_a_studio_stay_inside(http: TestClient, root: Paths) -> None:
    Path(root.outputs / "secret").mkdir()
    for name in ("..", "%2e%2e", "..%2fsecret", "%2e%2e%2fsecret"):
        assert http.get(f"{RUNS}/{name}/values").status_code == 404
