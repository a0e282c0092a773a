"""What the shapes in a single file do not show of its networks (heads, groups of norms, the size of pictures, the scale of latents): said in its metadata where it is not as published."""

import json
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from studio.diffusion.assembly import shapes_of
from studio.diffusion.blueprints import text_config, unet_config, vae_config
from studio.diffusion.model import Model
from studio.formats.keys import UNET, VAE

KEY = "studio.networks"
"""Metadata: JSON of network to setting to value, for what would be guessed wrongly; a file without it is read as published ones are."""
ASKED = {
    "unet": ("attention_head_dim", "norm_num_groups", "sample_size"),
    "vae": ("norm_num_groups", "scaling_factor"),
    "text_encoder": ("num_attention_heads",),
    "text_encoder_2": ("num_attention_heads",),
}
"""Settings that no shape shows."""


def unsaid(model: Model) -> dict[str, str]:
    """The metadata that a single file of this model needs, so that it is read as it is; empty for one of a published kind."""
    networks = {"unet": model.unet, "vae": model.vae, **{encoder.name: module for encoder, module in zip(model.family.text_encoders, model.text_encoders, strict=True)}}
    found = {name: differing for name, module in networks.items() if (differing := _differing(name, module, _guess(model, name, module)))}
    return {KEY: json.dumps(found)} if found else {}


def said(metadata: Mapping[str, str], network: str) -> dict[str, Any]:
    """What a file's metadata says of one of its networks; nothing when it says nothing that can be used."""
    try:
        told = json.loads(metadata.get(KEY, "{}"))
        return {name: value for name, value in told.get(network, {}).items() if name in ASKED[network] and _usable(value)}
    except (ValueError, AttributeError, RecursionError):
        return {}


def _usable(value: object) -> bool:
    """Whether it is a number above 0, or a list of such."""
    if isinstance(value, list):
        return bool(value) and all(isinstance(one, int) and _usable(one) for one in value)
    return isinstance(value, int | float) and not isinstance(value, bool) and value > 0


def _differing(name: str, module: nn.Module, guess: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a network that are not as guessed."""
    own = {setting: getattr(module.config, setting, None) for setting in ASKED[name]}
    return {setting: value for setting, value in own.items() if value is not None and _spread(value, module) != _spread(guess[setting], module)}


def _spread(value: Any, module: nn.Module) -> Any:
    """A setting for each level, where one may stand for all."""
    levels = len(getattr(module.config, "block_out_channels", ()))
    return tuple(value) if isinstance(value, list | tuple) else (value,) * max(1, levels)


def _guess(model: Model, name: str, module: nn.Module) -> dict[str, Any]:
    """The settings that are read out of the shapes alone."""
    state = {key: torch.empty_like(tensor, device="meta") for key, tensor in module.state_dict().items()}
    encoder = next((encoder for encoder in model.family.text_encoders if encoder.name == name), None)
    if encoder is not None:
        return text_config(encoder, shapes_of(encoder.part.to_diffusers(encoder.part.to_original(state))))
    part = UNET if name == "unet" else VAE
    shapes = {key.removeprefix(part.root): shape for key, shape in shapes_of(part.to_original(state)).items()}
    return unet_config(model.family, shapes) if name == "unet" else vae_config(shapes, model.family.latent_scale)
