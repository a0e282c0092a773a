"""Adapter files, LoRA and its kin, in every layout in use: A1111's and kohya's, LyCORIS, PEFT and diffusers, OneTrainer."""

import hashlib
import json
import re
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from studio.errors import InputError, Unreadable
from studio.files import sha256
from studio.formats.checkpoint import Weights
from studio.formats.delta import Delta, Shapes, kind_of
from studio.formats.embedding import Embedding, embedding_of
from studio.formats.finite import is_finite
from studio.safe_regex import SafeRegex

_BUNDLE = "bundle_emb."
_LORA = {"up": "lora_up", "down": "lora_down", "mid": "lora_mid", "A": "lora_down", "B": "lora_up"}
_PLAIN = (
    r"alpha|scale|scalar|dora_scale|diff|diff_b|w_norm|b_norm|oft_blocks|oft_diag|rescale|weight|on_input|ia3_l"
    r"|hada_w[12]_[ab]|hada_t[12]|lokr_w[12](?:_[ab])?|lokr_t2"
)
_KEY = re.compile(
    r"(?P<module>.+?)\.(?:"
    r"(?:lora_|lora\.|lora_linear_layer\.)(?P<half>up|down|mid|A|B)(?:\.default)?\.weight"
    r"|lora_(?P<shift>B)(?:\.default)?\.bias"
    r"|oft_R(?:\.default)?\.(?P<rotation>weight|scaled_oft)"
    r"|(?P<magnitude>lora_magnitude_vector)(?:\.default)?(?:\.weight)?"
    r"|(?P<glora>a1|a2|b1|b2|bm)\.weight"
    rf"|(?P<plain>{_PLAIN})(?:\.default)?)"
)
_PROCESSOR = re.compile(r"(?P<module>.+?)(?:\.processor)?\.(?P<name>to_q|to_k|to_v|to_out)_lora\.(?P<half>up|down)\.weight")
_PROCESSED = {"unet": {"to_out": "to_out.0"}, "text": {"to_q": "q_proj", "to_k": "k_proj", "to_v": "v_proj", "to_out": "out_proj"}}
_UNET_ROOTS = ("down_blocks_", "mid_block_", "up_blocks_", "conv_in", "conv_out", "time_embedding_", "add_embedding_", "input_blocks_", "middle_block_", "output_blocks_", "time_embed_")
_WRAPPER = "base_model_model_"
_PREFIXES = (
    *((start, "lora_unet_") for start in ("unet_", "oft_unet_", "model_diffusion_model_", "diffusion_model_")),
    *((start, "lora_te2_") for start in ("text_encoders_clip_g_transformer_", "clip_g_transformer_", "clip_g_", "text_encoder_2_", "oft_te2_")),
    *((start, "lora_te1_") for start in ("text_encoders_clip_l_transformer_", "clip_l_transformer_", "clip_l_", "text_encoder_", "oft_te1_", "oft_te_")),
    *((start, f"lora_te1_{start}") for start in ("text_model_", "encoder_layers_")),
    ("lycoris_text_model_", "lora_te1_text_model_"),
    *((root, f"lora_unet_{root}") for root in _UNET_ROOTS),
)
"""How other programs begin a module's name, dots turned to underscores, and how kohya does."""
_PARTS = {"lora_unet_": "unet", "lora_te1_": "text_encoder", "lora_te2_": "text_encoder_2"}
"""How kohya begins the names of each part of a diffusers folder."""
_OTHERS = {"double_blocks_": "Flux", "single_blocks_": "Flux", "single_transformer_blocks_": "Flux", "joint_blocks_": "Stable Diffusion 3", "lora_prior_": "Stable Cascade"}
_WIDTHS = {768: "SD1", 1024: "SD2", 2048: "SDXL"}
_LONG = {"SD1": "Stable Diffusion 1", "SD2": "Stable Diffusion 2", "SDXL": "SDXL"}


@dataclass(frozen=True)
class AdapterFacts:
    """What a file says about itself, read from its header: `kind` (LoRA, LoHa, ... or several joined by +), the largest rank, family or None, alias and hash (hexadecimal)."""

    kind: str
    rank: int | None
    modules: int
    family: str | None
    alias: str
    hash: str
    embeddings: tuple[str, ...]
    metadata: Mapping[str, str]


@dataclass(frozen=True)
class Adapter:
    """A LoRA or one of its kin: the change of every layer, by the layer's name in kohya's spelling (dots as underscores)."""

    name: str
    modules: Mapping[str, Delta]
    metadata: Mapping[str, str] = field(default_factory=dict)
    family: str | None = None
    embeddings: Mapping[str, Embedding] = field(default_factory=dict)
    hash: str = ""
    unknown: tuple[str, ...] = ()

    @property
    def alias(self) -> str:
        """The name it was given when it was trained; a prompt may use it in place of the file's."""
        return self.metadata.get("ss_output_name") or self.name

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of its layers, the most frequent first."""
        names = [d.kind.name for d in self.modules.values()]
        return tuple(sorted(dict.fromkeys(names), key=lambda n: -names.count(n)))


def read_adapter(path: Path) -> Adapter:
    """Read an adapter whole, without running code from it; raises Unreadable in words."""
    weights = _opened(path)
    groups, bundled, unknown = _grouped(weights.shapes)
    _refuse_others(path, groups, weights.shapes)
    tensors, config = weights.read(), _peft_config(path, weights.metadata)
    modules = {}
    for name, keys in groups.items():
        delta = _delta(path, name, {part: tensors[key] for part, key in keys.items()})
        modules[name] = _with_peft_alpha(delta, name, next(iter(keys.values())), config) if config and "alpha" not in keys else delta
    embeddings = {name: embedding_of(path, name, {part: tensors[key] for part, key in keys.items()}) for name, keys in bundled.items()}
    return Adapter(path.stem, modules, weights.metadata, family_of(_shapes(groups, weights.shapes), weights.metadata), embeddings, adapter_hash(path, weights.metadata), tuple(unknown))


def adapter_facts(path: Path, hashed: bool = True) -> AdapterFacts:
    """What lies in an adapter file, from its header alone; a hash that is not in it is computed from the bytes, or left empty when not `hashed`. Raises Unreadable."""
    weights = _opened(path)
    groups, bundled, _ = _grouped(weights.shapes)
    _refuse_others(path, groups, weights.shapes)
    shapes = _shapes(groups, weights.shapes)
    names, ranks = [], []
    for parts in shapes.values():
        kind = kind_of(frozenset(parts))
        if kind is not None:
            names.append("DoRA" if kind.name == "LoRA" and {"dora_scale", "lora_magnitude_vector"} & set(parts) else kind.name)
            ranks.append(kind.rank(parts) or 0)
    return AdapterFacts(
        kind="+".join(sorted(dict.fromkeys(names), key=lambda n: -names.count(n))),
        rank=max(ranks) or None,
        modules=len(names),
        family=family_of(shapes, weights.metadata),
        alias=weights.metadata.get("ss_output_name") or path.stem,
        hash=adapter_hash(path, weights.metadata) if hashed else weights.metadata.get("sshs_model_hash", ""),
        embeddings=tuple(bundled),
        metadata=weights.metadata,
    )


def find_adapters(files: Iterable[Path], name: str) -> list[Path]:
    """Files that a prompt may mean, the one to use first: by their stem, letter case aside if need be, else by the alias in their header."""
    files = list(files)
    return [p for p in files if p.stem == name] or [p for p in files if p.stem.lower() == name.lower()] or [p for p in files if _alias(p) == name]


def _alias(path: Path) -> str:
    """The alias in a file's header; empty when it cannot be read."""
    try:
        return _opened(path).metadata.get("ss_output_name", "") if path.suffix.lower() == ".safetensors" else ""
    except (Unreadable, OSError):
        return ""


def adapter_hash(path: Path, metadata: Mapping[str, str]) -> str:
    """The hash A1111 shows for a LoRA: kohya's own, else that of the bytes after the header; of the whole file for a pickle."""
    if "sshs_model_hash" in metadata:
        return metadata["sshs_model_hash"]
    if path.suffix.lower() != ".safetensors":
        return sha256(path)
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        file.seek(8 + length)
        return hashlib.file_digest(file, "sha256").hexdigest()


def family_of(modules: Mapping[str, Shapes], metadata: Mapping[str, str]) -> str | None:
    """SD1, SD2 or SDXL by the widths of the layers, else by what the metadata say; the name of a family that is not supported; None when nothing tells."""
    names = " ".join(modules)
    for part, other in _OTHERS.items():
        if part in names:
            return other
    if "lora_te2_" in names or re.search(r"_transformer_blocks_[2-9]_", names):
        return "SDXL"
    for name, shapes in modules.items():
        width = next((shapes[part][1] for part in ("lora_down", "hada_w1_b", "diff") if len(shapes.get(part, ())) > 1), None)
        if (name.endswith(("attn2_to_k", "attn2_to_v")) or (name.startswith("lora_te_") and name.endswith("_proj"))) and width in _WIDTHS:
            return _WIDTHS[width]
    return _stated(metadata)


def _stated(metadata: Mapping[str, str]) -> str | None:
    """The family by `ss_*` and modelspec metadata."""
    base = metadata.get("ss_base_model_version") or metadata.get("modelspec.architecture") or ""
    if base.startswith(("sdxl", "stable-diffusion-xl")):
        return "SDXL"
    if base.startswith(("sd_v2", "stable-diffusion-v2")) or metadata.get("ss_v2") == "True":
        return "SD2"
    return "SD1" if base.startswith(("sd_v1", "stable-diffusion-v1")) or metadata.get("ss_v2") == "False" else None


def long_name(family: str | None) -> str:
    """A family's name as a person says it."""
    return _LONG.get(family or "", family or "another kind of checkpoint")


def _opened(path: Path) -> Weights:
    """The file with its header read; raises Unreadable."""
    if not path.is_file():
        raise Unreadable(f"There is no file {path.name!r}.", "It may have been moved; refresh the list.")
    if path.stat().st_size == 0:
        raise Unreadable(f"{path.name} is empty (0 bytes).", "Copy it again from where it came.")
    return Weights(path)


def _shapes(groups: Mapping[str, Mapping[str, str]], shapes: Shapes) -> dict[str, Shapes]:
    """Shapes by module and part."""
    return {name: {part: shapes[key] for part, key in keys.items()} for name, keys in groups.items()}


def _grouped(keys: Iterable[str]) -> tuple[dict[str, dict[str, str]], dict[str, dict[str, str]], list[str]]:
    """Keys of a file by module and part, those of bundled embeddings by name and part, and the rest."""
    modules: dict[str, dict[str, str]] = {}
    bundled: dict[str, dict[str, str]] = {}
    unknown = []
    for key in keys:
        if key.startswith(_BUNDLE):
            name, part = _bundled_name(key)
            bundled.setdefault(name, {})[part] = key
        elif found := split_key(key):
            modules.setdefault(found[0], {})[found[1]] = key
        else:
            unknown.append(key)
    for name in [name for name, parts in modules.items() if kind_of(frozenset(parts)) is None]:
        unknown += modules.pop(name).values()
    return modules, bundled, unknown


def split_key(key: str) -> tuple[str, str] | None:
    """A tensor's key as the module in kohya's spelling and the part of the change it is; None for what is no part of an adapter."""
    if match := _PROCESSOR.fullmatch(key):
        side = "text" if "text_encoder" in key else "unet"
        return kohya_spelled(f"{match['module']}.{_PROCESSED[side].get(match['name'], match['name'])}"), _LORA[match["half"]]
    match = _KEY.fullmatch(key)
    if not match:
        return None
    if match["shift"]:
        return kohya_spelled(match["module"]), "up_bias"
    if match["rotation"]:
        return kohya_spelled(match["module"]), {"weight": "oft_r", "scaled_oft": "scaled_oft"}[match["rotation"]]
    part = _LORA[match["half"]] if match["half"] else match["magnitude"] or match["glora"] or match["plain"]
    return kohya_spelled(match["module"]), part


def kohya_spelled(module: str) -> str:
    """A module's name as kohya begins it, whichever program wrote it."""
    name = module.replace(".", "_").removeprefix(_WRAPPER)
    for start, ours in _PREFIXES:
        if name.startswith(start):
            return ours + name.removeprefix(start).removeprefix(_WRAPPER)
    return name


def _bundled_name(key: str) -> tuple[str, str]:
    """`bundle_emb.<name>.string_to_param.*` or `.clip_l`, `.clip_g` as name and part."""
    bare = key.removeprefix(_BUNDLE)
    name, found, part = bare.partition(".string_to_param.")
    if found:
        return name, "emb_params"
    name, _, part = bare.rpartition(".")
    return (name, part) if name else (part, "emb_params")


def _delta(path: Path, module: str, parts: dict[str, Tensor]) -> Delta:
    """The change of one layer; raises Unreadable for numbers that are not finite."""
    kind = kind_of(frozenset(parts))
    if kind is None:
        raise KeyError(module)
    for name, tensor in parts.items():
        if tensor.is_floating_point() and not is_finite(tensor):
            raise Unreadable(f"{path.name} is spoilt: {name} of {module} holds NaN or infinity.", "Its training diverged; use an earlier copy.")
    alpha, factor = parts.pop("alpha", None), parts.pop("scale", None)
    if kind.name == "OFT" and alpha is not None:
        parts["constraint"] = alpha.float()
    if "lora_magnitude_vector" in parts:  # PEFT keeps one length per output, for convolutions as [1, out, 1, 1]
        parts["dora_scale"] = parts.pop("lora_magnitude_vector").reshape(-1, 1)
    value = float(alpha) if alpha is not None and alpha.numel() == 1 else None
    return Delta(kind, parts, value or None, float(factor) if factor is not None else None)


def _peft_config(path: Path, metadata: Mapping[str, str]) -> dict[str, Any]:
    """PEFT's configuration, which diffusers keeps in the metadata and PEFT beside the file, with the part ("unet", "text_encoder", ...) before every key; empty when there is none."""
    text, beside = metadata.get("lora_adapter_metadata"), path.parent / "adapter_config.json"
    try:
        if text:
            found = json.loads(text)
            return found if isinstance(found, dict) else {}
        if path.name.startswith("adapter_model.") and beside.is_file():
            return {f"{part}.{key}": value for key, value in json.loads(beside.read_text(encoding="utf-8")).items() for part in _PARTS.values()}
    except (ValueError, AttributeError):
        return {}
    return {}


def _with_peft_alpha(delta: Delta, module: str, key: str, config: Mapping[str, Any]) -> Delta:
    """The change with the alpha PEFT has for this layer: by the first pattern that its dotted name ends with, else the common one; alpha / sqrt(rank) for rsLoRA."""
    part = next((part for start, part in _PARTS.items() if module.startswith(start)), "")
    match = _KEY.fullmatch(key)
    dotted = match["module"].removeprefix(f"{part}.").removeprefix("base_model.model.") if match else ""
    patterns = config.get(f"{part}.alpha_pattern")
    alpha = config.get(f"{part}.lora_alpha", config.get(f"{part}.alpha"))
    for pattern, value in (patterns if isinstance(patterns, dict) else {}).items():
        if _matches(pattern, dotted):
            alpha = value
            break
    if not isinstance(alpha, int | float) or not alpha or not delta.rank:
        return delta
    rank = delta.rank if not config.get(f"{part}.use_rslora") else delta.rank**0.5
    return replace(delta, alpha=float(alpha), factor=alpha / rank)


def _matches(pattern: str, dotted: str) -> bool:
    """Whether a layer's dotted name ends with a pattern of PEFT's configuration, read as plain text where it isn't a regular expression. Raises Unreadable when the search takes too long."""
    try:
        expression = SafeRegex(rf"(.*\.)?({pattern})", "alpha_pattern")
    except InputError:
        return dotted == pattern or dotted.endswith(f".{pattern}")
    try:
        return expression.fullmatch(dotted)
    except InputError as error:
        raise Unreadable(str(error)) from error


def _refuse_others(path: Path, modules: Mapping[str, object], keys: Iterable[str]) -> None:
    """Raise Unreadable for a file in which no layer was found, saying what it seems to be."""
    if modules:
        return
    keys = list(keys)
    if any(key.startswith(("model.diffusion_model.", "first_stage_model.", "cond_stage_model.", "conditioner.")) for key in keys):
        raise Unreadable(f"{path.name} is a checkpoint, not a LoRA.", "Put it into models/Stable-diffusion.")
    if {"emb_params", "clip_l", "clip_g", "string_to_param"} & set(keys) or len(keys) == 1:
        raise Unreadable(f"{path.name} is an embedding, not a LoRA.", "Put it into the embeddings folder.")
    if any(re.fullmatch(r"(unet|text_encoder):\d+:(up|down)", key) for key in keys):
        raise Unreadable(f"{path.name} names its layers by position, as the first LoRA program did.", "Convert it to kohya's layout first.")
    shown = ", ".join(keys[:3]) or "nothing"
    raise Unreadable(f"{path.name} is not a LoRA of a known kind (it holds {len(keys)} tensors: {shown}).", "LoRA, LoCon, LoHa, LoKr, IA3, GLoRA, OFT, DoRA and full differences are known.")
