"""Preprocess writes a training set, tells what it leaves out, and never touches the originals."""

import hashlib
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

from studio.dataset.crop import center, window
from studio.diffusion.cache import ModelCache
from studio.errors import InputError, NotFound, Unreadable
from studio.jobs import SilentLane
from studio.requests.preprocess import PreprocessRequest
from studio.services import preprocess
from studio.services.desk import Desk
from studio.settings import Paths


@pytest.fixture
def desk(root: Paths) -> Desk:
    """A worker's desk without a GPU."""
    return Desk(root, ModelCache(root, device="cpu"))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """An empty folder for originals."""
    folder = tmp_path / "source"
    folder.mkdir()
    return folder


@pytest.fixture
def destination(tmp_path: Path) -> Path:
    """A folder that does not exist yet."""
    return tmp_path / "made" / "by the run"


def picture(path: Path, size: tuple[int, int] = (120, 80), seed: int = 0) -> Path:
    """Write noise."""
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)).save(path)
    return path


def request(source: Path, destination: Path, **more: Any) -> PreprocessRequest:
    """A small press of Preprocess that takes over what is said already."""
    return PreprocessRequest(**{"source": str(source), "destination": str(destination), "width": 64, "height": 64, "existing_captions": "copy", **more})


def prints(folder: Path) -> dict[str, tuple[str, int]]:
    """Every file of a folder with its hash and time of change."""
    return {p.relative_to(folder).as_posix(): (hashlib.sha256(p.read_bytes()).hexdigest(), p.stat().st_mtime_ns) for p in folder.rglob("*") if p.is_file()}


def names(folder: Path) -> list[str]:
    """What a folder holds, hidden files included."""
    return sorted(p.name for p in folder.iterdir())


def told(lane: SilentLane, kind: str) -> list[dict[str, Any]]:
    """The events of a kind."""
    return [data for name, data in lane.events if name == kind]


@dataclass
class StopAfter(SilentLane):
    """A person who presses Stop after so many pictures."""

    pictures: int = 1

    def emit(self, kind: str, /, **data: Any) -> None:
        """Keep the event and count the pictures."""
        super().emit(kind, **data)
        self.stop = len(told(self, "item")) >= self.pictures


def test_pictures_are_written_at_size_with_their_captions(source: Path, destination: Path, desk: Desk, lane: SilentLane) -> None:
    picture(source / "2 cat.png", (120, 80))
    picture(source / "10 dog.jpg", (90, 200))
    picture(source / "猫.webp", (64, 64))
    (source / "2 cat.txt").write_bytes(b"\xef\xbb\xbfa cat")
    (source / "猫.txt").write_bytes("水墨画，猫".encode("gbk"))
    result = preprocess.run(request(source, destination, width=96, height=64), lane, desk)
    assert result == {"written": 3, "skipped": [], "destination": str(destination)}
    assert names(destination) == ["00000-0-2 cat.png", "00000-0-2 cat.txt", "00001-0-10 dog.png", "00002-0-猫.png", "00002-0-猫.txt"]
    for path in destination.glob("*.png"):
        with Image.open(path) as image:
            assert (image.size, image.mode, image.format) == ((96, 64), "RGB", "PNG")
    assert (destination / "00000-0-2 cat.txt").read_text(encoding="utf-8") == "a cat"
    assert (destination / "00002-0-猫.txt").read_text(encoding="utf-8") == "水墨画，猫"


def test_captions_that_lie_there_are_ignored_when_so_chosen(source: Path, destination: Path, desk: Desk, lane: SilentLane) -> None:
    picture(source / "cat.png")
    (source / "cat.txt").write_text("a cat")
    preprocess.run(request(source, destination, existing_captions="ignore"), lane, desk)
    assert names(destination) == ["00000-0-cat.png"]
    assert told(lane, "item")[0]["caption"] == ""


@pytest.mark.parametrize("action", ["copy", "prepend", "append"])
def test_an_existing_caption_is_kept_whole_without_a_captioner(source: Path, destination: Path, desk: Desk, lane: SilentLane, action: str) -> None:
    picture(source / "cat.png")
    (source / "cat.txt").write_text("a cat, sitting")
    preprocess.run(request(source, destination, existing_captions=action), lane, desk)
    assert (destination / "00000-0-cat.txt").read_text() == "a cat, sitting"


def test_the_originals_are_byte_identical_afterwards(source: Path, destination: Path, desk: Desk, lane: SilentLane) -> None:
    for number, name in enumerate(("a.png", "b.jpg", "c.webp", "d.bmp", "e.gif")):
        picture(source / name, seed=number)
    (source / "a.txt").write_text("said")
    (source / "bad.png").write_text("bad")
    before = prints(source)
    preprocess.run(request(source, destination, flip=True), lane, desk)
    assert prints(source) == before


def test_a_destination_in_or_at_the_source_is_refused(source: Path, desk: Desk, lane: SilentLane) -> None:
    picture(source / "a.png")
    before = prints(source)
    for destination in (source, source / "out", source / ".." / "source"):
        with pytest.raises(InputError, match=r"must stay untouched"):
            preprocess.run(request(source, destination), lane, desk)
    assert prints(source) == before
    assert names(source) == ["a.png"]


def test_a_link_to_the_source_is_no_way_around(tmp_path: Path, source: Path, desk: Desk, lane: SilentLane) -> None:
    picture(source / "a.png")
    (tmp_path / "link").symlink_to(source, target_is_directory=True)
    with pytest.raises(InputError, match=r"must stay untouched"):
        preprocess.run(request(source, tmp_path / "link" / "out"), lane, desk)
    assert names(source) == ["a.png"]


def test_bad_files_are_skipped_with_a_reason_while_the_rest_goes_on(source: Path, destination: Path, desk: Desk, lane: SilentLane) -> None:
    picture(source / "1 good.png")
    (source / "2 empty.png").touch()
    (source / "3 text.jpg").write_text("no picture")
    whole = picture(source / "4 cut.jpg", (200, 200)).read_bytes()
    (source / "4 cut.jpg").write_bytes(whole[: len(whole) // 2])
    picture(source / "5 tiny.png", (15, 300))
    picture(source / "6 good.png", seed=1)
    result = preprocess.run(request(source, destination), lane, desk)
    assert result["written"] == 2
    assert [(s["source"], words in s["reason"]) for s, words in zip(result["skipped"], ("empty", "not a picture", "damaged", "15x300"), strict=True)] == [
        ("2 empty.png", True),
        ("3 text.jpg", True),
        ("4 cut.jpg", True),
        ("5 tiny.png", True),
    ]
    assert [(w["source"], w["text"]) for w in told(lane, "warning")] == [(s["source"], s["reason"]) for s in result["skipped"]]
    assert [n.split("-", 2)[2] for n in names(destination)] == ["1 good.png", "6 good.png"]


def test_progress_reaches_the_end_also_over_bad_files(source: Path, destination: Path, desk: Desk, lane: SilentLane) -> None:
    picture(source / "1.png")
    (source / "2.png").touch()
    preprocess.run(request(source, destination), lane, desk)
    steps = [(p["step"], p["total"]) for p in told(lane, "progress")]
    assert steps[0] == (0, 2)
    assert steps[-1] == (2, 2)
    assert steps == sorted(steps)


def test_only_bad_pictures_raise_with_their_reasons(source: Path, destination: Path, desk: Desk, lane: SilentLane) -> None:
    (source / "a.png").touch()
    (source / "b.png").write_text("text")
    with pytest.raises(InputError, match=r"None of the pictures could be used.*a\.png.*b\.png"):
        preprocess.run(request(source, destination), lane, desk)
    assert len(told(lane, "warning")) == 2


def test_a_source_that_is_missing_or_empty_or_no_folder_is_refused_and_nothing_is_made(tmp_path: Path, source: Path, destination: Path, desk: Desk, lane: SilentLane) -> None:
    (tmp_path / "notes.txt").write_text("x")
    for wrong in (tmp_path / "missing", source, tmp_path / "notes.txt", tmp_path / "missing.zip"):
        with pytest.raises(InputError):
            preprocess.run(request(wrong, destination), lane, desk)
    assert not destination.exists()


def test_flip_writes_a_mirrored_copy_with_the_same_caption(source: Path, destination: Path, desk: Desk, lane: SilentLane) -> None:
    picture(source / "a.png")
    (source / "a.txt").write_text("said")
    result = preprocess.run(request(source, destination, flip=True), lane, desk)
    assert result["written"] == 2
    assert names(destination) == ["00000-0-a.png", "00000-0-a.txt", "00000-1-a.png", "00000-1-a.txt"]
    with Image.open(destination / "00000-0-a.png") as straight, Image.open(destination / "00000-1-a.png") as flipped:
        assert flipped.tobytes() == ImageOps.mirror(straight).tobytes() != straight.tobytes()
    assert (destination / "00000-1-a.txt").read_text() == "said"
    assert [i["flipped"] for i in told(lane, "item")] == [False, True]


def test_a_stop_in_the_middle_returns_what_was_written(source: Path, destination: Path, desk: Desk) -> None:
    for number in range(5):
        picture(source / f"{number}.png", seed=number)
    lane = StopAfter(pictures=2)
    result = preprocess.run(request(source, destination), lane, desk)
    assert result == {"written": 2, "skipped": [], "destination": str(destination), "stopped": True}
    assert len(names(destination)) == 2


def test_a_stop_before_the_first_picture_writes_nothing_and_is_no_error(source: Path, destination: Path, desk: Desk) -> None:
    picture(source / "a.png")
    result = preprocess.run(request(source, destination), SilentLane(stop=True), desk)
    assert (result["written"], result["stopped"]) == (0, True)
    assert names(destination) == []


def test_names_that_differ_only_in_suffix_do_not_collide(source: Path, destination: Path, desk: Desk, lane: SilentLane) -> None:
    Image.new("RGB", (64, 64), (200, 0, 0)).save(source / "a.png")
    Image.new("RGB", (64, 64), (0, 0, 200)).save(source / "a.bmp")
    Image.new("RGB", (64, 64), (0, 200, 0)).save(source / "A.gif")
    assert preprocess.run(request(source, destination), lane, desk)["written"] == 3
    colours = set()
    for path in destination.glob("*.png"):
        with Image.open(path) as image:
            colours.add(image.getpixel((5, 5)))
    assert colours == {(200, 0, 0), (0, 0, 200), (0, 200, 0)}


def test_numbering_goes_on_where_the_destination_has_pictures(source: Path, destination: Path, desk: Desk, lane: SilentLane) -> None:
    picture(source / "a.png")
    picture(source / "b.png", seed=1)
    preprocess.run(request(source, destination), lane, desk)
    first = prints(destination)
    preprocess.run(request(source, destination), lane, desk)
    assert names(destination) == ["00000-0-a.png", "00001-0-b.png", "00002-0-a.png", "00003-0-b.png"]
    assert {name: mark for name, mark in prints(destination).items() if name in first} == first


def test_other_files_in_the_destination_are_left_alone(source: Path, destination: Path, desk: Desk, lane: SilentLane) -> None:
    picture(source / "a.png")
    destination.mkdir(parents=True)
    (destination / "a.png").write_bytes(b"mine")
    (destination / "notes-12345-x.txt").write_text("mine")
    (destination / "00041-0-old.png").write_bytes(b"mine")
    before = prints(destination)
    preprocess.run(request(source, destination), lane, desk)
    after = prints(destination)
    assert set(after) - set(before) == {"00042-0-a.png"}
    assert {name: after[name] for name in before} == before


def test_a_number_of_six_digits_does_not_lead_to_overwriting(source: Path, destination: Path, desk: Desk, lane: SilentLane) -> None:
    picture(source / "a.png")
    destination.mkdir(parents=True)
    (destination / "99999-0-x.png").write_bytes(b"mine")
    preprocess.run(request(source, destination), lane, desk)
    preprocess.run(request(source, destination), lane, desk)
    assert len(names(destination)) == 3


def test_a_zip_is_a_source_and_stays_as_it_is(tmp_path: Path, destination: Path, desk: Desk, lane: SilentLane) -> None:
    file = tmp_path / "set.zip"
    with zipfile.ZipFile(file, "w") as archive:
        archive.write(picture(tmp_path / "x.png"), "图/一 猫.png")
        archive.writestr("图/一 猫.txt", "一只猫".encode())
        archive.writestr("../../evil.png", b"bad")
    before = file.read_bytes()
    result = preprocess.run(request(file, destination), lane, desk)
    assert result["written"] == 1
    assert [s["source"] for s in result["skipped"]] == ["evil.png"]
    assert names(destination) == ["00000-0-一 猫.png", "00000-0-一 猫.txt"]
    assert [w["source"] for w in told(lane, "warning")] == ["evil.png"]
    assert file.read_bytes() == before
    assert not list(tmp_path.rglob("evil.png"))


def test_a_file_named_zip_that_is_none_is_refused_in_words(tmp_path: Path, destination: Path, desk: Desk, lane: SilentLane) -> None:
    (tmp_path / "fake.zip").write_bytes(b"no zip")
    with pytest.raises(Unreadable, match=r"fake\.zip is not a zip file"):
        preprocess.run(request(tmp_path / "fake.zip", destination), lane, desk)


def test_a_zip_without_pictures_is_refused_in_words_that_name_it(tmp_path: Path, destination: Path, desk: Desk, lane: SilentLane) -> None:
    with zipfile.ZipFile(tmp_path / "letters.zip", "w") as archive:
        archive.writestr("a.md", "x")
    with pytest.raises(InputError, match=r"letters\.zip"):
        preprocess.run(request(tmp_path / "letters.zip", destination), lane, desk)


@pytest.mark.parametrize("crop", ["Focal", "Center"])
def test_an_item_tells_its_box_and_a_drawing_that_exists(source: Path, destination: Path, desk: Desk, lane: SilentLane, crop: str) -> None:
    picture(source / "wide.png", (200, 80))
    picture(source / "tall.png", (50, 300), seed=1)
    preprocess.run(request(source, destination, crop=crop), lane, desk)
    items = told(lane, "item")
    assert [Path(i["source"]).name for i in items] == ["tall.png", "wide.png"]
    for item in items:
        left, top, right, bottom = item["box"]
        assert right - left == bottom - top == min(item["size"])
        assert left >= 0 and top >= 0 and right <= item["size"][0] and bottom <= item["size"][1]
        with Image.open(item["drawn"]) as shown:
            assert shown.size == tuple(item["size"])
        assert Path(item["drawn"]).is_relative_to(desk.paths.crops)
        assert Path(item["path"]).is_file()
        assert crop == "Focal" or tuple(item["box"]) == window(tuple(item["size"]), (64, 64), center(tuple(item["size"])))


def test_what_is_written_is_what_lay_in_the_box(source: Path, destination: Path, desk: Desk, lane: SilentLane) -> None:
    original = picture(source / "a.png", (100, 64))
    preprocess.run(request(source, destination), lane, desk)
    item = told(lane, "item")[0]
    with Image.open(original) as before, Image.open(item["path"]) as after:
        assert after.tobytes() == before.crop(item["box"]).tobytes()


def test_a_photo_is_cut_after_it_was_turned_upright(source: Path, destination: Path, desk: Desk, lane: SilentLane) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (200, 100), (9, 9, 9)).save(source / "photo.jpg", exif=exif)
    preprocess.run(request(source, destination), lane, desk)
    assert told(lane, "item")[0]["size"] == [100, 200]
    with Image.open(told(lane, "item")[0]["path"]) as image:
        assert image.getexif().get(0x0112, 1) == 1


@pytest.mark.parametrize("stem", ["n" * 240, "长" * 80, "trailing dots...", " "])
def test_awkward_names_get_a_name_that_can_be_written(source: Path, destination: Path, desk: Desk, lane: SilentLane, stem: str) -> None:
    picture(source / f"{stem}.png")
    (source / f"{stem}.txt").write_text("said")
    assert preprocess.run(request(source, destination), lane, desk)["written"] == 1
    written = Path(told(lane, "item")[0]["path"])
    assert written.is_file()
    assert written.with_suffix(".txt").read_text() == "said"


def test_a_captioner_that_is_missing_is_told_before_any_work(source: Path, destination: Path, desk: Desk, lane: SilentLane, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("studio.settings.SHIPPED_ROOT", tmp_path / "nothing shipped")
    picture(source / "a.png")
    for name in ("BLIP", "DeepBooru"):
        with pytest.raises(NotFound, match=name):
            preprocess.run(request(source, destination, captioners=(name,)), lane, desk)
    assert not destination.exists()


def test_a_destination_that_is_a_file_is_refused_in_words(tmp_path: Path, source: Path, desk: Desk, lane: SilentLane) -> None:
    picture(source / "a.png")
    (tmp_path / "file").write_text("mine")
    for wrong in (tmp_path / "file", tmp_path / "file" / "deeper"):
        with pytest.raises(InputError, match=r"destination.*cannot be made"):
            preprocess.run(request(source, wrong), lane, desk)
    assert (tmp_path / "file").read_text() == "mine"


def test_images_without_any_caption_are_told(tmp_path: Path, desk: Desk, lane: SilentLane) -> None:
    source = tmp_path / "bare"
    source.mkdir()
    Image.new("RGB", (128, 128), "red").save(source / "a.png")
    values = {"source": str(source), "destination": str(tmp_path / "made"), "width": 64, "height": 64}
    preprocess.run(PreprocessRequest(**values), lane, desk)
    assert [event["text"] for event in told(lane, "log")] == ["None of the 1 images has a caption. Choose a captioner, or write captions in the dataset; training would use file names."]
    (source / "a.caption").write_text("a red square")
    lane.events.clear()
    preprocess.run(PreprocessRequest(**{**values, "destination": str(tmp_path / "again"), "existing_captions": "copy"}), lane, desk)
    assert told(lane, "log") == [] and (tmp_path / "again" / "00000-0-a.txt").read_text() == "a red square"
