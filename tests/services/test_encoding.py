"""The pictures of a run: encoded once, noted, found again without their folder; mirrored, masked, in buckets, held out."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor

from studio.dataset.batches import Batches
from studio.dataset.folder import open_upright
from studio.dataset.latents import Encoder, LatentStore, pixels
from studio.dataset.masks import mask_file
from studio.diffusion.model import Model
from studio.errors import InputError, OutOfSpace
from studio.jobs import SilentLane
from studio.projects.facts import Change
from studio.projects.project import Project
from studio.requests.train import TextualInversionConfig
from studio.services import encoding
from studio.services.encoding import Entry, Pictures, pictures_of
from studio.settings import Paths
from studio.training.run import Run


class Studio:
    """A data set, a folder of a run, and a model whose autoencoder is counted."""

    def __init__(self, paths: Paths, model: Model, data: Path) -> None:
        self.paths, self.model, self.data = paths, model, data
        self.lane = SilentLane()
        self.folder = Run.open(paths.runs, "gnarl", "one")

    def pictures(self, **knobs: Any) -> Pictures:
        """What a run with these knobs learns from."""
        config = TextualInversionConfig(embedding="gnarl", data=str(self.data), **{"width": 64, "height": 64, **knobs})
        return pictures_of(config, self.folder, self.model, self.lane, self.paths)

    def again(self) -> None:
        """Begin a run of its own."""
        self.folder = Run.open(self.paths.runs, "gnarl", f"{self.folder.folder.name[-3:]}x")

    def told(self, kind: str) -> list[str]:
        """Texts of the events of a kind."""
        return [data["text"] for name, data in self.lane.events if name == kind]


@pytest.fixture
def studio(root: Paths, tiny: Model, captioned: Path) -> Studio:
    """Three captioned pictures and the tiny world."""
    return Studio(root, tiny, captioned)


def same(a: Pictures, b: Pictures) -> bool:
    """Whether two runs learn and measure the same, bit for bit."""
    return a.fingerprint == b.fingerprint and all(
        torch.equal(x.mean, y.mean) and torch.equal(x.std, y.std) and (x.mirrored is None) == (y.mirrored is None) and (x.mirrored is None or torch.equal(x.mirrored[0], y.mirrored[0]))
        for x, y in zip((*a.train, *a.held), (*b.train, *b.held), strict=True)
    )


def test_latents_of_the_tiny_world_are_those_of_its_autoencoder_one_by_one(studio: Studio) -> None:
    found = studio.pictures(flip=True)
    assert [s.caption for s in found.train] == ["red, round, on white", "green, round, on white", "orange, round, on white"]
    for sample in found.train:
        picture = pixels(open_upright(studio.data / sample.name).resize((64, 64), Image.Resampling.LANCZOS))
        assert torch.equal(sample.mean, studio.model.encode_images(picture[None])[0][0].float())
        assert torch.equal(sample.mirrored[0], studio.model.encode_images(picture.flip(-1)[None])[0][0].float())
        assert not torch.equal(sample.mirrored[0], sample.mean)
        assert sample.weight is None


def test_held_out_pictures_are_measured_and_not_learned(studio: Studio) -> None:
    everything = studio.pictures()
    Project(studio.data).edit("Hold out", [Change("1.png", "held_out", False, True)])
    studio.again()
    found = studio.pictures(flip=True)
    assert [s.name for s in found.train] == ["0.png", "2.png"]
    assert [(s.name, s.caption) for s in found.held] == [("1.png", "green, round, on white")]
    assert torch.equal(found.held[0].mean, everything.train[1].mean)
    assert found.held[0].mirrored is None
    assert found.fingerprint != everything.fingerprint


def test_a_run_goes_on_without_its_folder(studio: Studio) -> None:
    Image.new("L", (128, 128), 0).save(mask_file(studio.data / "2.png"))
    half = Image.new("L", (128, 128), 0)
    half.paste(255, (0, 0, 64, 128))
    half.save(mask_file(studio.data / "0.png"))
    knobs = {"flip": True, "use_masks": True, "mask_floor": 0.1, "buckets": True}
    first = studio.pictures(**knobs)
    shutil.rmtree(studio.data)
    again = studio.pictures(**knobs)
    assert same(again, first)
    assert torch.equal(again.train[0].weight, first.train[0].weight)
    assert first.train[1].weight is None


def test_a_lost_latent_is_encoded_again_from_the_same_picture_and_told_when_that_is_gone(studio: Studio) -> None:
    first = studio.pictures(flip=True)
    shutil.rmtree(studio.paths.latents)
    (studio.data / "1.png").rename(studio.data / "renamed.png")
    assert same(studio.pictures(flip=True), first)
    shutil.rmtree(studio.paths.latents)
    Image.new("RGB", (128, 128), "blue").save(studio.data / "renamed.png")
    with pytest.raises(InputError, match=r"1\.png, which this run began with, is not in .* any more"):
        studio.pictures(flip=True)


def test_a_run_of_an_earlier_version_goes_on(studio: Studio) -> None:
    first = studio.pictures()
    studio.folder.note("data", [{"key": s.key, "caption": s.caption} for s in first.train])
    again = studio.pictures()
    assert [(s.key, s.caption) for s in again.train] == [(s.key, s.caption) for s in first.train]
    assert all(torch.equal(a.mean, b.mean) and torch.equal(a.std, b.std) for a, b in zip(again.train, first.train, strict=True))
    shutil.rmtree(studio.paths.latents)
    assert same(studio.pictures(), again)


def test_pictures_keep_their_shape_in_buckets_and_batches_are_uniform(studio: Studio) -> None:
    for name, size in {"wide.png": (400, 100), "tall.png": (100, 390), "wider.png": (200, 52)}.items():
        Image.new("RGB", size, "navy").save(studio.data / name)
    found = studio.pictures(buckets=True, width=128, height=128)
    assert {s.name: s.size for s in found.train} == {**dict.fromkeys(("0.png", "1.png", "2.png"), (128, 128)), "wide.png": (256, 64), "wider.png": (256, 64), "tall.png": (64, 256)}
    batches = Batches(found.train, ("[name]",), "gnarl", 2, 1)
    sizes = [batches.at(step).size for step in range(12)]
    assert set(sizes) == {(128, 128), (256, 64), (64, 256)}
    assert studio.told("log") == ["Aspect buckets: 64x256: 1, 128x128: 3, 256x64: 2."]


def test_masks_become_weights_and_useless_ones_are_told_once(studio: Studio) -> None:
    half = Image.new("L", (128, 128), 0)
    half.paste(255, (0, 0, 64, 128))
    half.save(mask_file(studio.data / "0.png"))
    for name in ("1.png", "2.png"):
        Image.new("L", (128, 128), 0).save(mask_file(studio.data / name))
    found = studio.pictures(use_masks=True)
    weight = found.train[0].weight
    assert torch.equal(weight, torch.tensor([2.0] * 4 + [0.0] * 4).expand(8, 8))
    assert torch.equal(found.train[1].weight, torch.ones(8, 8))
    (warning,) = studio.told("warning")
    assert "1.png, 2.png" in warning
    studio.again()
    assert all(s.weight is None for s in studio.pictures().train)
    assert found.fingerprint != studio.pictures().fingerprint


def test_masks_without_any_are_told(studio: Studio) -> None:
    studio.pictures(use_masks=True)
    (warning,) = studio.told("warning")
    assert warning.startswith("No picture has a mask")


def test_what_cannot_be_read_is_left_out_and_nothing_at_all_is_told(studio: Studio) -> None:
    (studio.data / "bad.png").write_bytes(b"hello")
    assert len(studio.pictures().train) == 3
    (warning,) = studio.told("warning")
    assert warning.startswith("bad.png was left out: bad.png is not a picture")
    assert {Entry.of(values).name for values in json.loads((studio.folder.folder / "data.json").read_text())} == {"0.png", "1.png", "2.png"}
    studio.again()
    for name in ("0.png", "1.png", "2.png"):
        (studio.data / name).write_bytes(b"")
    with pytest.raises(InputError, match="none of the 4 files"):
        studio.pictures()


def test_a_stop_while_encoding_gives_nothing_and_notes_nothing(studio: Studio) -> None:
    studio.lane.stop = True
    assert studio.pictures() == Pictures(())
    assert studio.folder.noted("data") is None


def test_a_full_disk_is_no_fault_of_the_pictures(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OutOfSpace("The disk is full: x was not written.")

    monkeypatch.setattr(LatentStore, "keep", full)
    with pytest.raises(OutOfSpace):
        studio.pictures()
    assert studio.told("warning") == []


def test_the_fingerprint_follows_the_pictures_and_their_captions(studio: Studio) -> None:
    first = studio.pictures()
    studio.again()
    assert studio.pictures().fingerprint == first.fingerprint
    (studio.data / "1.txt").write_text("green")
    studio.again()
    assert studio.pictures().fingerprint != first.fingerprint


class Card:
    """An autoencoder that holds so many pictures at once, and notes how many came together."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.seen: list[int] = []

    def __call__(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        """Eighth-size means."""
        if len(pictures) > self.room:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        self.seen.append(len(pictures))
        mean = torch.nn.functional.avg_pool2d(pictures, 8)[:, [0, 1, 2, 0]]
        return mean, torch.ones_like(mean)


@pytest.mark.parametrize(("room", "seen"), [(9, [4, 1]), (3, [1, 1, 1, 1, 1])])
def test_a_graphics_card_takes_several_at_once_and_one_by_one_when_they_do_not_fit(tmp_path: Path, room: int, seen: list[int]) -> None:
    card = Card(room)
    encoder = Encoder(LatentStore(tmp_path / "latents", card, "m", 64, 64), 4 * 64 * 64)
    for shade in range(5):
        Image.new("RGB", (64, 64), (50 * shade, 0, 0)).save(tmp_path / f"{shade}.png")
        encoder.want(f"k{shade}", tmp_path / f"{shade}.png", (64, 64))
    encoder.want("k4", tmp_path / "4.png", (64, 64))
    encoder.flush()
    assert card.seen == seen
    assert {key: round(float(mean[0, 0, 0]), 3) for key, (mean, _) in encoder.made.items()} == {f"k{shade}": round(50 * shade / 127.5 - 1, 3) for shade in range(5)}


def test_processors_encode_one_by_one(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    areas = []
    monkeypatch.setattr(encoding, "Encoder", lambda store, area: areas.append(area) or Encoder(store, area))
    studio.pictures()
    assert areas == [0]
