"""A single file in the original (ldm) layout to a Model, offline: the architecture comes from the tensors' shapes."""

import json
import struct
from pathlib import Path
from typing import Any

import torch

from studio.diffusion.families import FAMILIES, SD1, Family
from studio.diffusion.loading import SD_SCHEDULE
from studio.diffusion.model import Model
from studio.errors import Unreadable
from studio.formats.files import load_pickle, sha256

_HEADER_LIMIT = 100 * 2**20


def read_header(path: Path) -> dict[str, tuple[int, ...]]:
    """Key to shape of a .safetensors file, without reading tensors; raises Unreadable."""
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if not 2 <= length <= min(_HEADER_LIMIT, path.stat().st_size):
                raise Unreadable(f"{path.name} is not a safetensors file.", "Its name says so, but its content does not; get it again.")
            header = json.loads(file.read(length))
            return {key: tuple(value["shape"]) for key, value in header.items() if key != "__metadata__"}
    except (struct.error, ValueError, KeyError, TypeError, AttributeError) as error:
        raise Unreadable(f"{path.name} is not a safetensors file, or is cut off.", "Get it again.") from error


def recognise(path: Path, header: dict[str, tuple[int, ...]]) -> Family:
    """The family of a checkpoint; raises Unreadable in words for what cannot be used."""
    for family in FAMILIES:
        if family.matches(header):
            if not family.supported:
                raise Unreadable(f"{path.name} is a {family.name} checkpoint; this version works with Stable Diffusion 1.x.", "Choose a Stable Diffusion 1.x checkpoint.")
            return family
    raise Unreadable(f"{path.name} is not a Stable Diffusion checkpoint: it has no text encoder, UNet and VAE in the original layout.", "LoRA files belong into models/Lora, VAEs into models/VAE.")


def load_state(path: Path) -> dict[str, torch.Tensor]:
    """All tensors of a .safetensors or .ckpt file; raises Unreadable."""
    if path.suffix.lower() == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return load_file(path)
        except (SafetensorError, OSError) as error:
            raise Unreadable(f"{path.name} is damaged or cut off ({error}).", "Get it again.") from error
    data = load_pickle(path)
    data = data.get("state_dict", data) if isinstance(data, dict) else {}
    return {k: v for k, v in data.items() if isinstance(v, torch.Tensor)}


def load_single_file(path: Path, device: torch.device, dtype: torch.dtype) -> Model:
    """Load an SD 1.x checkpoint of any width; raises Unreadable."""
    if path.suffix.lower() == ".safetensors":
        recognise(path, read_header(path))
    state = load_state(path)
    recognise(path, {k: tuple(v.shape) for k, v in state.items()})
    try:
        unet, vae, text = _parts(state)
    except (KeyError, IndexError, RuntimeError, ValueError, StopIteration) as error:
        raise Unreadable(f"{path.name} lacks tensors of a Stable Diffusion 1.x checkpoint ({str(error).splitlines()[0][:200]}).", "It may be cut off or pruned too far; get it again.") from error
    return Model(SD1, path.name, sha256(path)[:10], unet, vae, (text,), dict(SD_SCHEDULE), device, dtype)


def _parts(state: dict[str, torch.Tensor]) -> tuple[Any, Any, Any]:
    """UNet, VAE and text encoder of an original-layout state dict."""
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint, convert_ldm_vae_checkpoint
    from transformers import CLIPTextConfig, CLIPTextModel

    unet_config = _unet_config(state)
    unet = UNet2DConditionModel(**unet_config)
    unet.load_state_dict(convert_ldm_unet_checkpoint(dict(state), config=unet_config))
    vae_config = _vae_config(state)
    vae = AutoencoderKL(**vae_config)
    vae.load_state_dict(convert_ldm_vae_checkpoint(dict(state), config=vae_config))
    root = SD1.text_root + "text_model."
    text_state = {k.removeprefix(root): v for k, v in state.items() if k.startswith(root) and "position_ids" not in k}
    table = text_state["embeddings.token_embedding.weight"]
    layers = 1 + max(int(k.split(".")[2]) for k in text_state if k.startswith("encoder.layers."))
    config = CLIPTextConfig(
        vocab_size=table.shape[0],
        hidden_size=table.shape[1],
        intermediate_size=text_state["encoder.layers.0.mlp.fc1.weight"].shape[0],
        num_hidden_layers=layers,
        num_attention_heads=max(1, table.shape[1] // 64),
        bos_token_id=49406,
        eos_token_id=49407,
        pad_token_id=49407,
    )
    text = CLIPTextModel(config)
    prefix = "text_model." if any(k.startswith("text_model.") for k in text.state_dict()) else ""
    text.load_state_dict({prefix + k: v for k, v in text_state.items()}, strict=True)
    return unet, vae, text


def _count(state: dict[str, torch.Tensor], start: str) -> int:
    """How many numbered entries follow a prefix."""
    return 1 + max((int(k[len(start) :].split(".")[0]) for k in state if k.startswith(start)), default=-1)


def _unet_config(state: dict[str, torch.Tensor]) -> dict[str, Any]:
    """diffusers' settings of an SD 1.x UNet, read from shapes: two resnets a level, attention in all levels but the last."""
    root = "model.diffusion_model."
    base = state[f"{root}input_blocks.0.0.weight"]
    levels = (_count(state, f"{root}input_blocks.") + 0) // 3
    widths = tuple(int(state[f"{root}input_blocks.{3 * i + 1}.0.out_layers.3.weight"].shape[0]) for i in range(levels))
    context = next(int(v.shape[1]) for k, v in state.items() if k.startswith(root) and k.endswith("attn2.to_k.weight"))
    attends = [f"{root}input_blocks.{3 * i + 1}.1.norm.weight" in state for i in range(levels)]
    down = tuple("CrossAttnDownBlock2D" if a else "DownBlock2D" for a in attends)
    up = tuple("CrossAttnUpBlock2D" if a else "UpBlock2D" for a in reversed(attends))
    return {
        "sample_size": 64,
        "in_channels": int(base.shape[1]),
        "out_channels": 4,
        "block_out_channels": widths,
        "layers_per_block": 2,
        "down_block_types": down,
        "up_block_types": up,
        "cross_attention_dim": context,
        "attention_head_dim": 8,
        "norm_num_groups": min(32, widths[0]),
    }


def _vae_config(state: dict[str, torch.Tensor]) -> dict[str, Any]:
    """diffusers' settings of SD's autoencoder, read from shapes."""
    root = "first_stage_model."
    levels = _count(state, f"{root}encoder.down.")
    widths = tuple(int(state[f"{root}encoder.down.{i}.block.0.conv2.weight"].shape[0]) for i in range(levels))
    kind = {"down_block_types": ("DownEncoderBlock2D",) * levels, "up_block_types": ("UpDecoderBlock2D",) * levels}
    return {
        "in_channels": 3,
        "out_channels": 3,
        "latent_channels": 4,
        "block_out_channels": widths,
        "layers_per_block": 2,
        "sample_size": 512,
        "scaling_factor": 0.18215,
        "norm_num_groups": min(32, widths[0]),
        **kind,
    }
