"""Writing an adapter as one .safetensors file in kohya's and LyCORIS's layout, as A1111, Forge, ComfyUI, kohya's tools and diffusers read it."""

import hashlib
import json
import struct
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from studio.errors import InputError, OutOfSpace
from studio.files import atomic_write
from studio.formats.adapter import Adapter
from studio.formats.adapter_metadata import adapter_metadata
from studio.formats.delta import Delta
from studio.formats.embedding import Embedding, stored
from studio.formats.finite import is_finite
from studio.formats.provenance import Provenance

_WEIGHTED = frozenset({"lora_up", "lora_down", "lora_mid", "a1", "a2", "b1", "b2", "bm"})
"""Tensors whose names end with `.weight` in a file."""
_PEFT = {"oft_r": "oft_R.weight", "scaled_oft": "oft_R.scaled_oft"}
"""How PEFT and OneTrainer call the parts of their OFT."""
_WHOLE = ("lokr_w1", "diff", "weight", "w_norm")
"""Where a kind without a rank takes up a number that multiplies its change."""
_SCALED = frozenset({"LoRA", "LoHa", "LoKr", "GLoRA"})
"""Kinds that every reader scales by alpha / rank."""
_LEGACY = (0x100000, 0x10000)
"""The place and the length of what the first add-on for LoRA files hashed."""


def write_adapter(path: Path, adapter: Adapter, provenance: Provenance | None = None, dtype: torch.dtype = torch.float16, bundle: Mapping[str, Embedding] | None = None) -> None:
    """Write atomically; names of layers as they are in `adapter`, numbers in `dtype`, embeddings of `bundle` (and of the adapter) as A1111's `bundle_emb`.

    Raises InputError for tensors that are not finite and for names that a bundle cannot hold, and OutOfSpace: the file that was there is untouched then.
    """
    tensors = adapter_tensors(adapter, dtype) | _bundled({**adapter.embeddings, **(bundle or {})})
    if not tensors:
        raise InputError(f"The LoRA {adapter.name!r} changes nothing, so there is nothing to save.", "Train at least one layer.")
    metadata = adapter_metadata(adapter, provenance)
    with atomic_write(path) as temporary:
        _save(tensors, temporary, {key: value for key, value in metadata.items() if key.startswith("ss_")}, path.name)
        _save(tensors, temporary, {**metadata, **_hashes(temporary)}, path.name)
        _put_in_order(temporary)


def adapter_tensors(adapter: Adapter, dtype: torch.dtype = torch.float16) -> dict[str, Tensor]:
    """The tensors of a file by key, in the order of keys; raises InputError when one is not finite in `dtype`."""
    tensors = {f"{name}.{key}": _stored(f"{name}.{key}", tensor, dtype) for name, delta in adapter.modules.items() for key, tensor in delta_tensors(delta, dtype).items()}
    return dict(sorted(tensors.items()))


def delta_tensors(delta: Delta, dtype: torch.dtype = torch.float16) -> dict[str, Tensor]:
    """The tensors of one layer's change by what follows the layer's name; alpha is a scalar, in fp32 where `dtype` cannot hold it exactly."""
    parts = dict(delta.tensors)
    if "ia3_l" in parts:
        parts = _ia3(parts)
    if "up_bias" in parts:  # PEFT's bias of lora_B, which no other program reads under its name
        parts["diff_b"] = parts.pop("up_bias").float() * delta.scale
    constant, rank = float(parts.pop("scalar", 1.0)) * delta.scale, delta.rank
    if rank is None and constant != 1.0:
        parts |= {part: parts[part].float() * constant for part in _WHOLE if part in parts}
    if "lora_down" in parts and "dora_scale" in parts:
        parts["dora_scale"] = _lengths(parts["dora_scale"], parts["lora_down"])
    alpha = parts.pop("constraint", None)
    if delta.kind.name in _SCALED:
        alpha = torch.tensor(float(f"{constant * rank:.7g}") if rank else 1.0)
    if alpha is not None:
        parts["alpha"] = alpha.to(dtype) if float(alpha.to(dtype)) == float(alpha) else alpha.float()
    return {f"{part}.weight" if part in _WEIGHTED else _PEFT.get(part, part): tensor for part, tensor in parts.items()}


def _ia3(parts: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """PEFT's (IA)3, which keeps the factor itself, as LyCORIS keeps it: the factor less one, and whether it is for what comes in."""
    factor = parts["ia3_l"]
    return {"weight": factor.float().flatten() - 1, "on_input": torch.tensor(factor.ndim == 2 and factor.shape[0] == 1)}


def _lengths(magnitude: Tensor, down: Tensor) -> Tensor:
    """DoRA's lengths with as many dimensions as the layer's weight: readers multiply them as they are."""
    return magnitude if magnitude.ndim < 2 or magnitude.ndim >= down.ndim else magnitude.reshape(*magnitude.shape, *[1] * (down.ndim - magnitude.ndim))


def _stored(key: str, tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """A tensor as it goes into a file: a copy on the CPU (one without numbers stays so), in one piece; raises InputError when it is not finite."""
    wanted = dtype if tensor.is_floating_point() and not key.endswith(".alpha") else tensor.dtype
    kept = tensor.detach().to("meta" if tensor.is_meta else "cpu", wanted, copy=True).contiguous()
    if kept.is_floating_point() and not kept.is_meta and not is_finite(kept):
        if is_finite(tensor):
            raise InputError(f"{key} holds numbers up to {tensor.detach().abs().max():.3g}, too large for {str(dtype).removeprefix('torch.')}; nothing was saved.", "Save it as bf16 or fp32.")
        raise InputError(f"{key} holds NaN or infinity, so nothing was saved; the file on disk is unchanged.", "The training diverged: go back to an earlier copy and lower the learning rate.")
    return kept


def _bundled(embeddings: Mapping[str, Embedding]) -> dict[str, Tensor]:
    """Embeddings by the keys that A1111 reads inside a LoRA; raises InputError for a name with a dot, where A1111 would cut it off."""
    tensors = {}
    for name, embedding in embeddings.items():
        if "." in name:
            raise InputError(f"The embedding {name!r} cannot go into a LoRA's file: its name would end at the dot.", "Give it a name without a dot, or keep its own file.")
        for part, vectors in stored(embedding).items():
            tensors[f"bundle_emb.{name}.{'string_to_param.*' if part == 'emb_params' else part}"] = vectors
    return dict(sorted(tensors.items()))


def _save(tensors: Mapping[str, Tensor], path: Path, metadata: Mapping[str, str], name: str) -> None:
    """Write a safetensors file; raises OutOfSpace when the disk is full."""
    try:
        save_file(dict(tensors), path, metadata=dict(metadata))
    except SafetensorError as error:
        if "space" not in str(error).lower():
            raise
        raise OutOfSpace(f"The disk is full: {name} was not written.", "Free some space and try again; the file that was there before is untouched.") from error


def _put_in_order(path: Path) -> None:
    """Sort the metadata in a file's header, in its place: safetensors writes them in another order each time, and what is the same should be the same bytes."""
    with path.open("r+b") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(length))
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
        text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
        if len(text) <= length:
            file.seek(8)
            file.write(text.ljust(length))


def _hashes(path: Path) -> dict[str, str]:
    """The hashes of a file that holds `ss_*` metadata alone: of the bytes after the header (A1111's, modelspec's), and the first add-on's of eight digits."""
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        file.seek(8 + length)
        whole = hashlib.file_digest(file, "sha256").hexdigest()
        file.seek(_LEGACY[0])
        legacy = hashlib.sha256(file.read(_LEGACY[1])).hexdigest()[:8]
    return {"sshs_model_hash": whole, "sshs_legacy_hash": legacy, "modelspec.hash_sha256": f"0x{whole}"}
