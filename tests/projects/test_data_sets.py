"""The list of data sets: own ones by name, folders opened by path, one Project for each, and names and paths nobody should send."""

import json
import os
import shutil
import threading
import unicodedata
from pathlib import Path

import pytest

from studio.errors import Conflict, InputError, NotFound, StudioError
from studio.projects import data_sets
from studio.projects.data_sets import DataSets, sayable
from studio.settings import Paths
from tests.projects.small_pictures import encoded, lay

TRAVERSAL = ["", ".", "..", "../room", "room/../room", "/etc", "room/.studio", ".hidden", "a\0b", "x" * 300, "x" * 70_000, "..\\room", "C:", "~", "~0123456789ab", "\ud800", "room\n"]
"""What somebody sends for the name of a data set who wants another folder."""


@pytest.fixture
def sets(root: Paths) -> DataSets:
    """A studio with one data set of its own."""
    made = DataSets(root)
    made.create("room")
    lay(root.datasets / "room", {"a.png": encoded(1)})
    return made


def test_own_sets_and_opened_folders_are_listed_with_their_pictures(sets: DataSets, tmp_path: Path) -> None:
    sets.create("  空  ")
    one, two = lay(tmp_path / "one", {"a.png": encoded(1), "b.png": encoded(2)}), lay(tmp_path / "two", {"a.png": encoded(1), "a.txt": ""})
    first, second = sets.open_folder(str(one)), sets.open_folder(f' "{two}" ')
    assert [(entry.name, entry.pictures) for entry in sets.all()] == [("room", 1), ("空", 0), ("two", 1), ("one", 2)]
    assert (first.folder, first.id[0], first.id == second.id) == (one, "~", False)
    assert sets.open_folder(str(one)).id == first.id
    assert [entry.name for entry in sets.all()] == ["room", "空", "one", "two"]
    assert [entry.id for entry in DataSets(sets.paths).all()] == ["room", "空", first.id, second.id]
    sets.forget(first.id)
    with pytest.raises(NotFound):
        sets.forget(first.id)
    with pytest.raises(NotFound):
        sets.forget("room")
    assert [entry.name for entry in sets.all()] == ["room", "空", "two"]
    assert sorted(path.name for path in one.iterdir() if path.name != ".studio") == ["a.png", "b.png"]


def test_an_own_set_opened_by_its_path_is_itself_and_paths_begin_at_the_root(sets: DataSets) -> None:
    assert sets.open_folder(str(sets.paths.datasets / "room")).id == "room"
    assert sets.open_folder("outputs/datasets/../datasets/room").id == "room"
    assert len(sets.all()) == 1


def test_one_project_is_shared_and_one_that_was_taken_away_is_opened_anew(sets: DataSets, monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[object] = []
    threads = [threading.Thread(target=lambda: found.append(sets.project("room"))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(map(id, found))) == 1
    shutil.rmtree(sets.paths.datasets / "room")
    with pytest.raises(NotFound):
        sets.project("room")
    sets.create("room")
    assert sets.project("room") is not found[0]
    assert sets.project("room").items() == []
    monkeypatch.setattr(data_sets, "KEPT", 2)
    for number in range(4):
        sets.create(f"more {number}")
        sets.project(f"more {number}")
    assert len(sets._open) == 2


@pytest.mark.parametrize("name", TRAVERSAL, ids=lambda name: ascii(name[:20]))
def test_no_name_leads_out_of_the_list(sets: DataSets, name: str) -> None:
    with pytest.raises(NotFound) as error:
        sets.project(name)
    assert len(str(error.value)) < 1000


@pytest.mark.parametrize(
    "path", ["", "  ", '""', "nowhere", "/etc/passwd", "/proc/self/environ", "a\0b", "x" * 5000, "~nobody-of-that-name/x", "\ud800", "outputs/studio.db"], ids=lambda path: ascii(path[:20])
)
def test_what_is_no_folder_is_not_opened(sets: DataSets, path: str) -> None:
    with pytest.raises(InputError, match="is not a folder"):
        sets.open_folder(path)
    assert len(sets.all()) == 1


def test_a_link_that_leads_round_in_a_circle_is_no_folder(sets: DataSets, tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(InputError):
        sets.open_folder(str(tmp_path / "loop"))
    (sets.paths.datasets / "loop").symlink_to(sets.paths.datasets / "loop")
    with pytest.raises(NotFound):
        sets.project("loop")


def test_names_that_some_system_takes_for_one_do_not_meet(sets: DataSets) -> None:
    sets.create(unicodedata.normalize("NFC", "Café"))
    for twin in ("ROOM", "Room", unicodedata.normalize("NFD", "café")):
        with pytest.raises(Conflict, match="already"):
            sets.create(twin)
    for wrong in ("", "..", "a/b", "CON", "a\0", "~x", "x" * 200):
        with pytest.raises(InputError):
            sets.create(wrong)
    assert [entry.name for entry in sets.all()] == ["Café", "room"]


def test_a_place_that_cannot_be_written_to_is_told(root: Paths) -> None:
    sets = DataSets(root)
    shutil.rmtree(root.datasets)
    root.datasets.write_text("a file")
    with pytest.raises(StudioError, match="could not be written"):
        sets.create("room")


@pytest.mark.parametrize("text", ["", "{", "[1, null, {}]", '{"a": 1}', '["", "relative", "/nowhere", "a\\u0000b", "/a\\u0000b"]', "\xff"])
def test_a_damaged_list_of_opened_folders_counts_for_nothing(sets: DataSets, tmp_path: Path, text: str) -> None:
    (sets.paths.outputs / "opened.json").write_bytes(text.encode("latin-1"))
    assert [entry.id for entry in sets.all()] == ["room"]
    entry = sets.open_folder(str(lay(tmp_path / "one", {"a.png": encoded(1)})))
    assert sets.project(entry.id).folder == tmp_path / "one"
    assert str(tmp_path / "one") in json.loads((sets.paths.outputs / "opened.json").read_text())


def test_a_folder_in_another_encoding_is_opened_and_can_be_said(sets: DataSets, tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(b"cat\xff")
    folder.mkdir()
    (tmp_path / "link").symlink_to(folder)
    entry = sets.open_folder(str(tmp_path / "link"))
    assert DataSets(sets.paths).project(entry.id).folder == folder
    said = sayable({"folder": str(folder), "names": [folder.name, "猫", 5, None, ("a", folder.name)]})
    assert said["names"] == ["cat\\udcff", "猫", 5, None, ["a", "cat\\udcff"]]
    json.dumps(said, ensure_ascii=False).encode()
