"""What the header of an adapter file says: kohya's `ss_*` fields, modelspec 1.0.1 and the cover picture, from the tensors and from what is known of the training."""

import base64
import io
import json
import math
import re
from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from PIL import Image, ImageOps

from studio.errors import Unreadable
from studio.formats.adapter import Adapter, family_of
from studio.formats.delta import Delta
from studio.formats.opening import open_limited
from studio.formats.provenance import Provenance

COVER_SIZE = 512
"""Longest side of a cover picture, in pixels: the header is read whenever a list is drawn."""
MOST_TAGS = 20
"""How many of the captions' tags modelspec names, the most frequent first."""
HASHES = ("sshs_model_hash", "sshs_legacy_hash", "modelspec.hash_sha256")
"""Fields that follow from the bytes of one file alone and are never taken over."""
_ARCHITECTURES = {"SD1": "stable-diffusion-v1", "SD2": "stable-diffusion-v2-512", "SDXL": "stable-diffusion-xl-v1-base"}
_SD2_V = "stable-diffusion-v2-768-v"
_NATIVE = {"SD1": 512, "SD2": 512, "SDXL": 1024}
_ALGORITHMS = {"LoRA": "locon", "LoHa": "loha", "LoKr": "lokr", "IA3": "ia3", "Full": "full", "GLoRA": "glora", "OFT": "diag-oft"}
_OPTIMIZERS = {"AdamW 8-bit": "AdamW8bit", "Adafactor": "AdaFactor"}
_WIDE = re.compile(r"_(?:in_layers_2|out_layers_3|conv1|conv2|op|conv|conv_in|conv_out)$")
"""How the names of 3x3 convolutions end, in diffusers' and in the original spelling."""
_FULL_LOKR = 100_000
"""The rank by which LyCORIS is told to leave the second matrix whole."""
_KNOBS = {
    "ss_text_encoder_lr": "text_encoder_rate",
    "ss_lr_warmup_steps": "warmup",
    "ss_gradient_checkpointing": "gradient_checkpointing",
    "ss_gradient_accumulation_steps": "gradient_accumulation",
    "ss_batch_size_per_device": "batch_size",
    "ss_total_batch_size": "batch_size",
    "ss_max_train_steps": "steps",
    "ss_seed": "seed",
    "ss_clip_skip": "clip_skip",
    "ss_network_dropout": "dropout",
    "ss_noise_offset": "noise_offset",
    "ss_min_snr_gamma": "min_snr_gamma",
    "ss_shuffle_caption": "shuffle_tags",
    "ss_caption_dropout_rate": "caption_dropout",
    "ss_caption_tag_dropout_rate": "drop_out_tags",
    "ss_flip_aug": "flip",
    "ss_enable_bucket": "buckets",
    "ss_masked_loss": "use_masks",
}
"""Fields that say a setting as it stands, and the setting."""
_NETWORK_KNOBS = {"rank_dropout": "rank_dropout", "module_dropout": "module_dropout", "loraplus_lr_ratio": "plus_ratio"}
_OFF = {"rank_dropout": 0, "module_dropout": 0, "plus_ratio": 1}


def adapter_metadata(adapter: Adapter, provenance: Provenance | None = None) -> dict[str, str]:
    """Every field of a file's header but the hashes, which follow from its bytes; without a provenance what the tensors and the adapter's own metadata say."""
    origin = provenance or Provenance()
    kept = {key: value for key, value in adapter.metadata.items() if key not in HASHES}
    shapes = {name: {part: tuple(t.shape) for part, t in delta.tensors.items()} for name, delta in adapter.modules.items()}
    family = origin.family or adapter.family or family_of(shapes, adapter.metadata) or ""
    fields = {**kept, **_network(adapter, origin.config), **_base(family, origin, kept), **_training(origin), **_data(origin), **_modelspec(adapter.name, family, origin, kept), **_cover(origin.cover)}
    fields["ss_output_name"] = origin.name or adapter.name  # the alias of prompts: never that of the file it came from
    return {key: clean(value) for key, value in {**fields, **{k: v for k, v in origin.extra.items() if k not in HASHES}}.items()}


def clean(text: str) -> str:
    """A text that can be written as UTF-8, whatever a file system called its files."""
    return str(text).encode("utf-8", "replace").decode("utf-8")


def strings(facts: Mapping[str, Any]) -> dict[str, str]:
    """The known facts as text; what is None or empty is left out."""
    return {key: str(value) for key, value in facts.items() if value is not None and value != ""}


def _network(adapter: Adapter, config: Mapping[str, Any]) -> dict[str, str]:
    """`ss_network_*`: kohya's own module for plain LoRA with or without convolutions, LyCORIS's for everything else."""
    if not adapter.modules:
        return {}
    args, parts = _arguments(adapter, config), {part for delta in adapter.modules.values() for part in delta.tensors}
    plain = adapter.kinds == ("LoRA",) and not parts & {"lora_mid", "dora_scale"}
    narrow = {name: delta for name, delta in adapter.modules.items() if not _WIDE.search(name)}
    rank, alpha = _largest((narrow or adapter.modules).values())
    if rank is None and adapter.kinds[0] == "LoKr":
        rank = _FULL_LOKR
    if plain:
        args.pop("algo")
    return {**strings({"ss_network_module": "networks.lora" if plain else "lycoris.kohya", "ss_network_dim": rank, "ss_network_alpha": alpha}), "ss_network_args": json.dumps(args)}


def _arguments(adapter: Adapter, config: Mapping[str, Any]) -> dict[str, str]:
    """The arguments of the network, all as text: the algorithm, what 3x3 convolutions have, and how it was left out at random."""
    deltas = adapter.modules
    parts = {part for delta in deltas.values() for part in delta.tensors}
    rank, alpha = _largest(delta for name, delta in deltas.items() if _WIDE.search(name))
    main = next((kind for kind in adapter.kinds if kind in _ALGORITHMS), "")
    facts = {
        "algo": _ALGORITHMS.get(main),
        "conv_dim": rank,
        "conv_alpha": alpha,
        "factor": config.get("factor") if main == "LoKr" else None,
        "use_tucker": True if parts & {"lora_mid", "hada_t1", "lokr_t2"} else None,
        "train_norm": True if "Norm" in adapter.kinds else None,
        **({"dora_wd": True, "wd_on_output": not _on_input(deltas.values())} if "dora_scale" in parts else {}),
        **{name: config[knob] for name, knob in _NETWORK_KNOBS.items() if config.get(knob, _OFF[knob]) != _OFF[knob]},
    }
    return strings(facts)


def _on_input(deltas: Iterable[Delta]) -> bool:
    """Whether DoRA keeps the lengths of columns: one for every input."""
    return all(t.ndim > 1 and t.shape[0] == 1 for delta in deltas if (t := delta.tensors.get("dora_scale")) is not None)


def _largest(deltas: Iterable[Delta]) -> tuple[int | None, float | None]:
    """The largest rank among layers and that layer's alpha; None where no layer has a rank."""
    ranked = [(delta.rank, delta.scale * delta.rank) for delta in deltas if delta.rank]
    rank, alpha = max(ranked, key=lambda pair: pair[0], default=(None, None))
    return rank, None if alpha is None else float(f"{alpha:.6g}")


def _base(family: str, origin: Provenance, kept: Mapping[str, str]) -> dict[str, str]:
    """What it was trained on. The version is always said when it is known: without it A1111 takes any file for SD1."""
    known = {"SD1": ("sd_v1", "False"), "SD2": ("sd_v2", "True"), "SDXL": ("sdxl_base_v1-0", "False")}.get(family)
    facts = strings({"ss_sd_model_name": origin.checkpoint, "ss_new_sd_model_hash": origin.checkpoint_hash})
    if known is None or ("ss_base_model_version" in kept and not origin.family):
        return facts
    ending = "_v" if origin.prediction == "v_prediction" and family != "SDXL" else ""
    return {**facts, "ss_base_model_version": known[0] + ending, "ss_v2": known[1]}


def _training(origin: Provenance) -> dict[str, str]:
    """How it was trained: settings, rates, steps and times."""
    config, epochs = origin.config, origin.steps_per_epoch or 0
    facts: dict[str, Any] = {field: config.get(knob) for field, knob in _KNOBS.items()}
    if "learn_rate" in config:
        facts |= _rates(config)
    if "clip_grad_mode" in config:
        facts["ss_max_grad_norm"] = config.get("clip_grad_value") if config["clip_grad_mode"] == "norm" else 0.0
    if config.get("prior", "none") != "none":
        facts["ss_prior_loss_weight"] = config.get("prior_loss_weight")
    if "latent_sampling" in config:
        facts["ss_cache_latents"] = config["latent_sampling"] != "random"
    facts |= {
        "ss_training_started_at": _seconds(origin.started),
        "ss_training_finished_at": _seconds(origin.finished),
        "ss_training_comment": origin.description,
        "ss_steps": origin.step,
        "ss_epoch": origin.step // epochs if epochs and origin.step is not None else None,
        "ss_num_epochs": math.ceil(config["steps"] / epochs) if epochs and config.get("steps") else None,
    }
    return strings(facts)


def _rates(config: Mapping[str, Any]) -> dict[str, Any]:
    """The optimiser and the first of the written rates, with the shape they follow, as kohya's trainer calls them."""
    written = str(config["learn_rate"]).split(",")
    rate = _number(written[0].partition(":")[0].strip())
    optimizer, decay = _OPTIMIZERS.get(config.get("optimizer", ""), config.get("optimizer")), config.get("weight_decay")
    shape = config.get("rate_shape", "constant")
    if shape == "constant":
        shape = "piecewise_constant" if len(written) > 1 else "constant_with_warmup" if config.get("warmup") else "constant"
    return {
        "ss_learning_rate": rate,
        "ss_unet_lr": rate,
        "ss_optimizer": f"{optimizer}(weight_decay={decay})" if optimizer and decay else optimizer,
        "ss_lr_scheduler": shape,
    }


def _number(text: str) -> float | str:
    """A written number as kohya's tools would print it, anything else as it is."""
    try:
        return float(text)
    except ValueError:
        return text


def _seconds(moment: datetime | None) -> float | None:
    """A moment in seconds since 1970."""
    return None if moment is None else moment.timestamp()


def _data(origin: Provenance) -> dict[str, str]:
    """What it was taught with: images (each as often as it is repeated in an epoch), their size, their folders, and how often each tag stands in the captions."""
    batch = int(origin.config.get("batch_size") or 1)
    images = sum(repeats * count for repeats, count in origin.folders.values()) or origin.pictures
    facts = {
        "ss_num_train_images": images,
        "ss_num_reg_images": origin.prior_pictures,
        "ss_num_batches_per_epoch": math.ceil(images / batch) if images else None,
        "ss_resolution": f"({origin.resolution[0]}, {origin.resolution[1]})" if origin.resolution else None,
        "ss_tag_frequency": json.dumps(origin.tags, ensure_ascii=False) if origin.tags else None,
    }
    if origin.folders:
        facts["ss_dataset_dirs"] = json.dumps({name: {"n_repeats": repeats, "img_count": count} for name, (repeats, count) in origin.folders.items()}, ensure_ascii=False)
    return strings(facts)


def _modelspec(name: str, family: str, origin: Provenance, kept: Mapping[str, str]) -> dict[str, str]:
    """modelspec 1.0.1; nothing for a family it has no name for, or where the file said it and nothing newer is known."""
    if family not in _ARCHITECTURES or (not origin.family and (family == "SD2" or "modelspec.architecture" in kept)):
        return {}  # tensors do not show which of SD2's two architectures they are for
    velocity = origin.prediction == "v_prediction"
    native = 768 if family == "SD2" and velocity else _NATIVE[family]
    width, height = origin.resolution or (native, native)
    counts: dict[str, int] = {}
    for folder in origin.tags.values():
        for tag, count in folder.items():
            counts[tag] = counts.get(tag, 0) + count
    skip = origin.config.get("clip_skip")
    facts = {
        "sai_model_spec": "1.0.1",
        "architecture": f"{_SD2_V if family == 'SD2' and velocity else _ARCHITECTURES[family]}/lora",
        "implementation": "https://github.com/Stability-AI/generative-models" if family == "SDXL" else "diffusers",
        "title": origin.name or name,
        "resolution": f"{width}x{height}",
        "prediction_type": "v" if velocity else "epsilon" if origin.family else None,
        "description": origin.description,
        "author": origin.author,
        "date": origin.finished.isoformat(timespec="seconds") if origin.finished else None,
        "trigger_phrase": origin.trigger,
        "tags": ", ".join(sorted(counts, key=lambda tag: -counts[tag])[:MOST_TAGS]),
        "encoder_layer": skip if family != "SDXL" else None,
    }
    return {f"modelspec.{key}": value for key, value in strings(facts).items()}


def _cover(path: Path | None) -> dict[str, str]:
    """The cover picture as modelspec's thumbnail and as the list that A1111's cards read; none when it cannot be read: a result is worth more than its picture."""
    try:
        data = _jpeg(path) if path is not None else b""
    except (OSError, ValueError, SyntaxError, Unreadable):
        return {}
    if not data:
        return {}
    text = base64.b64encode(data).decode("ascii")
    return {"modelspec.thumbnail": f"data:image/jpeg;base64,{text}", "ssmd_cover_images": json.dumps([text])}


def _jpeg(path: Path) -> bytes:
    """A picture upright, on white where it is transparent, no side longer than COVER_SIZE, as JPEG without any of its metadata."""
    with open_limited(path) as image:
        picture = ImageOps.exif_transpose(image).convert("RGBA")
    picture.thumbnail((COVER_SIZE, COVER_SIZE), Image.Resampling.LANCZOS)
    flat = Image.new("RGB", picture.size, "white")
    flat.paste(picture, mask=picture.getchannel("A"))
    out = io.BytesIO()
    flat.save(out, "JPEG", quality=88)
    return out.getvalue()
