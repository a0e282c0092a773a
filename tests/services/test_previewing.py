"""Previews on the tiny world: rows of prompts and seeds, never stale, never in the training's way, told when they fail."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from studio.diffusion.cache import ModelCache
from studio.diffusion.model import Model
from studio.errors import InputError, OutOfSpace
from studio.formats.embedding import Embedding, write_embedding
from studio.formats.infotext import infotext_of, read_infotext
from studio.requests.train import LoraConfig, TextualInversionConfig
from studio.services import rows
from studio.services.desk import Desk
from studio.services.generation import paint
from studio.services.library import initial_vectors
from studio.services.previewing import ASKED, Previews, preview_request
from studio.settings import Paths


def config(**knobs: Any) -> TextualInversionConfig:
    """Previews of two steps."""
    return TextualInversionConfig(**{"embedding": "gnarl", "data": "unused", "preview_steps": 2, "width": 64, "height": 64, **knobs})


@pytest.fixture
def vectors(tiny: Model) -> torch.nn.Parameter:
    """Vectors that learn."""
    return torch.nn.Parameter(initial_vectors(tiny, "monster", 2)[0])


@pytest.fixture
def previews(tiny: Model, vectors: torch.nn.Parameter, tmp_path: Path) -> Previews:
    """Two prompts, one of them of two chunks, at two seeds each."""
    knobs = config(preview_prompt="a photo of [name]\n\n" + "a tree, " * 40 + "[name]", preview_images=2, preview_seed=7)
    return Previews(knobs, tiny, lambda: {"gnarl": vectors}, {}, tmp_path / "samples")


def pixels(path: Path) -> np.ndarray:
    """A picture's numbers."""
    return np.array(Image.open(path)).astype(int)


def test_a_row_is_every_prompt_at_every_seed_with_its_infotext(previews: Previews) -> None:
    row = previews.paint(40)
    assert [p.path.name for p in row] == [f"000040-{column}.png" for column in range(4)]
    assert [(p.column, p.seed) for p in row] == [(0, 7), (1, 8), (2, 7), (3, 8)]
    assert row[0].prompt == row[1].prompt == "a photo of gnarl"
    assert row[3].prompt.endswith("a tree, gnarl")
    said = read_infotext(infotext_of(row[1].path))
    assert (said["Prompt"], said["Seed"], said["Steps"], said["Size"]) == ("a photo of gnarl", "8", "2", "64x64")
    assert previews.seconds > 0


def test_a_row_is_what_generation_paints_one_by_one(previews: Previews, tiny: Model, vectors: torch.nn.Parameter) -> None:
    for painted in previews.paint(0):
        request = preview_request(previews.config, tiny, "gnarl").model_copy(update={"prompt": painted.prompt, "seed": painted.seed})
        alone = np.array(paint(tiny, request, {"gnarl": vectors.detach()})[0]).astype(int)
        assert np.abs(pixels(painted.path) - alone).max() <= 1


def test_previews_are_never_stale_and_the_same_vectors_give_the_same_pixels(previews: Previews, vectors: torch.nn.Parameter) -> None:
    first = [pixels(p.path) for p in previews.paint(1)]
    again = [pixels(p.path) for p in previews.paint(1)]
    with torch.no_grad():
        vectors.mul_(3).add_(0.3)
    changed = [pixels(p.path) for p in previews.paint(1)]
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not any(np.array_equal(a, b) for a, b in zip(first, changed, strict=True))


def test_nothing_of_the_training_is_touched(previews: Previews, tiny: Model, vectors: torch.nn.Parameter) -> None:
    before, dice = vectors.detach().clone(), torch.get_rng_state()
    calm = previews.paint(0)[0].path.read_bytes()
    tiny.unet.train()
    tiny.unet.mid_block.eval()
    modes = [module.training for module in tiny.unet.modules()]
    try:
        assert previews.paint(0)[0].path.read_bytes() == calm
        assert [module.training for module in tiny.unet.modules()] == modes
    finally:
        tiny.unet.eval()
    assert torch.equal(torch.get_rng_state(), dice)
    assert torch.equal(vectors, before)
    assert vectors.grad is None
    assert vectors.requires_grad


def test_without_a_prompt_there_is_a_plain_one_and_prompts_can_be_replaced(tiny: Model, vectors: torch.nn.Parameter, tmp_path: Path) -> None:
    plain = Previews(config(), tiny, lambda: {"gnarl": vectors}, {}, tmp_path)
    plain.seconds = 2.0
    assert plain.prompts == ("a photo of gnarl",)
    other = plain.with_prompts("[name] in a boat\nan owl")
    assert (other.prompts, other.seconds, plain.prompts) == (("gnarl in a boat", "an owl"), 2.0, ("a photo of gnarl",))


def test_an_asked_picture_has_any_prompt_and_a_file_of_its_own(previews: Previews) -> None:
    first, second = previews.sample(5, "[name] at night", 3), previews.sample(5, "", -1)
    assert first is not None
    assert second is not None
    assert [first.path.name, second.path.name] == ["000005-asked-1.png", "000005-asked-2.png"]
    assert (first.prompt, first.seed, first.column) == ("gnarl at night", 3, ASKED)
    assert second.prompt == previews.prompts[0]
    assert 0 <= second.seed < 2**32


def test_words_and_networks_of_the_shelf_can_be_used(tiny: Model, vectors: torch.nn.Parameter, root: Paths, tiny_cache: ModelCache, tmp_path: Path) -> None:
    told: list[str] = []
    write_embedding(root.embeddings / "mossy.pt", Embedding("mossy", torch.randn(1, tiny.width, generator=torch.Generator().manual_seed(1))))
    write_embedding(root.embeddings / "GNARL.pt", Embedding("GNARL", torch.full((2, tiny.width), 9.0)))
    bare = Previews(config(), tiny, lambda: {"gnarl": vectors}, {}, tmp_path / "bare")
    full = Previews(config(), tiny, lambda: {"gnarl": vectors}, {}, tmp_path / "full", Desk(root, tiny_cache), told.append)
    pairs = [(a, b) for prompt in ("a mossy [name]", "a [name]") if (a := bare.sample(0, prompt)) and (b := full.sample(0, prompt))]
    assert [np.array_equal(pixels(a.path), pixels(b.path)) for a, b in pairs] == [False, True]
    assert read_infotext(infotext_of(pairs[0][1].path))["TI hashes"].startswith("mossy: ")
    assert told == []
    assert [full.sample(step, "[name] <lora:nobody:1>") is not None for step in (1, 2)] == [True, True]
    assert told == ["There is no LoRA 'nobody'; the picture was painted without it."]


def test_memory_that_runs_out_is_met_by_painting_one_by_one_and_else_told(previews: Previews, monkeypatch: pytest.MonkeyPatch) -> None:
    real, most, tried = rows.sample, 1, []

    def small(model: Model, plan: Any, *rest: Any) -> torch.Tensor:
        tried.append(len(plan.noise.seeds))
        if tried[-1] > most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return real(model, plan, *rest)

    monkeypatch.setattr(rows, "sample", small)
    told: list[str] = []
    previews.tell = told.append
    assert len(previews.paint(1)) == 4
    assert tried == [2, 2, 1, 1, 1, 1]
    tried.clear()
    assert len(previews.paint(2)) == 4
    assert tried == [1, 1, 1, 1]
    most = 0
    assert previews.paint(3) == []
    assert previews.sample(3) is None
    assert len(told) == 2
    assert told[0].startswith("The preview of step 3 could not be painted; the training goes on. The device is out of memory: 2.00 GiB more did not fit.")
    assert not list(previews.folder.glob("000003*"))


def test_a_full_disk_is_for_the_training_to_meet(previews: Previews, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("studio.files.os.fsync", full)
    with pytest.raises(OutOfSpace):
        previews.sample(1, "a tree")


def test_vectors_that_are_spoilt_are_told_and_an_unforeseen_fault_is_not_hidden(previews: Previews, vectors: torch.nn.Parameter, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    previews.tell = told.append
    with torch.no_grad():
        vectors.fill_(float("nan"))
    assert previews.paint(3) == []
    assert "not finite" in told[0]
    assert previews.at_once > 1

    def broken(*_: Any) -> None:
        raise RuntimeError("shapes differ")

    monkeypatch.setattr(rows, "sample", broken)
    with pytest.raises(RuntimeError, match="shapes differ"):
        previews.paint(4)


def test_a_prompt_that_cannot_be_read_is_told(previews: Previews) -> None:
    told: list[str] = []
    previews.tell = told.append
    previews.others = {"wide": torch.zeros(1, 5)}
    assert previews.sample(0, "a wide [name]") is None
    assert "'wide' has vectors of width 5" in told[0]
    with pytest.raises(InputError):
        paint(previews.model, preview_request(previews.config, previews.model, "wide"), previews.others)


def test_a_network_that_is_trained_is_not_put_on_twice(tiny: Model, tmp_path: Path) -> None:
    config = LoraConfig(name="Hero", data="unused", learn_rate="1e-3")
    previews = Previews(config, tiny, dict, {}, tmp_path)
    assert previews._without_own("<lora:hero:0.8> a <lora:other:1:lbw=ALL> man <hypernet:x>") == " a <lora:other:1:lbw=ALL> man <hypernet:x>"
