"""A live model as a folder in the diffusers layout, which diffusers' pipelines load offline."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

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
        for name, value in _settings(model).items():
            _json(made / name, value)
        for encoder in model.family.text_encoders:
            clip_tokenizer(encoder.pad).save_pretrained(made / encoder.name.replace("text_encoder", "tokenizer"))


def _network(folder: Path, network: nn.Module, dtype: torch.dtype) -> None:
    """The settings and weights of one network under the names its library gives them."""
    config: Any = network.config
    text = hasattr(config, "to_diff_dict")
    settings = {**config.to_diff_dict(), "architectures": [type(network).__name__]} if text else json.loads(network.to_json_string())  # type: ignore[operator]
    _json(folder / "config.json", settings)
    state = {text_name(name) if text else name: tensor for name, tensor in network.state_dict().items()}
    slots = {name: Slot(dtype if tensor.is_floating_point() else tensor.dtype, tuple(tensor.shape)) for name, tensor in state.items()}
    write_stream(folder / ("model.safetensors" if text else "diffusion_pytorch_model.safetensors"), slots, lambda name: state[name].detach().to("cpu", slots[name].dtype), {})


def _settings(model: Model) -> dict[str, dict[str, Any]]:
    """The files that say how the parts go together: model_index.json and the scheduler's settings."""
    from diffusers import __version__

    two, family = len(model.text_encoders) > 1, model.family
    pipeline = "StableDiffusion" + ("XL" if two else "") + ("Inpaint" if family.inpaints else "") + "Pipeline"
    index: dict[str, Any] = {"_class_name": pipeline, "_diffusers_version": __version__, "scheduler": ["diffusers", SCHEDULER]}
    index |= {"unet": ["diffusers", "UNet2DConditionModel"], "vae": ["diffusers", "AutoencoderKL"]}
    for encoder in family.text_encoders:
        index[encoder.name] = ["transformers", "CLIPTextModelWithProjection" if encoder.pooled else "CLIPTextModel"]
        index[encoder.name.replace("text_encoder", "tokenizer")] = ["transformers", "CLIPTokenizer"]
    rest = {"force_zeros_for_empty_prompt": True} if two else {"safety_checker": [None, None], "feature_extractor": [None, None], "requires_safety_checker": False}
    schedule = {name: value for name, value in {**SD_SCHEDULE, **model.schedule}.items() if name != "skip_prk_steps"}
    return {"model_index.json": {**index, **rest}, "scheduler/scheduler_config.json": {**schedule, "_class_name": SCHEDULER, "_diffusers_version": __version__}}


def _json(path: Path, value: Mapping[str, Any]) -> None:
    """Settings as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False, default=list) + "\n", encoding="utf-8")
