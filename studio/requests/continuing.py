"""Continuing a run: which settings of the new request are used, and which are refused by name because what was learned depends on them. Every field of every method is in one of these lists."""

from pathlib import Path
from typing import Any

from studio.config import controls
from studio.requests.train import TrainConfig

BY_STEP = ("learn_rate", "rate_shape", "steps", "save_every", "preview_every", "preview_prompt", "probe_every", "stop_rule", "patience")
"""Used from the step on at which the run goes on; earlier steps keep what they had."""
FROM_START = (
    "preview_images",
    "preview_negative_prompt",
    "preview_seed",
    "preview_sampler",
    "preview_steps",
    "preview_cfg_scale",
    "tensorboard",
    "gradient_checkpointing",
    "compile",
    "save_precision",
    "save_folder",
    "bundle",
    "overwrite",
)
"""Used as soon as the run goes on: they change previews, files or speed, not what is learned."""
WHOLE_BATCH = ("batch_size", "devices")
"""Used as long as their product, the images of one batch on all devices, stays the same."""
KEPT = (
    "gradient_accumulation",
    "data",
    "warmup",
    "optimizer",
    "clip_grad_mode",
    "clip_grad_value",
    "template",
    "width",
    "height",
    "shuffle_tags",
    "drop_out_tags",
    "caption_dropout",
    "flip",
    "buckets",
    "use_masks",
    "mask_floor",
    "latent_sampling",
    "min_snr_gamma",
    "noise_offset",
    "clip_skip",
    "checkpoint",
    "seed",
    "embedding",
    "norm_relaxation",
    "name",
    "trigger",
    "start_from",
    "weight_decay",
    "class_word",
    "prior",
    "prior_loss_weight",
    "class_pictures",
    "class_prompt",
    "text_encoder_rate",
    "rank",
    "alpha",
    "layers",
    "conv_rank",
    "conv_alpha",
    "block_ranks",
    "block_rates",
    "plus_ratio",
    "dora",
    "dropout",
    "rank_dropout",
    "module_dropout",
    "algorithm",
    "tucker",
    "factor",
    "full_matrix",
    "modules",
    "layer_structure",
    "activation",
    "weight_init",
    "layer_norm",
    "dropout_structure",
    "ema_decay",
    "result",
    "trained_layers",
    "initialization_text",
    "vectors",
    "embedding_rate",
    "order",
    "switch",
    "words_end",
)
"""Refused when they differ: every step of the run was taken with them."""
CONTINUABLE = (*BY_STEP, *FROM_START, *WHOLE_BATCH)
"""Settings that a request may change when it continues a run."""


def refused_changes(began: TrainConfig, asked: TrainConfig, checkpoint: str = "") -> list[str]:
    """A sentence for each setting that differs and cannot be changed in a run; `checkpoint` is the name of the one it began with, for a run that began with the default."""
    titles = {control.name: control.label for control in controls(type(began))}
    found = []
    for name in type(began).model_fields:
        old, new = getattr(began, name), getattr(asked, name)
        if name in FROM_START or name in BY_STEP or _same(name, old, new, checkpoint) or (name in WHOLE_BATCH and began.whole_batch == asked.whole_batch):
            continue
        found.append(f"{titles[name]}: this run began with {_shown(old, checkpoint)}, and the form says {_shown(new, checkpoint)}.")
    return found


def instead(config: TrainConfig) -> str:
    """What to do to train on with other settings."""
    fields = type(config).model_fields
    if "embedding" in fields:
        return f"Set them back, or start a new training of {config.subject!r}, which goes on from its step with any settings."
    if "ema_decay" in fields and getattr(config, "result", "checkpoint") == "checkpoint":
        return f"Set them back, or start a new training on the checkpoint {config.subject!r}."
    if "words_end" in fields:
        return "Set them back, or begin a new run."
    return f"Set them back, or start a new training with {config.subject!r} under Go on from."


def _same(name: str, old: Any, new: Any, checkpoint: str) -> bool:
    """Whether two values of a setting mean the same."""
    if name == "checkpoint":
        return new in ("", old or checkpoint)
    return Path(old) == Path(new) if name == "data" else bool(old == new)


def _shown(value: Any, checkpoint: str) -> str:
    """A value in a sentence."""
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    return repr(value or checkpoint) if isinstance(value, str) else f"{value:g}"
