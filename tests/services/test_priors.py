"""Whole networks and priors through the service: pictures of a class are painted once, a class is kept, runs go on to the bit, and the shared model stays as it is."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from studio import shelves
from studio.diffusion.cache import ModelCache
from studio.diffusion.conditioning import condition
from studio.diffusion.model import Model
from studio.errors import InputError
from studio.formats.checkpoint import Weights
from studio.formats.infotext import infotext_of, read_infotext
from studio.jobs import SilentLane
from studio.requests.train import TrainRequest
from studio.services import class_pictures
from studio.services.class_pictures import Class
from studio.services.desk import Desk
from studio.services.training import run
from studio.settings import Paths
from studio.training.run import Run
from studio.training.watch import Rhythm
from tests.services.trainings import Acting, Cut, Cutting, curve, events

NEVER = Rhythm(10**6, 1e9)


class Second(Rhythm):
    """A checkpoint after every second step, however long it takes."""

    def due(self, step: int, saving: float) -> bool:
        """Every second step."""
        return step % 2 == 0


@pytest.fixture
def desk(root: Paths, tiny_cache: ModelCache, monkeypatch: pytest.MonkeyPatch) -> Desk:
    """A desk at which class pictures are painted in few steps."""
    monkeypatch.setattr(class_pictures, "STEPS", 2)
    cache = ModelCache(root, device="cpu")
    cache._held, cache._models, cache._sizes = tiny_cache._held, tiny_cache._models, tiny_cache._sizes  # the shipped model is not loaded again
    return Desk(root, cache)


def asked(data: Path, method: str = "dreambooth", **knobs: Any) -> TrainRequest:
    """A short training."""
    quick = {"name": "gnarl", "steps": 4, "width": 64, "height": 64, "save_every": 0, "preview_every": 0, "probe_every": 0, "learn_rate": "1e-4", "save_precision": "fp32"}
    classed = {} if method == "fine_tune" else {"class_word": "monster", "prior": "none"}
    return TrainRequest(method=method, config={**quick, **classed, "data": str(data), **knobs})


def says(model: Model, prompt: str) -> Tensor:
    """The network's answers at some noise levels."""
    times = torch.tensor([100, 400, 700])
    noise = torch.randn(3, 4, 8, 8, generator=torch.Generator().manual_seed(5))
    with torch.no_grad():
        return model.predict(noise, times, condition(model, [prompt] * 3, {})).float()


def tensors(path: Path) -> dict[str, Tensor]:
    """Everything in a result."""
    return Weights(path).read()


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    """Whether two results are the same to the bit."""
    return a.keys() == b.keys() and all(torch.equal(value, b[name]) for name, value in a.items())


def painted(lane: SilentLane) -> int:
    """How many class pictures were painted."""
    return sum(str(event.get("text")).startswith("Painting class picture") for event in events(lane, "progress"))


# the whole network


def test_the_result_can_be_chosen_at_once_and_the_shared_model_stays(desk: Desk, captioned: Path, tiny: Model) -> None:
    before = [p.detach().clone() for part in (tiny.unet, *tiny.text_encoders, tiny.vae) for p in part.parameters()]
    lane = Acting()
    lane.at = 2
    result = run(asked(captioned, steps=50), lane, desk, NEVER)
    assert (result["steps"], result["stopped"]) == (2, True)
    assert all(torch.equal(a, b) for a, b in zip(before, (p for part in (tiny.unet, *tiny.text_encoders, tiny.vae) for p in part.parameters()), strict=True))
    assert not any(p.requires_grad for p in tiny.unet.parameters())
    assert "gnarl.safetensors" in shelves.checkpoints(desk.paths)
    learned = Run(Path(result["run"])).latest()
    with desk.cache.lend("gnarl") as model:
        state = {**{f"unet.{k}": v for k, v in model.unet.state_dict().items()}, **{f"text_encoder.{k}": v for k, v in model.text_encoder.state_dict().items()}}
        assert learned is not None
        assert all(torch.equal(state[name], value) for name, value in learned.tensors.items() if not name.startswith("optimizer."))
        assert not torch.equal(says(model, "gnarl monster"), says(tiny, "gnarl monster"))
    said = Weights(desk.paths.checkpoints / "gnarl.safetensors").metadata
    assert said["modelspec.trigger_phrase"] == "gnarl monster"
    with pytest.raises(InputError, match="is taken"):
        run(asked(captioned), SilentLane("next"), desk)


def test_a_killed_run_goes_on_to_the_bit(desk: Desk, captioned: Path) -> None:
    knobs: dict[str, Any] = {"ema_decay": 0.9, "trained_layers": "cross-attention"}
    run(asked(captioned, "fine_tune", name="whole", checkpoint="tiny-world", **knobs), SilentLane("whole"), desk, NEVER)
    lane = Cutting("cut")
    lane.left = 3
    with pytest.raises(Cut):
        run(asked(captioned, "fine_tune", name="cut", checkpoint="tiny-world", **knobs), lane, desk, Second())
    going = SilentLane("cut")
    result = run(asked(captioned, "fine_tune", name="cut", checkpoint="tiny-world", **knobs), going, desk, NEVER)
    assert "Going on from step 2." in [event["text"] for event in events(going, "log")]
    assert same(tensors(desk.paths.checkpoints / "whole.safetensors"), tensors(desk.paths.checkpoints / "cut.safetensors"))
    assert [line["step"] for line in curve(result)] == ["1", "2", "3", "4"]


def test_a_result_that_comes_first_on_the_shelf_is_not_taken_for_the_checkpoint(desk: Desk, captioned: Path, tiny: Model) -> None:
    first = run(asked(captioned, "fine_tune", name="aaa", steps=1, trained_layers="cross-attention"), SilentLane("one"), desk, NEVER)
    more = run(asked(captioned, "fine_tune", name="aaa", steps=2, trained_layers="cross-attention").model_copy(update={"run": Path(first["run"]).name}), SilentLane("two"), desk, NEVER)
    assert more["steps"] == 2
    assert (Run(Path(more["run"])).noted("config") or {})["facts"]["checkpoint_hash"] == tiny.hash


# priors


def test_what_the_untouched_network_says_keeps_the_class(desk: Desk, captioned: Path, tiny: Model) -> None:
    drift = {}
    for prior in ("none", "prediction"):
        lane = SilentLane(prior)
        run(asked(captioned, name=prior, prior=prior, steps=8, learn_rate="3e-4", checkpoint="tiny-world", prior_loss_weight=3), lane, desk, NEVER)
        with desk.cache.lend(prior) as model:
            drift[prior] = float((says(model, "a photo of a monster") - says(tiny, "a photo of a monster")).square().mean())
    assert drift["prediction"] < 0.7 * drift["none"]
    assert painted(lane) == 0


def test_class_pictures_are_painted_once_and_reused(desk: Desk, captioned: Path, tiny: Model) -> None:
    stopped = Cutting("one")
    stopped.left = 2
    with pytest.raises(Cut):
        run(asked(captioned, "lora", prior="class pictures", class_pictures=3), stopped, desk, NEVER)
    assert painted(stopped) == 2
    folder = desk.paths.outputs / "class" / f"a-photo-of-a-monster-{tiny.hash}"
    kept = {path.name: path.read_bytes() for path in folder.glob("*.png")}
    assert sorted(kept) == ["0000.png", "0001.png"]
    again = SilentLane("one")
    result = run(asked(captioned, "lora", prior="class pictures", class_pictures=3, steps=1), again, desk, NEVER)
    assert painted(again) == 1, "only what is missing"
    assert all((folder / name).read_bytes() == data for name, data in kept.items())
    assert (folder / "0002.txt").read_text() == "a photo of a monster"
    said = read_infotext(infotext_of(folder / "0002.png"))
    assert (said["Prompt"], said["Seed"]) == ("a photo of a monster", "2")
    assert Weights(desk.paths.lora / "gnarl.safetensors").metadata["ss_num_reg_images"] == "3"
    shutil.move(folder, folder.with_name("away"))
    going = SilentLane("three")
    run(asked(captioned, "lora", prior="class pictures", class_pictures=3, steps=2).model_copy(update={"run": Path(result["run"]).name}), going, desk, NEVER)
    assert painted(going) == 0, "a run that goes on needs the folder no more"
    shutil.move(folder.with_name("away"), folder)
    more = SilentLane("two")
    run(asked(captioned, "dreambooth", result="LoRA", name="other", prior="class pictures", class_pictures=4, steps=1, seed=9), more, desk, NEVER)
    assert painted(more) == 1, "another training uses those that are there"
    assert len(Run(Path(result["run"])).noted("class")["keys"]) == 3


def test_a_stop_between_class_pictures_ends_the_run_before_it_learns(desk: Desk, captioned: Path) -> None:
    lane = Acting()
    lane.at = 1
    result = run(asked(captioned, "lora", prior="class pictures", class_pictures=3), lane, desk, NEVER)
    assert (result["steps"], result["stopped"]) == (0, True)
    assert painted(lane) == 1
    assert not (desk.paths.lora / "gnarl.safetensors").exists()


def test_sets_of_other_prompts_have_folders_of_their_own(desk: Desk, tiny: Model) -> None:
    folders = [Class(prompt, 1, skip, tiny, desk).folder.name for prompt, skip in (("a dog", 1), ("a dog!", 1), ("A dog", 1), ("a dog", 2), ("狗", 1), ("../..", 1))]
    assert folders[0] == f"a-dog-{tiny.hash}"
    assert len(set(folders)) == len(folders)
    assert not any("/" in name or name.startswith(".") for name in folders)
