"""Targets: which layers of a model learn, by preset, with the name that a file has for each and the block it lies in."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from torch import nn

from studio.diffusion.blocks import BASE, block_of
from studio.diffusion.model import Model
from studio.formats.keys import levels_of
from studio.formats.kohya_keys import kohya_name

ATTENTION, WITH_MLP, FULL = "attention", "attention+MLP", "full"
PRESETS = (ATTENTION, WITH_MLP, FULL)
"""What a person chooses from: queries, keys, values and outputs; all of a transformer, which is kohya's default; and the residual blocks too."""
_ATTENDS = re.compile(r"\battn[12]\.(to_[qkv]|to_out\.0)$|\bself_attn\.(q|k|v|out)_proj$")
_TRANSFORMS = re.compile(r"\battentions\.\d+\.|\bself_attn\.|\bmlp\.fc[12]$")
_RESIDUAL = re.compile(r"\bresnets\.\d+\.|\b(down|up)samplers\.\d+\.")
_NORMS = (nn.LayerNorm, nn.GroupNorm)


@dataclass(frozen=True)
class Layer:
    """One layer that may learn: its part as a diffusers folder calls it, its path in that part, itself, kohya's name, and its block (BASE: the text encoders)."""

    part: str
    path: str
    module: nn.Module
    name: str
    block: str


def layers_of(model: Model, layers: str = WITH_MLP, text: bool = True, convolutions: bool = False, norms: bool = False) -> list[Layer]:
    """The layers of a preset in the order of the network: the UNet's, and with `text` the text encoders'.

    "attention+MLP" is what kohya trains: every linear layer and 1x1 convolution of a transformer. "full" adds those of residual blocks and samplers.
    `convolutions` adds 3x3 convolutions, which lie in these alone, to any preset ("full" with them is kohya's `conv_dim`); `norms` adds norms beside the chosen layers.
    """
    return [layer for part, found in every_layer(model).items() if text or part == "unet" for layer in found if _chosen(layer, layers, convolutions, norms)]


def every_layer(model: Model) -> dict[str, list[Layer]]:
    """All layers with a weight that an adapter could be beside, by part."""
    parts = (("unet", model.unet), *zip(("text_encoder", "text_encoder_2"), model.text_encoders, strict=False))
    return {part: list(_layers(model, part, network)) for part, network in parts}


def _layers(model: Model, part: str, network: nn.Module) -> Iterator[Layer]:
    """Every layer of one part that has a weight."""
    modules = dict(network.named_modules())
    blocks = block_of(modules) if part == "unet" else {}
    levels = levels_of(modules)
    for path, module in modules.items():
        if isinstance(module, nn.Linear | nn.Conv2d | nn.LayerNorm | nn.GroupNorm):
            yield Layer(part, path, module, kohya_name(len(model.text_encoders) > 1, part, path, levels), blocks.get(path, BASE))


def _chosen(layer: Layer, layers: str, convolutions: bool, norms: bool) -> bool:
    """Whether a preset has a layer."""
    if isinstance(layer.module, _NORMS):
        return norms and _beside(layer.path, layers)
    if is_spatial(layer.module):
        return convolutions and bool(_RESIDUAL.search(layer.path))
    if layers == ATTENTION:
        return bool(_ATTENDS.search(layer.path))
    return bool(_TRANSFORMS.search(layer.path)) or (layers == FULL and bool(_RESIDUAL.search(layer.path)))


def _beside(path: str, layers: str) -> bool:
    """Whether a norm belongs to what a preset trains: those of transformers and of a text encoder's layers; those of residual blocks in "full" alone."""
    return bool(re.search(r"\battentions\.|\blayers\.\d+\.", path)) or (layers == FULL and bool(_RESIDUAL.search(path)))


def is_spatial(module: nn.Module) -> bool:
    """Whether a layer is a convolution that looks at neighbours (3x3)."""
    return isinstance(module, nn.Conv2d) and max(module.kernel_size) > 1
