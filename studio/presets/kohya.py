"""kohya's settings as our knobs, whichever file they come from: named as sd-scripts names its arguments."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from studio.presets import kohya_network, kohya_pictures
from studio.presets.kohya_arguments import name_left_out, name_unknown
from studio.presets.kohya_rates import take_length, take_optimizer, take_rates
from studio.presets.reason import Reason
from studio.presets.taking import Taken, empty, flag, last_part, number, shown, take_checkpoint, whole

__all__ = ["Settings", "take_kohya"]


@dataclass(frozen=True)
class Settings:
    """Settings of one training: `args` by sd-scripts' names, `network` the arguments of the network, and what is known of the pictures.

    `images` counts a picture as often as it is repeated, `regularisation` likewise; `words` is what a folder or a file calls the subject, such as
    "sks dog"; `complete` says whether what is absent has kohya's own default (a file of pictures alone is not complete).
    """

    method: str
    args: Mapping[str, Any]
    network: Mapping[str, Any] = field(default_factory=dict)
    images: int = 0
    regularisation: int = 0
    words: str = ""
    complete: bool = True
    percent_warmup: bool = False
    """Whether `lr_warmup` is a share of the steps, as kohya_ss writes it."""
    file: bool = False
    """Whether it is a settings file, whose every name is a setting; metadata of a result also says what came of it."""
    notes: tuple[Reason, ...] = ()
    """What the reader of the file has to say."""


PLAIN: tuple[tuple[str, str, Any], ...] = (
    ("gradient_accumulation_steps", "gradient_accumulation", whole),
    ("gradient_checkpointing", "gradient_checkpointing", flag),
    ("clip_skip", "clip_skip", whole),
    ("seed", "seed", whole),
    ("noise_offset", "noise_offset", number),
    ("min_snr_gamma", "min_snr_gamma", number),
    ("shuffle_caption", "shuffle_tags", flag),
    ("caption_dropout_rate", "caption_dropout", number),
    ("caption_tag_dropout_rate", "drop_out_tags", number),
    ("flip_aug", "flip", flag),
    ("enable_bucket", "buckets", flag),
    ("masked_loss", "use_masks", flag),
    ("alpha_mask", "use_masks", flag),
)
"""kohya's name, our knob, and what reads the value."""
DEFAULTS: tuple[tuple[str, Any], ...] = (("min_snr_gamma", 0.0), ("clip_grad_mode", "norm"), ("clip_grad_value", 1.0))
"""What kohya's trainer does when nothing is said, where ours does something else."""


def take_kohya(settings: Settings, checkpoints: tuple[str, ...] = ()) -> Taken:
    """Our knobs of kohya's settings, with a note for whatever was turned into something else or has no counterpart."""
    taken, args = Taken(settings.method), _noise(settings.args)
    if settings.complete:
        taken.values |= DEFAULTS
    for name, knob, read in PLAIN:
        if not empty(args.get(name)) and (value := read(args[name])) is not None:
            _put_plain(taken, name, knob, value)
    _gradients(taken, args)
    kohya_pictures.take_pictures(taken, args, settings.regularisation, settings.words)
    steps = take_length(taken, args, settings.images, settings.percent_warmup)
    take_optimizer(taken, args)
    take_rates(taken, args)
    kohya_network.take_network(taken, args, settings.network)
    kohya_pictures.take_previews(taken, args, steps)
    _names(taken, args)
    _base(taken, args, checkpoints)
    every = {**args, **settings.network}
    name_left_out(taken, every)
    if settings.file:
        name_unknown(taken, every)
    taken.notes += settings.notes
    return taken


def _noise(args: Mapping[str, Any]) -> Mapping[str, Any]:
    """Settings without the kind of noise that kohya_ss shows but does not use: it takes one of two."""
    unused = {"Original": ("multires_noise_iterations",), "Multires": ("noise_offset", "adaptive_noise_scale")}.get(str(args.get("noise_offset_type")), ())
    return {key: value for key, value in args.items() if key not in unused}


def _put_plain(taken: Taken, name: str, knob: str, value: Any) -> None:
    """A value that means the same; kohya counts a clip skip of 0 as none, and a switch that is off may not switch off what another one switched on."""
    if knob == "clip_skip":
        value = max(1, value)
    if knob == "use_masks" and not value:
        return
    taken.put(knob, value, name)


def _gradients(taken: Taken, args: Mapping[str, Any]) -> None:
    """Batch and cap of the gradients."""
    batch = whole(args.get("train_batch_size", args.get("batch_size_per_device", args.get("batch_size"))))
    total = whole(args.get("total_batch_size"))
    if batch:
        taken.put("batch_size", batch, "train_batch_size")
    if batch and total and total > batch and total % batch == 0:
        times = int(taken.values.get("gradient_accumulation", 1)) * (total // batch)
        if taken.put("gradient_accumulation", times, "total_batch_size"):
            taken.say("It ran on {cards} cards at once; here that is {value} goes before each change.", cards=total // batch, value=times)
    cap = number(args.get("max_grad_norm"))
    if cap == 0:
        taken.values["clip_grad_mode"] = "disabled"
        taken.values.pop("clip_grad_value", None)
    elif cap is not None:
        taken.values["clip_grad_mode"] = "norm"
        taken.put("clip_grad_value", cap, "max_grad_norm")


def _names(taken: Taken, args: Mapping[str, Any]) -> None:
    """What the result is called, and in which precision it is kept."""
    token, name = args.get("token_string"), args.get("output_name")
    if taken.method == "textual_inversion":
        if not empty(token) or not empty(name):
            taken.put("embedding", str(token if not empty(token) else name), "token_string")
        count, start = whole(args.get("num_vectors_per_token")), args.get("init_word")
        if count:
            taken.say("The embedding had {value} vectors: create it with as many.", value=count)
        if not empty(start):
            taken.say("It started from the word {value}: write it when you create the embedding.", value=shown(start))
    elif not empty(name):
        taken.put("name", str(name), "output_name")
    precision = {"float": "fp32", "fp32": "fp32", "float32": "fp32", "fp16": "fp16", "bf16": "bf16"}.get(str(args.get("save_precision")))
    if precision and taken.method != "textual_inversion":
        taken.put("save_precision", precision)


def _base(taken: Taken, args: Mapping[str, Any], checkpoints: tuple[str, ...]) -> None:
    """What it was trained on, and how exactly it computed."""
    name = next((args[key] for key in ("sd_model_name", "pretrained_model_name_or_path") if not empty(args.get(key))), "")
    take_checkpoint(taken, str(name), checkpoints)
    version = str(args.get("base_model_version", ""))
    v2 = flag(args.get("v2")) or version.startswith("sd_v2")
    family = "SDXL" if flag(args.get("sdxl")) or flag(args.get("sdxl_checkbox")) or version.startswith("sdxl") else "SD2" if v2 else "SD1" if version else ""
    if family:
        taken.say("It was trained on {family}; the settings are meant for that family.", family=family)
    if not empty(args.get("v_parameterization")) and flag(args["v_parameterization"]):
        taken.say("It predicted velocity (v_parameterization); here that follows the checkpoint.")
    if not empty(args.get("mixed_precision")) and str(args["mixed_precision"]) != "no":
        taken.say("It computed in {value}; here the precision follows the card.", value=shown(args["mixed_precision"]))
    if not empty(args.get("vae")):
        taken.say("It used a VAE of its own ({value}); choose it beside the checkpoint.", value=shown(last_part(args["vae"])))
