"""From the shapes in a checkpoint to the settings of the networks they belong to, whatever their width and depth."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from studio.diffusion.families import Family, TextEncoder
from studio.formats.keys import levels_of

Shapes = Mapping[str, tuple[int, ...]]

_HEAD = 64
_SIZES = 6


def unet_config(family: Family, shapes: Shapes, pooled: int = 0) -> dict[str, Any]:
    """diffusers' settings of a UNet from the original names (without a prefix) and shapes of its tensors; raises KeyError naming what is missing.

    `pooled` is the width of the pooled text, for a UNet that is conditioned on it.
    """
    levels = levels_of(shapes)
    widths, depths, block = [], [], 1
    for count in levels.resnets:
        widths.append(shapes[f"input_blocks.{block}.0.out_layers.3.weight"][0])
        depths.append(_count(shapes, f"input_blocks.{block}.1.transformer_blocks."))
        block += count + 1
    middle = _count(shapes, "middle_block.1.transformer_blocks.")
    context = next((s[1] for k, s in shapes.items() if k.endswith("attn2.to_k.weight")), family.context_width)
    return {
        "sample_size": family.resolution // 8,
        "in_channels": shapes["input_blocks.0.0.weight"][1],
        "out_channels": shapes["out.2.weight"][0],
        "block_out_channels": tuple(widths),
        "layers_per_block": levels.resnets[0] if len(set(levels.resnets)) == 1 else levels.resnets,
        "down_block_types": tuple("CrossAttnDownBlock2D" if a else "DownBlock2D" for a in levels.attends),
        "up_block_types": tuple("CrossAttnUpBlock2D" if a else "UpBlock2D" for a in reversed(levels.attends)),
        "cross_attention_dim": context,
        "attention_head_dim": family.heads or tuple(max(1, w // _HEAD) for w in widths),
        "transformer_layers_per_block": (*(d or 1 for d in depths[:-1]), depths[-1] or middle or 1),
        "use_linear_projection": len(shapes.get("middle_block.1.proj_in.weight", ())) == 2,
        "norm_num_groups": min(32, widths[0]),
        **_added(shapes, pooled),
    }


def _added(shapes: Shapes, pooled: int) -> dict[str, Any]:
    """Settings of the conditions on pooled text and on six sizes, each spread over equally many numbers; none for a UNet without them."""
    if "label_emb.0.0.weight" not in shapes:
        return {}
    width = shapes["label_emb.0.0.weight"][1]
    return {"addition_embed_type": "text_time", "addition_time_embed_dim": max(2, (width - pooled) // _SIZES), "projection_class_embeddings_input_dim": width}


def vae_config(shapes: Shapes, scale: float) -> dict[str, Any]:
    """diffusers' settings of an autoencoder from the original names (without a prefix) and shapes; raises KeyError naming what is missing."""
    count = _count(shapes, "encoder.down.")
    widths = tuple(shapes[f"encoder.down.{i}.block.0.conv2.weight"][0] for i in range(count))
    return {
        "in_channels": shapes["encoder.conv_in.weight"][1],
        "out_channels": shapes["decoder.conv_out.weight"][0],
        "latent_channels": shapes["decoder.conv_in.weight"][1],
        "block_out_channels": widths,
        "layers_per_block": _count(shapes, "encoder.down.0.block."),
        "down_block_types": ("DownEncoderBlock2D",) * count,
        "up_block_types": ("UpDecoderBlock2D",) * count,
        "mid_block_add_attention": _has(shapes, "encoder.mid.attn_1.", "decoder.mid.attn_1."),
        "norm_num_groups": min(32, widths[0] if widths else 32),
        "use_quant_conv": _has(shapes, "quant_conv."),
        "use_post_quant_conv": _has(shapes, "post_quant_conv."),
        "sample_size": 512,
        "scaling_factor": scale,
    }


def text_config(encoder: TextEncoder, shapes: Shapes) -> dict[str, Any]:
    """transformers' settings of a text encoder from Hugging Face names (with `text_model.`) and shapes; raises KeyError naming what is missing."""
    width = shapes["text_model.final_layer_norm.weight"][0]
    return {
        "vocab_size": shapes.get("text_model.embeddings.token_embedding.weight", (49408,))[0],
        "hidden_size": width,
        "intermediate_size": shapes.get("text_model.encoder.layers.0.mlp.fc1.weight", (4 * width,))[0],
        "num_hidden_layers": max(1, _count(shapes, "text_model.encoder.layers.")),
        "num_attention_heads": max(1, width // _HEAD),
        "max_position_embeddings": shapes.get("text_model.embeddings.position_embedding.weight", (77,))[0],
        "hidden_act": "quick_gelu" if encoder.kind == "clip" else "gelu",
        "projection_dim": shapes.get("text_projection.weight", (width,))[0],
        "bos_token_id": 49406,
        "eos_token_id": 49407,
        "pad_token_id": encoder.pad,
    }


def unused_layers(encoder: TextEncoder, names: Iterable[str]) -> set[int]:
    """Layers of a text encoder (Hugging Face names) that the family never uses and that are not loaded.

    A published file holds the whole tower, which its projection shows (or its 24 layers); files made from a diffusers folder hold only what is used.
    """
    names = list(names)
    count = _count(names, "text_model.encoder.layers.")
    whole = "text_projection.weight" in names or count == 24
    return set(range(count - encoder.unused, count)) if whole else set()


def _has(names: Iterable[str], *starts: str) -> bool:
    """Whether any name begins so; one tensor of a module shows that all of it should be there."""
    return any(name.startswith(starts) for name in names)


def _count(names: Iterable[str], start: str) -> int:
    """How many numbered entries follow a prefix."""
    found = [m for m in (re.match(re.escape(start) + r"(\d+)\.", name) for name in names) if m]
    return 1 + max((int(m[1]) for m in found), default=-1)
