"""From a name to a Model: a diffusers folder or a single file in the original layout, offline."""

import json
import os
from pathlib import Path
from typing import Any

import torch

from studio import shelves
from studio.diffusion.families import SD1
from studio.diffusion.model import Model
from studio.errors import NotFound, Unreadable
from studio.formats.files import sha256
from studio.settings import Paths

DEFAULT = "tiny-world"
SD_SCHEDULE: dict[str, Any] = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "prediction_type": "epsilon",
    "num_train_timesteps": 1000,
    "steps_offset": 1,
    "clip_sample": False,
    "set_alpha_to_one": False,
}


def find_checkpoint(paths: Paths, name: str) -> Path:
    """The file or folder of a checkpoint by name or stem; empty is the default. Raises NotFound."""
    known = shelves.checkpoints(paths)
    wanted = name or (DEFAULT if DEFAULT in known else (known[0] if known else DEFAULT))
    for entry in known:
        if wanted in (entry, Path(entry).stem):
            return next(folder / entry for folder in paths.both("checkpoints") if (folder / entry).exists())
    raise NotFound(f"There is no checkpoint {wanted!r}.", f"Put one into models/{paths.checkpoints.name}, or choose one of {', '.join(known) or 'none'}.")


def load_model(path: Path, device: torch.device, dtype: torch.dtype) -> Model:
    """Load a checkpoint; raises Unreadable in words."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    _quiet()
    if path.is_dir():
        return _load_folder(path, device, dtype)
    from studio.diffusion.single_file import load_single_file

    return load_single_file(path, device, dtype)


def _quiet() -> None:
    """Keep the libraries' bars and advice out of the log; what matters to a person is said in our own words."""
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    diffusers_logging.set_verbosity_error()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()


def _load_folder(path: Path, device: torch.device, dtype: torch.dtype) -> Model:
    """A diffusers folder."""
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextModel

    try:
        unet = UNet2DConditionModel.from_pretrained(path / "unet", local_files_only=True, torch_dtype=dtype)
        vae = AutoencoderKL.from_pretrained(path / "vae", local_files_only=True, torch_dtype=dtype)
        text_encoder = CLIPTextModel.from_pretrained(path / "text_encoder", local_files_only=True, dtype=dtype)
        config = json.loads((path / "scheduler" / "scheduler_config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise Unreadable(
            f"The checkpoint {path.name} cannot be loaded ({str(error).splitlines()[0].replace(str(path), path.name)[:200]}).",
            "Its folder must hold unet, vae, text_encoder and scheduler of a Stable Diffusion 1 model.",
        ) from error
    weights = next(iter(sorted((path / "unet").glob("*.safetensors"))), None)
    schedule = {**SD_SCHEDULE, **{k: v for k, v in config.items() if not k.startswith("_")}}
    return Model(SD1, path.name, sha256(weights)[:10] if weights else "", unet, vae, (text_encoder,), schedule, device, dtype)
