"""A data set is given away byte for byte, in layouts that other trainers and the studio itself read, and nothing else is touched."""

import csv
import errno
import json
import os
import zipfile
from pathlib import Path

import pytest

from studio.errors import Conflict, InputError, NotFound, OutOfSpace
from studio.projects import copying, targets
from studio.projects.exporting import ExportOptions, Layout, export
from studio.projects.facts import Change
from studio.projects.importing import import_into
from studio.projects.project import Project
from tests.projects.small_pictures import ROW_16, encoded, lay, masked, read

FILES: dict[str, bytes | str] = {
    "a.png": encoded(1),
    "a.txt": "a cat\r\n, sitting ",
    "a-masklabel.png": masked(),
    "b.jpg": encoded(2, "JPEG"),
    "b.txt": "一只猫，水墨画".encode("gbk"),
    "c.webp": encoded(3, "WEBP"),
    "out.png": encoded(4),
    "out.txt": "not this",
    "held.png": encoded(5),
    "held.txt": "held",
}


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A data set with a picture left out, one held out, and one repeated."""
    project = Project(lay(tmp_path / "my cats", FILES))
    changes = [Change("out.png", "left_out", False, True), Change("held.png", "held_out", False, True), Change("b.jpg", "repeats", 1, 12)]
    project.edit("Choose", changes)
    return project


def unzipped(file: Path) -> dict[str, bytes]:
    """Every member of a zip."""
    with zipfile.ZipFile(file) as archive:
        assert archive.testzip() is None
        return {name: archive.read(name) for name in archive.namelist()}


PLAIN = {
    "a.png": encoded(1),
    "a.txt": b"a cat\r\n, sitting ",
    "a-masklabel.png": masked(),
    "b.jpg": encoded(2, "JPEG"),
    "b.txt": "一只猫，水墨画".encode(),
    "c.webp": encoded(3, "WEBP"),
    "validation/held.png": encoded(5),
    "validation/held.txt": b"held",
}
KOHYA = {
    "1_ohwx cat/a.png": encoded(1),
    "1_ohwx cat/a.txt": b"a cat\r\n, sitting ",
    "masks/1_ohwx cat/a.png": masked(),
    "12_ohwx cat/b.jpg": encoded(2, "JPEG"),
    "12_ohwx cat/b.txt": "一只猫，水墨画".encode(),
    "1_ohwx cat/c.webp": encoded(3, "WEBP"),
    "validation/held.png": encoded(5),
    "validation/held.txt": b"held",
}


@pytest.mark.parametrize(("layout", "wanted"), [("plain", PLAIN), ("kohya", KOHYA)])
@pytest.mark.parametrize("place", ["new", "new.zip", "there", "deep/er/new"])
def test_originals_are_written_byte_for_byte(tmp_path: Path, project: Project, layout: Layout, wanted: dict[str, bytes], place: str) -> None:
    (tmp_path / "there").mkdir()
    before = read(project.folder)
    done = export(project, tmp_path / place, layout, ExportOptions(tokens="ohwx cat"))
    assert (done.destination, done.pictures, done.captions, done.masks, done.left_out, done.skipped, done.stopped) == (tmp_path / place, 4, 3, 1, 1, (), False)
    assert any("validation" in note for note in done.notes)
    assert (unzipped(tmp_path / place) if place.endswith(".zip") else read(tmp_path / place)) == wanted
    assert read(project.folder) == before
    assert not [path for path in tmp_path.rglob("*") if path.name.endswith(".tmp")]


def test_masks_are_left_out_on_request_and_kohyas_folders_are_called_like_the_data_set(tmp_path: Path, project: Project) -> None:
    export(project, tmp_path / "to", "kohya", ExportOptions(masks=False))
    assert {name.split("/")[0] for name in read(tmp_path / "to")} == {"1_my cats", "12_my cats", "validation"}


@pytest.mark.parametrize("tokens", ["../up", "/abs", "a/b\\c", "..", "x\0y", "字" * 200, "CON", " "])
def test_words_of_a_folder_stay_one_folder(tmp_path: Path, project: Project, tokens: str) -> None:
    export(project, tmp_path / "deep" / "to", "kohya", ExportOptions(tokens=tokens))
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["to"]
    assert {len(Path(name).parts) for name in read(tmp_path / "deep" / "to")} == {2, 3}


@pytest.mark.parametrize("form", ["jsonl", "csv"])
@pytest.mark.parametrize("layout", ["plain", "kohya"])
def test_captions_in_one_file_are_read_again(tmp_path: Path, project: Project, form: str, layout: Layout) -> None:
    project.edit("Words", [Change("c.webp", "caption", None, 'one, "two"\nthree\u2028four')])
    export(project, tmp_path / "to", layout, ExportOptions(captions=form))
    text = (tmp_path / "to" / f"metadata.{form}").read_text(encoding="utf-8")
    rows = [json.loads(line) for line in text.split("\n") if line] if form == "jsonl" else list(csv.DictReader((tmp_path / "to" / "metadata.csv").open(encoding="utf-8", newline="")))
    said = {row["file_name"].rpartition("/")[2]: row["text"] for row in rows}
    assert said == {"a.png": project.item("a.png").caption, "b.jpg": "一只猫，水墨画", "c.webp": 'one, "two"\nthree\u2028four', "held.png": "held"}
    assert all((tmp_path / "to" / row["file_name"]).is_file() for row in rows)
    assert not [name for name in read(tmp_path / "to") if name.endswith(".txt")]
    again = tmp_path / "again"
    again.mkdir()
    import_into(again, tmp_path / "to")
    assert {item.name: item.caption for item in Project(again).items()} == {name: words for name, words in said.items() if name != "held.png"}


def test_kohyas_tree_comes_back_with_repeats_and_masks(tmp_path: Path, project: Project) -> None:
    export(project, tmp_path / "tree.zip", "kohya")
    again = tmp_path / "again"
    again.mkdir()
    import_into(again, tmp_path / "tree.zip")
    found = {item.name: (item.choices.repeats, item.mask_name) for item in Project(again).items()}
    assert found == {"a.png": (1, "a-masklabel.png"), "b.jpg": (12, ""), "c.webp": (1, "")}


def test_every_name_goes_in_is_captioned_and_comes_out_byte_for_byte(tmp_path: Path) -> None:
    pictures = {name: encoded(place) for place, name in enumerate(ROW_16)}
    room = tmp_path / "room"
    room.mkdir()
    import_into(room, lay(tmp_path / "source", pictures))
    project = Project(room)
    places = {data: place for place, data in enumerate(pictures.values())}
    words = {item.name: f"caption {places[project.picture(item.name).read_bytes()]}" for item in project.items()}
    project.edit("Captions", [Change(name, "caption", None, text) for name, text in words.items()])
    export(project, tmp_path / "out.zip")
    export(project, tmp_path / "out")
    found = read(tmp_path / "out")
    assert unzipped(tmp_path / "out.zip") == found
    assert {found[name[:-4] + ".txt"].decode(): data for name, data in found.items() if not name.endswith(".txt")} == {f"caption {place}": data for place, data in enumerate(pictures.values())}


def test_a_folder_opened_in_place_is_given_names_that_every_system_keeps(tmp_path: Path) -> None:
    wild = lay(
        tmp_path / "wild",
        {
            "a.jpg": encoded(1, "JPEG"),
            "a.png": encoded(2),
            "a.txt": "both",
            "CON.png": encoded(3),
            "é.png": encoded(4),
            "e\u0301.png": encoded(5),
            'q"?.png': encoded(6),
            "B.png": encoded(7),
            "b.png": encoded(8),
        },
    )
    done = export(Project(wild), tmp_path / "to")
    found = read(tmp_path / "to")
    assert done.pictures == 8
    assert {name for name in found if not name.endswith(".txt")} == {"a.jpg", "a-2.png", "CON_.png", "é.png", "é-2.png", "q__.png", "B.png", "b-2.png"}
    assert found["a.txt"] == found["a-2.txt"] == b"both"


@pytest.mark.parametrize("place", ["", "sub", "sub/deep", ".studio/x", "a.zip", "exports.zip", "exports/../sub", "../my cats/x"])
def test_nothing_is_written_among_the_pictures_of_the_data_set(project: Project, place: str) -> None:
    before = sorted(project.folder.rglob("*"))
    with pytest.raises(InputError, match="lies inside the data set"):
        export(project, project.folder / place)
    assert sorted(project.folder.rglob("*")) == before


def test_a_link_into_the_data_set_is_seen(tmp_path: Path, project: Project) -> None:
    (tmp_path / "link").symlink_to(project.folder, target_is_directory=True)
    with pytest.raises(InputError, match="lies inside the data set"):
        export(project, tmp_path / "link" / "x")


@pytest.mark.parametrize("place", ["exports", "exports/first", "exports/first.zip"])
def test_exports_may_lie_in_their_own_folder(project: Project, place: str) -> None:
    assert export(project, project.folder / place).pictures == 4
    assert [item.name for item in project.items()] == ["a.png", "b.jpg", "c.webp", "held.png", "out.png"]


def test_no_other_file_is_overwritten(tmp_path: Path, project: Project) -> None:
    there = lay(tmp_path / "there", {"A.PNG": b"mine", "b.txt": "mine", "c-masklabel.png": b"mine", "metadata.jsonl": "mine"})
    before = read(there)
    export(project, there, options=ExportOptions(captions="jsonl"))
    export(project, there)
    after = read(there)
    assert {name: data for name, data in after.items() if name in before} == before
    assert {"a-2.png", "b-2.jpg", "c-2.webp", "metadata-2.jsonl", "a-3.png", "a-3.txt", "a-3-masklabel.png"} <= set(after)


def test_a_zip_that_is_there_stays_and_the_new_one_is_told(tmp_path: Path, project: Project) -> None:
    (tmp_path / "set.zip").write_bytes(b"mine")
    done = export(project, tmp_path / "set.zip")
    assert done.destination == tmp_path / "set-2.zip"
    assert (tmp_path / "set.zip").read_bytes() == b"mine"
    assert unzipped(done.destination) == PLAIN


@pytest.mark.parametrize("name", ["to", "to.zip"])
def test_one_who_was_faster_keeps_the_name(tmp_path: Path, project: Project, name: str) -> None:
    def meanwhile(*_: object) -> None:
        lay(tmp_path, {"to/x.png": b"mine", "to.zip": b"mine"})

    with pytest.raises(Conflict, match="meanwhile"):
        export(project, tmp_path / name, on_step=meanwhile)
    assert read(tmp_path / "to") == {"x.png": b"mine"}
    assert (tmp_path / "to.zip").read_bytes() == b"mine"


@pytest.mark.parametrize(("place", "left"), [("new", None), ("new.zip", None), ("there", {"a.png", "a.txt", "a-masklabel.png", "b.jpg", "b.txt"})])
def test_it_can_be_stopped(tmp_path: Path, project: Project, place: str, left: set[str] | None) -> None:
    (tmp_path / "there").mkdir()
    steps: list[int] = []
    done = export(project, tmp_path / place, on_step=lambda done, *_: steps.append(done), stop=lambda: len(steps) == 2)
    assert done.stopped
    assert done.pictures == (2 if left else 0)
    assert (set(read(tmp_path / place)) if left else (tmp_path / place).exists()) == (left or False)
    assert not [path for path in tmp_path.rglob("*") if path.name.endswith(".tmp")]


@pytest.mark.parametrize("place", ["new", "new.zip", "there"])
def test_a_full_disk_is_told_and_leaves_nothing_half(tmp_path: Path, project: Project, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    (tmp_path / "there").mkdir()
    full = OSError(errno.ENOSPC, "No space left on device")

    def place_new(temporary: Path, path: Path) -> None:
        if path.name.startswith("c.") or path.suffix == ".zip":
            raise full
        os.link(temporary, path)

    monkeypatch.setattr(copying, "place_new", place_new)
    monkeypatch.setattr(targets, "place_new", place_new)
    with pytest.raises(OutOfSpace, match="2 of 4 pictures were written and stay" if place == "there" else "was not written"):
        export(project, tmp_path / place)
    assert set(read(tmp_path / "there")) == ({"a.png", "a.txt", "a-masklabel.png", "b.jpg", "b.txt"} if place == "there" else set())
    assert (tmp_path / place).exists() == (place == "there")
    assert not [path for path in tmp_path.rglob("*") if path.name.endswith(".tmp")]


@pytest.mark.parametrize("packed", [False, True])
def test_a_picture_that_vanishes_is_told_and_the_others_go(tmp_path: Path, project: Project, packed: bool) -> None:
    done = export(project, tmp_path / ("to.zip" if packed else "to"), on_step=lambda done, *_: (project.folder / "b.jpg").unlink(missing_ok=True))
    assert [refused.name for refused in done.skipped] == ["b.jpg"]
    assert done.pictures == 3
    found = unzipped(done.destination) if packed else read(done.destination)
    assert set(found) == set(PLAIN) - {"b.jpg", "b.txt"}


def test_chosen_pictures_go_alone(tmp_path: Path, project: Project) -> None:
    assert export(project, tmp_path / "to", options=ExportOptions(only=("c.webp",))).pictures == 1
    assert set(read(tmp_path / "to")) == {"c.webp"}


TRAVERSALS = [
    "../secret.png",
    "/etc/passwd",
    "..\\secret.png",
    "sub/../../secret.png",
    "C:\\x.png",
    "//h/s.png",
    "a.png/../../secret.png",
    "a.png\0",
    "",
    ".",
    "..",
    ".studio/project.db",
    "..%2fsecret.png",
    "\udcff.png",
    "n" * 300 + ".png",
]


@pytest.mark.parametrize("name", TRAVERSALS)
def test_a_name_that_points_elsewhere_is_no_picture(tmp_path: Path, project: Project, name: str) -> None:
    lay(tmp_path, {"secret.png": encoded(9)})
    with pytest.raises(NotFound):
        export(project, tmp_path / "to", options=ExportOptions(only=(name,)))
    assert not (tmp_path / "to").exists()


@pytest.mark.parametrize("place", ["file.txt", "file.txt/below", "n" * 300, "a\0b"])
def test_a_destination_that_is_none_is_refused_in_words(tmp_path: Path, project: Project, place: str) -> None:
    (tmp_path / "file.txt").write_text("mine")
    with pytest.raises(InputError) as caught:
        export(project, tmp_path / place)
    assert caught.value.hint
    assert (tmp_path / "file.txt").read_text() == "mine"


def test_a_data_set_without_pictures_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no picture"):
        export(Project(tmp_path / "empty"), tmp_path / "to")
    assert not (tmp_path / "to").exists()
