"""A model whose shapes do not show all that it is comes out of a single file as it went in."""

import json

import pytest
import torch

from studio.diffusion.conditioning import condition
from studio.diffusion.loading import load_model, load_vae, save_model
from studio.diffusion.model import Model
from studio.diffusion.unsaid import KEY, said, unsaid
from studio.formats.checkpoint import Weights
from studio.settings import Paths
from tests.diffusion.originals import KINDS, make, original, write


@torch.no_grad()
def test_the_tiny_world_answers_as_before_when_it_was_a_single_file(tiny: Model, root: Paths) -> None:
    file = root.checkpoints / "one.safetensors"
    save_model(tiny, file, half=False)
    again = load_model(file, torch.device("cpu"), torch.float32)
    x, times = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(0)), torch.tensor([500])
    answers = [model.predict(x, times, condition(model, ["a photo of a dog"], {})) for model in (tiny, again)]
    assert torch.allclose(*answers, atol=1e-5)
    assert again.native_size == tiny.native_size == 128
    pictures = [vae.decode(x).sample for vae in (tiny.vae, again.vae, load_vae(file))]
    assert torch.allclose(pictures[0], pictures[1], atol=1e-5)
    assert torch.equal(pictures[1], pictures[2])
    assert again.vae.config.scaling_factor == tiny.vae.config.scaling_factor


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_only_what_would_be_guessed_wrongly_is_said(kind: object, tiny: Model, root: Paths) -> None:
    file = root.checkpoints / "published.safetensors"
    write(file, original(make(kind)), kind.metadata)
    assert unsaid(load_model(file, torch.device("cpu"), torch.float32)) == {}
    assert json.loads(unsaid(tiny)[KEY])["unet"]["attention_head_dim"] == 4


@pytest.mark.parametrize("text", ["", "[]", "{", '{"unet": 3}', '{"unet": {"norm_num_groups": "16"}}', '{"unet": {"norm_num_groups": -1, "in_channels": 9}}', '{"unet": {"attention_head_dim": []}}'])
def test_what_cannot_be_used_is_not_heard(text: str) -> None:
    assert said({KEY: text}, "unet") == {}
    assert said({}, "vae") == {}


def test_a_file_keeps_what_it_says(tiny: Model, root: Paths) -> None:
    file = root.checkpoints / "one.safetensors"
    save_model(tiny, file)
    assert said(Weights(file).metadata, "text_encoder") == {"num_attention_heads": 4}
