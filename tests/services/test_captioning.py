"""Captioning a data set: one undoable step, progress that tells rate and time, bad pictures told, stopped and resumed without loss."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image, ImageDraw
from skimage import data

from studio.dataset import captioners
from studio.dataset.captioners import Speaker, Wanted
from studio.dataset.tag_text import Saying, Tag
from studio.diffusion.cache import ModelCache
from studio.errors import InputError, NotFound, OutOfSpace
from studio.jobs import JobStore, SilentLane
from studio.projects.captioner_shelf import available
from studio.projects.project import Project
from studio.projects.streams import Stream
from studio.requests.caption import CaptionRequest
from studio.services import captioning
from studio.services.desk import Desk
from studio.settings import Paths
from studio.shelves import sample_pictures


@pytest.fixture
def desk(root: Paths) -> Desk:
    """A worker's desk without a GPU."""
    return Desk(root, ModelCache(root, device="cpu"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Six pictures of one colour each; two have captions."""
    folder = tmp_path / "set"
    folder.mkdir()
    for number in range(6):
        Image.new("RGB", (40 + number, 30), (40 * number, 0, 0)).save(folder / f"{number}.png")
    (folder / "1.txt").write_text("old one")
    (folder / "4.txt").write_text("old four")
    return folder


@dataclass
class Colours(Speaker):
    """Says how red a picture is, and remembers how many it was shown at once."""

    name: str = "red"
    shown: list[int] = field(default_factory=list)
    most: int = 1000

    def sayings(self, images: Sequence[Image.Image], options: Any) -> list[Saying]:
        """One sentence for each."""
        if len(images) > self.most:
            raise torch.OutOfMemoryError
        self.shown.append(len(images))
        return [Saying(f"{self.name} {image.getpixel((0, 0))[0]}") for image in images]


@pytest.fixture
def colours(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, Colours]:
    """Captioners by label that take the place of networks."""
    known = {name: Colours(name) for name in ("red", "also red")}
    files = {name: tmp_path / f"{name}.model" for name in known}
    for file in files.values():
        file.touch()

    def wanted(paths: Paths, labels: Sequence[str]) -> list[Wanted]:
        return [Wanted(label, files[label], lambda path, device, label=label: known[label]) for label in labels]

    monkeypatch.setattr(captioning, "wanted", wanted)
    return known


def request(folder: Path, **more: Any) -> CaptionRequest:
    """A press of Caption."""
    return CaptionRequest(**{"folder": str(folder), "captioners": ("red",), **more})


def texts(folder: Path) -> dict[str, str]:
    """Captions by file name."""
    return {p.name: p.read_text() for p in sorted(folder.glob("*.txt"))}


def told(lane: SilentLane, kind: str) -> list[dict[str, Any]]:
    """The events of a kind."""
    return [data for name, data in lane.events if name == kind]


NEW = {f"{n}.txt": f"red {40 * n}" for n in range(6)}


def test_every_picture_gets_words_as_one_step_that_can_be_taken_back(folder: Path, desk: Desk, lane: SilentLane, colours: dict[str, Colours]) -> None:
    before = texts(folder)
    assert captioning.run(request(folder), lane, desk) == {"captioned": 6, "skipped": [], "folder": str(folder)}
    assert texts(folder) == NEW
    steps = Project(folder).history()
    assert [(step.name, step.count, step.state) for step in steps] == [("Caption 6 pictures by red", 6, "done")]
    Project(folder).undo()
    assert texts(folder) == before
    Project(folder).redo()
    assert texts(folder) == NEW


def test_each_picture_is_told_with_its_caption_and_the_time_left(folder: Path, desk: Desk, lane: SilentLane, colours: dict[str, Colours]) -> None:
    captioning.run(request(folder), lane, desk)
    assert told(lane, "item") == [{"name": f"{n}.png", "caption": f"red {40 * n}"} for n in range(6)]
    progress = told(lane, "progress")
    assert [p["step"] for p in progress] == [0, 1, 2, 3, 4, 5, 6]
    assert {p["total"] for p in progress} == {6}
    assert all(p["rate"] > 0 and p["left"] >= 0 for p in progress[1:])
    assert progress[-1]["left"] == 0


def test_only_the_named_pictures_are_captioned(folder: Path, desk: Desk, lane: SilentLane, colours: dict[str, Colours]) -> None:
    result = captioning.run(request(folder, names=("5.png", "0.png", "5.png")), lane, desk)
    assert result["captioned"] == 2
    assert texts(folder) == {"0.txt": "red 0", "5.txt": "red 200", "1.txt": "old one", "4.txt": "old four"}


@pytest.mark.parametrize(
    ("action", "one", "looks"),
    [("ignore", "red 40", 6), ("copy", "old one", 4), ("prepend", "old one, red 40", 6), ("append", "red 40, old one", 6), ("keep", "old one", 4)],
)
def test_captions_that_are_there_are_treated_as_asked(folder: Path, desk: Desk, lane: SilentLane, colours: dict[str, Colours], action: Any, one: str, looks: int) -> None:
    captioning.run(request(folder, existing=action), lane, desk)
    assert texts(folder)["1.txt"] == one
    assert texts(folder)["2.txt"] == "red 80"
    assert sum(colours["red"].shown) == looks


def test_the_trigger_word_stands_before_everything(folder: Path, desk: Desk, lane: SilentLane, colours: dict[str, Colours]) -> None:
    captioning.run(request(folder, existing="prepend", trigger="ohwx"), lane, desk)
    assert texts(folder)["1.txt"] == "ohwx, old one, red 40"
    captioning.run(request(folder, existing="copy", trigger="ohwx"), lane, desk)
    assert texts(folder)["1.txt"] == "ohwx, old one, red 40"


def test_several_captioners_are_joined_and_lent_one_after_another(folder: Path, desk: Desk, lane: SilentLane, colours: dict[str, Colours], monkeypatch: pytest.MonkeyPatch) -> None:
    lent: list[str] = []
    real = desk.cache.lend_part
    monkeypatch.setattr(desk.cache, "lend_part", lambda kind, path, load: lent.append(kind) or real(kind, path, load))
    captioning.run(request(folder, captioners=("red", "also red"), batch_size=2), lane, desk)
    assert texts(folder)["3.txt"] == "red 120, also red 120"
    assert lent == ["red", "also red"]
    assert colours["red"].shown == [2, 2, 2]


def test_pictures_that_do_not_fit_together_are_looked_at_in_halves(folder: Path, desk: Desk, lane: SilentLane, colours: dict[str, Colours]) -> None:
    colours["red"].most = 1
    captioning.run(request(folder, batch_size=4), lane, desk)
    assert texts(folder) == NEW
    colours["red"].most = 0
    with pytest.raises(torch.OutOfMemoryError):
        captioning.run(request(folder), lane, desk)


def test_a_bad_picture_is_told_and_the_others_are_captioned(folder: Path, desk: Desk, lane: SilentLane, colours: dict[str, Colours]) -> None:
    (folder / "2.png").write_bytes(b"no picture")
    result = captioning.run(request(folder, batch_size=3), lane, desk)
    assert result["captioned"] == 5
    assert [s["name"] for s in result["skipped"]] == ["2.png"]
    assert "2.png is not a picture" in told(lane, "warning")[0]["text"]
    assert "2.txt" not in texts(folder)
    assert told(lane, "progress")[-1]["step"] == 6


def test_only_bad_pictures_are_an_error(folder: Path, desk: Desk, lane: SilentLane, colours: dict[str, Colours]) -> None:
    for file in folder.glob("*.png"):
        file.write_bytes(b"")
    with pytest.raises(InputError, match=r"None of the pictures.*0\.png is not a picture"):
        captioning.run(request(folder), lane, desk)
    assert Project(folder).history() == []


def test_a_picture_nothing_is_said_about_keeps_its_caption(folder: Path, desk: Desk, lane: SilentLane, colours: dict[str, Colours], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(colours["red"], "sayings", lambda images, options: [Saying(tags=(Tag("a_b", 0.9),) if i.getpixel((0, 0))[0] > 100 else ()) for i in images])
    result = captioning.run(request(folder), lane, desk)
    assert texts(folder) == {"1.txt": "old one", "3.txt": "a b", "4.txt": "a b", "5.txt": "a b"}
    assert "Nothing was said about 0.png" in result["skipped"][0]["reason"]


@dataclass
class StopAfter(SilentLane):
    """A person who presses Stop after so many pictures."""

    pictures: int = 2

    def emit(self, kind: str, /, **data: Any) -> None:
        """Keep the event and count the pictures."""
        super().emit(kind, **data)
        self.stop = len(told(self, "item")) >= self.pictures


def test_a_stop_keeps_what_is_done_and_keep_goes_on_from_there(folder: Path, desk: Desk, lane: SilentLane, colours: dict[str, Colours]) -> None:
    result = captioning.run(request(folder, names=("0.png", "2.png", "3.png", "5.png")), StopAfter(), desk)
    assert (result["captioned"], result["stopped"]) == (2, True)
    assert texts(folder) == {"0.txt": "red 0", "2.txt": "red 80", "1.txt": "old one", "4.txt": "old four"}
    assert [step.count for step in Project(folder).history()] == [2]
    colours["red"].shown.clear()
    assert captioning.run(request(folder, existing="keep"), lane, desk)["captioned"] == 2
    assert sum(colours["red"].shown) == 2
    assert texts(folder) == NEW | {"1.txt": "old one", "4.txt": "old four"}


class Killed(BaseException):
    """The worker dies here."""


@dataclass
class StoredLane(SilentLane):
    """A lane whose events are in the queue's journal, as the worker's are."""

    store: JobStore | None = None

    def emit(self, kind: str, /, **data: Any) -> None:
        """Write the event."""
        super().emit(kind, **data)
        assert self.store is not None
        self.store.emit(self.job, kind, data)


@pytest.mark.parametrize("action", ["ignore", "prepend", "append", "keep", "copy"])
@pytest.mark.parametrize("told_too", [True, False])
def test_a_job_whose_worker_died_goes_on_and_says_nothing_twice(
    folder: Path, tmp_path: Path, desk: Desk, colours: dict[str, Colours], monkeypatch: pytest.MonkeyPatch, action: Any, told_too: bool
) -> None:
    for number in range(6):
        (folder / f"{number}.txt").write_text(f"old {number}") if action != "keep" else None
    store = JobStore(desk.paths.database)
    job = store.submit("caption", {})
    real, count = Stream.add, [0]

    def dying(stream: Stream, changes: Any) -> int:
        count[0] += 1
        if count[0] == 3 and told_too:
            raise Killed
        done = real(stream, changes)
        if count[0] == 3:
            raise Killed
        return done

    monkeypatch.setattr(Stream, "add", dying)
    with pytest.raises(Killed):
        captioning.run(request(folder, existing=action), StoredLane(job=job, store=store), desk)
    lane = StoredLane(job=job, store=store)
    result = captioning.run(request(folder, existing=action), lane, desk)
    expected = {
        "ignore": lambda n: f"red {40 * n}",
        "prepend": lambda n: f"old {n}, red {40 * n}",
        "append": lambda n: f"red {40 * n}, old {n}",
        "copy": lambda n: f"old {n}",
        "keep": lambda n: {1: "old one", 4: "old four"}.get(n, f"red {40 * n}"),
    }[action]
    assert texts(folder) == {f"{n}.txt": expected(n) for n in range(6)}
    assert told(lane, "progress")[-1]["step"] == 6
    assert result["skipped"] == []


def test_pictures_that_share_a_caption_file_get_one_each(folder: Path, desk: Desk, lane: SilentLane, colours: dict[str, Colours]) -> None:
    Image.new("RGB", (30, 30), (255, 0, 0)).save(folder / "1.webp", lossless=True)
    captioning.run(request(folder, existing="append"), lane, desk)
    said = {item.name: item.caption for item in Project(folder).items()}
    assert (said["1.png"], said["1.webp"]) == ("red 40, old one", "red 255, old one")
    Project(folder).undo()
    assert texts(folder) == {"1.txt": "old one", "4.txt": "old four"}


def test_a_caption_that_somebody_changes_meanwhile_is_not_lost(folder: Path, desk: Desk, lane: SilentLane, colours: dict[str, Colours], monkeypatch: pytest.MonkeyPatch) -> None:
    real = Stream.add

    def late(stream: Stream, changes: Any) -> int:
        if changes[0].item == "4.png":
            (folder / "4.txt").write_text("typed just now")
        return real(stream, changes)

    monkeypatch.setattr(Stream, "add", late)
    result = captioning.run(request(folder), lane, desk)
    assert texts(folder)["4.txt"] == "typed just now"
    assert [s["name"] for s in result["skipped"]] == ["4.png"]
    assert result["captioned"] == 5


def test_a_picture_that_is_taken_away_meanwhile_is_told(folder: Path, desk: Desk, lane: SilentLane, colours: dict[str, Colours], monkeypatch: pytest.MonkeyPatch) -> None:
    real = captioning.open_upright

    def vanishing(path: Path) -> Image.Image:
        if path.name == "3.png":
            path.unlink(missing_ok=True)
        return real(path)

    monkeypatch.setattr(captioning, "open_upright", vanishing)
    result = captioning.run(request(folder), lane, desk)
    assert result["captioned"] == 5
    assert "3.png" in result["skipped"][0]["reason"]


def test_a_full_disk_ends_the_job_and_keeps_what_is_done(folder: Path, desk: Desk, lane: SilentLane, colours: dict[str, Colours], monkeypatch: pytest.MonkeyPatch) -> None:
    real, count = Stream.add, [0]

    def full(stream: Stream, changes: Any) -> int:
        count[0] += 1
        if count[0] == 3:
            raise OutOfSpace("The disk is full.")
        return real(stream, changes)

    monkeypatch.setattr(Stream, "add", full)
    with pytest.raises(OutOfSpace):
        captioning.run(request(folder), lane, desk)
    assert [step.count for step in Project(folder).history()] == [2]


def test_large_pictures_are_made_smaller_before_they_wait(tmp_path: Path) -> None:
    Image.new("RGB", (9000, 4200), "red").save(tmp_path / "large.png")
    image = captioning._open(tmp_path / "large.png")
    assert isinstance(image, Image.Image)
    assert image.size == (2250, 1050)
    Image.new("RGB", (9000, 2048), "red").save(tmp_path / "wide.png")
    wide = captioning._open(tmp_path / "wide.png")
    assert isinstance(wide, Image.Image)
    assert wide.size == (9000, 2048)


def test_what_cannot_be_is_said_before_anything_is_loaded(folder: Path, desk: Desk, lane: SilentLane, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"models/WD14"):
        captioning.run(request(folder, captioners=("BLIP", "WD14")), lane, desk)
    with pytest.raises(NotFound, match=r"'oracle'"):
        captioning.run(request(folder, captioners=("oracle",)), lane, desk)
    with pytest.raises(NotFound, match=r"nobody\.png"):
        captioning.run(request(folder, captioners=("BLIP",), names=("nobody.png",)), lane, desk)
    with pytest.raises(InputError, match="not a folder"):
        captioning.run(request(tmp_path / "nowhere", captioners=("BLIP",)), lane, desk)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no picture"):
        captioning.run(request(tmp_path / "empty", captioners=("BLIP",)), lane, desk)


def test_the_shipped_captioners_speak_together(tmp_path: Path, desk: Desk, lane: SilentLane) -> None:
    folder = tmp_path / "drawn"
    folder.mkdir()
    for number, colour in enumerate(("red", "green", "blue")):
        image = Image.new("RGB", (128, 128), "white")
        ImageDraw.Draw(image).ellipse((30, 30, 100, 100), fill=colour)
        image.save(folder / f"{number}.png")
    captioning.run(request(folder, captioners=("DeepBooru", "BLIP"), batch_size=2), lane, desk)
    blip, tagger = (captioners.wanted(desk.paths, [kind])[0] for kind in ("BLIP", "DeepBooru"))
    said = texts(folder)["1.txt"]
    with Image.open(folder / "1.png") as image:
        sentence = blip.load(blip.path, torch.device("cpu")).caption(image.convert("RGB"), 0.5)
        tags = tagger.load(tagger.path, torch.device("cpu")).caption(image.convert("RGB"), 0.5)
    assert said == ", ".join(filter(None, (sentence, tags)))
    assert sentence
    assert len(set(texts(folder).values())) == 3


def test_the_tiny_captioner_says_when_images_are_not_of_its_world(tmp_path: Path, lane: SilentLane, tiny_cache: ModelCache, root: Paths) -> None:
    photos, drawn = tmp_path / "photos", tmp_path / "drawn"
    photos.mkdir()
    drawn.mkdir()
    for name in ("chelsea", "astronaut", "coffee"):
        Image.fromarray(getattr(data, name)()).save(photos / f"{name}.png")
    for path in sample_pictures().glob("0[2-4].png"):
        (drawn / path.name).write_bytes(path.read_bytes())
    desk = Desk(root, tiny_cache)
    for folder, warned in ((photos, True), (drawn, False)):
        lane.events.clear()
        captioning.run(CaptionRequest(folder=str(folder), captioners=("BLIP",)), lane, desk)
        assert any("don't look like the tiny world" in values.get("text", "") for kind, values in lane.events if kind == "warning") == warned
    titles = {one.kind: one.title for one in available(root)}
    assert (titles["BLIP"], titles["DeepBooru"]) == ("BLIP (tiny world)", "DeepBooru (tiny world)")
    (root.models / "BLIP" / "base").mkdir(parents=True)
    (root.models / "BLIP" / "base" / "config.json").write_text("{}")
    assert next(one.title for one in available(root) if one.kind == "BLIP") == "BLIP"
