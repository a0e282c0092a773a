"""Textual inversion files in every layout in use, read without running code, written so that every interface loads them."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import ParameterDict
from torch.serialization import safe_globals

from studio.errors import InputError, Unreadable
from studio.files import atomic_write
from studio.formats import watermark
from studio.formats.finite import is_finite
from studio.formats.pickles import load_pickle

MAX_VECTORS = 75
"""One prompt chunk has 75 places; a word cannot be longer."""
PICTURES = frozenset({".png", ".webp", ".jxl", ".avif"})
"""Suffixes of pictures that may carry an embedding."""
_KNOWN_KEYS = ("emb_params", "emp_params")
_CLIP_L, _CLIP_G = 768, 1280
"""Widths of SDXL's two text encoders."""


@dataclass(frozen=True)
class Embedding:
    """One word that was learned: its vectors [n, d] in fp32, the step they reached and the checkpoint they were trained on.

    For SDXL the vectors of both text encoders stand side by side; `first` is the width of the first one's, None for a single encoder.
    """

    name: str
    vectors: Tensor
    step: int | None = None
    checkpoint_hash: str | None = None
    checkpoint_name: str | None = None
    first: int | None = None

    @property
    def width(self) -> int:
        """Size d of each vector: 768 for SD 1.x, 1024 for SD 2.x, 768 + 1280 for SDXL."""
        return self.vectors.shape[1]

    @property
    def parts(self) -> tuple[Tensor, ...]:
        """The vectors of each text encoder: one part, or clip_l [n, 768] and clip_g [n, 1280]."""
        split = self.first or (_CLIP_L if self.width == _CLIP_L + _CLIP_G else None)
        return (self.vectors,) if split is None else (self.vectors[:, :split], self.vectors[:, split:])


def read_embedding(path: Path) -> Embedding:
    """The embedding in a .pt, .bin, .safetensors or picture file, named by the file's stem (a picture's by what stands in it); raises Unreadable in words."""
    if not path.is_file():
        raise Unreadable(f"There is no embedding file {path.name!r}.", "It may have been moved; refresh the list.")
    if path.stat().st_size == 0:
        raise Unreadable(f"{path.name} is empty (0 bytes).", "Copy it again from where it came.")
    data, facts = _contents(path)
    vectors, first = _vectors(path, data)
    if first is None:
        vectors, first = _with_second_half(path, vectors)
    step = facts.get("step")
    return Embedding(
        name=_text(facts.get("name")) or path.stem if path.suffix.lower() in PICTURES else path.stem,
        vectors=vectors,
        step=int(step) if isinstance(step, int) or str(step or "").isdigit() else None,
        checkpoint_hash=_text(facts.get("sd_checkpoint")),
        checkpoint_name=_text(facts.get("sd_checkpoint_name")),
        first=first,
    )


def inner_name(path: Path) -> str | None:
    """What a picture's embedding is called inside the picture, which A1111 takes as its trigger; None for other files and for what cannot be read."""
    if path.suffix.lower() not in PICTURES:
        return None
    try:
        status = path.stat()
        return _inner_name(path, status.st_mtime_ns, status.st_size)
    except OSError:
        return None


@lru_cache(4096)
def _inner_name(path: Path, changed: int, size: int) -> str | None:
    """The name inside a picture of this time and size."""
    try:
        return _text((watermark.read_picture(path) or {}).get("name"))
    except Unreadable:
        return None


def embedding_of(path: Path, name: str, tensors: Mapping[str, Any]) -> Embedding:
    """An embedding that came inside another file (a LoRA's bundle) as tensors by key; raises Unreadable."""
    vectors, first = _vectors(path, dict(tensors))
    return Embedding(name, vectors, first=first)


def write_embedding(path: Path, embedding: Embedding) -> None:
    """Write atomically: .safetensors with `emb_params`, or `clip_l` and `clip_g` for SDXL; anything else as A1111's .pt in torch's older format without zip.

    A1111's safe loader refuses members that current torch puts into its zip files, so the zip is avoided altogether.
    Raises InputError for vectors that are not finite: a good file is never replaced by them.
    """
    tensors = stored(embedding)
    facts = _facts(embedding)
    with atomic_write(path) as temporary:
        if path.suffix.lower() == ".safetensors":
            save_file(tensors, temporary, metadata={k: str(v) for k, v in facts.items() if v is not None})
        elif "emb_params" in tensors:
            torch.save({"string_to_token": {"*": 265}, "string_to_param": {"*": tensors["emb_params"]}, **facts}, temporary, _use_new_zipfile_serialization=False)
        else:  # A1111 takes a file of two encoders only when it holds nothing else
            torch.save(tensors, temporary, _use_new_zipfile_serialization=False)


def embed_in_png(image: Image.Image, embedding: Embedding, info: PngInfo | None = None) -> tuple[Image.Image, PngInfo]:
    """A picture that carries an embedding as A1111 shares it, in its pixels and in a text chunk: the widened picture, and `info` with the chunk, to be saved as PNG.

    Raises InputError for vectors that are not finite.
    """
    tensors, info = stored(embedding), info or PngInfo()
    shades = next(iter(tensors.values()))[0]
    held = {"string_to_token": {"*": 265}, "string_to_param": {"*": tensors["emb_params"]}} if "emb_params" in tensors else dict(tensors)
    data = {**held, **_facts(embedding)}
    info.add_text(watermark.CHUNK, watermark.packed(data))
    return watermark.with_margins(image, data, shades), info


def stored(embedding: Embedding) -> dict[str, Tensor]:
    """The tensors of a file by key; raises InputError when they are not worth keeping."""
    vectors = embedding.vectors.detach()
    if vectors.ndim != 2 or not vectors.numel() or not is_finite(vectors):
        raise InputError(f"The vectors of {embedding.name!r} are not finite numbers of shape [n, d] (shape {list(vectors.shape)}), so they were not saved.", "The file on disk is unchanged.")
    keys = ("emb_params",) if len(embedding.parts) == 1 else ("clip_l", "clip_g")
    return {key: part.detach().to("cpu", torch.float32).contiguous().clone() for key, part in zip(keys, embedding.parts, strict=True)}


def _facts(embedding: Embedding) -> dict[str, Any]:
    """What a file tells beside the vectors, under A1111's names."""
    return {"name": embedding.name, "step": embedding.step, "sd_checkpoint": embedding.checkpoint_hash, "sd_checkpoint_name": embedding.checkpoint_name}


def _contents(path: Path) -> tuple[dict[Any, Any], Mapping[str, Any]]:
    """What a file holds by key, and its facts."""
    if path.suffix.lower() in PICTURES:
        data = watermark.read_picture(path)
        if data is None:
            raise Unreadable(f"{path.name} is a picture without an embedding in it.", "Pictures that carry one must not be resized, nor saved as JPEG.")
        return data, data
    return _read_safetensors(path) if path.suffix.lower() == ".safetensors" else _read_pickle(path)


def _read_safetensors(path: Path) -> tuple[dict[Any, Any], Mapping[str, Any]]:
    """The tensors and the metadata of a safetensors file; kohya's metadata under A1111's names."""
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict)
            facts = dict(file.metadata() or {})
    except (SafetensorError, OSError, ValueError) as error:
        raise Unreadable(f"{path.name} is not a readable safetensors file ({error}).", "It is damaged or not finished; copy it again.") from error
    stated = {"step": facts.get("ss_steps"), "sd_checkpoint": facts.get("ss_new_sd_model_hash", "")[:10], "sd_checkpoint_name": Path(facts.get("ss_sd_model_name", "")).stem}
    return tensors, {**stated, **facts}


def _read_pickle(path: Path) -> tuple[dict[Any, Any], Mapping[str, Any]]:
    """What a .pt or .bin file holds."""
    with safe_globals([ParameterDict]):  # 2022's files hold one; unpickling it only fills in its fields
        data = load_pickle(path)
    if not isinstance(data, dict):
        raise Unreadable(f"{path.name} holds a {type(data).__name__}, not an embedding.", "Choose a textual inversion file.")
    return data, data


def _vectors(path: Path, data: dict[Any, Any]) -> tuple[Tensor, int | None]:
    """The vectors [n, d] of a file's contents, and the width of the first encoder's part when there are two."""
    if "string_to_param" in data:
        terms = data["string_to_param"]
        terms = getattr(terms, "_parameters", terms)
        if not isinstance(terms, dict) or len(terms) != 1:
            raise Unreadable(f"{path.name} holds {len(terms) if isinstance(terms, dict) else 'no'} words where one is expected.", "Use a file with a single embedding.")
        return _check(path, next(iter(terms.values()))), None
    if {"clip_l", "clip_g"} <= set(data):
        parts = [_check(path, data[key]) for key in ("clip_l", "clip_g")]
        if len(parts[0]) != len(parts[1]):
            raise Unreadable(f"{path.name} holds {len(parts[0])} vectors for one text encoder and {len(parts[1])} for the other.", "The file is damaged; get it again.")
        return torch.cat(parts, 1), parts[0].shape[1]
    return _check(path, _one(path, data)), None


def _with_second_half(path: Path, vectors: Tensor) -> tuple[Tensor, int | None]:
    """An SDXL embedding of diffusers lies in two files, `x` and `x_2`: the vectors of both, when this is the first; raises Unreadable for the second alone."""
    width, suffix = vectors.shape[1], path.suffix
    if path.suffix.lower() not in (".safetensors", ".bin"):
        return vectors, None
    if width == _CLIP_G:
        raise Unreadable(
            f"{path.name} holds only what SDXL's second text encoder reads.", f"It belongs to {path.stem.removesuffix('_2')}{suffix}, which must lie beside it; that one is the embedding."
        )
    beside = path.with_name(f"{path.stem}_2{suffix}")
    if width != _CLIP_L or not beside.is_file():
        return vectors, None
    try:
        second = _vectors(beside, _contents(beside)[0])[0]
    except Unreadable:
        return vectors, None
    return (torch.cat([vectors, second], 1), width) if second.shape == (len(vectors), _CLIP_G) else (vectors, None)


def _one(path: Path, tensors: dict[Any, Any]) -> Any:
    """The one tensor of a file that names it by token or by a known key."""
    for key in _KNOWN_KEYS:
        if key in tensors:
            return tensors[key]
    if len(tensors) == 1:
        return next(iter(tensors.values()))
    if {"IN01", "OUT11"} <= set(tensors):
        raise Unreadable(f"{path.name} holds one vector for every layer (XTI), which prompts cannot use.", "Choose an embedding with one set of vectors.")
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
