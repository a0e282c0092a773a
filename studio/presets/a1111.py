"""A1111's settings-*.json of textual inversions and hypernetworks as our knobs."""

from collections.abc import Mapping
from typing import Any, get_args

from studio.presets.reason import Reason
from studio.presets.taking import Taken, empty, last_part, number, shown, take_checkpoint, take_data, whole
from studio.requests.train import check_schedule
from studio.requests.training_knobs import TrainConfig

_PLAIN = {
    "batch_size": "batch_size",
    "gradient_step": "gradient_accumulation",
    "create_image_every": "preview_every",
    "save_embedding_every": "save_every",
    "save_hypernetwork_every": "save_every",
    "training_width": "width",
    "training_height": "height",
    "latent_sampling_method": "latent_sampling",
    "clip_grad_mode": "clip_grad_mode",
    "preview_prompt": "preview_prompt",
    "preview_negative_prompt": "preview_negative_prompt",
    "preview_steps": "preview_steps",
    "preview_cfg_scale": "preview_cfg_scale",
    "weight_init": "weight_init",
    "add_layer_norm": "layer_norm",
}
"""A1111's key and our knob, for values that mean the same."""
_WHOLE = {"batch_size", "gradient_accumulation", "preview_every", "save_every", "width", "height", "preview_steps"}


def is_a1111(settings: Mapping[str, Any]) -> bool:
    """Whether these are settings as A1111 writes them when a training begins."""
    return "learn_rate" in settings and bool(settings.keys() & {"embedding_name", "hypernetwork_name"})


def take_a1111(settings: Mapping[str, Any], checkpoints: tuple[str, ...] = ()) -> Taken:
    """Our knobs of A1111's settings; what A1111 does without being asked is set too, so that the training is like it."""
    taken = Taken("hypernetwork" if not empty(settings.get("hypernetwork_name")) else "textual_inversion")
    for key, knob in _PLAIN.items():
        if key in settings and not empty(settings[key]):
            value = settings[key]
            taken.put(knob, whole(value) if knob in _WHOLE and whole(value) is not None else value, key)
    taken.values |= {"min_snr_gamma": 0.0, "optimizer": "AdamW"}
    taken.say("A1111 has no min-SNR and always takes AdamW: both are set so.")
    _rates(taken, settings)
    _clip(taken, settings)
    if not empty(settings.get("template_file")):
        taken.put("template", last_part(settings["template_file"]).removesuffix(".txt"), "template_file")
    _previews(taken, settings)
    (_hypernetwork if taken.method == "hypernetwork" else _embedding)(taken, settings)
    take_checkpoint(taken, str(settings.get("model_name") or ""), checkpoints)
    take_data(taken, settings.get("data_root"))
    start = whole(settings.get("initial_step"))
    if start:
        taken.say("It went on from step {value}; what it had learned by then is not in this file.", value=start)
    return taken


def _rates(taken: Taken, settings: Mapping[str, Any]) -> None:
    """The schedule, and the steps; A1111 ends when its schedule does."""
    written, steps = str(settings.get("learn_rate", "")), whole(settings.get("steps"))
    if not taken.put("learn_rate", written, "learn_rate"):
        if steps:
            taken.put("steps", steps, "steps")
        return
    until = check_schedule(written)[-1][1]
    if steps and 0 < until < steps:
        taken.say("{steps} steps were asked for, but A1111 ends with its schedule: {until} steps.", steps=steps, until=until)
        steps = until
    if steps:
        taken.put("steps", steps, "steps")


def _clip(taken: Taken, settings: Mapping[str, Any]) -> None:
    """Where gradients are capped; A1111 takes a schedule there and caps scaled gradients."""
    if settings.get("clip_grad_mode") in (None, "disabled"):
        return
    written = str(settings.get("clip_grad_value", "0.1"))
    first = number(written.split(",")[0].split(":")[0])
    if first is not None:
        taken.put("clip_grad_value", first, "clip_grad_value")
    taken.say("A1111 caps gradients after scaling them by up to 65536; here {value} is in the gradient's own units, so it caps far less often.", value=shown(written))


def _previews(taken: Taken, settings: Mapping[str, Any]) -> None:
    """Seed and sampler of previews that followed txt2img."""
    seed = whole(settings.get("preview_seed"))
    if seed is not None and seed >= 0:
        taken.put("preview_seed", seed, "preview_seed")
    sampler = settings.get("preview_sampler_name")
    if isinstance(sampler, str) and sampler in get_args(TrainConfig.model_fields["preview_sampler"].annotation):
        taken.put("preview_sampler", sampler)
    width, height = whole(settings.get("preview_width")), whole(settings.get("preview_height"))
    if width and height and (width, height) != (whole(settings.get("training_width")), whole(settings.get("training_height"))):
        taken.say("Previews had {width}x{height}; here they have the size of the training.", width=width, height=height)


def _embedding(taken: Taken, settings: Mapping[str, Any]) -> None:
    """The embedding's name, and how many vectors it had."""
    taken.put("embedding", str(settings["embedding_name"]), "embedding_name")
    count = whole(settings.get("num_vectors_per_token"))
    if count:
        taken.say("The embedding had {value} vectors: create it with as many.", value=count)


def _hypernetwork(taken: Taken, settings: Mapping[str, Any]) -> None:
    """The network's name and build."""
    taken.put("name", str(settings["hypernetwork_name"]), "hypernetwork_name")
    structure = settings.get("layer_structure")
    if isinstance(structure, list | tuple) and all(number(part) is not None for part in structure):
        taken.put("layer_structure", ", ".join(f"{number(part):g}" for part in structure), "layer_structure")
    if not empty(settings.get("activation_func")):
        taken.put("activation", str(settings["activation_func"]), "activation_func")
    if settings.get("use_dropout"):
        taken.notes.append(Reason("It used dropout, whose rates A1111 does not write down; write them under Hypernetwork dropout structure.", {}))
