"""The data set room over HTTP: its grid, captions that nobody loses, decisions, changes of many captions, templates and the doctor."""

import io
import json
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from studio.api.app import bare_app
from studio.dataset.examine import examine
from studio.engine import Engine
from studio.projects.project import Project
from studio.settings import Paths
from tests.projects.small_pictures import encoded, lay, said

ROOM = "/studio/v1/datasets/room"
SCRIPT = "<script>alert(1)</script><img src=x onerror=alert(2)>"


def noise(seed: int, side: int) -> bytes:
    """The bytes of a picture that looks like no other."""
    stream = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)).save(stream, "PNG")
    return stream.getvalue()


@pytest.fixture
def engine(root: Paths) -> Engine:
    return Engine(root)


@pytest.fixture
def folder(engine: Engine) -> Path:
    """The data set's folder: two pictures of the same colour, one of another, one without a caption."""
    files = {"1.png": encoded(1), "2.png": encoded(1), "10.png": noise(1, 30), "b.png": noise(2, 20)}
    return lay(engine.paths.datasets / "room", {**files, "1.txt": "cat, red", "2.txt": "dog, red", "10.txt": "cat, blue sky"})


@pytest.fixture
def http(engine: Engine, folder: Path) -> TestClient:
    return TestClient(bare_app(engine), headers={"Content-Type": "application/json"})


def measured(folder: Path) -> None:
    """Examine all pictures."""
    project = Project(folder)
    project.put_facts([(item.name, examine(folder / item.name)) for item in project.items()])


def names(http: TestClient, **query: Any) -> list[str]:
    """Names of the pictures of a page."""
    return [item["name"] for item in http.get(f"{ROOM}/room", params=query).json()["items"]]


def refused(answer: Any, status: int, *words: str) -> None:
    """An answer that says in words what is wrong, in a length that can be shown."""
    assert (answer.status_code, set(answer.json())) == (status, {"error", "detail"}), answer.text[:300]
    assert len(answer.json()["detail"]) < 1500
    assert [word for word in words if word not in answer.json()["detail"]] == []


def test_the_room_says_everything_the_page_shows(http: TestClient, folder: Path) -> None:
    measured(folder)
    told = http.get(f"{ROOM}/room").json()
    assert {key: told[key] for key in ("name", "total", "matched", "captioned", "left_out", "unexamined", "undo", "redo", "notes")} == {
        "name": "room",
        "total": 4,
        "matched": 4,
        "captioned": 3,
        "left_out": 0,
        "unexamined": 0,
        "undo": None,
        "redo": None,
        "notes": [],
    }
    assert [item["name"] for item in told["items"]] == ["1.png", "2.png", "10.png", "b.png"]
    first = told["items"][0]
    assert (first["caption"], first["tokens"], first["width"], first["height"], first["format"], first["box"]) == ("cat, red", 3, 20, 20, "PNG", [0, 0, 1, 1])
    assert set(told["settings"]) >= {"width", "height", "trigger", "template"}
    assert "subject_filewords" in told["templates"]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({"filter": "tag:cat"}, ["1.png", "10.png"]),
        ({"filter": "is:duplicate"}, ["1.png", "2.png"]),
        ({"filter": "NOT is:duplicate is:captioned"}, ["10.png"]),
        ({"filter": "is:uncaptioned"}, ["b.png"]),
        ({"filter": "nobody"}, []),
        ({"order": "size"}, ["1.png", "2.png", "b.png", "10.png"]),
        ({"order": "tokens", "limit": 1}, ["10.png"]),
        ({"order": "made up", "offset": 1, "limit": 2}, ["2.png", "10.png"]),
        ({"offset": -5, "limit": 0}, ["1.png"]),
        ({"offset": 10**30}, []),
        ({"limit": 10**30}, ["1.png", "2.png", "10.png", "b.png"]),
    ],
    ids=str,
)
def test_a_page_is_what_was_asked_for(http: TestClient, folder: Path, query: dict[str, Any], found: list[str]) -> None:
    measured(folder)
    assert names(http, **query) == found


@pytest.mark.parametrize(
    "query", [{"filter": "("}, {"filter": "is:purple"}, {"filter": "a " * 20_000}, {"filter": "duplicate" * 5000}, {"offset": "x"}, {"limit": "1.5"}], ids=lambda query: str(query)[:24]
)
def test_a_page_that_cannot_be_is_refused_in_words(http: TestClient, query: dict[str, Any]) -> None:
    refused(http.get(f"{ROOM}/room", params=query), 422)


def test_a_filter_of_a_million_letters_is_refused_wherever_it_is_sent(http: TestClient) -> None:
    sent = {"edit": {"kind": "prefix", "text": "x"}, "scope": "filtered", "filter": "(" * 10**6}
    refused(http.post(f"{ROOM}/bulk", json=sent), 422, "1,000,000 letters")


def test_a_caption_is_kept_undone_and_done_again(http: TestClient, folder: Path) -> None:
    kept = http.put(f"{ROOM}/caption", json={"name": "1.png", "text": "a cat on a mat", "seen": "cat, red"}).json()
    assert (kept["item"]["caption"], kept["undo"], kept["redo"]) == ("a cat on a mat", "Caption of 1.png", None)
    assert (folder / "1.txt").read_text() == "a cat on a mat"
    assert http.post(f"{ROOM}/undo").json() == {"name": "Caption of 1.png", "count": 1}
    assert http.get(f"{ROOM}/room").json()["redo"] == "Caption of 1.png"
    assert (folder / "1.txt").read_text() == "cat, red"
    assert http.post(f"{ROOM}/redo").json()["count"] == 1
    assert http.post(f"{ROOM}/redo").json() == {"name": "", "count": 0}
    assert [step["state"] for step in http.get(f"{ROOM}/history").json()["edits"]] == ["done"]
    assert [step["text"] for step in http.get(f"{ROOM}/revisions", params={"picture": "1.png"}).json()["revisions"]][-1] == "cat, red"
    assert http.post(f"{ROOM}/restore", json={"at": 0}).json()["count"] == 1
    assert (folder / "1.txt").read_text() == "cat, red"


def test_a_caption_changed_outside_is_not_written_over_unseen(http: TestClient, folder: Path) -> None:
    (folder / "1.txt").write_text("theirs")
    refused(http.put(f"{ROOM}/caption", json={"name": "1.png", "text": "mine", "seen": "cat, red"}), 409, "1.png", "theirs")
    refused(http.put(f"{ROOM}/caption", json={"name": "1.png", "text": "mine", "seen": None}), 409, "theirs")
    (folder / "b.txt").write_text("theirs too")
    refused(http.put(f"{ROOM}/caption", json={"name": "b.png", "text": "mine"}), 409, "theirs too")
    assert said(folder)["1.png"] == "theirs"
    assert http.get(f"{ROOM}/item", params={"picture": "1.png"}).json()["caption"] == "theirs"
    assert http.put(f"{ROOM}/caption", json={"name": "1.png", "text": "mine", "seen": "theirs"}).status_code == 200
    (folder / "1.txt").write_text("theirs again")
    assert http.put(f"{ROOM}/caption", json={"name": "1.png", "text": "mine", "seen": "mine", "force": True}).json()["item"]["caption"] == "mine"
    http.post(f"{ROOM}/undo")
    assert said(folder)["1.png"] == "theirs again"


def test_undo_after_an_outside_change_and_after_a_restart(http: TestClient, engine: Engine, folder: Path) -> None:
    http.post(f"{ROOM}/bulk", json={"edit": {"kind": "replace", "find": "red", "replace": "green"}, "dry": False})
    (folder / "2.txt").write_text("theirs")
    http = TestClient(bare_app(Engine(engine.paths)))
    refused(http.post(f"{ROOM}/undo"), 409, "2.png", "theirs", "green")
    assert said(folder) == {"1.png": "cat, green", "2.png": "theirs", "10.png": "cat, blue sky", "b.png": ""}
    assert http.post(f"{ROOM}/undo", params={"force": True}).json()["count"] == 2
    assert said(folder) == {"1.png": "cat, red", "2.png": "dog, red", "10.png": "cat, blue sky", "b.png": ""}


def test_markup_in_captions_and_names_comes_back_as_plain_json(http: TestClient, folder: Path) -> None:
    name = "<img src=x onerror=alert(3)>.png"
    lay(folder, {name: encoded(8), "b.txt": SCRIPT})
    http.put(f"{ROOM}/caption", json={"name": name, "text": SCRIPT})
    http.put(f"{ROOM}/settings", json={"trigger": SCRIPT})
    for path in ("room", "names", "tags", "doctor", "history", "item", "prompts", "revisions", "pulse"):
        answer = http.get(f"{ROOM}/{path}", params={"picture": name})
        assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json"), path
    assert [item["caption"] for item in http.get(f"{ROOM}/room").json()["items"] if item["name"] in (name, "b.png")] == [SCRIPT, SCRIPT]
    assert http.get(f"{ROOM}/thumb", params={"picture": name}).headers["content-type"] == "image/jpeg"
    for answer in (
        http.get(f"/studio/v1/datasets/{SCRIPT.replace('/', '')}/room"),
        http.get(f"{ROOM}/item", params={"picture": SCRIPT}),
        http.get("/studio/v1/templates/one", params={"name": SCRIPT}),
    ):
        assert (answer.status_code, answer.headers["content-type"]) == (404, "application/json")


@pytest.mark.parametrize(("text", "kept"), [("x" * 10**6, None), ("a\0b\r\nc", "ab\r\nc"), ("  ", ""), ("，、‮abc", None), ("[name], ((", None)], ids=["1e6", "NUL", "spaces", "marks", "brackets"])
def test_any_caption_is_kept_as_far_as_a_file_can_hold_it(http: TestClient, text: str, kept: str | None) -> None:
    answer = http.put(f"{ROOM}/caption", json={"name": "b.png", "text": text})
    assert answer.status_code == 200
    assert answer.json()["item"]["caption"] == (text if kept is None else kept)
    assert http.get(f"{ROOM}/room").status_code == 200


def test_a_book_beside_a_picture_does_not_keep_the_page_waiting(http: TestClient, folder: Path) -> None:
    (folder / "b.txt").write_text("字, word " * 60_000)
    item = http.get(f"{ROOM}/room", params={"order": "tokens"}).json()["items"][0]
    assert (item["name"], item["over"], item["tokens"] > 1000, len(item["caption"])) == ("b.png", True, True, 479_999)
    told = http.get(f"{ROOM}/prompts", params={"picture": "b.png"}).json()
    assert "479,999 letters" in told["warnings"][0]
    assert max(len(prompt["text"]) for prompt in told["prompts"]) < 25_000


def test_decisions_are_steps(http: TestClient) -> None:
    assert http.post(f"{ROOM}/choices", json={"names": ["1.png", "2.png", "1.png", "gone.png"], "field": "left_out", "value": True}).json() == {"name": "Leave out (2)", "count": 2}
    http.post(f"{ROOM}/choices", json={"names": ["1.png"], "field": "crop", "value": {"x": -1, "y": 2, "zoom": 1e9}})
    for field, value in (("repeats", 3), ("flipped", True), ("held_out", True)):
        assert http.post(f"{ROOM}/choices", json={"names": ["1.png"], "field": field, "value": value}).json()["count"] == 1
    item = http.get(f"{ROOM}/item", params={"picture": "1.png"}).json()
    assert {key: item[key] for key in ("left_out", "crop", "repeats", "flipped", "held_out")} == {
        "left_out": True,
        "crop": {"x": 0, "y": 1, "zoom": 64},
        "repeats": 3,
        "flipped": True,
        "held_out": True,
    }
    for _ in range(5):
        http.post(f"{ROOM}/undo")
    assert http.get(f"{ROOM}/room").json()["left_out"] == 0
    assert http.post(f"{ROOM}/undo").json() == {"name": "", "count": 0}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("crop", value) for value in ([], 5, "x", {"x": 1}, {"x": "1", "y": 1, "zoom": 1}, {"x": None, "y": 1, "zoom": 1})),
        *(("repeats", value) for value in (0, -1, 1001, 10**400, 1.5, True, "2", None)),
        *(("flipped", value) for value in (1, "true", None, [])),
        *((field, True) for field in ("caption", "mask", "__class__", "", "x" * 10**5)),
    ],
    ids=lambda value: str(value)[:12],
)
def test_a_decision_that_cannot_be_is_refused_in_words(http: TestClient, field: str, value: Any) -> None:
    refused(http.post(f"{ROOM}/choices", content=json.dumps({"names": ["1.png"], "field": field, "value": value})), 422)
    assert http.get(f"{ROOM}/history").json() == {"edits": []}


@pytest.mark.parametrize("x", [float("nan"), float("inf"), float("-inf"), 10**400])
def test_numbers_that_are_none_become_a_crop_inside_the_picture(http: TestClient, x: float) -> None:
    assert http.post(f"{ROOM}/choices", content=json.dumps({"names": ["1.png"], "field": "crop", "value": {"x": x, "y": x, "zoom": x}})).status_code == 200
    crop = http.get(f"{ROOM}/item", params={"picture": "1.png"}).json()["crop"]
    assert (0 <= crop["x"] <= 1, 0 <= crop["y"] <= 1, 1 <= crop["zoom"] <= 64) == (True, True, True)


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("PUT", "settings", {"width": "wide"}),
        ("PUT", "settings", {"width": 63}),
        ("PUT", "settings", {"trigger": "x" * 10**6}),
        ("PUT", "settings", {"trigger": "\ud800"}),
        ("PUT", "settings", {"made_up": 1}),
        ("PUT", "settings", []),
        ("PUT", "caption", {"name": "1.png"}),
        ("PUT", "caption", {"name": "1.png", "text": 5}),
        ("PUT", "caption", {"name": "1.png", "text": "x", "more": 1}),
        ("POST", "choices", {"names": "1.png", "field": "flipped"}),
        ("POST", "restore", {"at": 1e308}),
        ("POST", "restore", {"at": -1}),
        ("POST", "restore", {"at": float("nan")}),
        ("POST", "restore", {"at": "yesterday"}),
        ("POST", "bulk", {"edit": {}}),
        ("POST", "bulk", {"edit": {"kind": []}}),
        ("POST", "bulk", {"edit": {"kind": "replace", "find": "(", "mode": "regex"}}),
        ("POST", "bulk", {"edit": {"kind": "prefix", "text": "x"}, "scope": "everything"}),
        ("POST", "bulk", {"edit": {"kind": "replace", "find": "nowhere"}, "dry": False}),
        ("POST", "template-preview", {"text": ""}),
        ("POST", "template-preview", {"text": 5}),
        ("POST", "doctor/fix", {}),
        ("POST", "doctor/ignore", {"key": "x" * 10**5}),
        ("POST", "doctor/ignore", {"key": "x", "ignored": "perhaps"}),
    ],
    ids=lambda value: str(value)[:24],
)
def test_a_body_that_cannot_be_is_refused_in_words(http: TestClient, folder: Path, method: str, path: str, body: Any) -> None:
    before = said(folder)
    refused(http.request(method, f"{ROOM}/{path}", content=json.dumps(body)), 422)
    for text in ("", "{", "null", "5", '"x"', "\xff"):
        assert http.request(method, f"{ROOM}/{path}", content=text.encode("latin-1")).status_code in (400, 422)
    assert said(folder) == before


def test_many_captions_are_changed_as_one_step_after_a_look(http: TestClient, folder: Path) -> None:
    edit = {"kind": "replace", "find": "cat", "replace": "<b>dog"}
    look = http.post(f"{ROOM}/bulk", json={"edit": edit, "scope": "filtered", "filter": "tag:red"}).json()
    assert (look["matches"], look["changed"], [(p["name"], p["after"]) for p in look["preview"]]) == (1, 1, [("1.png", "<b>dog, red")])
    assert said(folder)["1.png"] == "cat, red"
    assert http.post(f"{ROOM}/bulk", json={"edit": edit, "dry": False}).json()["changed"] == 2
    assert (said(folder)["1.png"], said(folder)["10.png"]) == ("<b>dog, red", "<b>dog, blue sky")
    http.post(f"{ROOM}/undo")
    http.post(f"{ROOM}/bulk", json={"edit": edit, "scope": "selected", "names": ["10.png", "gone.png"], "dry": False})
    assert (said(folder)["1.png"], said(folder)["10.png"]) == ("cat, red", "<b>dog, blue sky")
    tags = http.get(f"{ROOM}/tags").json()
    assert {one["tag"]: one["count"] for one in tags["tags"]} == {"red": 2, "cat": 1, "dog": 1, "<b>dog": 1, "blue sky": 1}


def test_the_trainers_prompts_are_told_with_their_tokens(http: TestClient) -> None:
    http.put(f"{ROOM}/settings", json={"trigger": "hero", "vectors": 2, "template": "subject_filewords"})
    told = http.get(f"{ROOM}/prompts", params={"picture": "1.png"}).json()
    assert all("hero" in prompt["text"] and "cat, red" in prompt["text"] and prompt["cut"] is None for prompt in told["prompts"])
    http.put(f"{ROOM}/caption", json={"name": "1.png", "text": "word " * 100, "seen": "cat, red"})
    assert http.get(f"{ROOM}/prompts", params={"picture": "1.png"}).json()["prompts"][0]["cut"] is not None
    http.put(f"{ROOM}/settings", json={"template": "字" * 200})
    refused(http.get(f"{ROOM}/prompts", params={"picture": "1.png"}), 404, "no prompt template")
    assert http.get(f"{ROOM}/doctor").status_code == 200


def test_templates_are_kept_and_never_leave_their_folder(http: TestClient, engine: Engine) -> None:
    one = "/studio/v1/templates/one"
    assert http.put(one, json={"name": "mine", "text": "a [name]\n<script>\n"}).json() == {"name": "mine", "text": "a [name]\n<script>", "own": True}
    assert "mine" in http.get(f"{ROOM}/room").json()["templates"]
    looked = http.post(f"{ROOM}/template-preview", json={"text": "no name here", "names": ["1.png"]}).json()
    assert (looked["prompts"][0]["text"], len(looked["warnings"])) == ("no name here", 1)
    assert Path(http.delete(one, params={"name": "mine"}).json()["trash"]).parent == engine.paths.templates / ".trash"
    refused(http.delete(one, params={"name": "subject"}), 409)
    outside = engine.paths.root / "secret.txt"
    outside.write_text("a secret [name]")
    for name in ("../secret", "..\\secret", str(outside), "a\0b", "", ".", "..", ".trash/x", "x" * 300, "x" * 9000, "CON", "..%2fsecret"):
        refused(http.get(one, params={"name": name}), 404) if len(name) < 1000 else None
        assert http.get(one, params={"name": name}).status_code == 404
        assert http.delete(one, params={"name": name}).status_code == 404
        assert http.put(one, json={"name": name, "text": "a [name]"}).status_code == 422, name
    assert outside.read_text() == "a secret [name]"
    for text in ("", "\n \n", "x" * 10**6):
        assert http.put(one, json={"name": "mine", "text": text}).status_code == 422


def test_the_doctor_mends_ignores_and_refuses_what_is_no_longer_true(http: TestClient, folder: Path) -> None:
    measured(folder)
    found = {finding["id"]: finding for finding in http.get(f"{ROOM}/doctor").json()["findings"]}
    alike = next(finding for finding in found.values() if finding["fix"] == "keep_best")
    assert set(alike["items"]) == {"1.png", "2.png"}
    assert http.post(f"{ROOM}/doctor/ignore", json={"key": alike["key"]}).status_code == 200
    assert next(f for f in http.get(f"{ROOM}/doctor").json()["findings"] if f["key"] == alike["key"])["ignored"] is True
    http.post(f"{ROOM}/doctor/ignore", json={"key": alike["key"], "ignored": False})
    assert http.post(f"{ROOM}/doctor/fix", json={"key": alike["key"]}).json() == {"name": "Leave out all but the best", "count": 1}
    refused(http.post(f"{ROOM}/doctor/fix", json={"key": alike["key"]}), 409)
    assert http.get(f"{ROOM}/room").json()["left_out"] == 1
    assert http.post(f"{ROOM}/undo").json()["name"] == "Leave out all but the best"
    assert http.get(f"{ROOM}/written").json() == {"folder": str(folder)}


def test_forms_name_every_knob_with_its_help(http: TestClient) -> None:
    forms = http.get("/studio/v1/room").json()
    fields = [field for part in forms.values() for field in part] + http.get("/studio/v1/captioners").json()["fields"] + http.get("/studio/v1/segmenters").json()["fields"]
    fields += [field for kind in http.get("/studio/v1/bulk").json() for field in kind["fields"]]
    assert set(forms) == {"settings", "write", "export"}
    assert len(fields) > 40
    assert [field["name"] for field in fields if not (field["help"] and field["label"])] == []
    assert {"BLIP: tiny-blip"} <= {one["label"] for one in http.get("/studio/v1/captioners").json()["captioners"] if one["here"]}


def test_a_name_in_another_encoding_does_not_close_the_room(http: TestClient, folder: Path) -> None:
    with open(os.fsencode(folder) + b"/caf\xe9.png", "wb") as file:
        file.write(encoded(50))
    measured(folder)
    told = http.get(f"{ROOM}/room").json()
    assert [item["name"] for item in told["items"]][-1] == "caf\\udce9.png"
    assert "not UTF-8" in told["notes"][0]
    for path in ("names", "doctor", "tags", "pulse", "history"):
        assert http.get(f"{ROOM}/{path}").status_code == 200, path
    assert http.post(f"{ROOM}/bulk", json={"edit": {"kind": "prefix", "text": "hero, "}, "dry": False}).json()["changed"] == 5
    assert http.get(f"{ROOM}/thumb", params={"picture": "caf\\udce9.png"}).status_code == 404


def test_the_revision_changes_with_what_any_program_does(http: TestClient, folder: Path) -> None:
    seen = [http.get(f"{ROOM}/pulse").json()["revision"]]
    for act in (lambda: (folder / "1.txt").write_text("other"), lambda: http.put(f"{ROOM}/settings", json={"trigger": "x"}), lambda: (folder / "b.png").unlink()):
        time.sleep(0.01)
        act()
        seen.append(http.get(f"{ROOM}/pulse").json()["revision"])
    assert len(set(seen)) == 4
    assert names(http) == ["1.png", "2.png", "10.png"]
