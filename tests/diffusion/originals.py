"""Small random checkpoints of every family in the original layout, described here by the project's reference of formats and not by the studio's own tables.

UNets and autoencoders are diffusers' modules, Hugging Face encoders transformers', OpenCLIP's towers open_clip's own: what they compute is what a loaded file must compute.
"""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from open_clip.transformer import TextTransformer
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel

State = dict[str, Tensor]

START, END = 49406, 49407
RESNET = {"norm1": "in_layers.0", "conv1": "in_layers.2", "time_emb_proj": "emb_layers.1", "norm2": "out_layers.0", "conv2": "out_layers.3", "conv_shortcut": "skip_connection"}
UNET_TOP = {
    "conv_in": "input_blocks.0.0",
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}


@dataclass
class Kind:
    """How a small checkpoint of one family is made."""

    name: str
    channels: int = 4
    levels: tuple[bool, ...] = (True, True, True, False)
    """Whether each level of the UNet has attention."""
    depths: tuple[int, ...] = (1, 1, 1, 1)
    widths: tuple[int, ...] = (32, 64, 64, 64)
    heads: int | tuple[int, ...] = 8
    linear: bool = False
    texts: tuple[str, ...] = ("clip",)
    text_widths: tuple[int, ...] = (32,)
    text_layers: tuple[int, ...] = (3, 4)
    vae_widths: tuple[int, ...] = (32, 32, 64, 64)
    pooled: int = 0
    spread: int = 32
    metadata: dict[str, str] = field(default_factory=dict)

    @property
    def context(self) -> int:
        """Width of the UNet's context."""
        return sum(self.text_widths)


_TWO: dict[str, Any] = {"heads": (1, 1, 1, 1), "linear": True, "texts": ("open_clip",), "text_widths": (64,), "text_layers": (4,), "pooled": 48}
_XL: dict[str, Any] = {
    "levels": (False, True, True),
    "depths": (1, 2, 3),
    "widths": (32, 64, 128),
    "heads": (1, 1, 2),
    "linear": True,
    "texts": ("clip", "open_clip"),
    "text_widths": (32, 64),
    "pooled": 40,
}
KINDS = (
    Kind("SD1"),
    Kind("SD1 inpainting", channels=9),
    Kind("SD2", **_TWO),
    Kind("SD2 v", metadata={"modelspec.architecture": "stable-diffusion-v2-768-v"}, **_TWO),
    Kind("SD2 inpainting", channels=9, **_TWO),
    Kind("SDXL", **_XL),
    Kind("SDXL inpainting", channels=9, **_XL),
)


_H: dict[str, Any] = {"widths": (320, 640, 1280, 1280), "heads": (5, 10, 20, 20), "linear": True, "texts": ("open_clip",), "text_widths": (1024,), "text_layers": (24,), "pooled": 1024}
_FULL_VAE: dict[str, Any] = {"vae_widths": (128, 256, 512, 512), "spread": 256}
_FULL_XL: dict[str, Any] = {**_XL, "depths": (1, 2, 10), "widths": (320, 640, 1280), "heads": (5, 10, 20), "text_widths": (768, 1280), "text_layers": (12, 32), "pooled": 1280}
_FULL_ONE: dict[str, Any] = {"widths": (320, 640, 1280, 1280), "text_widths": (768,), "text_layers": (12,)}
FULL = (
    Kind("SD1", **_FULL_ONE, **_FULL_VAE),
    Kind("SD1 inpainting", channels=9, **_FULL_ONE, **_FULL_VAE),
    Kind("SD2", **_H, **_FULL_VAE),
    Kind("SD2 inpainting", channels=9, **_H, **_FULL_VAE),
    Kind("SDXL", **_FULL_XL, **_FULL_VAE),
    Kind("SDXL inpainting", channels=9, **_FULL_XL, **_FULL_VAE),
)
"""The published architectures."""


@dataclass
class Parts:
    """The networks of one small checkpoint."""

    kind: Kind
    unet: nn.Module
    vae: nn.Module
    texts: tuple[nn.Module, ...]


def unet_settings(kind: Kind) -> dict[str, Any]:
    """diffusers' settings of a small UNet."""
    more = {"addition_embed_type": "text_time", "addition_time_embed_dim": kind.spread, "projection_class_embeddings_input_dim": kind.pooled + 6 * kind.spread} if len(kind.texts) == 2 else {}
    return {
        "sample_size": 64,
        "in_channels": kind.channels,
        "block_out_channels": kind.widths,
        "layers_per_block": 2,
        "down_block_types": tuple("CrossAttnDownBlock2D" if a else "DownBlock2D" for a in kind.levels),
        "up_block_types": tuple("CrossAttnUpBlock2D" if a else "UpBlock2D" for a in reversed(kind.levels)),
        "transformer_layers_per_block": kind.depths,
        "cross_attention_dim": kind.context,
        "attention_head_dim": kind.heads,
        "use_linear_projection": kind.linear,
        **more,
    }


def make_vae(widths: tuple[int, ...] = (32, 32, 64, 64)) -> AutoencoderKL:
    """An autoencoder of four levels."""
    sides = {"down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4}
    return AutoencoderKL(block_out_channels=widths, layers_per_block=2, latent_channels=4, norm_num_groups=32, sample_size=512, scaling_factor=0.18215, **sides)


def assemble(kind: Kind) -> Parts:
    """The networks of a kind, freshly made; in published sizes to be called on the meta device."""
    texts: list[nn.Module] = []
    for text, width, layers in zip(kind.texts, kind.text_widths, kind.text_layers, strict=False):
        heads = max(1, width // 64)
        if text == "clip":
            settings = {"hidden_size": width, "intermediate_size": 4 * width, "num_hidden_layers": layers, "num_attention_heads": heads, "hidden_act": "quick_gelu"}
            texts.append(CLIPTextModel(CLIPTextConfig(vocab_size=49408, bos_token_id=START, eos_token_id=END, pad_token_id=END, **settings)))
        else:
            texts.append(TextTransformer(width=width, heads=heads, layers=layers, output_dim=kind.pooled))
    return Parts(kind, UNet2DConditionModel(**unet_settings(kind)), make_vae(kind.vae_widths), tuple(texts))


def make(kind: Kind, seed: int = 0) -> Parts:
    """Random networks; the towers of SD2 have one layer more than is used, as in the published files."""
    torch.manual_seed(seed)
    parts = assemble(kind)
    for module in (parts.unet, parts.vae, *parts.texts):
        module.requires_grad_(False).eval()
        for parameter in module.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.02)
    return parts


def unet_key(key: str, levels: tuple[bool, ...]) -> str:
    """A UNet key of two resnets a level in the original layout."""
    stem, leaf = key.rsplit(".", 1)
    if stem in UNET_TOP:
        return f"{UNET_TOP[stem]}.{leaf}"
    side, *rest = stem.split(".")
    if side == "mid_block":
        kind, j, tail = rest[0], int(rest[1]), rest[2:]
        place = f"middle_block.{2 * j if kind == 'resnets' else 1}"
    else:
        i, kind, j, tail = int(rest[0]), rest[1], int(rest[2]), rest[3:]
        if kind == "downsamplers":
            return f"input_blocks.{3 * (i + 1)}.0.op.{leaf}"
        if kind == "upsamplers":
            return f"output_blocks.{3 * i + 2}.{2 if levels[-1 - i] else 1}.conv.{leaf}"
        block = f"input_blocks.{3 * i + j + 1}" if side == "down_blocks" else f"output_blocks.{3 * i + j}"
        place = f"{block}.{0 if kind == 'resnets' else 1}"
    if kind == "resnets":
        tail = [RESNET[tail[0]], *tail[1:]]
    return ".".join([place, *tail, leaf])


def vae_state(state: State, levels: int = 4) -> State:
    """A VAE's tensors in the original layout: up blocks counted from the other end, attention as 1x1 convolutions."""
    out: State = {}
    for key, tensor in state.items():
        name, value = key, tensor
        if match := re.match(r"(encoder\.down|decoder\.up)_blocks\.(\d+)\.(.*)", key):
            side, i, rest = match.group(1), int(match.group(2)), match.group(3)
            i = levels - 1 - i if side == "decoder.up" else i
            rest = rest.replace("resnets.", "block.").replace("downsamplers.0", "downsample").replace("upsamplers.0", "upsample").replace("conv_shortcut", "nin_shortcut")
            name = f"{side}.{i}.{rest}"
        elif match := re.match(r"(encoder|decoder)\.mid_block\.resnets\.(\d)\.(.*)", key):
            name = f"{match.group(1)}.mid.block_{int(match.group(2)) + 1}.{match.group(3)}"
        elif match := re.match(r"(encoder|decoder)\.mid_block\.attentions\.0\.(.*)\.(weight|bias)", key):
            part = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}[match.group(2)]
            name = f"{match.group(1)}.mid.attn_1.{part}.{match.group(3)}"
            if part != "norm" and match.group(3) == "weight":
                value = tensor[:, :, None, None]
        out[name.replace("conv_norm_out", "norm_out")] = value
    return out


def text_roots(kind: Kind) -> list[str]:
    """What the tensors of each text encoder begin with."""
    if len(kind.texts) == 2:
        return ["conditioner.embedders.0.transformer.text_model.", "conditioner.embedders.1.model."]
    return ["cond_stage_model.transformer.text_model." if kind.texts == ("clip",) else "cond_stage_model.model."]


def original(parts: Parts, half: bool = False) -> State:
    """All networks in the original layout, with the further tensors that real files carry."""
    kind = parts.kind
    out = {f"model.diffusion_model.{unet_key(k, kind.levels)}": v for k, v in parts.unet.state_dict().items()}
    out |= {f"first_stage_model.{k}": v for k, v in vae_state(parts.vae.state_dict()).items()}
    for root, text, module in zip(text_roots(kind), kind.texts, parts.texts, strict=True):
        out |= {root + k.removeprefix("text_model."): v for k, v in module.state_dict().items() if "position_ids" not in k}
        if text == "open_clip":
            out[f"{root}logit_scale"] = torch.tensor(4.6)
    out = {k: (v.half() if half else v).contiguous().clone() for k, v in out.items()}
    if kind.texts[0] == "clip":
        out[f"{text_roots(kind)[0]}embeddings.position_ids"] = torch.arange(77)[None]
    out["alphas_cumprod"] = torch.linspace(1, 0, 1000)
    out["model_ema.decay"] = torch.tensor(0.9999)
    return out


def write(path: Path, state: State, metadata: dict[str, str] | None = None) -> Path:
    """A checkpoint file of the kind its suffix names."""
    if path.suffix in (".ckpt", ".pt"):
        torch.save({"epoch": 3, "global_step": 10, "state_dict": state}, path)
    else:
        save_file(state, path, metadata=metadata)
    return path


def tower_layers(tower: nn.Module, ids: Tensor) -> list[Tensor]:
    """What each layer of OpenCLIP's text tower gives out [b, 77, d], first the embeddings."""
    x, mask = tower._embeds(ids)
    layers = [x]
    for block in tower.transformer.resblocks:
        layers.append(block(layers[-1], attn_mask=mask))
    return layers
