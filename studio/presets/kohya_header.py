"""The header of a safetensors file as settings: kohya's `ss_*`, and where there is none, what the tensors' shapes tell."""

import json
import re
import struct
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from studio.errors import InputError, Unreadable
from studio.presets.kohya import Settings
from studio.presets.kohya_files import several_sets
from studio.presets.kohya_pictures import FOLDER
from studio.presets.kohya_rates import arguments
from studio.presets.taking import empty, flag, whole

MOST_HEADER = 100 * 2**20
"""Bytes of a header; the format allows no more."""
_ENCODER = re.compile(r"^lora_te|^text_encoder")
_RANKED = ("lora_down.weight", "lora_A.weight", "hada_w1_b", "lokr_w2_b", "lokr_w1_b")
"""How tensors end whose first side is the rank."""
_ALPHAS = {"F16": ("<e", 2), "F32": ("<f", 4), "F64": ("<d", 8), "BF16": ("<H", 2)}
"""How one number of a tensor is unpacked."""
_FAMILIES = ("sd_v1", "sd_v2", "sdxl")
_DATASET = (
    "flip_aug",
    "shuffle_caption",
    "keep_tokens",
    "color_aug",
    "random_crop",
    "caption_dropout_rate",
    "caption_tag_dropout_rate",
    "caption_dropout_every_n_epochs",
    "caption_prefix",
    "caption_suffix",
)
"""Facts of a subset that kohya's trainer writes into `ss_datasets`."""


@dataclass(frozen=True)
class Header:
    """Metadata, and dtype and shape of each tensor; `name` is what the file is called to a person, `start` is the byte at which tensors begin."""

    path: Path
    name: str
    metadata: Mapping[str, str]
    tensors: Mapping[str, Mapping[str, Any]]
    start: int

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a tensor; empty when the header says none."""
        shape = self.tensors[name].get("shape")
        return tuple(shape) if isinstance(shape, list) and all(isinstance(side, int) for side in shape) else ()


def read_header(path: Path, name: str = "") -> Header:
    """The header alone, of a file that is called `name` to a person; raises Unreadable for what is no safetensors file or a damaged one."""
    called = name or path.name
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if not 2 <= length <= min(MOST_HEADER, size - 8):
                raise Unreadable(f"{called} is no safetensors file, or it is damaged: its header would take {length} bytes.", "Copy or download it again.")
            header = json.loads(file.read(length))
    except (OSError, struct.error, ValueError, RecursionError) as error:
        raise Unreadable(f"{called} is no safetensors file, or it is damaged.", "Copy or download it again.") from error
    if not isinstance(header, dict):
        raise Unreadable(f"{called} has no header that can be read.", "Copy or download it again.")
    metadata = header.pop("__metadata__", {})
    told = {str(key): value for key, value in metadata.items() if isinstance(value, str)} if isinstance(metadata, dict) else {}
    return Header(path, called, told, {key: value for key, value in header.items() if isinstance(value, dict)}, 8 + length)


def read_metadata(header: Header) -> Settings:
    """What a file says about its training; raises InputError when it says nothing, or is of a model that is not trained here."""
    told = {key[3:]: value for key, value in header.metadata.items() if key.startswith("ss_") and not empty(value)}
    version = told.get("base_model_version", "")
    if version and not version.startswith(_FAMILIES):
        raise InputError(f"{header.name} was trained on {version[:40]}.", "The studio trains Stable Diffusion 1, 2 and XL.")
    method, guessed, network = _told_by_tensors(header)
    module = told.get("network_module", "")
    if module:
        network |= {**_object(told.get("network_args")), **({} if _object(told.get("network_args")) else arguments(told.get("network_args")))}
        method = "lycoris" if "lycoris" in module or module.startswith("locon") else "lora"
    if not method:
        raise InputError(f"{header.name} says nothing about a training.", "Choose a LoRA, an embedding, or a settings file.")
    if whole(told.get("network_dim")) is None:
        told.pop("network_dim", None)  # "Dynamic": the tensors say it
    sets = _subset(told)
    images, regularisation, words = _folders(told)
    args = {**guessed, **sets, **told}
    words = words or str(sets.get("class_tokens", ""))
    if "network_dropout" not in told and "dropout" in network:
        args["network_dropout"] = network["dropout"]
    trained = any(key in told for key in ("learning_rate", "unet_lr", "optimizer", "max_train_steps"))
    return Settings(method, _settled(args), network, images, regularisation or (whole(told.get("num_reg_images")) or 0), words, trained, notes=several_sets(_subsets_of(told)))


def _settled(args: dict[str, Any]) -> dict[str, Any]:
    """Steps that were reached where those that were asked for are not written; the name of the file is no setting."""
    if empty(args.get("max_train_steps")) and not empty(args.get("steps")):
        args["max_train_steps"] = args["steps"]
    return args


def _told_by_tensors(header: Header) -> tuple[str, dict[str, Any], dict[str, Any]]:
    """Method, kohya's settings and the network's arguments, as far as names and shapes of tensors tell them; the method is empty when they tell none."""
    names = list(header.tensors)
    if {"emb_params"} & set(names) or {"clip_l", "clip_g"} <= set(names):
        return "textual_inversion", {}, {}
    if any(name.startswith("model.diffusion_model.") for name in names):
        return "fine_tune", {}, {}
    endings = {name.rpartition(".")[2] for name in names}
    algorithm = "loha" if any(e.startswith("hada_") for e in endings) else "lokr" if any(e.startswith("lokr_") for e in endings) else ""
    rank, wide = _ranks(header)
    if not (rank or wide or algorithm):
        return "", {}, {}
    args: dict[str, Any] = {} if any(_ENCODER.match(name) for name in names) else {"network_train_unet_only": "True"}
    if rank:
        alpha = _alpha(header)
        args |= {"network_dim": rank, "network_alpha": rank if alpha is None else alpha}
    elif algorithm == "lokr":
        args["network_dim"] = 100_000
    network = {key: value for key, value in (("algo", algorithm), ("conv_dim", wide), ("dora_wd", "dora_scale" in endings)) if value}
    return "lycoris" if algorithm else "lora", args, network


def _ranks(header: Header) -> tuple[int, int]:
    """The rank most layers have, and the one most 3x3 convolutions have; 0 for none."""
    linear: Counter[int] = Counter()
    wide: Counter[int] = Counter()
    for name in header.tensors:
        shape = header.shape(name) if name.endswith(_RANKED) else ()
        if shape:
            (wide if len(shape) == 4 and shape[2] > 1 else linear)[shape[0]] += 1
    return _most(linear), _most(wide)


def _most(counts: Counter[int]) -> int:
    """What was counted most; 0 for nothing."""
    return counts.most_common(1)[0][0] if counts else 0


def _alpha(header: Header) -> float | None:
    """The first layer's alpha, the one number of its tensor; None when there is none."""
    name = next((name for name in header.tensors if name.endswith(".alpha")), None)
    if name is None:
        return None
    entry = header.tensors[name]
    kind, offsets = _ALPHAS.get(str(entry.get("dtype"))), entry.get("data_offsets")
    if kind is None or not isinstance(offsets, list) or not offsets or not isinstance(offsets[0], int) or offsets[0] < 0:
        return None
    try:
        with header.path.open("rb") as file:
            file.seek(header.start + offsets[0])
            (value,) = struct.unpack(kind[0], file.read(kind[1]))
    except (OSError, struct.error, OverflowError):
        return None
    return struct.unpack("<f", struct.pack("<I", value << 16))[0] if entry["dtype"] == "BF16" else float(value)


def _object(text: str | None) -> dict[str, Any]:
    """A JSON object; empty for anything else."""
    try:
        found = json.loads(text or "")
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _datasets_of(told: Mapping[str, str]) -> list[dict[str, Any]]:
    """The sets of pictures of `ss_datasets`; none for what cannot be read."""
    try:
        sets = json.loads(told.get("datasets", ""))
    except (ValueError, RecursionError):
        return []
    return [each for each in sets if isinstance(each, dict)] if isinstance(sets, list) else []


def _subsets_of(told: Mapping[str, str]) -> list[dict[str, Any]]:
    """What each folder of pictures to learn from was told."""
    found = []
    for each in _datasets_of(told):
        subsets = each.get("subsets")
        shared = {key: each[key] for key in ("batch_size_per_device", "resolution", "enable_bucket") if key in each}
        found += [{**shared, **{key: subset[key] for key in _DATASET if key in subset}} for subset in subsets or () if isinstance(subset, dict) and not flag(subset.get("is_reg"))]
    return found


def _subset(told: Mapping[str, str]) -> dict[str, Any]:
    """What the first set of pictures was told, from `ss_datasets`, which lists them."""
    first = next(iter(_datasets_of(told)), {})
    found = {key: first[key] for key in ("batch_size_per_device", "resolution", "enable_bucket") if key in first}
    subsets = first.get("subsets")
    subset = next((each for each in subsets if isinstance(each, dict) and not flag(each.get("is_reg"))), {}) if isinstance(subsets, list) else {}
    if not empty(subset.get("class_tokens")):
        found["class_tokens"] = subset["class_tokens"]
    return {**found, **{key: subset[key] for key in _DATASET if key in subset}}


def _folders(told: Mapping[str, str]) -> tuple[int, int, str]:
    """Pictures with their repeats, those of the class, and the subject's words from the folders' names."""
    counts = {"dataset_dirs": 0, "reg_dataset_dirs": 0}
    words = ""
    for field in counts:
        for name, facts in _object(told.get(field)).items():
            facts = facts if isinstance(facts, dict) else {}
            counts[field] += (whole(facts.get("n_repeats")) or 1) * (whole(facts.get("img_count")) or 0)
            parts = FOLDER.match(name)
            if parts and field == "dataset_dirs" and not words:
                words = parts[2]
    return counts["dataset_dirs"], counts["reg_dataset_dirs"], words
