"""What lies on the shelves, in A1111's shapes: checkpoints, autoencoders, embeddings, networks, upscalers, styles."""

import json
import os
from pathlib import Path
from typing import Any

from fastapi import APIRouter

from studio import shelves
from studio.api.names import sampler_list, schedule_list
from studio.api.waiting import Here
from studio.errors import NotFound, Unreadable
from studio.networks.facts import texts_of
from studio.prompts.styles import read_styles
from studio.settings import Paths

router = APIRouter()

OWN_VAE = ("Automatic", "None")


def place_of(paths: Paths, checkpoint: str) -> Path:
    """Where a checkpoint of the shelf lies."""
    return next((folder / checkpoint for folder in paths.both("checkpoints") if (folder / checkpoint).exists()), paths.checkpoints / checkpoint)


def hash_of(paths: Paths, checkpoint: str) -> str | None:
    """The sha256 of a checkpoint when it was taken already; a page or a client never waits for it."""
    place = place_of(paths, checkpoint)
    file = next(iter(sorted((place / "unet").glob("*.safetensors"))), place) if place.is_dir() else place
    try:
        book, status = json.loads((paths.outputs / "cache" / "hashes.json").read_text(encoding="utf-8")), file.stat()
        modified, size, digest = book[os.path.abspath(file)]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return str(digest) if [modified, size] == [status.st_mtime_ns, status.st_size] else None


def title_of(paths: Paths, checkpoint: str) -> str:
    """`name.safetensors [10 letters of the sha256]`, as A1111 names a checkpoint; without the bracket while the hash is not known."""
    digest = hash_of(paths, checkpoint)
    return f"{checkpoint} [{digest[:10]}]" if digest else checkpoint


def checkpoint_of(paths: Paths, wanted: str) -> str:
    """The checkpoint a client means by title, name, stem, hash or a part of the name; raises NotFound."""
    known = shelves.checkpoint_files(paths)
    name, _, bracket = str(wanted).partition(" [")
    digest = bracket.rstrip("]") or name.lower()
    exact = list(filter(None, (shelves.checkpoint_named(known, text) for text in (str(wanted), name, Path(name).name))))
    hashed = [k for k in known if len(digest) >= 8 and (hash_of(paths, k) or "-").startswith(digest)]
    partly = [k for k in known if name.lower() in k.lower()] if name else []
    found = exact or hashed or partly
    if not found:
        raise NotFound(f"Checkpoint: there is no {wanted!r}.", f"Choose one of {', '.join(known) or 'none'}.")
    return found[0]


def vae_of(paths: Paths, wanted: str) -> str:
    """The autoencoder a client means by name, stem or path; raises NotFound."""
    known = shelves.vaes(paths)
    for name in (*OWN_VAE, *known):
        if str(wanted) in (name, Path(name).stem) or Path(str(wanted)).name == name:
            return name
    raise NotFound(f"VAE: there is no {wanted!r}.", f"Choose one of {', '.join((*OWN_VAE, *known))}.")


def safetensors_facts(path: Path) -> dict[str, str]:
    """The texts in the head of a safetensors file; empty when it is another file or damaged."""
    try:
        return texts_of(path)
    except Unreadable:
        return {}


@router.get("/sdapi/v1/samplers")
def samplers() -> list[dict[str, Any]]:
    """Sampling methods."""
    return sampler_list()


@router.get("/sdapi/v1/schedulers")
def schedulers() -> list[dict[str, Any]]:
    """Schedule types."""
    return schedule_list()


@router.get("/sdapi/v1/upscalers")
def upscalers(here: Here) -> list[dict[str, Any]]:
    """What enlarges pictures: plain ways and models of the ESRGAN kind."""
    plain = [{"name": name, "model_name": None, "model_path": None, "model_url": None, "scale": 4.0} for name in shelves.PLAIN_UPSCALERS]
    models = shelves.upscaler_files(here.engine.paths)
    return plain + [{"name": name, "model_name": name, "model_path": str(path), "model_url": None, "scale": 4.0} for name, path in models.items()]


@router.get("/sdapi/v1/latent-upscale-modes")
def latent_upscale_modes() -> list[dict[str, str]]:
    """Ways to enlarge latents."""
    return [{"name": name} for name in shelves.LATENT_UPSCALERS]


@router.get("/sdapi/v1/sd-models")
def sd_models(here: Here) -> list[dict[str, Any]]:
    """Checkpoints; hash and sha256 are null until they were taken."""
    paths, found = here.engine.paths, []
    for name in shelves.checkpoints(paths):
        digest = hash_of(paths, name)
        facts = {"title": title_of(paths, name), "model_name": Path(name.replace("/", "_")).stem, "hash": digest[:10] if digest else None, "sha256": digest}
        found.append({**facts, "filename": str(place_of(paths, name)), "config": None})
    return found


@router.get("/sdapi/v1/sd-vae")
def sd_vae(here: Here) -> list[dict[str, str]]:
    """Stand-alone autoencoders."""
    return [{"model_name": name, "filename": str(path)} for name, path in shelves.vae_files(here.engine.paths).items()]


@router.get("/sdapi/v1/hypernetworks")
def hypernetworks(here: Here) -> list[dict[str, str]]:
    """Hypernetworks."""
    return [{"name": name, "path": str(path)} for name, path in shelves.hypernetworks(here.engine.paths).items()]


@router.get("/sdapi/v1/loras")
def loras(here: Here) -> list[dict[str, Any]]:
    """LoRA files with what their makers wrote into them; the alias is the name a trainer gave."""
    found = []
    for name, path in shelves.loras(here.engine.paths).items():
        facts = safetensors_facts(path)
        found.append({"name": name, "alias": facts.get("ss_output_name") or path.stem, "path": str(path), "metadata": facts})
    return found


@router.get("/sdapi/v1/embeddings")
def embeddings(here: Here) -> dict[str, dict[str, Any]]:
    """Embeddings that can be used, and those whose files cannot be read."""
    answer: dict[str, dict[str, Any]] = {"loaded": {}, "skipped": {}}
    for card in shelves.embeddings(here.engine.paths):
        facts = {"step": card.step, "sd_checkpoint": None, "sd_checkpoint_name": None, "shape": card.width, "vectors": card.vectors}
        answer["skipped" if card.problem else "loaded"][card.name] = facts
    return answer


@router.get("/sdapi/v1/prompt-styles")
def prompt_styles(here: Here) -> list[dict[str, str]]:
    """Saved prompts of styles.csv."""
    return [{"name": style.name, "prompt": style.prompt, "negative_prompt": style.negative_prompt} for style in read_styles(here.engine.paths.styles)]


@router.get("/sdapi/v1/face-restorers")
def face_restorers() -> list[dict[str, Any]]:
    """Face restorers; there is none here."""
    return []


@router.get("/sdapi/v1/realesrgan-models")
def realesrgan_models(here: Here) -> list[dict[str, Any]]:
    """RealESRGAN files: they lie on the same shelf as every model that enlarges."""
    return [{"name": name, "path": str(path), "scale": 4} for name, path in shelves.upscaler_files(here.engine.paths).items() if "realesrgan" in name.lower()]


@router.get("/sdapi/v1/extensions")
def extensions() -> list[dict[str, Any]]:
    """Extensions; there is none here."""
    return []


@router.post("/sdapi/v1/refresh-embeddings")
@router.post("/sdapi/v1/refresh-vae")
@router.post("/sdapi/v1/refresh-checkpoints")
@router.post("/sdapi/v1/refresh-loras")
def refresh() -> None:
    """Nothing to do: every list is read from the folders when it is asked for."""
