"""Settings and flags in A1111's shapes."""

import os
from typing import Any

from fastapi import APIRouter, Response

from studio.api.a1111_options import DEFAULTS, FLAGS, keep_options, kept_options
from studio.api.library import checkpoint_of, hash_of, title_of, vae_of
from studio.api.projection import ACTED, checked
from studio.api.waiting import Here
from studio.default_checkpoint import default_checkpoint
from studio.engine import Engine
from studio.errors import InputError
from studio.preferences import Preferences

FIXED = frozenset({"samples_save", "enable_pnginfo", "outdir_samples", "outdir_txt2img_samples", "outdir_img2img_samples", "sd_checkpoint_hash"})
"""Settings that are as they are: images are always saved with their infotext, under outputs/images."""
NAME_LIMIT = 200
"""The most characters in the name of a setting."""
router = APIRouter(prefix="/sdapi/v1")


@router.get("/options")
def options(here: Here) -> dict[str, Any]:
    """All settings under A1111's names: those that have an effect here, those that were set and only kept, and A1111's defaults; the checkpoint by its title."""
    paths = here.engine.paths
    values = DEFAULTS | kept_options(paths.settings) | here.engine.preferences().model_dump()
    chosen = values["sd_model_checkpoint"] or default_checkpoint(paths) or ""
    digest = hash_of(paths, chosen) if chosen else None
    folder = str(paths.images)
    return values | {
        "sd_model_checkpoint": title_of(paths, chosen) if chosen else "",
        "sd_checkpoint_hash": digest or "",
        **dict.fromkeys(("samples_save", "enable_pnginfo"), True),
        **dict.fromkeys(("outdir_samples", "outdir_txt2img_samples", "outdir_img2img_samples"), folder),
    }


@router.post("/options")
def set_options(values: dict[str, Any], here: Here, response: Response) -> None:
    """Change some settings; those that have no effect here are kept, given back, and named in the head of the answer."""
    unknown = keep(here.engine, values)
    if unknown:
        response.headers["X-Ignored-Fields"] = ", ".join(unknown)[:500].encode("ascii", "replace").decode()


def keep(engine: Engine, values: dict[str, Any]) -> list[str]:
    """Keep settings for good; returns the names that have no effect here. Raises StudioError in words."""
    known = {name: value for name, value in values.items() if name in Preferences.model_fields}
    others = {name: value for name, value in values.items() if name not in known and name not in FIXED}
    if any(len(name) > NAME_LIMIT for name in others):
        raise InputError(f"options: a name of more than {NAME_LIMIT} characters can't be kept.", "Check the names that are sent.")
    checked(others)
    if known.get("sd_model_checkpoint"):
        known["sd_model_checkpoint"] = checkpoint_of(engine.paths, known["sd_model_checkpoint"])
    if known.get("sd_vae"):
        known["sd_vae"] = vae_of(engine.paths, known["sd_vae"])
    if known.get("randn_source") == "GPU":
        known["randn_source"] = "NV"
    if known.get("show_progress_every_n_steps") == -1:  # only when the batch is done
        known["show_progress_every_n_steps"] = 0
    if known:
        engine.prefer(known)
    if others:
        keep_options(engine.paths.settings, others)
    return sorted(set(values) - ACTED)


@router.get("/cmd-flags")
def cmd_flags(here: Here) -> dict[str, Any]:
    """How the server was started, under the names of A1111's flags."""
    paths, mode = here.engine.paths, here.engine.preferences().memory_mode
    return FLAGS | {
        "api": True,
        "nowebui": False,
        "data_dir": str(paths.root),
        "models_dir": str(paths.models),
        "ckpt_dir": str(paths.checkpoints),
        "vae_dir": str(paths.vae),
        "embeddings_dir": str(paths.embeddings),
        "textual_inversion_templates_dir": str(paths.templates),
        "hypernetwork_dir": str(paths.hypernetworks),
        "lora_dir": str(paths.lora),
        "esrgan_models_path": str(paths.esrgan),
        "styles_file": [str(paths.styles)],
        "medvram": mode == "medvram",
        "lowvram": mode == "lowvram",
        "no_half": False,
        "use_cpu": ["all"] if here.engine.device().get("device") == "cpu" else [],
        "gradio_analytics_enabled": os.environ.get("GRADIO_ANALYTICS_ENABLED", "False") == "True",
    }
