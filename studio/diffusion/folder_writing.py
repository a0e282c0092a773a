"""A live model as a folder in the diffusers layout, which diffusers' pipelines load offline."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from studio.diffusion.families import Family
from studio.diffusion.loading import SD_SCHEDULE
from studio.diffusion.model import Model
from studio.diffusion.tokenizer import clip_tokenizer
from studio.files import atomic_folder
from studio.formats.keys import text_name
from studio.formats.streaming import Slot, check_room, write_stream

SCHEDULER = "DDIMScheduler"
"""Knows every kind of prediction and zero terminal SNR."""


def save_folder(model: Model, path: Path, dtype: torch.dtype) -> None:
    """Write a model as a diffusers folder, numbers in `dtype`; whole or not at all. Raises OutOfSpace."""
    networks = {"unet": model.unet, "vae": model.vae, **{e.name: m for e, m in zip(model.family.text_encoders, model.text_encoders, strict=True)}}
    path.parent.mkdir(parents=True, exist_ok=True)
    check_room(path, sum(p.numel() for network in networks.values() for p in network.parameters()) * dtype.itemsize)
    with atomic_folder(path) as made:
        for name, network in networks.items():
            _network(made / name, network, dtype)
        for name, value in folder_settings(model.family, model.schedule).items():
            write_settings(made / name, value)
        for encoder in model.family.text_encoders:
            clip_tokenizer(encoder.pad).save_pretrained(made / encoder.name.replace("text_encoder", "tokenizer"))


def _network(folder: Path, network: nn.Module, dtype: torch.dtype) -> None:
    """The settings and weights of one network under the names its library gives them."""
    text = hasattr(network.config, "to_diff_dict")
    write_settings(folder / "config.json", network_settings(network))
    state = {text_name(name) if text else name: tensor for name, tensor in network.state_dict().items()}
    slots = {name: Slot(dtype if tensor.is_floating_point() else tensor.dtype, tuple(tensor.shape)) for name, tensor in state.items()}
    write_stream(folder / ("model.safetensors" if text else "diffusion_pytorch_model.safetensors"), slots, lambda name: state[name].detach().to("cpu", slots[name].dtype), {})


def network_settings(network: nn.Module) -> dict[str, Any]:
    """The settings of a network as its library writes them."""
    config: Any = network.config
    if hasattr(config, "to_diff_dict"):
        return {**config.to_diff_dict(), "architectures": [type(network).__name__]}
    settings: dict[str, Any] = json.loads(network.to_json_string())  # type: ignore[operator]
    return settings


def folder_settings(family: Family, schedule: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The files of a folder that say how its parts go together, by their path: model_index.json and the scheduler's settings, `schedule` over Stable Diffusion's own."""
    from diffusers import __version__

    two = len(family.text_encoders) > 1
    pipeline = "StableDiffusion" + ("XL" if two else "") + ("Inpaint" if family.inpaints else "") + "Pipeline"
    index: dict[str, Any] = {"_class_name": pipeline, "_diffusers_version": __version__, "scheduler": ["diffusers", SCHEDULER]}
    index |= {"unet": ["diffusers", "UNet2DConditionModel"], "vae": ["diffusers", "AutoencoderKL"]}
    for encoder in family.text_encoders:
        index[encoder.name] = ["transformers", "CLIPTextModelWithProjection" if encoder.pooled else "CLIPTextModel"]
        index[encoder.name.replace("text_encoder", "tokenizer")] = ["transformers", "CLIPTokenizer"]
    rest = {"force_zeros_for_empty_prompt": True} if two else {"safety_checker": [None, None], "feature_extractor": [None, None], "requires_safety_checker": False}
    own = {name: value for name, value in {**SD_SCHEDULE, **schedule}.items() if name != "skip_prk_steps"}
    return {"model_index.json": {**index, **rest}, "scheduler/scheduler_config.json": {**own, "_class_name": SCHEDULER, "_diffusers_version": __version__}}


def write_settings(path: Path, value: Mapping[str, Any]) -> None:
    """Settings as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False, default=list) + "\n", encoding="utf-8")
