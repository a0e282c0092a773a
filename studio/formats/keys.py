"""One layer's name in its dialects, computed from the network's own shape: original (ldm, sgm) and diffusers, both ways.

Kohya's module names, as adapters use them, are in `studio.formats.kohya_keys` and are built on these tables.
Every conversion is total and loses nothing: a name that is not known goes through as it is, and comes back.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

State = dict[str, Tensor]
Kind = Literal["unet", "vae", "clip", "open_clip"]

_RESNET = {"in_layers.0": "norm1", "in_layers.2": "conv1", "emb_layers.1": "time_emb_proj", "out_layers.0": "norm2", "out_layers.3": "conv2", "skip_connection": "conv_shortcut"}
_UNET_ENDS = {
    "input_blocks.0.0": "conv_in",
    "time_embed.0": "time_embedding.linear_1",
    "time_embed.2": "time_embedding.linear_2",
    "label_emb.0.0": "add_embedding.linear_1",
    "label_emb.0.2": "add_embedding.linear_2",
    "out.0": "conv_norm_out",
    "out.2": "conv_out",
}
_VAE_RESNET = {"norm1": "norm1", "conv1": "conv1", "norm2": "norm2", "conv2": "conv2", "nin_shortcut": "conv_shortcut"}
_VAE_ATTENTION = {"norm": "group_norm", "q": "to_q", "k": "to_k", "v": "to_v", "proj_out": "to_out.0"}
_OPEN_CLIP_BLOCK = {"ln_1": "layer_norm1", "ln_2": "layer_norm2", "mlp.c_fc": "mlp.fc1", "mlp.c_proj": "mlp.fc2", "attn.out_proj": "self_attn.out_proj"}
_FUSED = ("q_proj", "k_proj", "v_proj")


@dataclass(frozen=True)
class Levels:
    """The plan of a UNet's way down, level by level: how many resnets, and whether attention follows each."""

    resnets: tuple[int, ...]
    attends: tuple[bool, ...]


XL_LEVELS = Levels((2, 2, 2), (False, True, True))


def levels_of(names: Iterable[str]) -> Levels:
    """The levels of a UNet, from the names of all its modules or tensors in either dialect (without a prefix)."""
    names = list(names)
    return _diffusers_levels(names) if any(n.startswith("down_blocks.") for n in names) else _original_levels(names)


def _diffusers_levels(names: list[str]) -> Levels:
    """Levels from `down_blocks.i.resnets.j` and `.attentions.j`."""
    found = [m.groups() for m in (re.match(r"down_blocks\.(\d+)\.(resnets|attentions)\.(\d+)", n) for n in names) if m]
    count = 1 + max((int(i) for i, _, _ in found), default=-1)
    resnets = tuple(1 + max((int(j) for k, kind, j in found if int(k) == i and kind == "resnets"), default=-1) for i in range(count))
    return Levels(resnets, tuple(any(int(k) == i and kind == "attentions" for k, kind, _ in found) for i in range(count)))


def _original_levels(names: list[str]) -> Levels:
    """Levels from `input_blocks.n`: a block that holds `op` ends its level."""
    found = [m.groups() for m in (re.match(r"input_blocks\.(\d+)\.(\d+)\.?(op\b)?", n) for n in names) if m]
    ends = {int(n) for n, _, op in found if op}
    attending = {int(n) for n, place, _ in found if place == "1"}
    resnets, attends = [0], [False]
    for n in range(1, 1 + max((int(n) for n, _, _ in found), default=0)):
        if n in ends:
            resnets.append(0)
            attends.append(False)
        else:
            resnets[-1] += 1
            attends[-1] = attends[-1] or n in attending
    return Levels(tuple(resnets), tuple(attends))


def unet_table(levels: Levels) -> dict[str, str]:
    """Original module name to diffusers' for a UNet of these levels; what stands inside an attention is called alike in both."""
    table = dict(_UNET_ENDS)
    block, last = 1, len(levels.resnets) - 1
    for i, count in enumerate(levels.resnets):
        for j in range(count):
            table |= _resnet(f"input_blocks.{block}.0", f"down_blocks.{i}.resnets.{j}", _RESNET)
            table[f"input_blocks.{block}.1"] = f"down_blocks.{i}.attentions.{j}"
            block += 1
        if i < last:
            table[f"input_blocks.{block}.0.op"] = f"down_blocks.{i}.downsamplers.0.conv"
            block += 1
    table |= _resnet("middle_block.0", "mid_block.resnets.0", _RESNET) | _resnet("middle_block.2", "mid_block.resnets.1", _RESNET)
    table["middle_block.1"] = "mid_block.attentions.0"
    block = 0
    for i, (count, attends) in enumerate(zip(reversed(levels.resnets), reversed(levels.attends), strict=True)):
        for j in range(count + 1):
            table |= _resnet(f"output_blocks.{block}.0", f"up_blocks.{i}.resnets.{j}", _RESNET)
            if attends:
                table[f"output_blocks.{block}.1"] = f"up_blocks.{i}.attentions.{j}"
            block += 1
        if i < last:
            table[f"output_blocks.{block - 1}.{2 if attends else 1}.conv"] = f"up_blocks.{i}.upsamplers.0.conv"
    return table


def _resnet(original: str, diffusers: str, inner: Mapping[str, str]) -> dict[str, str]:
    """The modules of one residual block."""
    return {f"{original}.{a}": f"{diffusers}.{b}" for a, b in inner.items()}


def vae_table(levels: int, resnets: int) -> dict[str, str]:
    """Original module name to diffusers' for an autoencoder; the decoder's levels are counted from the other end."""
    table = {}
    for side, way, sampler in (("encoder", "down", "downsample"), ("decoder", "up", "upsample")):
        for i in range(levels):
            there = f"{side}.{way}_blocks.{i if way == 'down' else levels - 1 - i}"
            for j in range(resnets):
                table |= _resnet(f"{side}.{way}.{i}.block.{j}", f"{there}.resnets.{j}", _VAE_RESNET)
            table[f"{side}.{way}.{i}.{sampler}.conv"] = f"{there}.{sampler}rs.0.conv"
        for j in (0, 1):
            table |= _resnet(f"{side}.mid.block_{j + 1}", f"{side}.mid_block.resnets.{j}", _VAE_RESNET)
        table |= _resnet(f"{side}.mid.attn_1", f"{side}.mid_block.attentions.0", _VAE_ATTENTION)
        table[f"{side}.norm_out"] = f"{side}.conv_norm_out"
    return table


def open_clip_table(layers: int) -> dict[str, str]:
    """OpenCLIP's module names to those of a Hugging Face text encoder; the fused attention weights are apart."""
    table = {"token_embedding": "text_model.embeddings.token_embedding", "ln_final": "text_model.final_layer_norm"}
    for n in range(layers):
        table |= _resnet(f"transformer.resblocks.{n}", f"text_model.encoder.layers.{n}", _OPEN_CLIP_BLOCK)
    return table


def translate(name: str, table: Mapping[str, str]) -> str | None:
    """A module's or tensor's name through a table of modules, what follows the module kept; None when the table has none of it."""
    head, tail = name, ""
    while head not in table:
        head, dot, last = head.rpartition(".")
        if not dot:
            return None
        tail = f".{last}{tail}"
    return table[head] + tail


def text_name(name: str, flat: bool = False) -> str:
    """A text encoder's module or tensor name with `text_model.` before it, as files and adapters write it; `flat` without.

    transformers from 5.6 on leave the prefix out of CLIPTextModel, but keep it in CLIPTextModelWithProjection: this is the one place that knows.
    """
    bare = name.removeprefix("text_model.")
    return bare if flat or bare.startswith(("text_projection", "logit_scale")) else f"text_model.{bare}"


def unet_to_diffusers(state: Mapping[str, Tensor]) -> State:
    """A UNet's tensors (without a prefix) from the original names."""
    return _renamed(state, unet_table(levels_of(state)))


def unet_to_original(state: Mapping[str, Tensor]) -> State:
    """A UNet's tensors under the original names."""
    return _renamed(state, _inverse(unet_table(levels_of(state))))


def vae_to_diffusers(state: Mapping[str, Tensor]) -> State:
    """An autoencoder's tensors from the original names; attention's 1x1 convolutions become matrices."""
    out = _renamed(state, vae_table(*_vae_size(state)))
    return {k: v[:, :, 0, 0] if _is_vae_attention(k) and v.ndim == 4 else v for k, v in out.items()}


def vae_to_original(state: Mapping[str, Tensor]) -> State:
    """An autoencoder's tensors under the original names; attention's matrices become 1x1 convolutions."""
    shaped = {k: v[:, :, None, None] if _is_vae_attention(k) and v.ndim == 2 else v for k, v in state.items()}
    return _renamed(shaped, _inverse(vae_table(*_vae_size(state))))


def _is_vae_attention(name: str) -> bool:
    """Whether this is a weight that is a matrix in diffusers and a 1x1 convolution in the original."""
    return ".mid_block.attentions.0.to_" in name and name.endswith(".weight")


def _vae_size(names: Iterable[str]) -> tuple[int, int]:
    """Levels, and the most resnets a level has, of an autoencoder in either dialect."""
    found = [m for m in (re.match(r"(?:en|de)coder\.(?:down|up)(?:_blocks)?\.(\d+)\.(?:block|resnets)\.(\d+)", n) for n in names) if m]
    return 1 + max((int(m[1]) for m in found), default=-1), 1 + max((int(m[2]) for m in found), default=-1)


def clip_to_diffusers(state: Mapping[str, Tensor]) -> State:
    """A Hugging Face text encoder inside an original checkpoint: the names of old files without `text_model.` are mended."""
    return {text_name(k): v for k, v in state.items()}


def clip_to_original(state: Mapping[str, Tensor]) -> State:
    """The same names, with `text_model.` whatever transformers calls them."""
    return {text_name(k): v for k, v in state.items()}


def open_clip_to_diffusers(state: Mapping[str, Tensor]) -> State:
    """OpenCLIP's text tower as a Hugging Face text encoder: attention's fused weights are split, the projection is transposed."""
    table, out = open_clip_table(_layers(state)), {}
    for key, value in state.items():
        if match := re.fullmatch(r"transformer\.resblocks\.(\d+)\.attn\.in_proj_(weight|bias)", key):
            for name, third in zip(_FUSED, value.chunk(3), strict=True):
                out[f"text_model.encoder.layers.{match[1]}.self_attn.{name}.{match[2]}"] = third
        elif key == "positional_embedding":
            out["text_model.embeddings.position_embedding.weight"] = value
        elif key == "text_projection":
            out["text_projection.weight"] = value.T.contiguous()
        else:
            out[translate(key, table) or key] = value
    return out


def open_clip_to_original(state: Mapping[str, Tensor]) -> State:
    """A Hugging Face text encoder as OpenCLIP's text tower."""
    state = {text_name(k) if k.startswith(("text_model.", "embeddings.", "encoder.", "final_layer_norm.")) else k: v for k, v in state.items()}
    table, out = _inverse(open_clip_table(_layers(state))), {}
    for key, value in state.items():
        if match := re.fullmatch(r"text_model\.encoder\.layers\.(\d+)\.self_attn\.([qkv]_proj)\.(weight|bias)", key):
            if match[2] == "q_proj":
                parts = [state[f"text_model.encoder.layers.{match[1]}.self_attn.{name}.{match[3]}"] for name in _FUSED]
                out[f"transformer.resblocks.{match[1]}.attn.in_proj_{match[3]}"] = torch.cat(parts)
        elif key == "text_model.embeddings.position_embedding.weight":
            out["positional_embedding"] = value
        elif key == "text_projection.weight":
            out["text_projection"] = value.T.contiguous()
        else:
            out[translate(key, table) or key] = value
    return out


def _layers(names: Iterable[str]) -> int:
    """How many layers a text tower has, in either dialect."""
    found = [m for m in (re.match(r"(?:transformer\.resblocks|text_model\.encoder\.layers)\.(\d+)\.", n) for n in names) if m]
    return 1 + max((int(m[1]) for m in found), default=-1)


def _renamed(state: Mapping[str, Tensor], table: Mapping[str, str]) -> State:
    """The same tensors under the names of a table."""
    return {translate(key, table) or key: value for key, value in state.items()}


def _inverse(table: Mapping[str, str]) -> dict[str, str]:
    """A table read from right to left."""
    return {there: here for here, there in table.items()}


_CONVERTERS: dict[Kind, tuple[Callable[[Mapping[str, Tensor]], State], Callable[[Mapping[str, Tensor]], State]]] = {
    "unet": (unet_to_diffusers, unet_to_original),
    "vae": (vae_to_diffusers, vae_to_original),
    "clip": (clip_to_diffusers, clip_to_original),
    "open_clip": (open_clip_to_diffusers, open_clip_to_original),
}


@dataclass(frozen=True)
class Part:
    """One network inside a checkpoint in the original layout: its kind, and what its tensors' names begin with."""

    kind: Kind
    root: str

    def names(self, names: Iterable[str]) -> list[str]:
        """Those of a checkpoint's names that belong to this part."""
        return [name for name in names if name.startswith(self.root)]

    def to_diffusers(self, state: Mapping[str, Tensor]) -> State:
        """This part's tensors out of a checkpoint's, under diffusers' names."""
        return _CONVERTERS[self.kind][0]({k[len(self.root) :]: v for k, v in state.items() if k.startswith(self.root)})

    def to_original(self, state: Mapping[str, Tensor]) -> State:
        """Tensors under diffusers' names as they stand in a checkpoint."""
        return {self.root + k: v for k, v in _CONVERTERS[self.kind][1](state).items()}


UNET = Part("unet", "model.diffusion_model.")
VAE = Part("vae", "first_stage_model.")
