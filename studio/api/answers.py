"""From a finished job to A1111's answer: pictures as base64, and the `info` that describes them."""

import json
import time
from collections.abc import Sequence
from typing import Any

from studio import __version__
from studio.api.images import sent
from studio.api.projection import notes_of
from studio.api.sdapi_models import Img2Img, Painting
from studio.jobs import Job
from studio.pasting import read_infotext

MODEL_KEYS = ("Model", "Model hash", "VAE", "VAE hash")
REQUEST_KEYS = ("Steps", "Sampler", "CFG scale", "Seed", "Size", "Variation seed", "Variation seed strength", "Seed resize from", "Clip skip", "Version")
"""Keys of an infotext that stand elsewhere in `info`; the rest are extra parameters."""
ENCLOSED = ("init_images", "mask", "latent_mask", "firstpass_image")


def answer(body: Painting, job: Job) -> dict[str, Any]:
    """The answer of txt2img and img2img."""
    result = job.result or {}
    grid = [result["grid"]] if result.get("grid") and body.save_images and not body.do_not_save_grid else []
    first = int(result.get("grids", 0)) or len(grid)
    images = [sent(path) for path in (*grid, *result.get("images", []))] if body.send_images is not False else []
    echo = body.model_dump()
    if isinstance(body, Img2Img) and not body.include_init_images:
        echo |= dict.fromkeys(ENCLOSED)
    told = info(job, first, [*grid])
    told["notes"] += notes_of(body)
    return {"images": images, "parameters": echo, "info": json.dumps(told, ensure_ascii=False)}


def info(job: Job, first: int = 0, before: Sequence[str] = ()) -> dict[str, Any]:
    """What A1111 tells about the pictures of a job, and under `notes` what a person should know.

    `first` is where the first picture stands after the grids, `before` are grids that the result does not list.
    """
    request, result = job.request.get("base", job.request), job.result or {}
    texts = [str(text) for text in result.get("infotexts", [])]
    found = [read_infotext(text) for text in texts] or [{}]
    one, count = found[0], len(found)
    seeds = [int(seed) for seed in result.get("seeds", [])] or [_int(f.get("Seed"), -1) for f in found]
    drift = _int(one.get("Variation seed"), max(0, int(request.get("variation_seed", 0))))
    subseeds = [_int(f.get("Variation seed"), drift) for f in found]
    width, _, height = str(one.get("Size", "0x0")).partition("x")
    return {
        "prompt": request.get("prompt", ""),
        "all_prompts": [f.get("Prompt", request.get("prompt", "")) for f in found],
        "negative_prompt": request.get("negative_prompt", ""),
        "all_negative_prompts": [f.get("Negative prompt", request.get("negative_prompt", "")) for f in found],
        "seed": seeds[0] if seeds else -1,
        "all_seeds": seeds,
        "subseed": subseeds[0],
        "all_subseeds": subseeds,
        "subseed_strength": request.get("variation_strength", 0),
        "width": _int(width, 0),
        "height": _int(height, 0),
        "sampler_name": request.get("sampler", ""),
        "cfg_scale": request.get("cfg_scale"),
        "steps": request.get("steps"),
        "batch_size": request.get("batch_size", count),
        "restore_faces": False,
        "face_restoration_model": None,
        "sd_model_name": one.get("Model"),
        "sd_model_hash": one.get("Model hash"),
        "sd_vae_name": one.get("VAE"),
        "sd_vae_hash": one.get("VAE hash"),
        "seed_resize_from_w": request.get("seed_width") or -1,
        "seed_resize_from_h": request.get("seed_height") or -1,
        "denoising_strength": _strength(request),
        "extra_generation_params": {k: v for k, v in one.items() if k not in (*MODEL_KEYS, *REQUEST_KEYS, "Prompt", "Negative prompt", "Denoising strength")},
        "index_of_first_image": first,
        "infotexts": texts[:1] * len(before) + texts,
        "styles": list(request.get("styles", [])),
        "job_timestamp": stamp(job),
        "clip_skip": request.get("clip_skip", 1),
        "is_using_inpainting_conditioning": bool(result.get("inpainting_model", False)),
        "version": one.get("Version") or __version__,
        "notes": list(result.get("notes", [])),
    }


def stamp(job: Job) -> str:
    """When a job began, as A1111 writes it."""
    return time.strftime("%Y%m%d%H%M%S", time.localtime(job.started or job.created))


def _strength(request: dict[str, Any]) -> float | None:
    """The denoising strength, where one plays a part."""
    if request.get("init_image"):
        return request.get("denoising_strength")
    return request.get("hires_denoising_strength") if request.get("hires") else None


def _int(value: Any, otherwise: int) -> int:
    """A number from an infotext."""
    try:
        return int(value)
    except (TypeError, ValueError):
        return otherwise
