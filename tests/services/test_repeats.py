"""Repeats: each image counts in an epoch as often as its folder's name and the data set say; in the batches, the file's metadata, the forecast, after a kill, and on several devices."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from studio.dataset.batches import Batches, Sample
from studio.diffusion.cache import ModelCache
from studio.engine import Engine
from studio.jobs import SilentLane
from studio.presets.kohya_header import read_header
from studio.projects.facts import Change
from studio.projects.initial import put_repeats
from studio.projects.project import Project
from studio.requests.forecast import ForecastRequest
from studio.requests.train import TrainRequest
from studio.services.desk import Desk
from studio.services.forecast import run as forecast
from studio.services.training import run
from studio.settings import Paths
from studio.training.passes import Plan, drawn
from studio.training.run import Run
from studio.training.several import Team
from studio.training.watch import Rhythm
from tests.services.trainings import Cut, Cutting, curve, events

KNOBS = {"name": "hero", "rank": 2, "steps": 9, "batch_size": 2, "width": 64, "height": 64, "save_every": 0, "preview_every": 0, "probe_every": 0, "save_precision": "fp32"}


@pytest.fixture
def desk(root: Paths, tiny_cache: ModelCache) -> Desk:
    """A desk."""
    return Desk(root, tiny_cache)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A tree as kohya's trainer is given it: two pictures ten times, the second without a caption file, and three pictures twice."""
    for folder, names in (("10_ohwx dog", ("a", "b")), ("2_ohwx", ("a", "c", "d"))):
        (tmp_path / "tree" / folder).mkdir(parents=True)
        for number, name in enumerate(names):
            Image.new("RGB", (64, 64), (40 * number, len(folder) * 10, 90)).save(tmp_path / "tree" / folder / f"{name}.png")
    (tmp_path / "tree" / "10_ohwx dog" / "a.txt").write_text("a dog, sitting")
    return tmp_path / "tree"


def request(data: Path, **knobs: Any) -> TrainRequest:
    """A short training of a LoRA."""
    return TrainRequest.check({"method": "lora", "config": {**KNOBS, "data": str(data), **knobs}})


def counted(repeats: tuple[int, ...], shapes: tuple[int, ...], size: int, parts: int) -> Batches:
    """Batches of images with repeats, whose mean tells their number; `shapes` are their heights."""
    samples = tuple(Sample(f"{n}", f"no{n}", torch.full((4, shape, 2), float(n)), torch.zeros(4, shape, 2), repeats=each) for n, (each, shape) in enumerate(zip(repeats, shapes, strict=True)))
    return Batches(samples, ("[filewords]",), "x", size, 7, parts)


def taken(batches: Batches, count: int) -> list[int]:
    """Numbers of the images in the first `count` batches."""
    return [int(x) for at in range(count) for x in batches.at(*divmod(at, batches.parts)).latents[:, 0, 0, 0]]


@pytest.mark.parametrize(("repeats", "size", "parts"), [((10, 1, 2), 1, 1), ((10, 1, 2), 4, 1), ((3, 3, 3), 2, 1), ((4, 2, 6), 2, 3), ((20, 10, 30), 3, 2)])
def test_each_image_counts_as_often_as_it_is_repeated_in_every_epoch(repeats: tuple[int, ...], size: int, parts: int) -> None:
    batches = counted(repeats, (2,) * len(repeats), size, parts)
    epoch = sum(repeats)
    seen = taken(batches, epoch * parts)
    assert all(Counter(seen[at : at + epoch]) == dict(enumerate(repeats)) for at in range(0, len(seen), epoch))
    assert seen == taken(counted(repeats, (2,) * len(repeats), size, parts), epoch * parts)
    assert len({tuple(seen[at : at + epoch]) for at in range(0, len(seen), epoch)}) > 1 or size * parts == 1


def test_images_of_every_bucket_count_as_often_as_they_are_repeated() -> None:
    repeats = (5, 1, 2, 4)
    batches = counted(repeats, (2, 2, 3, 3), 2, 1)
    assert Counter(taken(batches, 6 * 20)) == {n: each * 20 for n, each in enumerate(repeats)}


def test_several_devices_take_the_same_images_together() -> None:
    plan = Plan(counted((10, 1, 2), (2, 2, 2), 4, 1))
    for step in range(6):
        alone = [prompt for batch in drawn(plan, step) for prompt in batch.prompts]
        shares = [prompt for rank in range(2) for batch in drawn(Plan(plan.batches, team=Team(rank, 2)), step) for prompt in batch.prompts]
        assert shares == alone


def test_a_kohya_tree_is_trained_with_its_repeats_and_its_file_says_so(desk: Desk, tree: Path, lane: SilentLane) -> None:
    result = run(request(tree), lane, desk)
    said = {entry["name"]: (entry["repeats"], entry["caption"]) for entry in Run(Path(result["run"])).noted("data")}
    assert said == {"2_ohwx/a.png": (2, "ohwx"), "2_ohwx/c.png": (2, "ohwx"), "2_ohwx/d.png": (2, "ohwx"), "10_ohwx dog/a.png": (10, "a dog, sitting"), "10_ohwx dog/b.png": (10, "ohwx dog")}
    assert {"text": "Repeats: 3 images x 2, 2 images x 10. An epoch is 26 images, 13 steps.", "step": 0} in events(lane, "log")
    facts = read_header(Path(result["path"])).metadata
    assert json.loads(facts["ss_dataset_dirs"]) == {"2_ohwx": {"n_repeats": 2, "img_count": 3}, "10_ohwx dog": {"n_repeats": 10, "img_count": 2}}
    assert json.loads(facts["ss_tag_frequency"]) == {"2_ohwx": {"ohwx": 3}, "10_ohwx dog": {"a dog": 1, "sitting": 1, "ohwx dog": 1}}
    assert {name: facts[name] for name in ("ss_num_train_images", "ss_num_batches_per_epoch", "ss_epoch", "ss_num_epochs")} == {
        "ss_num_train_images": "26",
        "ss_num_batches_per_epoch": "13",
        "ss_epoch": "0",
        "ss_num_epochs": "1",
    }


def test_repeats_of_the_data_set_count_and_are_shown_before_the_start(desk: Desk, captioned: Path, lane: SilentLane) -> None:
    plain = run(request(captioned, name="plain"), SilentLane(job="plain"), desk)
    project = Project(captioned)
    project.edit("Repeats", [Change("1.png", "repeats", 1, 4)])
    told = forecast(ForecastRequest.check({"method": "lora", "config": {**KNOBS, "data": str(captioned)}}), lane, desk)
    assert (told["pictures"], told["epoch_images"], told["epoch_steps"], told["epochs"]) == (3, 6, 3, 9 * 2 / 6)
    result = run(request(captioned), lane, desk)
    assert json.loads(read_header(Path(result["path"])).metadata["ss_dataset_dirs"]) == {"1_pictures": {"n_repeats": 1, "img_count": 2}, "4_pictures": {"n_repeats": 4, "img_count": 1}}
    assert [row["loss"] for row in curve(result)] != [row["loss"] for row in curve(plain)]
    put_repeats(project, {"0.png": 4, "1.png": 4, "2.png": 4})
    evenly = run(request(captioned, name="evenly"), SilentLane(job="evenly"), desk)
    assert [row["loss"] for row in curve(evenly)] == [row["loss"] for row in curve(plain)], "repeats that all images have alike change the length of an epoch and nothing else"


def test_a_killed_run_goes_on_with_the_repeats_it_began_with_bit_for_bit(desk: Desk, tree: Path) -> None:
    whole = run(request(tree), SilentLane(job="whole"), desk)
    path = Path(whole["path"])
    learned, losses = path.read_bytes(), [row["loss"] for row in curve(whole)]
    path.unlink()
    for left in (5, 3):
        lane = Cutting(job="cut")
        lane.left = left
        with pytest.raises(Cut):
            run(request(tree), lane, desk, Rhythm(steps=1))
    (tree / "10_ohwx dog").rename(tree / "1_ohwx dog")
    again = run(request(tree), SilentLane(job="cut"), desk)
    assert [row["loss"] for row in curve(again)] == losses
    assert tensors(path.read_bytes()) == tensors(learned)


def tensors(data: bytes) -> bytes:
    """The tensors of a safetensors file."""
    return data[8 + int.from_bytes(data[:8], "little") :]


def test_a_kohya_tree_can_be_submitted(root: Paths, tree: Path) -> None:
    Engine(root).submit(request(tree))
