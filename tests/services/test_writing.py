"""Write makes copies as was decided, never touches an original or another's file, and goes on where it was killed."""

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

from studio.dataset.manifest import NAME
from studio.diffusion.cache import ModelCache
from studio.errors import Conflict, InputError, NotFound
from studio.jobs import SilentLane
from studio.projects.cropping import box_of
from studio.projects.facts import Change, Crop
from studio.projects.project import Project
from studio.projects.sidecar import HIDDEN
from studio.projects.training_images import repeats_of, training_images
from studio.requests.write import WriteRequest
from studio.services import writing
from studio.services.desk import Desk
from studio.settings import Paths


@pytest.fixture
def desk(root: Paths) -> Desk:
    """A worker's desk without a GPU."""
    return Desk(root, ModelCache(root, device="cpu"))


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A data set of three pictures: wide, tall and square."""
    folder = tmp_path / "my cat"
    folder.mkdir()
    for number, size in enumerate([(200, 100), (90, 180), (96, 96)]):
        noise(size, number).save(folder / f"{number}.png")
    (folder / "0.txt").write_text("a wide cat")
    return Project(folder)


def noise(size: tuple[int, int], seed: int) -> Image.Image:
    """A picture of noise."""
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))


def write(project: Project, lane: SilentLane, desk: Desk, **more: Any) -> dict[str, Any]:
    """One press of Write at 64 x 64."""
    return writing.run(WriteRequest(**{"folder": str(project.folder), "width": 64, "height": 64, **more}), lane, desk)


def decide(project: Project, item: str, **choices: Any) -> None:
    """Decide about a picture."""
    before = project.item(item).choices.as_json()
    project.edit("decide", [Change(item, field, before[field], value) for field, value in choices.items()])


def made(result: dict[str, Any]) -> dict[str, bytes]:
    """What the destination holds, but for the manifest and a data set's notes."""
    folder = Path(result["destination"])
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file() and p.name != NAME and HIDDEN not in p.parts}


def originals(project: Project) -> dict[str, tuple[bytes, int]]:
    """The files directly in the data set."""
    return {p.name: (p.read_bytes(), p.stat().st_mtime_ns) for p in project.folder.iterdir() if p.is_file()}


def told(lane: SilentLane, kind: str) -> list[dict[str, Any]]:
    """The events of a kind."""
    return [data for name, data in lane.events if name == kind]


def test_copies_and_captions_are_written_into_the_data_set(project: Project, lane: SilentLane, desk: Desk) -> None:
    before = originals(project)
    result = write(project, lane, desk)
    assert Path(result["destination"]) == project.folder / "exports" / "64x64"
    assert {k: v for k, v in result.items() if k != "destination"} == {"written": 3, "unchanged": 0, "removed": 0, "skipped": [], "sizes": {"64x64": 3}}
    assert sorted(made(result)) == ["0.png", "0.txt", "1.png", "2.png"]
    assert made(result)["0.txt"] == b"a wide cat"
    assert originals(project) == before
    assert [item.name for item in project.items()] == ["0.png", "1.png", "2.png"]
    for name in ("0.png", "1.png", "2.png"):
        with Image.open(Path(result["destination"]) / name) as image:
            assert (image.size, image.mode) == ((64, 64), "RGB")
    steps = [p["step"] for p in told(lane, "progress")]
    assert steps == sorted(steps)
    assert steps[-1] == told(lane, "progress")[-1]["total"] == 6


def test_a_chosen_crop_is_what_is_cut(project: Project, lane: SilentLane, desk: Desk) -> None:
    decide(project, "0.png", crop={"x": 0.1, "y": 0.5, "zoom": 1.5})
    result = write(project, lane, desk)
    box = box_of((200, 100), (64, 64), Crop(0.1, 0.5, 1.5))
    assert next(i["box"] for i in told(lane, "item") if i["source"].endswith("0.png")) == list(box)
    with Image.open(project.folder / "0.png") as before, Image.open(Path(result["destination"]) / "0.png") as after:
        assert after.tobytes() == before.crop(box).resize((64, 64), Image.Resampling.LANCZOS).tobytes()


def test_left_out_held_out_repeats_and_flips_have_their_places(project: Project, lane: SilentLane, desk: Desk) -> None:
    decide(project, "0.png", left_out=True)
    decide(project, "1.png", held_out=True)
    decide(project, "2.png", repeats=7, flipped=True)
    result = write(project, lane, desk, repeats=True)
    assert sorted(made(result)) == ["7_my cat/2-mirrored.png", "7_my cat/2.png", "validation/1.png"]
    with Image.open(Path(result["destination"]) / "7_my cat/2.png") as straight, Image.open(Path(result["destination"]) / "7_my cat/2-mirrored.png") as flipped:
        assert flipped.tobytes() == ImageOps.mirror(straight).tobytes()
    assert sorted(made(write(project, lane, desk, flip=True, flips=("Vertical", "Both")))) == ["2-flipped.png", "2-turned.png", "2.png", *(f"validation/1{c}.png" for c in ("-flipped", "-turned", ""))]
    folder = Path(result["destination"])
    assert {image.name: repeats for image, repeats in repeats_of(training_images(folder)).items()} == {"2-flipped.png": 7, "2-turned.png": 7, "2.png": 7}
    decide(project, "2.png", repeats=1)
    write(project, lane, desk)
    assert set(repeats_of(training_images(folder)).values()) == {1}


def test_names_that_would_meet_get_their_own(tmp_path: Path, lane: SilentLane, desk: Desk) -> None:
    folder = tmp_path / "twins"
    folder.mkdir()
    for number, name in enumerate(["a.png", "a.bmp", "A.webp", "a-mirrored.png"]):
        noise((64, 64), number).save(folder / name, lossless=True) if name.endswith("webp") else noise((64, 64), number).save(folder / name)
    result = write(Project(folder), lane, desk, flip=True)
    files = made(result)
    assert len({name.lower() for name in files}) == len(files) == 8
    pixels = set()
    for name in files:
        with Image.open(Path(result["destination"]) / name) as image:
            pixels.add(image.tobytes())
    assert len(pixels) == 8


def test_buckets_and_own_sizes(project: Project, lane: SilentLane, desk: Desk) -> None:
    result = write(project, lane, desk, width=128, height=128, sizing="buckets", bucket_step=32)
    assert sum(result["sizes"].values()) == 3
    assert len(result["sizes"]) == 3
    assert write(project, lane, desk, sizing="keep")["sizes"] == {"200x100": 1, "90x180": 1, "96x96": 1}


def test_only_what_changed_is_written_again(project: Project, lane: SilentLane, desk: Desk) -> None:
    first = write(project, lane, desk)
    marks = {p: p.stat().st_mtime_ns for p in Path(first["destination"]).glob("*.png")}
    (project.folder / "0.txt").write_text("another caption")
    noise((150, 90), 9).save(project.folder / "1.png")
    second = write(project, lane, desk)
    assert (second["written"], second["unchanged"], second["removed"]) == (1, 2, 0)
    assert made(second)["0.txt"] == b"another caption"
    assert [p.name for p, mark in marks.items() if p.stat().st_mtime_ns != mark] == ["1.png"]
    decide(project, "2.png", left_out=True)
    (project.folder / "0.txt").unlink()
    third = write(project, lane, desk)
    assert third["removed"] == 2
    assert sorted(made(third)) == ["0.png", "1.png"]


def test_a_part_can_be_written_and_leaves_the_rest(project: Project, lane: SilentLane, desk: Desk) -> None:
    write(project, lane, desk)
    noise((70, 70), 5).save(project.folder / "2.png")
    before = made(write(project, lane, desk, names=("1.png",)))
    result = write(project, lane, desk, names=("2.png",))
    assert (result["written"], result["removed"]) == (1, 0)
    assert [name for name, data in made(result).items() if before[name] != data] == ["2.png"]
    with pytest.raises(NotFound, match=r"'9\.png'"):
        write(project, lane, desk, names=("9.png",))


def test_a_foreign_or_changed_file_is_never_overwritten(project: Project, tmp_path: Path, lane: SilentLane, desk: Desk) -> None:
    place = tmp_path / "place"
    place.mkdir()
    (place / "1.png").write_bytes(b"mine")
    (place / "other.txt").write_text("mine")
    with pytest.raises(Conflict, match=r"1\.png"):
        write(project, lane, desk, destination=str(place))
    assert sorted(p.name for p in place.iterdir()) == ["1.png", "other.txt"]
    (place / "1.png").unlink()
    write(project, lane, desk, destination=str(place))
    (place / "0.txt").write_text("mended by hand")
    with pytest.raises(Conflict, match=r"changed since: 0\.txt"):
        write(project, lane, desk, destination=str(place))
    assert (place / "0.txt").read_text() == "mended by hand"
    assert (place / "other.txt").read_text() == "mine"


def test_a_file_that_was_changed_and_belongs_to_nothing_stays(project: Project, lane: SilentLane, desk: Desk) -> None:
    result = write(project, lane, desk)
    (Path(result["destination"]) / "0.txt").write_text("mended by hand")
    decide(project, "0.png", left_out=True)
    again = write(project, lane, desk)
    assert again["removed"] == 1
    assert made(again)["0.txt"] == b"mended by hand"
    assert any("0.txt" in w["text"] for w in told(lane, "warning"))


@pytest.mark.parametrize("inside", ["", ".studio", ".studio/x", "../my cat"])
def test_the_data_set_itself_is_no_destination(project: Project, lane: SilentLane, desk: Desk, inside: str) -> None:
    before = originals(project)
    with pytest.raises(InputError, match="untouched"):
        write(project, lane, desk, destination=f"{project.folder}/{inside}")
    assert originals(project) == before


def test_masks_go_along_or_become_alpha_or_set_the_subject_on_a_colour(project: Project, lane: SilentLane, desk: Desk) -> None:
    mask = Image.new("L", (96, 96), 0)
    mask.paste(255, (0, 0, 48, 96))
    mask.save(project.folder / "2-masklabel.png")
    beside = write(project, lane, desk, masks="sidecar", destination=str(project.folder / "beside"))
    assert sorted(made(beside)) == ["0.png", "0.txt", "1.png", "2-masklabel.png", "2.png"]
    with Image.open(project.folder / "beside" / "2-masklabel.png") as found:
        assert (found.size, found.mode, found.getpixel((5, 5)), found.getpixel((60, 5))) == ((64, 64), "L", 255, 0)
    alpha = write(project, lane, desk, masks="alpha", destination=str(project.folder / "alpha"))
    with Image.open(Path(alpha["destination"]) / "2.png") as found:
        assert (found.mode, found.getpixel((5, 5))[3], found.getpixel((60, 5))[3]) == ("RGBA", 255, 0)
    green = write(project, lane, desk, background="colour", background_colour="#00ff00", destination=str(project.folder / "green"))
    with Image.open(Path(green["destination"]) / "2.png") as found, Image.open(Path(green["destination"]) / "1.png") as other:
        assert (found.mode, found.getpixel((60, 5)), found.getpixel((63, 63))) == ("RGB", (0, 255, 0), (0, 255, 0))
        assert other.getcolors(1000) is None
    Image.new("L", (96, 96), 255).save(project.folder / "2-masklabel.png")
    assert write(project, lane, desk, masks="alpha", destination=str(project.folder / "alpha"))["written"] == 1


@pytest.mark.parametrize(("format", "kind"), [("jpg", "JPEG"), ("webp", "WEBP")])
def test_other_kinds_of_files(project: Project, lane: SilentLane, desk: Desk, format: str, kind: str) -> None:
    result = write(project, lane, desk, format=format, quality=100, captions=False)
    assert sorted(made(result)) == [f"{n}.{format}" for n in range(3)]
    with Image.open(Path(result["destination"]) / f"0.{format}") as image:
        assert (image.format, image.size) == (kind, (64, 64))


def test_a_bad_picture_is_told_and_the_rest_goes_on(project: Project, lane: SilentLane, desk: Desk) -> None:
    (project.folder / "3.png").write_text("no picture")
    noise((10, 300), 1).save(project.folder / "4.png")
    result = write(project, lane, desk)
    assert [s["source"] for s in result["skipped"]] == ["3.png", "4.png"]
    assert "not a picture" in result["skipped"][0]["reason"]
    assert "10x300" in result["skipped"][1]["reason"]
    assert result["written"] == 3
    assert [w["source"] for w in told(lane, "warning")] == ["3.png", "4.png"]


def test_nothing_to_write_is_said(tmp_path: Path, project: Project, lane: SilentLane, desk: Desk) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no picture to write"):
        write(Project(tmp_path / "empty"), lane, desk)
    for name in ("0.png", "1.png", "2.png"):
        (project.folder / name).write_text("bad")
    with pytest.raises(InputError, match="None of the pictures"):
        write(project, lane, desk)


class Killed(Exception):
    """What a power cut is to the process."""


@dataclass
class DiesAfter(SilentLane):
    """The worker dies after so many pictures."""

    pictures: int = 1

    def emit(self, kind: str, /, **data: Any) -> None:
        """Keep the event; die at the chosen one."""
        super().emit(kind, **data)
        if len(told(self, "item")) >= self.pictures:
            raise Killed


def test_after_a_crash_the_next_run_goes_on(project: Project, lane: SilentLane, desk: Desk) -> None:
    with pytest.raises(Killed):
        write(project, DiesAfter(pictures=2), desk)
    place = project.folder / "exports" / "64x64"
    assert json.loads((place / NAME).read_text())["claims"]
    noise((64, 64), 3).save(place / "0.png")
    result = write(project, lane, desk)
    assert Counter(p.suffix for p in place.iterdir()) == {".png": 3, ".txt": 1, ".json": 1}
    assert result["written"] + result["unchanged"] == 3
    again = write(project, SilentLane(), desk)
    assert (again["written"], again["unchanged"]) == (0, 3)
    assert made(again) == made(write(project, SilentLane(), desk, destination=str(project.folder / "fresh")))


def test_a_stop_keeps_what_is_done_and_the_next_press_does_the_rest(project: Project, lane: SilentLane, desk: Desk) -> None:
    class StopsAfterOne(SilentLane):
        """Somebody presses Stop after the first picture."""

        def stopping(self) -> bool:
            """Whether a picture was written."""
            return bool(told(self, "item"))

    result = write(project, StopsAfterOne(), desk)
    assert (result["written"], result["stopped"]) == (1, True)
    again = write(project, lane, desk)
    assert (again["written"], again["unchanged"]) == (2, 1)


def test_many_processes_write_the_same(project: Project, lane: SilentLane, desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    here = made(write(project, lane, desk))
    monkeypatch.setattr("studio.services.preprocess.FEW_BYTES", 0)
    monkeypatch.setattr("studio.dataset.crew.cores", lambda: 2)
    assert made(write(project, lane, desk, destination=str(project.folder / "there"))) == here


def test_a_damaged_manifest_counts_as_none(project: Project, lane: SilentLane, desk: Desk) -> None:
    result = write(project, lane, desk)
    (Path(result["destination"]) / NAME).write_text("{")
    with pytest.raises(Conflict):
        write(project, lane, desk)
