"""The journal: a step is applied, taken back to the last byte and done again; what somebody else wrote is never lost silently."""

from pathlib import Path

import pytest

from studio.errors import Conflict, InputError, NotFound
from studio.projects.facts import Change, Crop
from studio.projects.project import Project
from studio.projects.steps import Changed
from tests.projects.filled import fill, said, texts, to_dogs

PNG = b"\x89PNG\r\n\x1a\n mask "
ORIGINALS = {"a": "一只猫，窗台".encode("gbk"), "b": b"\xef\xbb\xbfa cat\r\n", "c": "a cat, 猫".encode("utf-16"), "d": b"a\0 cat ", "e": b" \n", "f": None}


def test_a_step_is_applied_undone_and_redone_also_after_a_restart(tmp_path: Path) -> None:
    project = fill(tmp_path)
    before = texts(tmp_path)
    assert said(project.edit("cat to dog", to_dogs(project))) == ("cat to dog", 4, "done")
    assert texts(tmp_path) == {str(n): f"dog {n}" for n in range(4)}
    assert said(Project(tmp_path).undo()) == ("cat to dog", 4, "undone")
    assert texts(tmp_path) == before
    assert said(Project(tmp_path).redo()) == ("cat to dog", 4, "done")
    assert texts(tmp_path) == {str(n): f"dog {n}" for n in range(4)}
    assert project.redo() is None
    project.undo()
    assert project.undo() is None


def test_undo_brings_every_byte_back_and_takes_away_what_was_not_there(tmp_path: Path) -> None:
    for stem, data in ORIGINALS.items():
        (tmp_path / f"{stem}.jpg").write_bytes(b"picture")
        if data is not None:
            (tmp_path / f"{stem}.txt").write_bytes(data)
    project = Project(tmp_path)
    project.edit("first", [Change(item.name, "caption", item.caption, f"{item.caption} one") for item in project.items()])
    project.edit("second", [Change(item.name, "caption", item.caption, f"{item.caption} two") for item in project.items()])
    assert (tmp_path / "a.txt").read_bytes() == "一只猫，窗台 one two".encode()
    project.undo()
    project.undo()
    assert {stem: (tmp_path / f"{stem}.txt").read_bytes() if (tmp_path / f"{stem}.txt").exists() else None for stem in ORIGINALS} == ORIGINALS


def test_a_caption_is_written_anew_as_utf8_without_a_change_of_its_words(tmp_path: Path) -> None:
    for stem, data in ORIGINALS.items():
        (tmp_path / f"{stem}.jpg").write_bytes(b"picture")
        if data is not None:
            (tmp_path / f"{stem}.txt").write_bytes(data)
    (tmp_path / "a.png").write_bytes(b"a twin")
    project = Project(tmp_path)
    before = {item.name: item.caption for item in project.items()}
    assert project.caption_trouble() == {"a.jpg": "legacy", "a.png": "legacy", "b.jpg": "encoding", "c.jpg": "encoding", "d.jpg": "nul"}
    assert said(project.edit("mend", [Change(name, "encoding", code, "utf-8") for name, code in project.caption_trouble().items()])) == ("mend", 4, "done")
    assert project.caption_trouble() == {}
    assert {item.name: item.caption for item in project.items()} == before
    project.undo()
    assert {stem: (tmp_path / f"{stem}.txt").read_bytes() for stem in "abcde"} == {stem: ORIGINALS[stem] for stem in "abcde"}
    project.redo()
    assert (tmp_path / "a.txt").read_text() == "一只猫，窗台"


def test_a_new_step_ends_what_could_be_redone(tmp_path: Path) -> None:
    project = fill(tmp_path)
    project.edit("first", to_dogs(project))
    project.undo()
    project.edit("second", [Change("0.png", "repeats", 1, 3)])
    assert project.redo() is None
    assert [said(edit) for edit in project.history()] == [("second", 1, "done")]


def test_a_step_that_changes_nothing_is_none(tmp_path: Path) -> None:
    project = fill(tmp_path)
    assert project.edit("nothing", [Change("0.png", "caption", "cat 0", "cat 0"), Change("1.png", "flipped", False, False)]) is None
    assert project.history() == []


def test_a_step_from_what_is_no_longer_there_names_the_pictures(tmp_path: Path) -> None:
    project = fill(tmp_path, 8)
    changes = to_dogs(project)
    for number in range(7):
        (tmp_path / f"{number}.txt").write_text(f"bird {number} " + "x" * 200)
    with pytest.raises(Changed, match=r"^7 pictures .*0\.png \(was “cat 0”, is now “bird 0 x{10,60}…”\).*4\.png.* and 2 more\. Look") as caught:
        project.edit("late", changes)
    assert "5.png" not in caught.value.message
    assert caught.value.now["6.png"].startswith("bird 6")
    assert texts(tmp_path)["7"] == "cat 7"


@pytest.mark.parametrize(
    ("field", "before", "after"),
    [("crop", None, Crop(0.2, 0.8, 2.0)), ("flipped", False, True), ("left_out", False, True), ("held_out", False, True), ("repeats", 1, 7)],
)
def test_choices_are_steps_too(tmp_path: Path, field: str, before: object, after: object) -> None:
    project = fill(tmp_path)
    project.edit(field, [Change("1.png", field, before, after)])
    assert getattr(Project(tmp_path).item("1.png").choices, field) == after
    with pytest.raises(Conflict, match=r"1\.png"):
        project.edit("again", [Change("1.png", field, before, after)])
    project.edit("and back", [Change("1.png", field, after, before)])
    project.undo()
    project.undo()
    assert getattr(project.item("1.png").choices, field) == before
    project.redo()
    assert getattr(project.item("1.png").choices, field) == after


@pytest.mark.parametrize(
    ("field", "after"),
    [("repeats", 0), ("repeats", True), ("repeats", 1.5), ("flipped", "yes"), ("crop", {"z": 1}), ("crop", {"x": float("nan"), "y": 0.5, "zoom": 1}), ("caption", 3), ("mask", b"x"), ("name", "b")],
)
def test_a_value_a_field_cannot_hold_is_refused(tmp_path: Path, field: str, after: object) -> None:
    project = fill(tmp_path)
    with pytest.raises(InputError):
        project.edit("bad", [Change("0.png", "caption", "cat 0", "dog"), Change("1.png", field, None, after)])
    assert (texts(tmp_path)["0"], project.history()) == ("cat 0", [])


@pytest.mark.parametrize("name", ["../0.png", "9.png", "0.txt", "", ".", ".studio/project.db", "a\0.png", "x" * 300 + ".png"])
def test_only_pictures_of_the_folder_are_changed(tmp_path: Path, name: str) -> None:
    project = fill(tmp_path)
    with pytest.raises(NotFound):
        project.edit("out", [Change(name, "caption", None, "dog")])


def test_undo_refuses_over_what_was_written_from_outside_unless_it_is_forced(tmp_path: Path) -> None:
    project = fill(tmp_path)
    project.edit("cat to dog", to_dogs(project))
    (tmp_path / "2.txt").write_text("a bird")
    with pytest.raises(Changed, match=r"^1 picture .*“cat to dog”: 2\.png \(was “dog 2”, is now “a bird”\)"):
        project.undo()
    assert texts(tmp_path) == {"0": "dog 0", "1": "dog 1", "2": "a bird", "3": "dog 3"}
    project.undo(force=True)
    assert texts(tmp_path)["2"] == "cat 2"
    (tmp_path / "1.txt").unlink()
    with pytest.raises(Changed, match=r"1\.png \(was “cat 1”, is now nothing\)"):
        project.redo()
    project.redo(force=True)
    assert texts(tmp_path)["1"] == "dog 1"
    assert [text for _, _, text in project.revisions("2.png")] == ["dog 2", "cat 2", "a bird", "dog 2", "cat 2"]
    assert [said(edit) for edit in project.history()] == [("cat to dog", 4, "done")]


def test_undo_goes_on_over_what_somebody_brought_back_by_hand(tmp_path: Path) -> None:
    project = fill(tmp_path)
    project.edit("cat to dog", to_dogs(project))
    (tmp_path / "2.txt").write_text("cat 2")
    assert said(project.undo()) == ("cat to dog", 4, "undone")
    assert texts(tmp_path)["3"] == "cat 3"


def test_masks_are_steps_and_one_from_outside_comes_back(tmp_path: Path) -> None:
    project = fill(tmp_path)
    beside = tmp_path / "0-masklabel.png"
    beside.write_bytes(b"somebody's own")
    new = project.keep_mask(PNG)
    project.edit("draw", [Change("0.png", "mask", None, new), Change("1.png", "mask", None, new)])
    assert beside.read_bytes() == PNG
    assert project.item("1.png").mask_name == "1-masklabel.png"
    assert project.mask_digest("0.png") == new
    project.edit("rub out", [Change("0.png", "mask", new, None)])
    assert not beside.exists()
    project.undo()
    assert beside.read_bytes() == PNG
    Project(tmp_path).undo()
    assert beside.read_bytes() == b"somebody's own"
    assert not (tmp_path / "1-masklabel.png").exists()
    assert [item.name for item in project.items()] == ["0.png", "1.png", "2.png", "3.png"]


def test_a_mask_changed_from_outside_is_not_undone_and_one_not_kept_is_not_put(tmp_path: Path) -> None:
    project = fill(tmp_path)
    new = project.keep_mask(PNG)
    project.edit("draw", [Change("0.png", "mask", None, new)])
    (tmp_path / "0-masklabel.png").write_bytes(b"another")
    with pytest.raises(Changed, match=r"0\.png"):
        project.undo()
    with pytest.raises(Changed, match=r"0\.png"):
        project.edit("draw", [Change("0.png", "mask", new, project.keep_mask(PNG + b"2"))])
    with pytest.raises(InputError, match="PNG"):
        project.keep_mask(b"GIF")
    for digest in ("0" * 64, "../x", ""):
        with pytest.raises(NotFound):
            project.edit("draw", [Change("1.png", "mask", None, digest)])
    assert (tmp_path / "0-masklabel.png").read_bytes() == b"another"


def test_pictures_of_one_stem_share_a_caption_until_each_gets_its_own(tmp_path: Path) -> None:
    for name in ("a.jpg", "a.png", "b.png"):
        (tmp_path / name).write_bytes(b"picture")
    (tmp_path / "a.txt").write_bytes("猫".encode("utf-16"))
    (tmp_path / "b.txt").write_text("bird")
    project = Project(tmp_path)
    project.edit("both", [Change("a.png", "caption", "猫", "狗"), Change("a.jpg", "caption", "猫", "狗")])
    assert {item.name: item.caption for item in project.items()} == {"a.jpg": "狗", "a.png": "狗", "b.png": "bird"}
    assert said(project.own_captions(["a.jpg", "a.png"], "each its own")) == ("each its own", 2, "done")
    project.edit("one", [Change("a.png", "caption", "狗", "a dog")])
    assert {item.caption_name: item.caption for item in project.items()} == {"a.jpg.txt": "狗", "a.png.txt": "a dog", "b.txt": "bird"}
    for _ in range(3):
        project.undo()
    assert sorted(path.name for path in tmp_path.glob("*.txt")) == ["a.txt", "b.txt"]
    assert (tmp_path / "a.txt").read_bytes() == "猫".encode("utf-16")


def test_two_wishes_for_one_caption_file_are_both_met(tmp_path: Path) -> None:
    for name in ("a.jpg", "a.png"):
        (tmp_path / name).write_bytes(b"picture")
    (tmp_path / "a.txt").write_text("cat")
    project = Project(tmp_path)
    project.edit("by name", [Change(item.name, "caption", "cat", f"{item.name}, cat") for item in project.items()])
    assert [item.caption for item in project.items()] == ["a.jpg, cat", "a.png, cat"]
    project.undo()
    assert texts(tmp_path) == {"a": "cat"}
