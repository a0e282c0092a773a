"""From a request to the facts of its infotext: A1111's keys in A1111's order, those that are at their default left out."""

from collections.abc import Mapping
from typing import Any

from studio import __version__
from studio.requests.generate import GenerateRequest

VERSION = f"SD Training Studio {__version__}"
"""Not a bare number: A1111 would take it for one of its own releases and switch to that release's old behaviour."""
HIRES = tuple(f"Hires {key}" for key in ("upscale", "resize", "steps", "upscaler", "sampler", "schedule type", "checkpoint", "prompt", "negative prompt", "CFG Scale", "refiner"))
SOFT = (
    ("Soft inpainting schedule bias", "soft_schedule_bias"),
    ("Soft inpainting preservation strength", "soft_preservation"),
    ("Soft inpainting transition contrast boost", "soft_contrast"),
    ("Soft inpainting mask influence", "soft_mask_influence"),
    ("Soft inpainting difference threshold", "soft_difference_threshold"),
    ("Soft inpainting difference contrast", "soft_difference_contrast"),
)
"""Key and field of soft inpainting's knobs."""
ORDER = (
    *("Steps", "Sampler", "Schedule type", "CFG scale", "Image CFG scale", "Seed", "Face restoration", "Size", "Model hash", "Model"),
    *("FP8 weight", "Cache FP16 weight for LoRA", "VAE hash", "VAE", "Variation seed", "Variation seed strength", "Seed resize from"),
    *("Denoising strength", "Conditional mask weight", "Clip skip", "ENSD", "Token merging ratio", "Token merging ratio hr", "Init image hash", "RNG", "Tiling"),
    *HIRES,
    *("Refiner", "Refiner switch at", "Mask mode", "Mask blur", "Inpaint area", "Masked area padding", "Masked content"),
    *("Soft inpainting enabled", *(key for key, _ in SOFT)),
    *("Noise multiplier", "Extra noise", "VAE Encoder", "VAE Decoder", "Eta", "Eta DDIM", "Sigma churn", "Sigma tmin", "Sigma tmax", "Sigma noise"),
    *("Schedule max sigma", "Schedule min sigma", "Schedule rho", "Discard penultimate sigma", "SGM noise multiplier", "Noise Schedule"),
    *("NGMS", "Pad conds", "Skip Early CFG", "Emphasis", "TI hashes", "Lora hashes", "Old prompt editing timelines", "Downcast alphas_cumprod"),
)
"""A1111's keys in A1111's order; keys that are not among them follow, then those of LAST."""
LAST = ("Script", "X Type", "X Values", "Fixed X Values", "Y Type", "Y Values", "Fixed Y Values", "Z Type", "Z Values", "Fixed Z Values", "Version", "User")
STEPWISE = frozenset({"DDIM", "DDIM CFG++", "PLMS", "UniPC"})
"""Samplers whose eta A1111 calls `Eta DDIM`."""


def facts_of(request: GenerateRequest, more: Mapping[str, object] | None = None) -> dict[str, object]:
    """The facts of a picture in A1111's order; `more` adds to them or replaces them (what only the painter knows: the seed drawn, the size, model and hashes), None takes one out."""
    facts = {**_walk(request), **_noise(request), **_hires(request), **_repaint(request), **_own(request), "Version": VERSION, **(more or {})}
    facts = {key: value for key, value in facts.items() if value is not None}
    others = [key for key in facts if key not in ORDER and key not in LAST]
    return {key: facts[key] for key in (*ORDER, *others, *LAST) if key in facts}


def _walk(request: GenerateRequest) -> dict[str, Any]:
    """What every picture has."""
    return {
        "Steps": request.steps,
        "Sampler": request.sampler,
        "Schedule type": request.scheduler,
        "CFG scale": request.cfg_scale,
        "Seed": request.seed if request.seed >= 0 else None,
        "Size": _pair(request.width, request.height) if request.width and request.height else None,
        "VAE": request.vae if request.vae not in ("Automatic", "None", "") else None,
        "Clip skip": request.clip_skip if request.clip_skip > 1 else None,
        "RNG": request.noise_source,
        "Tiling": True if request.tiling else None,
        "Emphasis": request.emphasis if request.emphasis != "Original" else None,
    }


def _noise(request: GenerateRequest) -> dict[str, Any]:
    """What was done to the noise."""
    facts: dict[str, Any] = {"ENSD": request.ensd or None}
    if request.variation_strength:
        facts |= {"Variation seed": request.variation_seed if request.variation_seed >= 0 else None, "Variation seed strength": request.variation_strength}
    if request.seed_width and request.seed_height:
        facts["Seed resize from"] = _pair(request.seed_width, request.seed_height)
    facts["Eta DDIM" if request.sampler in STEPWISE else "Eta"] = request.eta
    facts |= {"Sigma churn": request.s_churn or None, "Sigma tmin": request.s_tmin or None, "Sigma tmax": request.s_tmax or None}
    return {**facts, "Sigma noise": request.s_noise if request.s_noise != 1 else None}


def _hires(request: GenerateRequest) -> dict[str, Any]:
    """The second pass."""
    if not request.hires:
        return {}
    resized = request.hires_width or request.hires_height
    return {
        "Denoising strength": request.hires_denoising_strength,
        "Hires resize" if resized else "Hires upscale": _pair(request.hires_width, request.hires_height) if resized else request.hires_scale,
        "Hires steps": request.hires_steps or None,
        "Hires upscaler": request.hires_upscaler,
        "Hires sampler": request.hires_sampler if request.hires_sampler != "Use same sampler" else None,
        "Hires schedule type": request.hires_scheduler if request.hires_scheduler != "Use same scheduler" else None,
        "Hires prompt": request.hires_prompt or None,
        "Hires negative prompt": request.hires_negative_prompt or None,
    }


def _repaint(request: GenerateRequest) -> dict[str, Any]:
    """What was done to a given picture."""
    facts: dict[str, Any] = {"Denoising strength": request.denoising_strength} if request.init_image else {}
    if not request.inpainting:
        return facts
    if request.inpaint_area == "Only masked":
        facts |= {"Inpaint area": request.inpaint_area, "Masked area padding": request.padding}
    facts["Conditional mask weight"] = request.inpainting_mask_weight if request.inpainting_mask_weight != 1 else None
    facts["Mask mode"] = request.mask_mode if request.mask_mode != "Inpaint masked" else None
    facts["Mask blur"] = request.mask_blur
    facts["Masked content"] = request.masked_content if request.masked_content != "original" else None
    if request.soft_inpainting:
        facts |= {"Soft inpainting enabled": True, **{key: getattr(request, field) for key, field in SOFT}}
    return facts


def _own(request: GenerateRequest) -> dict[str, Any]:
    """What A1111's form has no key for and yet decides about pixels; A1111 shows such keys and does nothing else with them."""
    repainting = bool(request.init_image)
    return {
        "Resize mode": request.resize_mode if repainting and request.resize_mode != "Just resize" else None,
        "Color correction": True if repainting and request.color_correction else None,
        "Old prompt editing timelines": True if request.old_prompt_editing else None,
        "Comma backtrack": request.comma_backtrack if request.comma_backtrack != 20 else None,
    }


def _pair(width: int, height: int) -> str:
    """A size as A1111 writes it."""
    return f"{width}x{height}"
