"""Which layers learn: counted in published architectures by another rule than the studio's, named and placed."""

from collections import Counter

import pytest
import torch
from diffusers.models.downsampling import Downsample2D
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.transformers.transformer_2d import Transformer2DModel
from diffusers.models.upsampling import Upsample2D
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from studio.diffusion.families import FAMILIES
from studio.diffusion.model import Model
from studio.diffusion.targets import PRESETS, Layer, layers_of
from tests.diffusion.originals import FULL, assemble


@pytest.fixture(scope="module", params=("SD1", "SDXL"))
def full(request: pytest.FixtureRequest) -> Model:
    """A published architecture without numbers."""
    kind = next(kind for kind in FULL if kind.name == request.param)
    family = next(family for family in FAMILIES if family.name == kind.name)
    with torch.device("meta"):
        parts = assemble(kind)
        sizes = {768: (3072, 12), 1280: (5120, 20)}
        texts = [CLIPTextConfig(hidden_size=w, intermediate_size=sizes[w][0], num_hidden_layers=n, num_attention_heads=sizes[w][1]) for w, n in zip(kind.text_widths, kind.text_layers, strict=True)]
        encoders = tuple(make(config) for make, config in zip((CLIPTextModel, CLIPTextModelWithProjection), texts, strict=False))
        return Model(family, f"{kind.name}.safetensors", "", parts.unet, parts.vae, encoders, {}, torch.device("meta"), torch.float32)


def inside(network: nn.Module, *owners: type[nn.Module]) -> set[nn.Module]:
    """Linear layers and convolutions inside modules of these classes, which is how kohya's own rule is written."""
    return {layer for owner in network.modules() if isinstance(owner, owners) for layer in owner.modules() if isinstance(layer, nn.Linear | nn.Conv2d)}


def counts(layers: list[Layer]) -> tuple[int, ...]:
    """How many by part."""
    return tuple(Counter(layer.part for layer in layers)[part] for part in ("unet", "text_encoder", "text_encoder_2"))


def test_the_default_is_kohyas(full: Model) -> None:
    found = layers_of(full)
    assert counts(found) == {"SD1": (192, 72, 0), "SDXL": (722, 72, 192)}[full.family.name]
    assert {layer.module for layer in found if layer.part == "unet"} == inside(full.unet, Transformer2DModel)
    assert len({layer.name for layer in found}) == len(found)
    assert not any("." in layer.name for layer in found)


def test_everything_is_kohyas_with_convolutions(full: Model) -> None:
    found = layers_of(full, "full", text=False, convolutions=True)
    assert {layer.module for layer in found} == inside(full.unet, Transformer2DModel, ResnetBlock2D, Downsample2D, Upsample2D)
    flat = layers_of(full, "full", text=False)
    assert {layer.module for layer in flat} == {layer.module for layer in found if not (isinstance(layer.module, nn.Conv2d) and layer.module.kernel_size == (3, 3))}


def test_attention_alone(full: Model) -> None:
    found = layers_of(full, "attention")
    assert counts(found) == {"SD1": (16 * 8, 48, 0), "SDXL": (70 * 8, 48, 128)}[full.family.name]
    assert all(layer.name.endswith(("to_q", "to_k", "to_v", "to_out_0", "_proj")) for layer in found)


def test_names_and_blocks(full: Model) -> None:
    found = {layer.name: layer for layer in layers_of(full, "full", convolutions=True, norms=True)}
    if full.family.name == "SD1":
        assert found["lora_unet_down_blocks_1_attentions_0_proj_in"].block == "IN04"
        assert found["lora_te_text_model_encoder_layers_0_self_attn_q_proj"].block == "BASE"
        assert found["lora_unet_up_blocks_0_upsamplers_0_conv"].block == "OUT02"
    else:
        assert found["lora_unet_input_blocks_4_1_transformer_blocks_0_attn1_to_q"].block == "IN04"
        assert found["lora_te2_text_model_encoder_layers_31_self_attn_out_proj"].block == "BASE"
        assert found["lora_unet_middle_block_1_proj_in"].block == "M00"
    assert {layer.block for layer in found.values() if layer.part != "unet"} == {"BASE"}
    assert all(layer.block != "BASE" for layer in found.values() if layer.part == "unet")


def test_norms_come_with_what_they_stand_beside(full: Model) -> None:
    for preset in PRESETS:
        bare, found = layers_of(full, preset), layers_of(full, preset, norms=True)
        norms = [layer for layer in found if layer not in bare]
        assert norms
        assert all(isinstance(layer.module, nn.LayerNorm | nn.GroupNorm) for layer in norms)
        assert any("resnets" in layer.path for layer in norms) == (preset == "full")
