"""What kind of network a file holds and for which family it is, by the names and shapes of its tensors."""

import re
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

Shapes = Mapping[str, tuple[int, ...]]

WIDTHS = {768: "SD1", 1024: "SD2", 2048: "SDXL"}
"""Width of the context, and the family of checkpoints that has it."""
_OTHERS = {"double_blocks": "Flux", "single_blocks": "Flux", "single_transformer_blocks": "Flux", "joint_blocks": "Stable Diffusion 3", "lora_prior_": "Stable Cascade"}
_MARKS = (
    ("LoHa", re.compile(r"\.hada_w1_b$"), 0),
    ("LoKr", re.compile(r"\.lokr_w[12](?:_b)?$"), 0),
    ("OFT", re.compile(r"\.(?:oft_blocks|oft_diag|oft_R(?:\.default)?\.weight)$"), None),
    ("GLoRA", re.compile(r"\.a1\.weight$"), 0),
    ("LoRA", re.compile(r"(?:[._]lora[._](?:linear_layer\.)?|\.lora_)(?:down|A)(?:\.default)?\.weight$"), 0),
    ("IA3", re.compile(r"\.(?:on_input|ia3_l)$"), None),
    ("Norm", re.compile(r"\.(?:w_norm|b_norm)$"), None),
    ("Full", re.compile(r"\.(?:diff|diff_b)$"), None),
    ("DoRA", re.compile(r"\.(?:dora_scale|lora_magnitude_vector)\b"), None),
)
"""A kind, the tensor that marks it, and the axis of that tensor which is the rank."""
_CROSS = re.compile(r"attn2[._]to_[kv]\b|attn2_to_[kv]\.")
_NARROW = ("lora_down", "lora_A", "lora.down", "hada_w1_b", "diff")


def method_of(shapes: Shapes) -> tuple[str, int | None]:
    """The kinds of a file's layers, the most frequent first and joined by +, and the largest rank; "" and None for a file that is no adapter."""
    counts: dict[str, int] = {}
    ranks, decomposed = [0], False
    for key, shape in shapes.items():
        name, axis = _kind_of("." + ".".join(key.rsplit(".", 3)[1:]))
        decomposed = decomposed or name == "DoRA"
        if name and name != "DoRA":
            counts[name] = counts.get(name, 0) + 1
            ranks.append(shape[axis] if axis is not None and len(shape) > axis else 0)
    names = ["DoRA" if name == "LoRA" and decomposed else name for name in sorted(counts, key=lambda n: -counts[n])]
    return "+".join(names), max(ranks) or None


@lru_cache(4096)
def _kind_of(end: str) -> tuple[str, int | None]:
    """The kind that a tensor with this end of a name marks, and the axis of its shape that is the rank; "" when it marks none. Files have few such ends."""
    found = next(((name, axis) for name, mark, axis in _MARKS if mark.search(end)), ("", None))
    return found if found[0] != "LoKr" or end.endswith("_b") else ("LoKr", None)


def family_of(shapes: Shapes, metadata: Mapping[str, str]) -> str | None:
    """SD1, SD2 or SDXL by the tensors, else by what the texts say; the name of a family that is not supported; None when nothing tells."""
    names = " ".join(shapes)
    other = next((family for part, family in _OTHERS.items() if part in names), None)
    if other:
        return other
    if re.search(r"lora_te2_|text_encoder_2\.|clip_g|transformer_blocks[._][2-9][._]", names):
        return "SDXL"
    for key, shape in shapes.items():
        if len(shape) > 1 and shape[1] in WIDTHS and any(part in key for part in _NARROW) and (_CROSS.search(key) or re.search(r"lora_te_.*_proj\.", key)):
            return WIDTHS[shape[1]]
    return stated_family(metadata)


def stated_family(metadata: Mapping[str, str]) -> str | None:
    """The family by `ss_*` and modelspec texts."""
    base = metadata.get("ss_base_model_version") or metadata.get("modelspec.architecture") or ""
    for starts, family in ((("sdxl", "stable-diffusion-xl"), "SDXL"), (("sd_v2", "stable-diffusion-v2"), "SD2"), (("sd_v1", "stable-diffusion-v1"), "SD1")):
        if base.startswith(starts):
            return family
    return {"True": "SD2", "False": "SD1"}.get(metadata.get("ss_v2", ""))


def checkpoint_family(shapes: Shapes) -> str | None:
    """The family of a checkpoint by the width of its UNet's context; None when nothing tells."""
    widths = {shape[1] for key, shape in shapes.items() if len(shape) == 2 and _CROSS.search(key)}
    return next((WIDTHS[width] for width in sorted(widths) if width in WIDTHS), None)


def folder_family(folder: Path, said: Mapping[str, object]) -> str | None:
    """The family of a diffusers folder by its UNet's configuration."""
    width = said.get("cross_attention_dim")
    width = width[0] if isinstance(width, list) and width else width
    return "SDXL" if (folder / "text_encoder_2").is_dir() else WIDTHS.get(width) if isinstance(width, int) else None
