"""Pictures come into a data set with their captions and masks, whatever their names, and nothing else does."""

import errno
import os
import signal
import subprocess
import sys
import tracemalloc
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from studio.errors import Conflict, InputError, StudioError, Unreadable
from studio.projects import copying, importing, sources
from studio.projects.facts import Facts
from studio.projects.importing import ImportOptions, import_into
from studio.projects.project import Project
from tests.projects.small_pictures import ROW_16, encoded, lay, masked, read, reasons, said, zipped


@pytest.fixture
def room(tmp_path: Path) -> Path:
    """A new, empty data set."""
    folder = tmp_path / "data set"
    folder.mkdir()
    return folder


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A folder to fill with files."""
    folder = tmp_path / "source"
    folder.mkdir()
    return folder


def test_a_folder_is_copied_with_captions_and_masks_and_stays_as_it_was(room: Path, source: Path) -> None:
    lay(source, {"a.png": encoded(1), "a.txt": "a cat", "a-masklabel.png": masked(), "b.jpg": encoded(2, "JPEG"), "b.caption": "a dog", "c.webp": encoded(3, "WEBP"), "deep/d.png": encoded(4)})
    before = read(source)
    done = import_into(room, source)
    assert done.added == ("a.png", "b.jpg", "c.webp")
    assert (done.captions, done.masks, done.skipped, done.problem, done.stopped) == (2, 1, (), "", False)
    assert read(source) == before
    kept = {"b.txt" if name == "b.caption" else name: data for name, data in before.items() if not name.startswith("deep")}
    assert read(room) == kept
    assert said(room) == {"a.png": "a cat", "b.jpg": "a dog", "c.webp": ""}
    assert Project(room).item("a.png").mask_name == "a-masklabel.png"
    assert Project(room).history() == []


def test_times_of_pictures_are_kept(room: Path, source: Path) -> None:
    lay(source, {"a.png": encoded()})
    os.utime(source / "a.png", (1_000_000, 1_000_000))
    import_into(room, source)
    assert (room / "a.png").stat().st_mtime == 1_000_000


def test_sub_folders_come_on_request_and_name_a_picture_where_two_are_called_alike(room: Path, source: Path) -> None:
    lay(source, {"1.png": encoded(1), "day1/1.png": encoded(2), "day1/1.txt": "two", "day1/2.png": encoded(3), "day2/1.png": encoded(4), "day2/1.txt": "four", "day2/1-masklabel.png": masked()})
    done = import_into(room, source, ImportOptions(recursive=True))
    assert set(done.added) == {"1.png", "day1-1.png", "2.png", "day2-1.png"}
    assert said(room) == {"1.png": "", "2.png": "", "day1-1.png": "two", "day2-1.png": "four"}
    assert Project(room).item("day2-1.png").mask_name == "day2-1-masklabel.png"


def test_a_data_set_inside_its_source_is_not_imported_into_itself(source: Path) -> None:
    room = source / "set"
    lay(source, {"a.png": encoded(1), "set/b.png": encoded(2)})
    assert import_into(room, source, ImportOptions(recursive=True)).added == ("a.png",)
    with pytest.raises(InputError, match="the data set itself"):
        import_into(room, room)


def test_pictures_of_one_stem_never_share_a_caption_afterwards(room: Path, source: Path) -> None:
    lay(source, {"a.jpg": encoded(1, "JPEG"), "a.png": encoded(2), "a.txt": "both", "b.jpg": encoded(3, "JPEG"), "b.png": encoded(4), "b.txt": "the jpg", "b.png.txt": "the png"})
    done = import_into(room, source)
    assert said(room) == {"a.jpg": "both", "a-2.png": "both", "b.jpg": "the jpg", "b-2.png": "the png"}
    assert [note for note in done.notes if "a.txt is the caption of a.jpg and a.png" in note]
    assert len({item.caption_name for item in Project(room).items()}) == 4


def test_every_name_comes_in_with_its_caption_and_none_is_lost(room: Path, source: Path) -> None:
    pictures = {name: encoded(100 + place) for place, name in enumerate(ROW_16)}
    lay(source, pictures)
    lay(source, {f"{name}.txt"[-255:] if len(f"{name}.txt".encode()) <= 255 else name[:-4] + ".txt": f"caption of {place}" for place, name in enumerate(ROW_16)})
    done = import_into(room, source)
    assert done.skipped == ()
    by_bytes = {(room / item.name).read_bytes(): item for item in Project(room).items()}
    assert set(by_bytes) == set(pictures.values())
    assert {by_bytes[encoded(100 + place)].caption for place in range(len(ROW_16))} == {f"caption of {place}" for place in range(len(ROW_16))}
    for place, name in enumerate(ROW_16):
        assert by_bytes[pictures[name]].caption == f"caption of {place}"
    folded = [unicodedata.normalize("NFC", path.name).casefold() for path in room.iterdir()]
    assert len(set(folded)) == len(folded)


def test_files_that_are_no_pictures_are_told_with_what_they_look_like(room: Path, source: Path) -> None:
    lay(
        source,
        {
            "web.jpg": "<!DOCTYPE html><html>",
            "text.png": "only words",
            "empty.png": b"",
            "a.png": encoded(),
            "setup.exe": b"MZ",
            "x-masklabel.png": "no mask",
            "x.png": encoded(2),
            "zero.gif": bytes(99),
        },
    )
    done = import_into(room, source)
    assert done.added == ("a.png", "x.png")
    assert reasons(done) == {
        "web.jpg": "web.jpg is not a picture (it looks like a web page (HTML)).",
        "text.png": "text.png is not a picture (it looks like text).",
        "empty.png": "empty.png is not a picture (it is empty).",
        "zero.gif": "zero.gif is not a picture (it looks like nothing but zeros).",
        "setup.exe": "setup.exe is not a picture, a caption or a mask.",
        "x-masklabel.png": "x-masklabel.png is not a PNG mask (it looks like text).",
    }
    assert set(read(room)) == {"a.png", "x.png"}


def test_pictures_with_rarer_suffixes_get_the_usual_one(room: Path, source: Path) -> None:
    lay(source, {"a.jfif": encoded(1, "JPEG"), "a.txt": "words", "b.JPE": encoded(2, "JPEG")})
    assert import_into(room, source).added == ("a.jpg", "b.jpg")
    assert said(room)["a.jpg"] == "words"


def test_what_is_there_already_is_told_and_gets_only_what_it_lacks(room: Path, source: Path) -> None:
    lay(room, {"mine.png": encoded(1), "mine.txt": "my words", "bare.png": encoded(2)})
    lay(source, {"x.png": encoded(1), "x.txt": "other words", "y.png": encoded(2), "y.txt": "for bare", "y-masklabel.png": masked(), "z.png": encoded(3), "z again.png": encoded(3)})
    done = import_into(room, source)
    assert done.added == ("z again.png",)
    assert reasons(done) == {"x.png": "x.png is already there as mine.png.", "y.png": "y.png is already there as bare.png.", "z.png": "z.png is already there as z again.png."}
    assert said(room) == {"mine.png": "my words", "bare.png": "for bare", "z again.png": ""}
    assert (done.changed, done.captions, done.masks) == (("bare.png",), 1, 1)
    project = Project(room)
    assert project.item("bare.png").mask_name == "bare-masklabel.png"
    project.undo()
    assert (project.item("bare.png").captioned, project.item("bare.png").mask_name) == (False, "")


def test_remembered_digests_are_used(room: Path, source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lay(room, {"mine.png": encoded(1)})
    Project(room).put_facts([("mine.png", Facts(digest=importing.sha256(room / "mine.png")))])
    monkeypatch.setattr(importing, "sha256", lambda path: pytest.fail("the file was read again"))
    lay(source, {"x.png": encoded(1)})
    assert import_into(room, source).added == ()


def test_a_caption_or_mask_alone_goes_to_the_picture_it_is_called_like_and_can_be_undone(room: Path, source: Path) -> None:
    lay(room, {"a.png": encoded(1), "a.txt": "old", "b.png": encoded(2)})
    lay(source, {"A.txt": "new", "b-masklabel.png": masked(), "nobody.txt": "?", "nobody-masklabel.png": masked()})
    done = import_into(room, [source / name for name in ("A.txt", "b-masklabel.png", "nobody.txt", "nobody-masklabel.png")])
    assert (done.added, done.changed, done.captions, done.masks) == ((), ("a.png", "b.png"), 1, 1)
    assert set(reasons(done)) == {"nobody.txt", "nobody-masklabel.png"}
    project = Project(room)
    assert project.item("a.png").caption == "new"
    assert project.history()[0].name == "Import captions and masks"
    project.undo()
    assert (project.item("a.png").caption, project.item("b.png").mask_name) == ("old", "")


def test_a_caption_without_its_picture_is_never_taken_over_by_a_new_one(room: Path, source: Path) -> None:
    lay(room, {"a.txt": "of a picture that is gone", "b-masklabel.png": masked()})
    lay(source, {"a.png": encoded(1), "b.png": encoded(2)})
    import_into(room, source)
    assert said(room) == {"a-2.png": "", "b-2.png": ""}
    assert (room / "a.txt").read_text() == "of a picture that is gone"


def test_dropped_files_of_every_kind_come_together(room: Path, source: Path) -> None:
    lay(source, {"a.png": encoded(1), "other/a.txt": "of a", "z/猫.png": encoded(2), "z/猫.txt": "cat", "z/a.png": encoded(3), "f/1.png": encoded(4)})
    packed = zipped(source / "set.zip", source / "z")
    done = import_into(room, [source / "a.png", source / "other" / "a.txt", packed, source / "f", source / "gone.png"])
    assert said(room) == {"a.png": "of a", "猫.png": "cat", "set-a.png": "", "1.png": ""}
    assert list(reasons(done)) == ["gone.png"]


def test_dropped_files_of_one_name_keep_their_own_captions(room: Path, source: Path) -> None:
    lay(source, {"x/a.png": encoded(1), "x/a.txt": "one", "y/a.png": encoded(2), "y/a.txt": "two"})
    import_into(room, sorted(p for p in source.rglob("*") if p.is_file()))
    assert {(room / name).read_bytes(): words for name, words in said(room).items()} == {encoded(1): "one", encoded(2): "two"}


@pytest.mark.parametrize("name", ["gone", "notes.docx", "broken.zip"])
def test_a_source_that_is_none_is_refused_in_words(room: Path, source: Path, name: str) -> None:
    lay(source, {"broken.zip": "no zip", "notes.docx": "words"})
    try:
        done = import_into(room, source / name)
    except StudioError as error:
        assert isinstance(error, InputError | Unreadable)
        assert name in str(error)
    else:
        assert reasons(done) == {name: f"{name} is not a picture, a caption or a mask."}


def test_it_shows_how_far_it_is_and_can_be_stopped(room: Path, source: Path) -> None:
    lay(source, {f"{i}.png": encoded(i) for i in range(5)})
    steps: list[tuple[int, int, str]] = []
    done = import_into(room, source, on_step=lambda *step: steps.append(step), stop=lambda: len(steps) == 3)
    assert steps == [(0, 5, "0.png"), (1, 5, "1.png"), (2, 5, "2.png")]
    assert done.stopped
    assert done.added == ("0.png", "1.png", "2.png")
    again = import_into(room, source, on_step=lambda *step: steps.append(step))
    assert again.added == ("3.png", "4.png")
    assert steps[-1] == (5, 5, "")


def test_a_full_disk_leaves_whole_pictures_and_is_told(room: Path, source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lay(source, {f"{i}.png": encoded(i, side=40 + i) for i in range(6)} | {f"{i}.txt": f"{i}" for i in range(6)})
    placed = []

    def full(temporary: Path, path: Path) -> None:
        if path.name == "3.png":
            raise OSError(errno.ENOSPC, "No space left on device")
        placed.append(path.name)
        os.link(temporary, path)

    monkeypatch.setattr(copying, "place_new", full)
    done = import_into(room, source)
    assert done.added == ("0.png", "1.png", "2.png")
    assert "disk is full" in done.problem
    assert "3 of 6" in done.problem
    assert read(room) == {name: data for name, data in read(source).items() if name[0] in "012"}
    assert not [path.name for path in room.iterdir() if path.name.endswith(".tmp")]


@pytest.mark.parametrize(("at", "left"), [("3.png", set()), ("3.txt", {"3.png"})])
def test_a_killed_import_leaves_whole_files_alone_and_goes_on(room: Path, source: Path, at: str, left: set[str]) -> None:
    lay(source, {f"5_x/{i}.png": encoded(i) for i in range(6)} | {f"5_x/{i}.txt": f"{i}" for i in range(6)})
    code = """
import os, signal, sys
from pathlib import Path
from studio.projects import copying, importing
place = copying.place_new
def killed(temporary, path):
    if path.name == sys.argv[3]:
        os.kill(os.getpid(), signal.SIGKILL)
    place(temporary, path)
copying.place_new = killed
importing.import_into(Path(sys.argv[1]), Path(sys.argv[2]))
"""
    assert subprocess.run([sys.executable, "-c", code, str(room), str(source), at], check=False).returncode == -signal.SIGKILL
    assert set(read(room)) == {f"{i}.{suffix}" for i in range(3) for suffix in ("png", "txt")} | left
    done = import_into(room, source)
    assert len(done.added) == 3 - len(left)
    assert {(room / name).read_bytes(): words for name, words in said(room).items()} == {encoded(i): f"{i}" for i in range(6)}
    assert [path.name for path in room.iterdir() if path.name.startswith(".")] == [".studio"]


def test_two_imports_do_not_run_at_once(room: Path, source: Path) -> None:
    lay(source, {"a.png": encoded(1)})
    seen = []

    def again(*_: object) -> None:
        with pytest.raises(Conflict):
            import_into(room, source)
        seen.append(True)

    assert import_into(room, source, on_step=again).added == ("a.png",)
    assert seen


def test_ten_thousand_files_are_listed_without_asking_about_each(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(10_000):
        (source / f"{number}.png").touch()
    asked = []
    monkeypatch.setattr(sources.Entry, "status", lambda self: asked.append(self))
    monkeypatch.setattr(Path, "stat", lambda self, **_: asked.append(self))
    tracemalloc.start()
    try:
        listing = sources.list_folder(source, lambda _: True, [])
        assert tracemalloc.get_traced_memory()[1] < 8 * 2**20
    finally:
        tracemalloc.stop()
    assert [len(names) for names in listing.values()] == [10_000]
    assert asked == []


def test_a_source_without_end_is_refused(room: Path, source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "MOST_FILES", 5)
    lay(source, {f"deep/{i}.png": encoded(i) for i in range(6)})
    (source / "loop").symlink_to(source, target_is_directory=True)
    with pytest.raises(InputError, match="more than 5 files"):
        import_into(room, source, ImportOptions(recursive=True))


ANY_NAME = st.text(st.characters(blacklist_characters="/\0", blacklist_categories=["Cs"]), min_size=1, max_size=30).filter(lambda name: name[0] != "." and not name.endswith("-masklabel"))


@given(st.lists(ANY_NAME, min_size=1, max_size=6, unique=True))
@settings(max_examples=40, deadline=None)
def test_any_names_come_in_without_loss(tmp_path_factory: pytest.TempPathFactory, names: list[str]) -> None:
    base = tmp_path_factory.mktemp("any")
    source, room = lay(base / "source", {f"{name}.png": encoded(place) for place, name in enumerate(names)}), base / "room"
    room.mkdir()
    done = import_into(room, source)
    assert done.skipped == ()
    assert sorted(read(room).values()) == sorted(encoded(place) for place in range(len(names)))
