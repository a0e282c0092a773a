"""kohya's optimisers, schedulers, rates and lengths as ours."""

import math
import re
from collections.abc import Mapping
from typing import Any

from studio.presets.taking import DIFFERS, Taken, empty, flag, number, rate_text, shown, whole

OPTIMIZERS: tuple[tuple[str, str, bool], ...] = (
    ("adamw8bit", "AdamW 8-bit", True),
    ("pagedadamw8bit", "AdamW 8-bit", False),
    ("pagedadamw32bit", "AdamW", False),
    ("pagedadamw", "AdamW", False),
    ("adamwschedulefree", "AdamW", False),
    ("adamw", "AdamW", True),
    ("lion8bit", "Lion", False),
    ("pagedlion8bit", "Lion", False),
    ("lion", "Lion", True),
    ("prodigyplusschedulefree", "Prodigy", False),
    ("prodigy", "Prodigy", True),
    ("dadapt", "Prodigy", False),
    ("adafactor", "Adafactor", True),
    ("adam", "AdamW", False),
)
"""How an optimiser's name begins at kohya, in small letters, what takes its place, and whether that is the same; the first that fits counts."""
SHAPES: tuple[tuple[str, str, bool], ...] = (
    ("constant", "constant", True),
    ("constant_with_warmup", "constant", True),
    ("cosine", "cosine", True),
    ("linear", "linear", True),
    ("cosine_with_restarts", "cosine", False),
    ("cosine_with_min_lr", "cosine", False),
    ("cosineannealinglr", "cosine", False),
    ("polynomial", "linear", False),
    ("inverse_sqrt", "cosine", False),
    ("rex", "linear", False),
)
"""A scheduler at kohya, the shape that takes its place, and whether that is the same."""
_ARGUMENTS = re.compile(r"[\"']?([A-Za-z_]\w*)[\"']?\s*=\s*[\"']?([^,\"'()\s]+|\([^)]*\))")


def take_optimizer(taken: Taken, args: Mapping[str, Any]) -> None:
    """The optimiser, its weight decay, and a note on its other arguments."""
    written = next(
        (str(args[key]) for key in ("optimizer_type", "optimizer") if not empty(args.get(key))),
        "AdamW8bit" if flag(args.get("use_8bit_adam")) else "Lion" if flag(args.get("use_lion_optimizer")) else "",
    )
    if not written:
        return
    name = written.partition("(")[0].rpartition(".")[2].strip()
    plain = name.lower().replace("_", "").replace("-", "")
    found = next(((ours, exact) for start, ours, exact in OPTIMIZERS if plain == start or (not exact and plain.startswith(start))), None)
    ours, exact = found or ("AdamW", False)
    taken.put("optimizer", ours, "optimizer")
    if not exact:
        taken.say(DIFFERS, label="optimizer", value=shown(name), ours=ours)
    if found is None:
        taken.say("A rate that suits {value} may not suit {ours}: look at the first previews.", value=shown(name), ours=ours)
    given = arguments(written.partition("(")[2]) | arguments(args.get("optimizer_args"))
    decay = number(given.pop("weight_decay", None))
    if decay:
        taken.put("weight_decay", decay, "weight_decay")
    if ours == "Adafactor" and given.get("relative_step", "").lower() == "true":
        taken.say("Adafactor chose its rate itself (relative_step); here it takes the written one, so write about 1e-4 for a LoRA.")
    rest = ", ".join(f"{key}={value}" for key, value in given.items())
    if rest:
        taken.say("The optimiser's arguments {value} have no counterpart here; they were left out.", value=shown(rest))


def _switched(args: Mapping[str, Any]) -> str:
    """The optimiser that one of kohya's older switches asks for; empty for none."""
    return next((name for switch, name in (("use_8bit_adam", "AdamW8bit"), ("use_lion_optimizer", "Lion")) if flag(args.get(switch))), "")


def arguments(written: Any) -> dict[str, str]:
    """`a=1 b=2`, `"a=1" "b=2"`, `a=1,b=(2, 3)` or a list of such texts as names and values."""
    if isinstance(written, Mapping):
        return {str(key): str(value) for key, value in written.items()}
    text = " ".join(str(part) for part in written) if isinstance(written, list | tuple) else "" if empty(written) else str(written)
    return dict(_ARGUMENTS.findall(text[:10_000]))


def take_rates(taken: Taken, args: Mapping[str, Any]) -> None:
    """Rates of the UNet and the text encoder, and how they fall."""
    base, unet = number(args.get("learning_rate")), number(args.get("unet_lr"))
    rate = unet or base
    if rate:
        taken.put("learn_rate", rate_text(rate), "learning_rate")
    _text_encoder(taken, args, rate)
    written = next((str(args[key]) for key in ("lr_scheduler_type", "lr_scheduler") if not empty(args.get(key))), "")
    if not written:
        return
    name = written.rpartition(".")[2].partition(":")[0].lower()
    shape, exact = next(((ours, exact) for start, ours, exact in SHAPES if name == start), ("constant", False))
    taken.put("rate_shape", shape, "lr_scheduler")
    if not exact:
        taken.say(DIFFERS, label="lr_scheduler", value=shown(written), ours=shape)


def _text_encoder(taken: Taken, args: Mapping[str, Any], rate: float | None) -> None:
    """The text encoder's rate, in the spellings of networks and of whole checkpoints; kohya's trainer teaches it unless it is told not to."""
    if taken.method == "textual_inversion":
        return
    pair = [args[key] for key in ("learning_rate_te1", "learning_rate_te2") if not empty(args.get(key))] if flag(args.get("sdxl")) else []
    written = next((value for value in (args.get("text_encoder_lr"), pair, args.get("learning_rate_te")) if not empty(value)), None)
    several = sorted({found for part in re.findall(r"[0-9.eE+-]+", str(written)) if (found := number(part)) is not None}) if written is not None else []
    off = flag(args.get("network_train_unet_only")) or (not empty(args.get("train_text_encoder")) and not flag(args["train_text_encoder"]))
    unset = not number(args.get("unet_lr")) and several == [0.0]
    value: float | None = several[-1] if several else rate
    if unset and taken.method in ("lora", "lycoris"):
        value = rate  # kohya_ss writes 0 and 0 for "both at the learning rate"
    if off or (taken.method == "fine_tune" and empty(args.get("train_text_encoder")) and not several):
        value = 0.0
    if value is not None and rate is not None:
        taken.put("text_encoder_rate", value, "text_encoder_lr")
    if len(several) > 1:
        taken.say("Its text encoders had rates of their own ({value}); here both take the highest.", value=", ".join(f"{each:g}" for each in several))


def take_length(taken: Taken, args: Mapping[str, Any], images: int, percent: bool) -> int:
    """Steps, copies and warm-up; epochs become steps when the pictures were counted. Gives the steps, 0 when they are not known."""
    batch = int(taken.values.get("batch_size", 1)) * int(taken.values.get("gradient_accumulation", 1))
    of_epoch = math.ceil(images / batch) if images else 0
    steps = _steps(taken, args, of_epoch)
    every, epochs = whole(args.get("save_every_n_steps")), whole(args.get("save_every_n_epochs"))
    if every:
        taken.put("save_every", every, "save_every_n_steps")
    elif epochs and of_epoch:
        taken.put("save_every", epochs * of_epoch, "save_every_n_epochs")
    _warmup(taken, args, steps, percent)
    return steps


def _steps(taken: Taken, args: Mapping[str, Any], of_epoch: int) -> int:
    """Steps of the training; kohya lets epochs count more than steps. 0 when they are not known."""
    epochs, steps = whole(args.get("max_train_epochs")), whole(args.get("max_train_steps"))
    if empty(args.get("max_train_steps")) and not epochs:
        epochs = whole(args.get("epoch"))
    if epochs and of_epoch:
        steps = epochs * of_epoch
        taken.say("{epochs} epochs of {each} steps are {steps} steps.", epochs=epochs, each=of_epoch, steps=steps)
    elif epochs:
        steps = None
        taken.say("It ran for {epochs} epochs, but how many pictures it had is not written; count the steps yourself: epochs times pictures times repeats, divided by the batch.", epochs=epochs)
    if steps:
        taken.put("steps", steps, "max_train_steps")
    return steps or 0


def _warmup(taken: Taken, args: Mapping[str, Any], steps: int, percent: bool) -> None:
    """The warm-up: steps, or a share of all steps."""
    fixed, share = number(args.get("lr_warmup_steps")), number(args.get("lr_warmup")) if percent else None
    if fixed and fixed < 1:
        share, fixed = fixed * 100, None
    if fixed:
        taken.put("warmup", round(fixed), "lr_warmup_steps")
    elif share and steps:
        taken.put("warmup", round(steps * share / 100), "lr_warmup")
        taken.say("A warm-up of {share} % of {steps} steps is {value} steps.", share=f"{share:g}", steps=steps, value=round(steps * share / 100))
    elif share:
        taken.say("Its warm-up was {share} % of all steps, which are not known; write it yourself.", share=f"{share:g}")
