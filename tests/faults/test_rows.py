"""Bad input of the data set room, by the rows of the table of faults: what is tested elsewhere, and what is tested here.

| Row | Fault | Where |
| --- | --- | --- |
| 13 | damaged and odd picture files | dataset/test_folder, dataset/test_prepare, dataset/test_examine, services/test_preprocess, api/test_room_pictures_api |
| 14 | decompression and zip bombs, a million entries, zips in zips | projects/test_archive, projects/test_importing_zips, dataset/test_folder, api/test_room_pictures_api; memory: here |
| 15 | paths, links, devices and twins inside a zip | projects/test_archive, projects/test_importing_zips, api/test_datasets_api |
| 16 | file names of every kind, from upload to export | projects/test_names, projects/test_importing, projects/test_exporting, projects/test_project; over HTTP: here |
| 17 | captions in every encoding, without end, without the word | projects/test_captions, projects/test_doctor, projects/test_findings, projects/test_journal, api/test_room_api; over HTTP: here |
| 18 | two pictures of one stem that share a caption | projects/test_journal, projects/test_captions, projects/test_findings; over HTTP: here |
| 19 | a caption changed outside while somebody types | projects/test_saving, api/test_room_api, browser/test_dataset |
| 20 | a bulk change killed half-way | faults/undo, projects/test_recovery |
| 21 | undo after a restart and after an outside change | projects/test_journal, api/test_room_api, browser/test_dataset |
| 25 | traversal | api/test_datasets_api, api/test_room_pictures_api, api/test_room_api, projects/test_data_sets; the corpus of 200: here |
| 26 | another page's requests | api/test_jobs_api, api/test_access_api, api/test_datasets_api |
| 28 | accounts | api/test_access_api, api/test_datasets_api |
| 29 | markup in captions, names and drawings | api/test_room_api, api/test_room_pictures_api, api/test_datasets_api |
| 35 | very many files, twins by case, no right to make links | projects/test_importing, projects/test_exporting, projects/test_names, bench/grid; 20,000 files and no links: here |
| 36 | a set deleted, a picture replaced | services/test_training, training/test_batches, projects/test_project, services/test_examination; from the grid to the written copy: here |
| 37 | one picture, no captions, all alike, empty validation | projects/test_doctor, projects/test_findings; from the doctor to the written copies: here |
"""

import itertools
import json
import os
import re
import subprocess
import sys
import zipfile
import zlib
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from studio.api.app import bare_app
from studio.dataset.folder import read_folder
from studio.diffusion.cache import ModelCache
from studio.engine import Engine
from studio.jobs import SilentLane
from studio.projects.facts import Change
from studio.projects.project import Project
from studio.requests.examine import ExamineRequest
from studio.requests.transfer import ExportRequest, ImportRequest
from studio.requests.write import WriteRequest
from studio.services import examination, transfer, writing
from studio.services.desk import Desk
from studio.settings import SHIPPED_ROOT, Paths
from tests.projects.small_pictures import ROW_16, encoded, lay, masked, read, said

ROOM = "/studio/v1/datasets/room"
MOST_MEMORY = 200
"""Megabytes a process may grow."""


@pytest.fixture
def engine(root: Paths) -> Engine:
    return Engine(root)


@pytest.fixture
def folder(engine: Engine) -> Path:
    """An empty data set."""
    path = engine.paths.datasets / "room"
    path.mkdir(parents=True)
    return path


@pytest.fixture
def http(engine: Engine, folder: Path) -> TestClient:
    return TestClient(bare_app(engine))


@pytest.fixture
def desk(root: Paths) -> Desk:
    """A worker's desk without a GPU."""
    return Desk(root, ModelCache(root, device="cpu"))


def grown(code: str, *arguments: object) -> float:
    """Megabytes by which a process grew while it ran `act`, which the code defines; what it needs for itself is loaded before."""
    most = "resource.getrusage(resource.RUSAGE_SELF).ru_maxrss"
    whole = f"import resource, sys\nfrom pathlib import Path\n{code}\nbefore = {most}\nact()\nprint(({most} - before) / 1024)"
    done = subprocess.run([sys.executable, "-c", whole, *map(str, arguments)], capture_output=True, text=True, check=False, timeout=120, env={**os.environ, "PYTHONPATH": str(SHIPPED_ROOT)})
    assert done.returncode == 0, done.stderr
    return float(done.stdout)


def test_the_table_names_files_that_are_there() -> None:
    named = set(re.findall(r"\b(?:api|bench|browser|dataset|faults|projects|services|training|ui)/\w+", __doc__ or ""))
    assert len(named) > 25
    assert [name for name in sorted(named) if not (SHIPPED_ROOT / "tests" / f"{name}.py").is_file()] == []


BOMBS = """
from studio.api.thumbnails import small_copy
from studio.dataset.examine import examine
from studio.errors import StudioError
from studio.projects.importing import import_into
here = Path(sys.argv[1])
small_copy(here / "good.png", here / "small.jpg", 256)
examine(here / "good.png")
def act():
    assert "too" in examine(here / "bomb.png").problem, "not refused"
    try:
        small_copy(here / "bomb.png", here / "small.jpg", 256)
        raise SystemExit("not refused")
    except StudioError:
        pass
    assert len(import_into(here / "room", here / "many.zip").added) == 1
"""


def test_14_bombs_take_no_memory(tmp_path: Path, folder: Path) -> None:
    Image.new("1", (60_000, 600)).save(tmp_path / "good.png")
    data = (tmp_path / "good.png").read_bytes()
    head = data[12:20] + (60_000).to_bytes(4, "big") + data[24:29]
    (tmp_path / "bomb.png").write_bytes(data[:12] + head + zlib.crc32(head).to_bytes(4, "big") + data[33:])
    with zipfile.ZipFile(tmp_path / "many.zip", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as file:
        file.writestr("zeros.png", bytes(2**28))
        file.writestr("padded.png", encoded(1) + bytes(2**26))
    (tmp_path / "room").mkdir()
    assert grown(BOMBS, tmp_path) < MOST_MEMORY


def test_16_every_name_goes_from_the_drop_to_the_export(http: TestClient, engine: Engine, folder: Path, desk: Desk, tmp_path: Path) -> None:
    names = [name for name in ROW_16 if "masklabel" not in name]
    drop = lay(engine.paths.uploads / "drop-1", {f"{at}/{name}": encoded(1000 + at) for at, name in enumerate(names)})
    transfer.run(ImportRequest(folder=str(folder), source=str(drop)), SilentLane(), desk)
    there = [item["name"] for item in http.get(f"{ROOM}/room", params={"limit": 500}).json()["items"]]
    assert len(there) == len(set(map(str.casefold, there))) == len(names)
    for at, name in enumerate(there):
        kept = http.put(f"{ROOM}/caption", json={"name": name, "text": f"caption {at}"})
        assert (kept.status_code, kept.json()["item"]["name"]) == (200, name)
        assert http.get(f"{ROOM}/thumb", params={"picture": name}).status_code == 200
    assert {item.image.name: item.caption for item in read_folder(folder)[0]} == {name: f"caption {at}" for at, name in enumerate(there)}
    transfer.run(ExportRequest(folder=str(folder), destination=str(tmp_path / "out.zip")), SilentLane(), desk)
    again = tmp_path / "again"
    again.mkdir()
    transfer.run(ImportRequest(folder=str(again), source=str(tmp_path / "out.zip")), SilentLane(), desk)
    assert {(again / name).read_bytes(): caption for name, caption in said(again).items()} == {(folder / name).read_bytes(): f"caption {at}" for at, name in enumerate(there)}


@pytest.mark.parametrize("data", ["猫，狗".encode("gbk"), "﻿猫\r\n".encode(), "猫".encode("utf-16"), b"a\0b", b"  \n", b"\xff\xfe\xfd bytes"], ids=["GBK", "mark", "UTF-16", "NUL", "spaces", "none"])
def test_17_the_bytes_of_a_caption_come_back(http: TestClient, folder: Path, data: bytes) -> None:
    lay(folder, {"a.png": encoded(1)})
    (folder / "a.txt").write_bytes(data)
    seen = http.get(f"{ROOM}/item", params={"picture": "a.png"}).json()["caption"]
    assert http.put(f"{ROOM}/caption", json={"name": "a.png", "text": "mine", "seen": seen}).status_code == 200
    assert (folder / "a.txt").read_bytes() == b"mine"
    http.post(f"{ROOM}/undo")
    assert (folder / "a.txt").read_bytes() == data


def test_18_pictures_of_one_stem_share_their_caption_in_sight(http: TestClient, folder: Path) -> None:
    lay(folder, {"a.png": encoded(1), "a.jpg": encoded(2, "JPEG"), "a.txt": "both", "b.png": encoded(3), "b.txt": "alone"})
    assert {item["name"]: item["shared"] for item in http.get(f"{ROOM}/room").json()["items"]} == {"a.jpg": True, "a.png": True, "b.png": False}
    http.put(f"{ROOM}/caption", json={"name": "a.png", "text": "changed", "seen": "both"})
    assert {item["name"]: item["caption"] for item in http.get(f"{ROOM}/room").json()["items"]} == {"a.jpg": "changed", "a.png": "changed", "b.png": "alone"}
    finding = next(f for f in http.get(f"{ROOM}/doctor").json()["findings"] if f["fix"] == "own_caption")
    assert http.post(f"{ROOM}/doctor/fix", json={"key": finding["key"]}).json()["count"] == 1
    http.put(f"{ROOM}/caption", json={"name": "a.jpg", "text": "own", "seen": "changed"})
    assert sorted(said(folder).values()) == ["alone", "changed", "own"]


DOTS = ("..", "%2e%2e", "%2e.", "%252e%252e", "..%00", "..;", "...", "．．")
SLASHES = ("/", "%2f", "%5c", "%252f", "／")
ABSOLUTE = (
    "/etc/passwd",
    "%2fetc%2fpasswd",
    "//etc/passwd",
    "%5c%5cserver%5cshare%5ca.png",
    "C:%5ca.png",
    "C:a.png",
    "/proc/self/environ",
    "/".join(("/proc/self", "root", "etc/passwd")),
    "file:%2f%2f%2fetc%2fpasswd",
    "%00",
    "a.png%00.txt",
    "~",
    "~root/a.png",
)
CORPUS = [f"{(dots + slash) * depth}{name}" for dots, slash, depth, name in itertools.product(DOTS, SLASHES, (1, 4), ("secret.png", "secret.txt", "nobody.png"))] + list(ABSOLUTE)
"""What somebody writes into an address to get another file; `secret` lies beside the data set, `nobody` nowhere."""


def outside(engine: Engine) -> dict[str, bytes]:
    """Every file of the studio that is not in the data set, the templates, or the program's own."""
    own = (engine.paths.datasets / "room", engine.paths.templates, engine.paths.database, engine.paths.thumbnails)
    return {name: data for name, data in read(engine.paths.root).items() if not any(str(engine.paths.root / name).startswith(str(path)) for path in own)}


def test_25_no_payload_reaches_another_file(http: TestClient, engine: Engine, folder: Path) -> None:
    assert len(set(CORPUS)) > 200
    lay(folder, {"a.png": encoded(1)})
    for above in (folder.parent, engine.paths.outputs, engine.paths.root):
        lay(above, {"secret.png": encoded(9), "secret.txt": "a secret [name]"})
    before, secret = outside(engine), encoded(9)
    for number, payload in enumerate(CORPUS):
        for address in (f"{ROOM}/view?picture={payload}", f"/studio/v1/templates/one?name={payload}", f"/studio/v1/datasets/{payload.replace('/', '%2f')}/room"):
            answer = http.get(address)
            assert (answer.status_code, secret in answer.content, "a secret" in answer.text) == (404, False, False), address
        if number % 5:
            continue
        plain = unquote(payload)
        for route, sent in (("caption", {"name": plain, "text": "x", "force": True}), ("settings", {"template": plain})):
            assert http.put(f"{ROOM}/{route}", json=sent).status_code in (404, 200 if route == "settings" else 404), payload
        assert "a secret" not in http.get(f"{ROOM}/prompts", params={"picture": "a.png"}).text
        http.put("/studio/v1/templates/one", json={"name": plain, "text": "an own [name]"})
    assert outside(engine) == before
    assert {path.parent for path in engine.paths.templates.rglob("*") if path.is_file()} <= {engine.paths.templates, engine.paths.templates / ".trash"}
    told = {http.get(f"{ROOM}/item", params={"picture": f"../{name}"}).json()["detail"].replace(name, "") for name in ("secret.png", "nobody.png")}
    assert len(told) == 1


MANY = """
from fastapi.testclient import TestClient
from studio.api.app import bare_app
from studio.engine import Engine
from studio.settings import Paths
http = TestClient(bare_app(Engine(Paths(Path(sys.argv[1])))), base_url="http://127.0.0.1")
http.get("/studio/v1/datasets/small/room")
def act():
    for offset in (0, 60, 19980):
        told = http.get("/studio/v1/datasets/room/room", params={"offset": offset}).json()
        assert (told["total"], len(told["items"])) == (20000, min(60, 20000 - offset)), told
    assert told["items"][-1]["name"] == "19999.png"
"""


def test_35_twenty_thousand_files_are_listed_in_bounded_memory(http: TestClient, engine: Engine, folder: Path) -> None:
    lay(engine.paths.datasets / "small", {"a.png": encoded(1), "a.txt": "x"})
    for number in range(20_000):
        os.close(os.open(folder / f"{number}.png", os.O_CREAT | os.O_WRONLY))
    assert grown(MANY, engine.paths.root) < MOST_MEMORY


def test_35_a_disk_without_links_is_as_good(http: TestClient, folder: Path, desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: Any, **__: Any) -> None:
        raise PermissionError(1, "Operation not permitted")

    for act in ("symlink", "link"):
        monkeypatch.setattr(os, act, refused)
    source = lay(tmp_path / "source", {"A.png": encoded(1), "A.txt": "one", "a.png": encoded(2), "a.txt": "two", "a-masklabel.png": masked()})
    transfer.run(ImportRequest(folder=str(folder), source=str(source)), SilentLane(), desk)
    assert sorted(said(folder).values()) == ["one", "two"]
    assert len({name.casefold() for name in said(folder)}) == 2
    http.post(f"{ROOM}/bulk", json={"edit": {"kind": "prefix", "text": "hero, "}, "dry": False})
    assert http.put(f"{ROOM}/mask", params={"picture": "A.png"}, content=masked(0)).status_code == 200
    assert writing.run(WriteRequest(folder=str(folder), width=64, height=64), SilentLane(), desk)["written"] == 2
    assert transfer.run(ExportRequest(folder=str(folder), destination="out"), SilentLane(), desk)["captions"] == 2
    assert http.post(f"{ROOM}/undo").json()["name"] == "Mask of A.png"


def noise(path: Path, size: tuple[int, int], seed: int) -> None:
    """A picture that looks like no other."""
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)).save(path)


def test_36_a_picture_replaced_after_it_was_measured_is_measured_and_written_anew(http: TestClient, folder: Path, desk: Desk) -> None:
    noise(folder / "a.png", (200, 100), 1)
    noise(folder / "b.png", (100, 100), 2)
    examination.run(ExamineRequest(folder=str(folder)), SilentLane(), desk)
    request = WriteRequest(folder=str(folder), width=64, height=64)
    out = Path(writing.run(request, SilentLane(), desk)["destination"])
    first = read(out)
    Image.new("RGB", (90, 180), "red").save(folder / "a.png")
    told = http.get(f"{ROOM}/room").json()
    assert (told["unexamined"], *(told["items"][0][key] for key in ("name", "examined", "box"))) == (1, "a.png", False, None)
    assert http.get(f"{ROOM}/doctor").json()["unexamined"] == 1
    result = writing.run(request, SilentLane(), desk)
    assert (result["written"], result["unchanged"]) == (1, 1)
    assert Project(folder).item("a.png").facts.size == (90, 180)
    assert (read(out)["a.png"] != first["a.png"], read(out)["b.png"] == first["b.png"]) == (True, True)
    assert np.asarray(Image.open(out / "a.png")).reshape(-1, 3).mean(0).tolist() == [255, 0, 0]


def test_36_a_data_set_that_is_gone_is_told(http: TestClient, engine: Engine, folder: Path, desk: Desk) -> None:
    noise(folder / "a.png", (80, 80), 1)
    assert http.get(f"{ROOM}/room").json()["total"] == 1
    folder.rename(folder.with_name("moved"))
    for path in ("room", "pulse", "doctor", "thumb?picture=a.png", "names"):
        assert http.get(f"{ROOM}/{path}").status_code == 404
    assert http.post("/studio/v1/jobs/write", json={"folder": str(folder)}).status_code == 422
    assert http.get("/studio/v1/datasets/moved/room").json()["total"] == 1


@pytest.mark.parametrize(
    ("count", "alike", "captions", "held", "found"),
    [
        (1, False, True, 0, {"too_few", "small_validation"}),
        (6, False, False, 1, {"no_captions"}),
        (6, True, True, 0, {"all_alike"}),
        (6, False, True, 0, {"no_validation"}),
        (6, False, True, 6, {"all_held_out"}),
    ],
    ids=["one picture", "no captions", "all alike", "empty validation", "nothing to learn"],
)
def test_37_a_set_at_the_edge_is_warned_about_and_written(http: TestClient, folder: Path, desk: Desk, count: int, alike: bool, captions: bool, held: int, found: set[str]) -> None:
    for number in range(count):
        noise(folder / f"{number}.png", (96, 80), 0 if alike else number)
        if captions:
            (folder / f"{number}.txt").write_text(f"number {number}")
    Project(folder).edit("Hold out", [Change(f"{number}.png", "held_out", False, True) for number in range(held)])
    examination.run(ExamineRequest(folder=str(folder)), SilentLane(), desk)
    findings = {finding["id"]: finding for finding in http.get(f"{ROOM}/doctor").json()["findings"]}
    assert found <= set(findings), json.dumps(sorted(findings))
    result = writing.run(WriteRequest(folder=str(folder), width=64, height=64), SilentLane(), desk)
    assert (result["written"], result["skipped"]) == (count, [])
    out = Path(result["destination"])
    assert len(list(out.rglob("*.png"))) == count
    assert len(list(out.rglob("*.txt"))) == (count if captions else 0)
