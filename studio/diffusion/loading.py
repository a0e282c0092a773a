"""From a name to a Model: a diffusers folder or a single file in the original layout, with its own autoencoder or another, offline."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from studio import shelves
from studio.default_checkpoint import default_checkpoint
from studio.diffusion.families import Family
from studio.diffusion.folder import Folder, folder_vae
from studio.diffusion.model import Model
from studio.diffusion.single_file import SingleFile, single_vae
from studio.diffusion.unsaid import unsaid
from studio.errors import NotFound
from studio.formats.checkpoint import HASH, V_MARKER, ZERO_SNR_MARKER, write_checkpoint
from studio.formats.hashes import remembered_sha256
from studio.settings import Paths

AUTOMATIC, OWN = "Automatic", "None"
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
    """The file or folder of a checkpoint by name, also without its folder or extension; empty is the default one (the last used, or the first that can be read). Raises NotFound."""
    known = shelves.checkpoint_files(paths)
    name = name or default_checkpoint(paths) or ""
    entry = shelves.checkpoint_named(known, name) if name else next(iter(known), None)
    if entry is not None:
        return known[entry]
    raise NotFound(f"There is no checkpoint {name[:120]!r}." if name else "There is no checkpoint.", f"Put one into models/{paths.checkpoints.name}, or choose one of {', '.join(known) or 'none'}.")


def checkpoint_name(paths: Paths, path: Path) -> str:
    """The name that a checkpoint is chosen by: its path on the shelf, or the file's name for one that lies elsewhere."""
    return next((name for name, known in shelves.checkpoint_files(paths).items() if known == path), path.name)


def find_vae(paths: Paths, checkpoint: Path, choice: str = AUTOMATIC) -> Path | None:
    """The autoencoder to use instead of a checkpoint's own, or None for its own; raises NotFound for a name that is not there.

    "Automatic" takes a file named like the checkpoint (`<stem>.vae.pt`, or `<stem>.safetensors` in models/VAE), as A1111 does.
    """
    if choice == OWN:
        return None
    files = shelves.vae_files(paths)
    if choice in ("", AUTOMATIC):
        stem = checkpoint.name if checkpoint.is_dir() else checkpoint.stem
        named = [path for path in files.values() if path.name.removesuffix(path.suffix) == f"{stem}.vae"]
        beside = sorted(named, key=lambda path: path.parent != checkpoint.parent)
        return next(iter([*beside, *(path for path in files.values() if path.parent == paths.vae and path.stem == stem)]), None)
    for name, path in files.items():
        if choice in (name, path.stem):
            return path
    raise NotFound(f"There is no VAE {choice[:120]!r}.", f"Put it into models/{paths.vae.name}, or choose {AUTOMATIC}, {OWN}{''.join(f', {name}' for name in files)}.")


def load_model(path: Path, device: torch.device, dtype: torch.dtype, vae: Path | nn.Module | None = None, hashes: Path | None = None) -> Model:
    """Load a checkpoint, with the autoencoder in the file `vae`, or a network that stands for one, in the place of its own; raises Unreadable in words.

    `hashes` is a small file in which hashes are remembered, so that a large checkpoint is not read twice.
    """
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    _quiet()
    opened = Folder(path) if path.is_dir() else SingleFile(path)
    unet = opened.unet(dtype)
    family = opened.family
    schedule = SD_SCHEDULE | (opened.schedule if isinstance(opened, Folder) else _schedule(opened))
    texts = opened.text_encoders(dtype)
    own = opened.vae(dtype) if vae is None else load_vae(vae, dtype, family.latent_scale) if isinstance(vae, Path) else vae
    weights = opened.weights_file() if isinstance(opened, Folder) else path
    digest = remembered_sha256(weights, hashes)[:10] if weights else ""
    model = Model(family, path.name, digest, unet, own, texts, schedule, device, dtype)
    if isinstance(vae, Path):
        model.vae_name, model.vae_hash = vae.name, remembered_sha256(vae, hashes)[:10] if vae.is_file() else ""
    return model


def load_vae(path: Path, dtype: torch.dtype = torch.float32, scale: float = 0.18215) -> nn.Module:
    """An autoencoder of its own, from a file in the original layout or a diffusers folder; `scale` is the family's, for one that does not say its own. Raises Unreadable."""
    _quiet()
    return folder_vae(path, scale, dtype) if path.is_dir() else single_vae(path, scale, dtype)


def save_model(model: Model, path: Path, half: bool | torch.dtype = True, metadata: Mapping[str, str] | None = None) -> None:
    """Write a model as one .safetensors file in the original layout, which says what it is and the hash of its tensors; `half` stores numbers in fp16, or in the type it names. Raises OutOfSpace."""
    modules = {"unet": model.unet, "vae": model.vae, **{e.name: m for e, m in zip(model.family.text_encoders, model.text_encoders, strict=True)}}
    parts = {part: modules[name].state_dict() for name, part in model.family.parts.items()}
    velocity = model.prediction_type == "v_prediction"
    markers = [V_MARKER] * (velocity and model.family.prediction != "v_prediction") + [ZERO_SNR_MARKER] * bool(model.schedule.get("rescale_betas_zero_snr"))
    write_checkpoint(path, parts, half, {**modelspec(model.family, path.stem, velocity), HASH: "", **unsaid(model), **(metadata or {})}, markers)


def modelspec(family: Family, title: str, velocity: bool) -> dict[str, str]:
    """What modelspec 1.0.1 asks a checkpoint to say about itself."""
    return {
        "modelspec.sai_model_spec": "1.0.1",
        "modelspec.architecture": family.architecture,
        "modelspec.implementation": "https://github.com/Stability-AI/generative-models",
        "modelspec.title": title,
        "modelspec.resolution": f"{family.resolution}x{family.resolution}",
        "modelspec.prediction_type": "v" if velocity else "epsilon",
    }


def _schedule(opened: SingleFile) -> dict[str, Any]:
    """What a single file says about its noise schedule, the family's way where it says nothing."""
    return {"prediction_type": opened.facts.prediction or opened.family.prediction, "rescale_betas_zero_snr": opened.facts.zero_snr}


def _quiet() -> None:
    """Keep the libraries' bars and advice out of the log; what matters to a person is said in our own words."""
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    diffusers_logging.set_verbosity_error()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
