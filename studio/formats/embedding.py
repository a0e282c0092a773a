"""Textual inversion files: A1111's .pt, and safetensors with one tensor; read without running code, written so that every interface loads them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import ParameterDict
from torch.serialization import safe_globals

from studio.errors import InputError, Unreadable
from studio.formats.files import atomic_write, load_pickle

MAX_VECTORS = 75
"""One prompt chunk has 75 places; a word cannot be longer."""
_KNOWN_KEYS = ("emb_params", "emp_params")


@dataclass(frozen=True)
class Embedding:
    """One word that was learned: its vectors [n, d] in fp32, the step they reached and the checkpoint they were trained on."""

    name: str
    vectors: Tensor
    step: int | None = None
    checkpoint_hash: str | None = None
    checkpoint_name: str | None = None

    @property
    def width(self) -> int:
        """Size d of each vector: 768 for SD 1.x, 1024 for SD 2.x."""
        return self.vectors.shape[1]


def read_embedding(path: Path) -> Embedding:
    """The embedding in a .pt, .bin or .safetensors file, named by the file's stem; raises Unreadable in words."""
    if not path.is_file():
        raise Unreadable(f"There is no embedding file {path.name!r}.", "It may have been moved; refresh the list.")
    if path.stat().st_size == 0:
        raise Unreadable(f"{path.name} is empty (0 bytes).", "Copy it again from where it came.")
    tensor, facts = _read_safetensors(path) if path.suffix.lower() == ".safetensors" else _read_pickle(path)
    step = facts.get("step")
    return Embedding(
        name=path.stem,
        vectors=_check(path, tensor),
        step=int(step) if isinstance(step, int) or str(step or "").isdigit() else None,
        checkpoint_hash=_text(facts.get("sd_checkpoint")),
        checkpoint_name=_text(facts.get("sd_checkpoint_name")),
    )


def write_embedding(path: Path, embedding: Embedding) -> None:
    """Write atomically: .safetensors as `emb_params`, anything else as A1111's .pt in torch's older format without zip.

    A1111's safe loader refuses members that current torch puts into its zip files, so the zip is avoided altogether.
    Raises InputError for vectors that are not finite: a good file is never replaced by them.
    """
    vectors = embedding.vectors.detach().to("cpu", torch.float32).contiguous().clone()
    if vectors.ndim != 2 or not vectors.numel() or not torch.isfinite(vectors).all():
        raise InputError(f"The vectors of {embedding.name!r} are not finite numbers of shape [n, d] (shape {list(vectors.shape)}), so they were not saved.", "The file on disk is unchanged.")
    facts = {"name": embedding.name, "step": embedding.step, "sd_checkpoint": embedding.checkpoint_hash, "sd_checkpoint_name": embedding.checkpoint_name}
    with atomic_write(path) as temporary:
        if path.suffix.lower() == ".safetensors":
            save_file({"emb_params": vectors}, temporary, metadata={k: str(v) for k, v in facts.items() if v is not None})
        else:
            torch.save({"string_to_token": {"*": 265}, "string_to_param": {"*": vectors}, **facts}, temporary, _use_new_zipfile_serialization=False)


def _read_safetensors(path: Path) -> tuple[Tensor, dict[str, Any]]:
    """The tensor and the metadata of a safetensors file."""
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict)
            facts = dict(file.metadata() or {})
    except (SafetensorError, OSError, ValueError) as error:
        raise Unreadable(f"{path.name} is not a readable safetensors file ({error}).", "It is damaged or not finished; copy it again.") from error
    return _one(path, tensors), facts


def _read_pickle(path: Path) -> tuple[Tensor, dict[str, Any]]:
    """The tensor and the facts of a .pt or .bin file."""
    with safe_globals([ParameterDict]):  # 2022's files hold one; unpickling it only fills in its fields
        data = load_pickle(path)
    if not isinstance(data, dict):
        raise Unreadable(f"{path.name} holds a {type(data).__name__}, not an embedding.", "Choose a textual inversion file.")
    if "string_to_param" not in data:
        return _one(path, data), {}
    terms = data["string_to_param"]
    terms = getattr(terms, "_parameters", terms)
    if not isinstance(terms, dict) or len(terms) != 1:
        raise Unreadable(f"{path.name} holds {len(terms) if isinstance(terms, dict) else 'no'} words where one is expected.", "Use a file with a single embedding.")
    return next(iter(terms.values())), data


def _one(path: Path, tensors: dict[Any, Any]) -> Tensor:
    """The one tensor of a file that names it by token or by a known key."""
    if {"clip_l", "clip_g"} <= set(tensors):
        raise Unreadable(f"{path.name} was made for SDXL (clip_l and clip_g).", "It cannot be used with Stable Diffusion 1.x; choose another embedding.")
    for key in _KNOWN_KEYS:
        if key in tensors:
            return tensors[key]
    if len(tensors) == 1:
        return next(iter(tensors.values()))
    shown = ", ".join(str(key) for key in list(tensors)[:3]) or "nothing"
    raise Unreadable(
        f"{path.name} is neither an A1111 embedding nor a file with one tensor (it holds {len(tensors)}: {shown}).", "A LoRA belongs in models/Lora, a checkpoint in models/Stable-diffusion."
    )


def _check(path: Path, tensor: Any) -> Tensor:
    """The tensor as [n, d] fp32, or Unreadable saying what is wrong with it."""
    if not isinstance(tensor, Tensor) or not tensor.is_floating_point():
        raise Unreadable(f"{path.name} holds a {type(tensor).__name__} where vectors are expected.", "Choose a textual inversion file.")
    tensor = tensor.detach().to("cpu", torch.float32)
    tensor = tensor[None] if tensor.ndim == 1 else tensor
    if tensor.ndim != 2 or not tensor.numel():
        raise Unreadable(f"{path.name} holds no vectors (shape {list(tensor.shape)}).", "Create the embedding again.")
    if tensor.shape[0] > MAX_VECTORS:
        raise Unreadable(f"{path.name} holds {tensor.shape[0]} vectors; a prompt has {MAX_VECTORS} places.", "Use an embedding with fewer vectors.")
    bad = int((~torch.isfinite(tensor)).any(dim=1).sum())
    if bad:
        raise Unreadable(f"{path.name} is spoilt: {bad} of {tensor.shape[0]} vectors hold NaN or infinity.", "Its training diverged; use an earlier copy from the run's folder.")
    return tensor.contiguous().clone()


def _text(value: Any) -> str | None:
    """A fact as text, None when it is missing."""
    return str(value) if value else None
