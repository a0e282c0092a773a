"""Import and export as the worker does them: every kind of source comes in and is measured, what cannot be used is told, and a data set goes out as other trainers read it."""

import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from studio.diffusion.cache import ModelCache
from studio.errors import Conflict, InputError, OutOfSpace
from studio.jobs import SilentLane
from studio.projects import importing
from studio.projects.facts import Change
from studio.projects.project import Project
from studio.requests.transfer import ExportRequest, ImportRequest
from studio.services import transfer
from studio.services.desk import Desk
from studio.settings import Paths
from tests.projects.small_pictures import encoded, lay, masked, read, said, zipped


@dataclass
class StopsAfter(SilentLane):
    """Somebody presses Stop after so many looks."""

    looks: int = 2

    def stopping(self) -> bool:
        """True from then on."""
        self.looks -= 1
        return self.looks < 0


@pytest.fixture
def desk(root: Paths) -> Desk:
    """A worker's desk without a GPU."""
    return Desk(root, ModelCache(root, device="cpu"))


@pytest.fixture
def room(root: Paths) -> Path:
    """An empty data set."""
    folder = root.datasets / "room"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A folder of two pictures, a caption, a mask, a picture in a sub-folder, and a file that is none."""
    return lay(
        tmp_path / "source",
        {"猫.png": encoded(1), "猫.txt": "a cat", "猫-masklabel.png": masked(), "b.jpg": encoded(2, "JPEG"), "deep/c.png": encoded(3), "letter.png": "no picture"},
    )


def take(room: Path, source: Path, desk: Desk, lane: SilentLane, **options: bool) -> dict[str, object]:
    """Import through the service."""
    return transfer.run(ImportRequest(folder=str(room), source=str(source), **options), lane, desk)


def give(room: Path, destination: object, desk: Desk, lane: SilentLane, **options: object) -> dict[str, object]:
    """Export through the service."""
    return transfer.run(ExportRequest.check({"folder": str(room), "destination": str(destination), **options}), lane, desk)


def dropped(desk: Desk, files: dict[str, bytes | str]) -> Path:
    """A folder of dropped files."""
    return lay(desk.paths.uploads / "drop-0123", files)


def test_a_folder_comes_in_and_is_measured(room: Path, source: Path, desk: Desk, lane: SilentLane) -> None:
    before = read(source)
    result = take(room, source, desk, lane)
    assert {key: result[key] for key in ("added", "captions", "masks", "changed")} == {"added": 2, "captions": 1, "masks": 1, "changed": 0}
    assert [(s["source"], "not a picture" in s["reason"]) for s in result["skipped"]] == [("letter.png", True)]
    assert {item.name: (item.caption, bool(item.mask_name), item.facts.size) for item in Project(room).items()} == {"猫.png": ("a cat", True, (20, 20)), "b.jpg": ("", False, (20, 20))}
    assert read(source) == before
    assert any(kind == "warning" and data["text"].startswith("letter.png:") for kind, data in lane.events)
    steps = [(data["step"], data["total"]) for kind, data in lane.events if kind == "progress"]
    assert steps == [(0, 3), (3, 3), (0, 2), (2, 2)]
    assert take(room, source, desk, lane, recursive=True)["added"] == 1
    assert "stopped" not in result


def test_what_is_there_already_is_said_and_nothing_new_is_an_error(room: Path, source: Path, desk: Desk, lane: SilentLane) -> None:
    take(room, source, desk, lane)
    with pytest.raises(InputError, match=r"Nothing was taken in\. .*already there as"):
        take(room, source, desk, lane)
    assert len(Project(room).items()) == 2


def test_a_source_of_nothing_usable_is_told_with_the_reasons(tmp_path: Path, room: Path, desk: Desk, lane: SilentLane) -> None:
    with pytest.raises(InputError, match=r"empty\.png: empty\.png is not a picture \(it is empty\)"):
        take(room, lay(tmp_path / "bad", {"empty.png": b"", "page.jpg": "<html>"}), desk, lane)
    (tmp_path / "bare").mkdir()
    with pytest.raises(InputError, match="There is no picture in it"):
        take(room, tmp_path / "bare", desk, lane)
    with pytest.raises(InputError, match="neither a file nor a folder"):
        take(room, tmp_path / "nowhere", desk, lane)
    assert Project(room).items() == []


@pytest.mark.parametrize("packed", [False, True])
def test_kohyas_tree_brings_its_repeats_and_words(tmp_path: Path, room: Path, desk: Desk, lane: SilentLane, packed: bool) -> None:
    tree = lay(tmp_path / "tree", {"10_ohwx cat/a.png": encoded(1), "10_ohwx cat/a.txt": "black", "2_dog/b.png": encoded(2)})
    result = take(room, zipped(tmp_path / "tree.zip", tree) if packed else tree, desk, lane)
    assert result["added"] == 2
    assert {item.name: item.choices.repeats for item in Project(room).items()} == {"a.png": 10, "b.png": 2}
    assert any("10_ohwx cat (10x)" in note for note in result["notes"])


def test_dropped_files_stand_for_themselves_and_are_deleted_afterwards(tmp_path: Path, room: Path, source: Path, desk: Desk, lane: SilentLane) -> None:
    inside = zipped(tmp_path / "more.zip", lay(tmp_path / "more", {"z.png": encoded(9), "z.txt": "zipped"}))
    drop = dropped(desk, {"0/a.png": encoded(4), "0/a.txt": "first", "1/y/a.png": encoded(5), "1/y/a.txt": "second", "0/more.zip": inside.read_bytes()})
    assert take(room, drop, desk, lane)["added"] == 3
    assert said(room) == {"a.png": "first", "y-a.png": "second", "z.png": "zipped"}
    assert not drop.exists()
    assert inside.exists()
    bad = dropped(desk, {"0/x.png": "nothing"})
    with pytest.raises(InputError):
        take(room, bad, desk, lane)
    assert not bad.exists()


def test_a_persons_folder_may_be_called_like_a_drop(tmp_path: Path, room: Path, desk: Desk, lane: SilentLane) -> None:
    tree = lay(tmp_path / "drop-zone", {"3_hero/a.png": encoded(1)})
    assert take(room, tree, desk, lane)["added"] == 1
    assert Project(room).item("a.png").choices.repeats == 3
    assert (tree / "3_hero" / "a.png").is_file()


def test_a_stop_keeps_what_was_copied(tmp_path: Path, room: Path, desk: Desk) -> None:
    many = lay(tmp_path / "many", {f"{n}.png": encoded(n) for n in range(6)})
    lane = StopsAfter()
    result = take(room, many, desk, lane)
    assert (result["added"], result["stopped"]) == (2, True)
    assert [item.name for item in Project(room).items()] == ["0.png", "1.png"]
    at_once = StopsAfter(looks=0)
    assert take(room, many, desk, at_once) == {"added": 0, "captions": 0, "masks": 0, "changed": 0, "skipped": [], "notes": [], "stopped": True}


def test_a_full_disk_and_a_second_import_are_told(room: Path, source: Path, desk: Desk, lane: SilentLane, monkeypatch: pytest.MonkeyPatch) -> None:
    with Project(room).sidecar.alone(0.0, "import"), pytest.raises(Conflict):
        take(room, source, desk, lane)

    def full(*_: object) -> str:
        raise OutOfSpace("The disk is full.")

    monkeypatch.setattr(importing, "write_new", full)
    with pytest.raises(OutOfSpace, match="0 of 3 pictures were copied whole"):
        take(room, source, desk, lane)
    assert read(room) == {}


def test_a_data_set_goes_out_plain_as_kohyas_tree_and_as_a_zip(tmp_path: Path, room: Path, source: Path, desk: Desk, lane: SilentLane) -> None:
    take(room, source, desk, lane)
    Project(room).edit("Repeats", [Change("猫.png", "repeats", 1, 7)])
    plain = give(room, "plain", desk, lane)
    assert plain["destination"] == str(room / "exports" / "plain")
    assert (plain["pictures"], plain["captions"], plain["masks"], plain["left_out"]) == (2, 1, 1, 0)
    assert set(read(room / "exports" / "plain")) == {"猫.png", "猫.txt", "猫-masklabel.png", "b.jpg"}
    give(room, tmp_path / "kohya", desk, lane, layout="kohya", tokens="ohwx cat", masks=False)
    assert set(read(tmp_path / "kohya")) == {"7_ohwx cat/猫.png", "7_ohwx cat/猫.txt", "1_ohwx cat/b.jpg"}
    packed = give(room, tmp_path / "all.zip", desk, lane, captions="jsonl")
    with zipfile.ZipFile(tmp_path / "all.zip") as file:
        assert {"猫.png", "b.jpg", "metadata.jsonl"} <= set(file.namelist())
        assert file.read("猫.png") == (room / "猫.png").read_bytes()
    assert any("metadata.jsonl" in note for note in packed["notes"])
    assert [data["step"] for kind, data in lane.events if kind == "progress"][-1] == 2
    again = room.parent / "again"
    again.mkdir()
    take(again, tmp_path / "kohya", desk, lane)
    assert said(again) == {"猫.png": "a cat", "b.jpg": "ohwx cat"}
    assert Project(again).item("猫.png").choices.repeats == 7


def test_an_export_that_cannot_be_is_told_and_one_that_is_stopped_leaves_nothing_half(tmp_path: Path, room: Path, source: Path, desk: Desk, lane: SilentLane) -> None:
    with pytest.raises(InputError, match="no picture to export"):
        give(room, tmp_path / "out", desk, lane)
    take(room, source, desk, lane)
    for inside in (room, room / "copies", "../captions"):
        with pytest.raises(InputError, match="inside the data set"):
            give(room, inside, desk, lane)
    stopped = give(room, tmp_path / "half", desk, StopsAfter(looks=1))
    assert stopped["stopped"] is True
    assert not (tmp_path / "half").exists()
