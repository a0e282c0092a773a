"""A data set's lists and notes: what changed is seen at once, names of every kind work, and old, new or damaged notes cost no caption."""

import json
import os
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from studio.errors import InputError, NotFound, StudioError, Unreadable
from studio.projects import listing
from studio.projects.facts import Change, Choices, Crop, Facts
from studio.projects.marks import held_out, left_out
from studio.projects.project import Project
from studio.projects.sidecar import VERSION
from tests.projects.filled import fill, said, texts, to_dogs

NAMES = [
    "中文 名.png",
    "🐉.webp",
    "e\u0301.png",
    "\u00e9.png",
    "a\"b'.png",
    "-rf.png",
    "two\nlines.png",
    "trailing .png",
    "dot..png",
    "CON.png",
    "%s?#&.png",
    "a" * 251 + ".png",
    "猫" * 83 + "bb.png",
    os.fsdecode(b"latin \xe9\xff.jpg"),
]


def test_items_say_what_is_in_the_folder_in_natural_order(tmp_path: Path) -> None:
    for name in ("10.png", "2.PNG", "2.jpg", "notes.md", ".hidden.png", "3-masklabel.png", "3.webp", "4.png.txt", "4.png", "4.txt"):
        (tmp_path / name).write_bytes(name.encode())
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "gone.png").symlink_to(tmp_path / "nowhere")
    items = Project(tmp_path).items()
    assert [item.name for item in items] == ["2.jpg", "2.PNG", "3.webp", "4.png", "10.png"]
    assert [item.caption_name for item in items] == ["2.txt", "2.txt", "3.txt", "4.png.txt", "10.txt"]
    assert [item.captioned for item in items] == [False, False, False, True, False]
    assert (items[2].mask_name, items[3].caption, items[4].bytes) == ("3-masklabel.png", "4.png.txt", 6)
    assert items[2].mask_changed == (tmp_path / "3-masklabel.png").stat().st_mtime_ns
    assert items[4].changed == (tmp_path / "10.png").stat().st_mtime_ns


def test_what_did_not_change_is_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = fill(tmp_path, 30)
    for path in tmp_path.glob("*.txt"):
        os.utime(path, (1_000_000_000, 1_000_000_000))
    project.put_facts([("1.png", Facts(5, 6)), ("2.png", Facts(7, 8))])
    before = project.items()
    read: list[str] = []
    shown, parsed = listing.shown_text, listing._parsed
    monkeypatch.setattr(listing, "shown_text", lambda file, guess: read.append(Path(file).name) or shown(file, guess))
    monkeypatch.setattr(listing, "_parsed", lambda kind, text: read.append(kind.__name__) or parsed(kind, text))
    assert all(new is old for new, old in zip(project.items(), before, strict=True))
    assert read == []
    (tmp_path / "7.txt").write_text("from outside")
    Project(tmp_path).edit("other window", [Change("2.png", "repeats", 1, 4)])
    items = {item.name: item for item in project.items()}
    assert (items["7.png"].caption, items["2.png"].choices.repeats, items["2.png"].facts) == ("from outside", 4, Facts(7, 8))
    assert sorted(set(read)) == ["2.txt", "7.txt", "Choices"]


def test_a_caption_rewritten_at_once_with_as_many_letters_is_seen(tmp_path: Path) -> None:
    project = fill(tmp_path)
    for text in ("dog 0", "cow 0", "pig 0"):
        status = (tmp_path / "0.txt").stat()
        (tmp_path / "0.txt").write_text(text)
        os.utime(tmp_path / "0.txt", ns=(status.st_atime_ns, status.st_mtime_ns))
        assert project.items()[0].caption == text


def test_pictures_that_go_and_come_are_followed(tmp_path: Path) -> None:
    project = fill(tmp_path)
    assert len(project.items()) == 4
    (tmp_path / "1.png").unlink()
    (tmp_path / "11.png").write_bytes(b"new")
    assert [item.name for item in project.items()] == ["0.png", "2.png", "3.png", "11.png"]
    with pytest.raises(NotFound, match=r"1\.png"):
        project.item("1.png")
    assert project.item("11.png") == project.items()[3]


def test_facts_are_of_the_file_they_were_measured_on(tmp_path: Path) -> None:
    project = fill(tmp_path)
    facts = Facts(512, 768, faces=((0.1, 0.2, 0.3, 0.4),), detail_x=(1, 2), digest="ab")
    project.put_facts([("0.png", facts), ("1.png", facts), ("gone.png", facts)])
    assert project.item("0.png").facts == Project(tmp_path).items()[0].facts == facts
    (tmp_path / "0.png").write_bytes(b"another picture")
    assert [item.facts for item in project.items()] == [None, facts, None, None]


@pytest.mark.parametrize("act", ["caption", "outside", "picture", "removed", "choice", "facts", "setting", "undo", "mask", "same size"])
def test_the_revision_changes_with_everything(tmp_path: Path, act: str) -> None:
    here, there = fill(tmp_path), Project(tmp_path)
    there.edit("first", [Change("3.png", "caption", "cat 3", "dog 3")])
    acts = {
        "caption": lambda: there.write_caption("0.png", "dog", "cat 0"),
        "outside": lambda: (tmp_path / "0.txt").write_text("longer than it was"),
        "same size": lambda: os.replace(tmp_path / "1.txt", tmp_path / "0.txt"),
        "picture": lambda: (tmp_path / "9.png").write_bytes(b"new"),
        "removed": lambda: (tmp_path / "0.png").unlink(),
        "choice": lambda: there.edit("out", [Change("0.png", "left_out", False, True)]),
        "facts": lambda: there.put_facts([("0.png", Facts(1, 1))]),
        "setting": lambda: there.put_setting("target", [512, 512]),
        "undo": there.undo,
        "mask": lambda: (tmp_path / "0-masklabel.png").write_bytes(b"mask"),
    }
    before = here.revision()
    here.items()
    assert before == here.revision() == there.revision()
    acts[act]()
    assert here.revision() == there.revision() != before


def test_several_threads_may_ask_and_edit(tmp_path: Path) -> None:
    project = fill(tmp_path, 40)
    wrong: list[object] = []

    def ask() -> None:
        for _ in range(15):
            found = [item.caption for item in project.items()]
            if len(found) != 40 or not all(text.endswith(str(number)) for number, text in enumerate(found)):
                wrong.append(found)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(3):
        project.edit("dogs", to_dogs(project))
        project.undo()
    for thread in threads:
        thread.join()
    assert wrong == []


@pytest.mark.parametrize("name", NAMES, ids=lambda name: ascii(name)[:20])
def test_names_of_every_kind_are_kept_apart_and_come_back(tmp_path: Path, name: str) -> None:
    for other in NAMES:
        (tmp_path / other).write_bytes(b"picture")
    project = Project(tmp_path)
    assert len(project.items()) == len(NAMES)
    project.put_facts([(name, Facts(3, 4))])
    project.edit("all", [Change(name, "caption", None, "猫"), Change(name, "crop", None, Crop(0.1, 0.2, 3.0)), Change(name, "left_out", False, True)])
    project.write_caption(name, "猫, 狗", "猫")
    item = Project(tmp_path).item(name)
    assert (item.name, item.caption, item.facts, item.choices) == (name, "猫, 狗", Facts(3, 4), Choices(crop=Crop(0.1, 0.2, 3.0), left_out=True))
    assert [other.name for other in project.items() if other.captioned or other.facts or other.choices != Choices()] == [name]
    assert left_out(tmp_path) == {name}
    assert [text for _, _, text in project.revisions(name)] == ["猫, 狗", "猫", None]
    json.dumps([edit.name for edit in project.history()], ensure_ascii=False).encode("utf-8")
    project.undo()
    project.undo()
    assert project.item(name).choices == Choices()
    assert list(tmp_path.glob("*.txt")) == []


@pytest.mark.parametrize("field", ["mask", "own_caption"])
def test_a_name_too_long_for_what_goes_beside_it_is_refused_in_words(tmp_path: Path, field: str) -> None:
    name = "a" * 251 + ".png"
    (tmp_path / name).write_bytes(b"picture")
    project = Project(tmp_path)
    with pytest.raises(StudioError, match="longer than the disk allows"):
        project.edit("beside", [Change(name, field, None, project.keep_mask(b"\x89PNG\r\n\x1a\n"))])
    assert (project.history(), project.mask_digest(name)) == ([], None)


def test_a_file_that_is_no_folder_and_a_folder_that_is_gone_are_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not a folder"):
        Project(tmp_path / "nothing")
    folder = tmp_path / "set"
    folder.mkdir()
    project = fill(folder)
    folder.rename(tmp_path / "moved")
    for act in (project.items, project.revision, lambda: project.item("0.png")):
        with pytest.raises(NotFound):
            act()
    with pytest.raises(StudioError):
        project.edit("late", [Change("0.png", "caption", "cat 0", "dog")])
    assert not folder.exists()


def test_notes_deleted_while_open_begin_anew(tmp_path: Path) -> None:
    project = fill(tmp_path)
    project.edit("dogs", [*to_dogs(project), Change("0.png", "left_out", False, True)])
    assert project.item("0.png").choices.left_out
    for path in (tmp_path / ".studio").glob("project.db*"):
        path.unlink()
    assert (project.history(), project.item("0.png").choices.left_out, project.item("0.png").caption) == ([], False, "dog 0")


@pytest.mark.parametrize("how", ["garbage", "cut", "middle", "empty header"])
def test_damaged_notes_are_moved_aside_and_captions_stay(tmp_path: Path, how: str) -> None:
    project = fill(tmp_path, 40)
    project.put_facts([(item.name, Facts(1, 2, detail_x=tuple(range(64)))) for item in project.items()])
    project.edit("dogs", to_dogs(project))
    file = tmp_path / ".studio" / "project.db"
    data = file.read_bytes()
    damaged = {"garbage": b"not a database " * 500, "cut": data[: len(data) // 2], "middle": data[:4096] + b"\x99" * (len(data) - 4096), "empty header": b"\0" * 100 + data[100:]}[how]
    for _ in range(2):
        file.write_bytes(damaged)
        with pytest.raises(Unreadable):
            left_out(tmp_path)
        again = Project(tmp_path)
        assert "damaged" in again.trouble
        assert (again.history(), again.item("0.png").caption) == ([], "dog 0")
        assert said(again.edit("on", [Change("0.png", "caption", "dog 0", "dog 0")]) or again.edit("on", [Change("0.png", "repeats", 1, 2)])) == ("on", 1, "done")
    assert (tmp_path / ".studio" / "project.db.damaged-1").read_bytes() == damaged
    assert (tmp_path / ".studio" / "project.db.damaged-2").is_file()
    assert Project(tmp_path).trouble == ""


OLD = """
CREATE TABLE facts (item TEXT PRIMARY KEY, changed INTEGER NOT NULL, bytes INTEGER NOT NULL, facts TEXT NOT NULL);
CREATE TABLE choices (item TEXT PRIMARY KEY, choices TEXT NOT NULL);
CREATE TABLE settings (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE edits (id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL, at REAL NOT NULL, state TEXT NOT NULL);
CREATE TABLE changes (edit INTEGER NOT NULL, place INTEGER NOT NULL, item TEXT NOT NULL, field TEXT NOT NULL, before TEXT, after TEXT, original BLOB, PRIMARY KEY (edit, place));
INSERT INTO choices VALUES ('1.png', '{"crop": {"x": 0.1, "y": 0.2, "zoom": 2.0}, "flipped": true, "left_out": false, "held_out": true, "repeats": 3}');
INSERT INTO settings VALUES ('target', '[512, 768]');
INSERT INTO edits VALUES (1, 'first', 100.5, 'done'), (2, 'cut short', 200.5, 'pending');
INSERT INTO changes VALUES (1, 0, '0.png', 'caption', '"cat"', '"cat 0"', X'636174'), (2, 0, '1.png', 'caption', '"cat 1"', '"dog 1"', X'6361742031'), (2, 1, '1.png', 'repeats', '3', '4', NULL);
"""


def test_notes_of_the_first_version_are_brought_to_this_one_with_a_copy(tmp_path: Path) -> None:
    fill(tmp_path)
    file = tmp_path / ".studio" / "project.db"
    for path in file.parent.glob("project.db*"):
        path.unlink()
    with sqlite3.connect(file) as db:
        db.executescript(OLD)
    db.close()
    project = Project(tmp_path)
    assert project.setting("target") == [512, 768]
    assert project.item("1.png").choices == Choices(Crop(0.1, 0.2, 2.0), flipped=True, held_out=True, repeats=4)
    assert [said(edit) for edit in project.recovered] == [("cut short", 2, "done")]
    assert [said(edit) for edit in project.history()] == [("cut short", 2, "done"), ("first", 1, "done")]
    assert texts(tmp_path)["1"] == "dog 1"
    project.undo()
    project.undo()
    assert ((tmp_path / "0.txt").read_bytes(), texts(tmp_path)["1"]) == (b"cat", "cat 1")
    copy = sqlite3.connect(file.with_name("project.db.version-0"))
    assert copy.execute("SELECT name FROM edits ORDER BY id").fetchall() == [("first",), ("cut short",)]
    assert Project(tmp_path).recovered == []


def test_notes_of_a_newer_studio_are_refused_and_left_alone(tmp_path: Path) -> None:
    fill(tmp_path)
    file = tmp_path / ".studio" / "project.db"
    with sqlite3.connect(file) as db:
        db.execute(f"PRAGMA user_version = {VERSION + 6}")
    db.close()
    before = file.read_bytes()
    with pytest.raises(InputError, match=f"newer studio .*version is {VERSION + 6}, this one knows {VERSION}"):
        Project(tmp_path)
    assert file.read_bytes() == before
    assert texts(tmp_path)["0"] == "cat 0"


def test_notes_that_cannot_be_kept_are_told(tmp_path: Path) -> None:
    (tmp_path / ".studio").write_text("a file in the way")
    with pytest.raises(InputError, match="notes cannot be kept"):
        Project(tmp_path)


def test_who_is_left_out_is_read_without_making_notes(tmp_path: Path) -> None:
    assert left_out(tmp_path) == held_out(tmp_path / "nowhere") == frozenset()
    assert list(tmp_path.iterdir()) == []
    project = fill(tmp_path)
    project.edit("out", [Change("0.png", "left_out", False, True), Change("1.png", "held_out", False, True), Change("2.png", "left_out", False, True)])
    assert (left_out(tmp_path), held_out(tmp_path)) == ({"0.png", "2.png"}, {"1.png"})
    project.undo()
    assert (left_out(tmp_path), held_out(tmp_path)) == (frozenset(), frozenset())


def test_who_is_left_out_is_read_from_a_folder_that_cannot_be_written_to(tmp_path: Path) -> None:
    fill(tmp_path).edit("out", [Change("0.png", "left_out", False, True)])
    notes = tmp_path / ".studio"
    code = (
        "import os, sys; from pathlib import Path; from studio.projects.marks import left_out\n"
        "os.geteuid() or (os.setgid(65534), os.setuid(65534))\nassert not os.access(Path(sys.argv[1]) / '.studio', os.W_OK)\nprint(*left_out(Path(sys.argv[1])))"
    )
    own = [folder for folder in (tmp_path, *tmp_path.parents) if "pytest-of-" in str(folder)]
    for folder in own:  # whoever runs the tests keeps these to himself
        folder.chmod(0o755)
    notes.chmod(0o555)
    try:
        done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False)
    finally:
        notes.chmod(0o755)
    assert done.stdout.split() == ["0.png"], done.stderr


def test_settings_hold_any_text(tmp_path: Path) -> None:
    project = fill(tmp_path)
    project.put_setting("odd", {"猫": ["\ud800", "\0", None, 1.5]})
    assert Project(tmp_path).setting("odd") == {"猫": ["\ud800", "\0", None, 1.5]}
    assert project.setting("none", 7) == 7
