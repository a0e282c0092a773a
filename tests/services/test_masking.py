"""Cutting out the subjects of a data set: one step that can be taken back, pictures that cannot be cut told, stopped and resumed without loss."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

from studio.dataset import cutting
from studio.dataset.background import Cut
from studio.dataset.masks import mask_file, mask_png, read_mask
from studio.diffusion.cache import ModelCache
from studio.errors import InputError, NotFound, Unreadable
from studio.jobs import JobStore, SilentLane
from studio.projects.facts import Change
from studio.projects.findings import kept_mask_trouble
from studio.projects.project import Project
from studio.requests.mask import MaskRequest
from studio.services import masking
from studio.services.desk import Desk
from studio.settings import Paths
from tests.dataset.onnx_file import write_pointwise

NAMES = [f"{number}.png" for number in range(5)]


@pytest.fixture
def desk(root: Paths) -> Desk:
    """A worker's desk without a GPU."""
    return Desk(root, ModelCache(root, device="cpu"))


def scene(number: int) -> tuple[Image.Image, Image.Image]:
    """A disc on blue, and where it is."""
    image, truth = Image.new("RGB", (96, 80), (90, 140, 200)), Image.new("L", (96, 80))
    for target, fill in ((image, (220, 40, 30)), (truth, 255)):
        ImageDraw.Draw(target).ellipse((20 + 3 * number, 20, 60 + 3 * number, 60), fill=fill)
    return image, truth


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Five pictures of a disc; the second has a mask that somebody made."""
    made = tmp_path / "set"
    made.mkdir()
    for number, name in enumerate(NAMES):
        scene(number)[0].save(made / name)
    own_mask().save(made / "1-masklabel.png")
    return made


def own_mask() -> Image.Image:
    """A mask that no segmenter would make."""
    mask = Image.new("L", (96, 80))
    ImageDraw.Draw(mask).rectangle((0, 0, 10, 79), fill=255)
    return mask


def request(folder: Path, **more: Any) -> MaskRequest:
    """A press of Cut out."""
    return MaskRequest(folder=str(folder), **more)


def overlap(one: Image.Image, other: Image.Image) -> float:
    """Intersection over union."""
    a, b = (np.asarray(mask) >= 128 for mask in (one, other))
    return float((a & b).sum() / max(1, (a | b).sum()))


def masks(folder: Path) -> dict[str, bytes]:
    """Mask files by name."""
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*-masklabel.png"))}


def told(lane: SilentLane, kind: str) -> list[dict[str, Any]]:
    """The events of a kind."""
    return [data for name, data in lane.events if name == kind]


class Hurried(SilentLane):
    """Asks for a stop once so many masks were told."""

    def __init__(self, after: int) -> None:
        super().__init__()
        self.after = after

    def stopping(self) -> bool:
        """Whether enough was told."""
        return len(told(self, "item")) >= self.after


def test_every_picture_gets_its_subject_as_one_step_that_can_be_taken_back(folder: Path, desk: Desk, lane: SilentLane) -> None:
    before, pictures = masks(folder), {name: (folder / name).read_bytes() for name in NAMES}
    assert masking.run(request(folder), lane, desk) == {"masks": 4, "kept": 1, "skipped": [], "folder": str(folder)}
    for number in (0, 2, 3, 4):
        mask = read_mask(folder / NAMES[number])
        assert mask is not None and mask.size == (96, 80) and overlap(mask, scene(number)[1]) > 0.9
    assert masks(folder)["1-masklabel.png"] == before["1-masklabel.png"], "a mask that was there stays"
    after = masks(folder)
    assert [(step.name, step.count, step.state) for step in Project(folder).history()] == [("Cut out the subjects", 4, "done")]
    Project(folder).undo()
    assert masks(folder) == before
    Project(folder).redo()
    assert masks(folder) == after
    assert {name: (folder / name).read_bytes() for name in NAMES} == pictures, "pictures are only read"


def test_each_mask_is_told_with_its_confidence_and_the_time_left(folder: Path, desk: Desk, lane: SilentLane) -> None:
    masking.run(request(folder), lane, desk)
    items = told(lane, "item")
    assert [item["name"] for item in items] == ["0.png", "2.png", "3.png", "4.png"]
    assert all(0.3 < item["confidence"] <= 1 for item in items)
    progress = told(lane, "progress")
    assert [p["step"] for p in progress] == [1, 2, 3, 4, 5] and {p["total"] for p in progress} == {5}
    assert all(p["rate"] > 0 and p["left"] >= 0 for p in progress[1:]) and progress[-1]["left"] == 0
    assert told(lane, "warning") == []


def test_more_pictures_are_cut_by_several_processes_alike(tmp_path: Path, desk: Desk, lane: SilentLane) -> None:
    folder = tmp_path / "many"
    folder.mkdir()
    for number in range(masking.FEW + 2):
        scene(number)[0].save(folder / f"{number}.png")
    assert masking.run(request(folder), lane, desk)["masks"] == masking.FEW + 2
    for number in (0, 9):
        order = cutting.Order(folder / f"{number}.png", None, Project(folder).item(f"{number}.png").choices)
        assert mask_file(order.picture).read_bytes() == cutting.masked(order).png, "each result is of its own picture, the same in every process"


def test_masks_are_replaced_when_that_is_asked_for_and_come_back_by_undo(folder: Path, desk: Desk, lane: SilentLane) -> None:
    before = masks(folder)
    assert masking.run(request(folder, keep_existing=False), lane, desk)["masks"] == 5
    assert overlap(read_mask(folder / "1.png"), scene(1)[1]) > 0.9
    Project(folder).undo()
    assert masks(folder) == before


def test_only_the_named_pictures_are_cut_and_left_out_ones_are_not_unless_named(folder: Path, desk: Desk, lane: SilentLane) -> None:
    Project(folder).edit("Leave out", [Change("0.png", "left_out", False, True)])
    assert masking.run(request(folder, names=("3.png", "3.png")), lane, desk)["masks"] == 1
    assert list(masks(folder)) == ["1-masklabel.png", "3-masklabel.png"]
    masking.run(request(folder), lane, desk)
    assert "0-masklabel.png" not in masks(folder)
    assert masking.run(request(folder, names=("0.png",)), lane, desk)["masks"] == 1
    with pytest.raises(NotFound, match=r"no\.png"):
        masking.run(request(folder, names=("0.png", "no.png")), lane, desk)


def test_a_mask_is_grown_softened_and_turned_round(folder: Path, desk: Desk, lane: SilentLane) -> None:
    shares = {}
    for name, more in {"plain": {}, "grown": {"grow": 6}, "less": {"grow": -6}, "soft": {"feather": 8}, "round": {"invert": True}}.items():
        masking.run(request(folder, names=("0.png",), keep_existing=False, **more), lane, desk)
        shares[name] = np.asarray(read_mask(folder / "0.png")).astype(float) / 255
    assert abs(np.sqrt(shares["grown"].sum() / np.pi) - np.sqrt(shares["plain"].sum() / np.pi) - 6) < 1
    assert abs(np.sqrt(shares["plain"].sum() / np.pi) - np.sqrt(shares["less"].sum() / np.pi) - 6) < 1
    middling = {name: ((share > 0.1) & (share < 0.9)).sum() for name, share in shares.items()}
    assert middling["soft"] > 3 * middling["plain"]
    assert np.allclose(shares["round"], 1 - shares["plain"])


def test_pictures_that_cannot_be_cut_are_told_and_the_others_get_masks(folder: Path, desk: Desk, lane: SilentLane) -> None:
    Image.new("RGB", (40, 40), "red").save(folder / "5 flat.png")
    (folder / "6 broken.png").write_bytes(b"no picture")
    Image.new("RGB", (1, 1), "red").save(folder / "7 dot.png")
    Image.new("RGBA", (40, 40), (1, 2, 3, 0)).save(folder / "8 clear.png")
    found = masking.run(request(folder), lane, desk)
    assert found["masks"] == 4
    reasons = {one["source"]: one["reason"] for one in found["skipped"]}
    assert list(reasons) == ["5 flat.png", "6 broken.png", "7 dot.png", "8 clear.png"]
    assert "one colour" in reasons["5 flat.png"] and "not a picture" in reasons["6 broken.png"] and "too small" in reasons["7 dot.png"]
    assert {w["name"]: w["text"] for w in told(lane, "warning")} == reasons
    assert [p["step"] for p in told(lane, "progress")][-1] == 9


def test_a_subject_that_vanishes_when_it_shrinks_leaves_no_black_mask(folder: Path, desk: Desk, lane: SilentLane) -> None:
    for grow, word in ((-200, "Nothing is left"), (256, "whole picture")):
        with pytest.raises(InputError, match=word):
            masking.run(request(folder, names=("0.png",), grow=grow), lane, desk)
    assert list(masks(folder)) == ["1-masklabel.png"] and Project(folder).history() == [], "nothing was changed, and there is no empty step"


def test_a_picture_whose_alpha_is_a_mask_keeps_it_unless_told_otherwise(folder: Path, desk: Desk, lane: SilentLane) -> None:
    image, truth = scene(0)
    image.putalpha(truth)
    image.save(folder / "clear.png")
    assert masking.run(request(folder, names=("clear.png",)), lane, desk) == {"masks": 0, "kept": 1, "skipped": [], "folder": str(folder)}
    assert masking.run(request(folder, names=("clear.png",), keep_existing=False), lane, desk)["masks"] == 1
    assert overlap(Image.open(folder / "clear-masklabel.png"), truth) > 0.9


def test_of_two_pictures_with_one_mask_file_the_second_is_told(folder: Path, desk: Desk, lane: SilentLane) -> None:
    scene(4)[0].save(folder / "0.webp", lossless=True)
    found = masking.run(request(folder, names=("0.png", "0.webp")), lane, desk)
    assert found["masks"] == 1
    assert [one["source"] for one in found["skipped"]] == ["0.webp"] and "shares the mask file 0-masklabel.png with 0.png" in found["skipped"][0]["reason"]
    assert overlap(Image.open(folder / "0-masklabel.png"), scene(0)[1]) > 0.9


def test_a_picture_turned_by_its_exif_gets_an_upright_mask(tmp_path: Path, desk: Desk, lane: SilentLane) -> None:
    folder = tmp_path / "turned"
    folder.mkdir()
    exif = Image.Exif()
    exif[0x0112] = 6
    image, truth = scene(0)
    image.save(folder / "a.jpg", exif=exif, quality=95)
    masking.run(request(folder), lane, desk)
    assert overlap(read_mask(folder / "a.jpg"), truth.transpose(Image.Transpose.ROTATE_270)) > 0.9


def test_a_stop_keeps_what_is_done_as_one_step(folder: Path, desk: Desk) -> None:
    lane = Hurried(2)
    found = masking.run(request(folder), lane, desk)
    assert found["masks"] == 2 and found["stopped"] is True and len(masks(folder)) == 3
    assert [step.count for step in Project(folder).history()] == [2]
    assert masking.run(request(folder), SilentLane(), desk)["masks"] == 2, "the next run does the rest"


def test_a_job_whose_worker_died_goes_on_where_it_was(folder: Path, desk: Desk) -> None:
    store = JobStore(desk.paths.database)
    wanted = request(folder, keep_existing=False)
    first = Hurried(2)
    masking.run(wanted, first, desk)
    job = store.submit("mask", wanted.model_dump(mode="json"))
    for item in told(first, "item"):
        store.emit(job, "item", item)
    done = {item["name"] for item in told(first, "item")}
    own_mask().save(folder / "0-masklabel.png")
    again = SilentLane(job=job)
    assert masking.run(wanted, again, desk)["masks"] == 5
    assert {item["name"] for item in told(again, "item")} == set(NAMES) - done
    assert (folder / "0-masklabel.png").read_bytes() == mask_bytes(), "what was done is not done again, so a mask that was painted since stays"


def mask_bytes() -> bytes:
    """The painted mask as Pillow writes it."""
    import io

    stream = io.BytesIO()
    own_mask().save(stream, "PNG")
    return stream.getvalue()


def test_a_mask_that_is_painted_meanwhile_is_left_as_it_is(folder: Path, desk: Desk, lane: SilentLane, monkeypatch: pytest.MonkeyPatch) -> None:
    cut = cutting.masked

    def painted(order: cutting.Order) -> cutting.Masked | None:
        if order.picture.name == "2.png":
            own_mask().save(mask_file(order.picture))
        return cut(order)

    monkeypatch.setattr(masking, "masked", painted)
    found = masking.run(request(folder, keep_existing=False), lane, desk)
    assert found["masks"] == 4 and [one["source"] for one in found["skipped"]] == ["2.png"]
    assert "changed meanwhile" in found["skipped"][0]["reason"]
    assert np.array_equal(np.asarray(read_mask(folder / "2.png")), np.asarray(own_mask()))


def test_a_picture_that_goes_meanwhile_is_told(folder: Path, desk: Desk, lane: SilentLane, monkeypatch: pytest.MonkeyPatch) -> None:
    cut = cutting.masked

    def gone(order: cutting.Order) -> cutting.Masked | None:
        found = cut(order)
        if order.picture.name == "2.png":
            order.picture.unlink()
        return found

    monkeypatch.setattr(masking, "masked", gone)
    found = masking.run(request(folder), lane, desk)
    assert found["masks"] == 3 and [one["source"] for one in found["skipped"]] == ["2.png"]
    with pytest.raises(NotFound, match="is gone"):
        cut(cutting.Order(folder / "2.png", None, Project(folder).item("0.png").choices))


def test_the_doctor_knows_of_the_masks_that_were_touched(folder: Path, desk: Desk, lane: SilentLane) -> None:
    (folder / "0-masklabel.png").write_bytes(mask_png(Image.new("L", (96, 80), 0)))
    project = Project(folder)
    masking.keep_mask_trouble(project, {"0.png": "It is all black."})
    masking.run(request(folder, names=("0.png", "3.png"), keep_existing=False), lane, desk)
    assert kept_mask_trouble(project, project.items()) == {}, "a mask that was bad is good now"


@pytest.mark.parametrize("segmenter", ["rembg", "SAM", "Segmentation"])
def test_without_its_files_a_segmenter_says_where_they_belong(folder: Path, desk: Desk, lane: SilentLane, segmenter: str) -> None:
    with pytest.raises(NotFound) as said:
        masking.run(request(folder, segmenter=segmenter), lane, desk)
    assert "models/rembg" in str(said.value) or "models/segmentation" in str(said.value)
    assert list(masks(folder)) == ["1-masklabel.png"]


def test_a_network_is_lent_by_the_cache_and_its_masks_are_written(folder: Path, desk: Desk, lane: SilentLane, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(masking, "TURN", 0.0)
    write_pointwise(desk.paths.models / "rembg" / "u2net.onnx", (1, 3, 64, 64), (6, -3, -3), 0)
    (folder / "5.png").write_bytes(b"no picture")
    found = masking.run(request(folder, segmenter="rembg"), lane, desk)
    assert found["masks"] == 4 and [one["source"] for one in found["skipped"]] == ["5.png"]
    assert overlap(read_mask(folder / "0.png"), scene(0)[1]) > 0.8, "the network sees red"
    assert [name for name, _, _ in desk.cache.resident()] == ["u2net.onnx"]
    assert [p["step"] for p in told(lane, "progress")] == [1, 2, 3, 4, 5, 6]
    Project(folder).undo()
    hurried = Hurried(1)
    assert masking.run(request(folder, segmenter="rembg"), hurried, desk)["masks"] == 1


def test_a_damaged_network_is_told_before_anything_is_written(folder: Path, desk: Desk, lane: SilentLane) -> None:
    (desk.paths.models / "rembg").mkdir(parents=True, exist_ok=True)
    (desk.paths.models / "rembg" / "u2net.onnx").write_bytes(b"not a network")
    with pytest.raises(Unreadable, match=r"u2net\.onnx"):
        masking.run(request(folder, segmenter="rembg"), lane, desk)
    assert list(masks(folder)) == ["1-masklabel.png"] and Project(folder).history() == []


def test_a_segmenter_is_told_what_a_person_has_decided(folder: Path) -> None:
    project = Project(folder)
    project.edit("Crop", [Change("0.png", "crop", None, {"x": 0.2, "y": 0.8, "zoom": 2.0})])
    asked = []

    def segment(image: Image.Image, seed: Any) -> Cut:
        asked.append(seed.point)
        return Cut(scene(0)[1], 0.5)

    item = project.item("0.png")
    made = cutting.masked(cutting.Order(folder / "0.png", item.facts, item.choices), segment)
    assert asked == [(0.2, 0.8)] and made.png == mask_png(scene(0)[1])


def test_an_empty_folder_and_one_that_is_none_are_told(tmp_path: Path, desk: Desk, lane: SilentLane) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no picture"):
        masking.run(request(tmp_path / "empty"), lane, desk)
    with pytest.raises(InputError, match="not a folder"):
        masking.run(request(tmp_path / "nowhere"), lane, desk)
