"""From a txt2img or img2img body to our request: names, numbers that stand for words, settings, infotext."""

import re
from collections.abc import Callable
from typing import Any, get_args

from studio.api.a1111_options import kept_options
from studio.api.images import received
from studio.api.library import checkpoint_of, vae_of
from studio.api.names import sampler_of, schedule_of
from studio.api.scripts import alwayson_values
from studio.api.sdapi_models import Img2Img, Painting, Txt2Img
from studio.engine import Engine
from studio.errors import InputError, NotFound
from studio.pasting.facts import STEPWISE
from studio.preferences import Preferences
from studio.requests import GenerateRequest
from studio.requests.generate import InpaintArea, MaskedContent, MaskMode, ResizeMode
from studio.settings import Paths

Convert = Callable[[Any], Any]
NETWORK = re.compile(r"<\w+:[^<>]+>", re.ASCII)
UNLIMITED = 999.0
"""From here on, A1111's clients mean "no limit" by s_tmax."""
DEFAULT_SAMPLER = "Euler"
SAME = ("", "None", "Use same checkpoint", "Use same sampler", "Use same scheduler")
"""Words for "as in the first pass"."""


def _one_of(choices: Any, label: str) -> Convert:
    """A number that stands for one of our words; raises InputError."""
    words = get_args(choices)

    def word(number: Any) -> str:
        if not 0 <= int(number) < len(words):
            raise InputError(f"{label}: {number!r} is not one of {', '.join(f'{i} ({w})' for i, w in enumerate(words))}.")
        return str(words[int(number)])

    return word


def _same(value: Any) -> Any:
    """The value as it is."""
    return value


def _size(value: Any) -> int:
    """A width or height where anything below 1 means off."""
    return max(0, int(value))


FIELDS: tuple[tuple[str, str, Convert], ...] = (
    ("prompt", "prompt", _same),
    ("negative_prompt", "negative_prompt", _same),
    ("styles", "styles", _same),
    ("seed", "seed", _same),
    ("subseed", "variation_seed", _same),
    ("subseed_strength", "variation_strength", _same),
    ("seed_resize_from_w", "seed_width", _size),
    ("seed_resize_from_h", "seed_height", _size),
    ("batch_size", "batch_size", _same),
    ("n_iter", "batch_count", _same),
    ("steps", "steps", _same),
    ("cfg_scale", "cfg_scale", _same),
    ("width", "width", _same),
    ("height", "height", _same),
    ("tiling", "tiling", _same),
    ("eta", "eta", _same),
    ("s_churn", "s_churn", _same),
    ("s_tmin", "s_tmin", _same),
    ("s_tmax", "s_tmax", lambda value: 0.0 if value >= UNLIMITED else value),
    ("s_noise", "s_noise", _same),
)
"""Field of a body, field of our request, and what lies between."""
FIELDS_TXT2IMG: tuple[tuple[str, str, Convert], ...] = (
    ("enable_hr", "hires", _same),
    ("denoising_strength", "hires_denoising_strength", _same),
    ("hr_scale", "hires_scale", _same),
    ("hr_upscaler", "hires_upscaler", _same),
    ("hr_second_pass_steps", "hires_steps", _same),
    ("hr_resize_x", "hires_width", _size),
    ("hr_resize_y", "hires_height", _size),
    ("hr_sampler_name", "hires_sampler", lambda name: "Use same sampler" if name in SAME else sampler_of(name)[0]),
    ("hr_scheduler", "hires_scheduler", lambda name: "Use same scheduler" if name in SAME else schedule_of(name)),
    ("hr_prompt", "hires_prompt", _same),
    ("hr_negative_prompt", "hires_negative_prompt", _same),
)
FIELDS_IMG2IMG: tuple[tuple[str, str, Convert], ...] = (
    ("denoising_strength", "denoising_strength", _same),
    ("mask_blur_x", "mask_blur", _same),
    ("mask_blur", "mask_blur", _same),
    ("inpainting_fill", "masked_content", _one_of(MaskedContent, "inpainting_fill")),
    ("inpaint_full_res", "inpaint_area", _one_of(InpaintArea, "inpaint_full_res")),
    ("inpaint_full_res_padding", "padding", _same),
    ("inpainting_mask_invert", "mask_mode", _one_of(MaskMode, "inpainting_mask_invert")),
    ("resize_mode", "resize_mode", _one_of(ResizeMode, "resize_mode")),
)
MASK_FIELDS = ("mask_blur", "masked_content", "inpaint_area", "padding", "mask_mode")
"""What means nothing without a mask."""
SETTINGS: tuple[tuple[str, str], ...] = (
    ("sd_model_checkpoint", "checkpoint"),
    ("sd_vae", "vae"),
    ("CLIP_stop_at_last_layers", "clip_skip"),
    ("emphasis", "emphasis"),
    ("comma_padding_backtrack", "comma_backtrack"),
    ("use_old_scheduling", "old_prompt_editing"),
    ("randn_source", "noise_source"),
    ("eta_noise_seed_delta", "ensd"),
    ("s_churn", "s_churn"),
    ("s_tmin", "s_tmin"),
    ("s_tmax", "s_tmax"),
    ("s_noise", "s_noise"),
    ("img2img_color_correction", "color_correction"),
    ("inpainting_mask_weight", "inpainting_mask_weight"),
    ("img2img_background_color", "background_color"),
    ("show_progress_every_n_steps", "preview_every"),
)
"""A1111's settings that a request carries here, and their fields."""
ETA = {True: "eta_ddim", False: "eta_ancestral"}
"""A1111's settings of eta, by whether the sampler stands on DDIM's steps."""
ACTED = frozenset({*Preferences.model_fields, *(name for name, _ in SETTINGS), *ETA.values()})
"""A1111's settings that have an effect here; all others are kept and given back only."""


def checked(settings: dict[str, Any]) -> None:
    """Raises InputError for a setting that no request could carry."""
    fields = {field: settings[name] for name, field in SETTINGS if settings.get(name) is not None and name not in Preferences.model_fields}
    etas = [settings[name] for name in ETA.values() if settings.get(name) is not None]
    for values in (fields, *({"eta": eta} for eta in etas)):
        GenerateRequest.check(values)


def setting_values(paths: Paths, settings: dict[str, Any]) -> dict[str, Any]:
    """Fields of our request from A1111's settings; raises StudioError for a checkpoint or VAE that is not there."""
    values = {field: settings[name] for name, field in SETTINGS if settings.get(name) is not None}
    if values.get("checkpoint"):
        values["checkpoint"] = checkpoint_of(paths, values["checkpoint"])
    if values.get("vae"):
        values["vae"] = vae_of(paths, values["vae"])
    if values.get("noise_source") == "GPU":
        values["noise_source"] = "NV"
    return values


def txt2img_request(engine: Engine, body: Txt2Img) -> GenerateRequest:
    """Our request of a txt2img body; raises StudioError in words."""
    values, given = _projected(engine, body, FIELDS + FIELDS_TXT2IMG)
    if values.get("hires") and body.firstphase_width and body.firstphase_height:  # as clients from before hr_scale ask: the size is the result's
        values |= {"hires_width": values["width"], "hires_height": values["height"], "width": body.firstphase_width, "height": body.firstphase_height}
        given |= {"hires_width", "hires_height", "width", "height"}
    return _checked(engine, body, values, given)


def img2img_request(engine: Engine, body: Img2Img) -> GenerateRequest:
    """Our request of an img2img body, its pictures kept as files; raises StudioError in words."""
    if not body.init_images or not body.init_images[0]:
        raise NotFound("Init image not found: init_images is empty.", "Send one picture as base64.")
    if len(body.init_images) > 1:
        raise InputError(f"init_images: {len(body.init_images)} pictures were sent.", "Send one picture in each call.")
    if body.mask_blur is None and body.mask_blur_x != body.mask_blur_y:
        raise InputError(f"mask_blur_x ({body.mask_blur_x}) and mask_blur_y ({body.mask_blur_y}) differ.", "Send mask_blur: a mask is softened by as much both ways.")
    values, given = _projected(engine, body, FIELDS + FIELDS_IMG2IMG)
    values["init_image"] = received(engine.paths, body.init_images[0], "init_images[0]")
    if body.mask:
        values["mask"] = received(engine.paths, body.mask, "mask")
    else:
        values = {field: value for field, value in values.items() if field not in MASK_FIELDS}
    return _checked(engine, body, values, given | {"init_image", "mask"})


def _projected(engine: Engine, body: Painting, fields: tuple[tuple[str, str, Convert], ...]) -> tuple[dict[str, Any], set[str]]:
    """Values of our request, and which of them the client gave itself."""
    lacking = _lacking(body)
    if lacking:
        raise InputError(" ".join(lacking))
    settings = kept_options(engine.paths.settings) | engine.preferences().model_dump()
    values = setting_values(engine.paths, settings)
    overriding = setting_values(engine.paths, body.override_settings or {})
    values |= overriding
    given = set(overriding)
    for name, field, convert in fields:
        value = getattr(body, name)
        if value is not None:
            values[field] = convert(value)
            given |= {field} if name in body.model_fields_set else set()
    values, given = _sampled(body, values, given)
    if body.eta is None:
        name = ETA[values["sampler"] in STEPWISE]
        found = settings | (body.override_settings or {})
        values |= {"eta": found[name]} if found.get(name) is not None else {}
        given |= {"eta"} if name in (body.override_settings or {}) else set()
    return values, given


def _sampled(body: Painting, values: dict[str, Any], given: set[str]) -> tuple[dict[str, Any], set[str]]:
    """The sampler and the schedule, from new and old fields and from combined names."""
    values["sampler"] = DEFAULT_SAMPLER
    name = body.sampler_name or body.sampler_index
    if name:
        values["sampler"], tail = sampler_of(name)
        given.add("sampler")
        if tail:
            values["scheduler"] = tail
            given.add("scheduler")
    if body.scheduler and not (name and schedule_of(body.scheduler) == "Automatic"):
        values["scheduler"] = schedule_of(body.scheduler)
        given.add("scheduler")
    if body.disable_extra_networks:
        for field in ("prompt", "negative_prompt"):
            values[field] = NETWORK.sub("", values.get(field, ""))
    return values, given


def _checked(engine: Engine, body: Painting, values: dict[str, Any], given: set[str]) -> GenerateRequest:
    """The request; what the client left open is taken from the infotext it sent."""
    soft = alwayson_values(body)
    values |= soft
    given |= set(soft)
    if body.infotext:
        pasted, _ = engine.pasted(body.infotext)
        values |= {field: value for field, value in pasted.items() if field not in given}
    return GenerateRequest.check(values)  # type: ignore[return-value]


def notes_of(body: Painting) -> list[str]:
    """Sentences about what a body asks for that has no effect here, for the `notes` of its answer."""
    idle = sorted(set(body.override_settings or {}) - ACTED)
    notes = ["restore_faces: there is no face restoration model here; the images are as they were generated."] if body.restore_faces else []
    return notes + ([f"override_settings: {', '.join(idle)[:300]} {'has' if len(idle) == 1 else 'have'} no effect here."] if idle else [])


def _lacking(body: Painting) -> list[str]:
    """Sentences about what a body asks for that would change the picture and that this studio has not."""
    absent = {
        "refiner_checkpoint": (body.refiner_checkpoint not in (None, *SAME) and body.refiner_switch_at not in (None, 0, 1), "there is no refiner here; leave it out"),
        "firstpass_image": (body.firstpass_image, "the first pass cannot be sent; leave it out"),
        "s_min_uncond": (body.s_min_uncond, "negative guidance is never skipped here; send 0"),
        "hr_checkpoint_name": (getattr(body, "hr_checkpoint_name", None) not in (None, *SAME), "both passes use one checkpoint; leave it out"),
        "latent_mask": (getattr(body, "latent_mask", None), "send mask"),
        "initial_noise_multiplier": (getattr(body, "initial_noise_multiplier", None) not in (None, 0, 1), "send 1"),
    }
    return [f"{name}: {reason}." for name, (asked, reason) in absent.items() if asked]
