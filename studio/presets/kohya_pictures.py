"""kohya's pictures as ours: folder, size, class, and the prompts of its samples."""

import re
from collections.abc import Mapping
from typing import Any

from studio.presets.taking import Taken, empty, flag, local_folder, number, shown, take_data, whole

SAMPLERS = {
    "ddim": "DDIM",
    "euler": "Euler",
    "k_euler": "Euler",
    "euler_a": "Euler a",
    "k_euler_a": "Euler a",
    "lms": "LMS",
    "k_lms": "LMS",
    "heun": "Heun",
    "dpm_2": "DPM2",
    "k_dpm_2": "DPM2",
    "dpm_2_a": "DPM2 a",
    "k_dpm_2_a": "DPM2 a",
    "dpmsolver++": "DPM++ 2M",
}
"""A sampler at kohya and here."""
FOLDER = re.compile(r"^(\d+)_(.+)$")
"""A folder that says its repeats and its subject."""
_OPTION = re.compile(r"\s--([a-z]+)(?:\s+|$)")
_MOST_PROMPTS = 20


def take_pictures(taken: Taken, args: Mapping[str, Any], regularisation: int, words: str) -> None:
    """Folder, size, subject and class."""
    take_data(taken, _one_folder(args.get("train_data_dir") or args.get("image_dir")))
    _size(taken, args)
    token, _, kind = words.strip().partition(" ")
    if token and taken.method != "textual_inversion":
        taken.put("trigger", token, "class_tokens")
        if kind:
            taken.put("class_word", kind, "class_tokens")
        taken.say("It called its subject {value}: the first word is the trigger, the rest its class.", value=shown(words))
    if taken.method == "textual_inversion":
        style, thing = flag(args.get("use_style_template")) or args.get("template") == "style template", flag(args.get("use_object_template")) or args.get("template") == "object template"
        taken.put("template", "style" if style else "subject" if thing else "subject_filewords")
        if not (style or thing):
            taken.say("Its captions held the word themselves; here the template sets it before them.")
    elif not empty(args.get("learning_rate")) or not empty(args.get("unet_lr")):
        taken.say("kohya's trainer reads the caption alone; here the template sets the word before it: choose another template if your captions hold the word.")
    _class(taken, args, regularisation)


def _one_folder(written: Any) -> Any:
    """The folder itself, or the only numbered folder in it: kohya's trainer is given the one above."""
    if empty(written):
        return None
    place = local_folder(written)
    try:
        inner = [each for each in place.iterdir() if each.is_dir() and FOLDER.match(each.name)] if place else []
    except OSError:
        return written
    return str(inner[0]) if len(inner) == 1 else written


def _size(taken: Taken, args: Mapping[str, Any]) -> None:
    """Width and height, each a multiple of 8."""
    written = next((args[key] for key in ("resolution", "max_resolution") if not empty(args.get(key))), None)
    found = [int(part) for part in re.findall(r"\d+", str(written))[:2] if len(part) < 6]
    if not found:
        return
    width, height = found[0], found[-1]
    for knob, side in (("width", width), ("height", height)):
        whole8 = max(64, round(side / 8) * 8)
        if taken.put(knob, whole8, "resolution") and whole8 != side:
            taken.say("{value} pixels became {ours}: a multiple of 8.", value=side, ours=whole8)


def _class(taken: Taken, args: Mapping[str, Any], regularisation: int) -> None:
    """Prior preservation, when there were pictures of the class."""
    weight = number(args.get("prior_loss_weight"))
    if weight is not None and regularisation:
        taken.put("prior_loss_weight", weight, "prior_loss_weight")
    if not regularisation and empty(args.get("reg_data_dir")):
        if taken.method == "dreambooth":
            taken.put("prior", "none")
        return
    if "class_word" in taken.values and taken.put("prior", "class pictures", "reg_data_dir"):
        taken.say("Its pictures of the class are not here; new ones are painted from the class word.")
        if regularisation:
            taken.put("class_pictures", min(regularisation, 5000), "num_reg_images")
    else:
        taken.say("It kept a class by pictures of it; write a class word and choose prior preservation to do the same.")


def take_previews(taken: Taken, args: Mapping[str, Any], steps: int) -> None:
    """How often samples were painted, and their prompts where they stand in the file itself."""
    every = whole(args.get("sample_every_n_steps"))
    if every:
        taken.put("preview_every", every, "sample_every_n_steps")
    elif whole(args.get("sample_every_n_epochs")) and steps:
        taken.put("preview_every", max(1, steps // 10))
        taken.say("It painted samples by epochs; here ten are painted in the whole training.")
    sampler = SAMPLERS.get(str(args.get("sample_sampler", "")).lower())
    if sampler:
        taken.put("preview_sampler", sampler)
    prompts = args.get("sample_prompts")
    if not isinstance(prompts, str) or empty(prompts) or re.search(r"\.(txt|json|toml)$", prompts.strip(), re.IGNORECASE):
        return
    lines = [line.strip() for line in prompts.splitlines() if line.strip() and not line.strip().startswith("#")][:_MOST_PROMPTS]
    if lines:
        taken.put("preview_prompt", "\n".join(_OPTION.split(line)[0].strip() for line in lines), "sample_prompts")
        _options(taken, lines[0])


def _options(taken: Taken, line: str) -> None:
    """What a line says beside its prompt: --n negative, --d seed, --l scale, --s steps."""
    parts = _OPTION.split(f" {line}")[1:]
    given = dict(zip(parts[::2], (value.strip() for value in parts[1::2]), strict=False))
    if given.get("n"):
        taken.put("preview_negative_prompt", given["n"], "--n")
    for letter, knob, value in (("d", "preview_seed", whole(given.get("d"))), ("s", "preview_steps", whole(given.get("s"))), ("l", "preview_cfg_scale", number(given.get("l")))):
        if value is not None:
            taken.put(knob, value, f"--{letter}")
