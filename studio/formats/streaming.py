"""Files of tensors read and written one tensor at a time, so that a checkpoint is never whole in memory."""

import hashlib
import json
import math
import os
import shutil
import struct
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Self

import torch
from torch import Tensor

from studio.cancellation import Stopped, raise_if_stopped
from studio.errors import OutOfSpace, Unreadable
from studio.files import atomic_write
from studio.formats.checkpoint import HASH, UNHASHED, Weights

Shape = tuple[int, ...]

DTYPES: dict[str, torch.dtype] = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
"""What safetensors calls each type of number."""
_CODES = {dtype: code for code, dtype in DTYPES.items()}
MARGIN = 2**24
"""Bytes that stay free on a disk when it is asked whether a file fits."""


@dataclass(frozen=True)
class Slot:
    """Type and shape of one tensor of a file."""

    dtype: torch.dtype
    shape: Shape

    @property
    def bytes(self) -> int:
        """Size in the file."""
        return math.prod(self.shape) * self.dtype.itemsize


class Source(AbstractContextManager["Source"]):
    """An opened file of tensors: `slots` and `metadata` at once, tensors one at a time, each in memory of its own. Raises Unreadable."""

    def __init__(self, path: Path) -> None:
        weights = Weights(path)
        self.path, self.metadata = path, dict(weights.metadata)
        self._file: BinaryIO | None = None
        self._pickled: dict[str, Tensor] = {}
        if _is_pickled(weights):
            self._pickled = weights.read()
            self.slots = {name: Slot(tensor.dtype, tuple(tensor.shape)) for name, tensor in self._pickled.items()}
            return
        self._file = path.open("rb")
        (length,) = struct.unpack("<Q", self._file.read(8))
        entries = {name: entry for name, entry in json.loads(self._file.read(length)).items() if name != "__metadata__"}
        strange = next((entry["dtype"] for entry in entries.values() if entry["dtype"] not in DTYPES), None)
        if strange is not None:
            self._file.close()
            raise Unreadable(f"{path.name} holds numbers of the type {strange}, which is not known here.", f"Known are {', '.join(DTYPES)}.")
        self.slots = {name: Slot(DTYPES[entry["dtype"]], tuple(entry["shape"])) for name, entry in entries.items()}
        self._places = {name: 8 + length + int(entry["data_offsets"][0]) for name, entry in entries.items()}

    @property
    def shapes(self) -> dict[str, Shape]:
        """Name to shape."""
        return {name: slot.shape for name, slot in self.slots.items()}

    def read(self, name: str) -> Tensor:
        """One tensor as it is stored; raises Unreadable when the file has changed meanwhile."""
        if self._file is None:
            return self._pickled[name].clone(memory_format=torch.contiguous_format)
        slot = self.slots[name]
        if not slot.bytes:
            return torch.empty(slot.shape, dtype=slot.dtype)
        raw = torch.empty(slot.bytes, dtype=torch.uint8)
        self._file.seek(self._places[name])
        if self._file.readinto(memoryview(raw.numpy())) != slot.bytes:  # type: ignore[attr-defined]
            raise Unreadable(f"{self.path.name} became shorter while it was read.", "Let no other program write it, and try again.")
        return raw.view(slot.dtype).reshape(slot.shape)

    def close(self) -> None:
        """Let go of the file."""
        self._pickled = {}
        if self._file is not None:
            self._file.close()

    def __enter__(self) -> Self:
        """The source itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Let go of the file."""
        self.close()


def _is_pickled(weights: Weights) -> bool:
    """Whether a file that could be opened is a torch file: what follows its first eight bytes is no header."""
    with weights.path.open("rb") as file:
        return file.read(9)[8:] != b"{"


def write_stream(path: Path, slots: Mapping[str, Slot], tensor: Callable[[str], Tensor], metadata: Mapping[str, str] | None = None, tell: Callable[[int, int], bool] | None = None) -> str:
    """Write a .safetensors file whole or not at all, asking `tensor(name)` for one tensor after another; returns the SHA-256 of its tensors.

    The header is written first. `tell(bytes done, bytes in all)` is asked before each tensor whether to go on; when not, Stopped is
    raised and nothing is left. A `modelspec.hash_sha256` among the metadata is filled in. Raises OutOfSpace before anything is written if it cannot fit.
    """
    order = sorted(slots, key=lambda name: (-slots[name].dtype.itemsize, name))
    total = sum(slot.bytes for slot in slots.values())
    check_room(path, total)
    header, digest, done = _header(order, slots, metadata or {}), hashlib.sha256(), 0
    with atomic_write(path) as temporary:
        with temporary.open("wb") as file:
            file.write(header)
            for name in order:
                raise_if_stopped()
                if tell is not None and not tell(done, total):
                    raise Stopped
                raw = _bytes(name, tensor(name), slots[name])
                file.write(raw)
                digest.update(raw)
                done += slots[name].bytes
            hashed = header.find(UNHASHED.encode())
            if HASH in (metadata or {}) and hashed >= 0:
                file.seek(hashed)
                file.write(f"0x{digest.hexdigest()}".encode())
        if tell is not None and not tell(total, total):
            raise Stopped
    return digest.hexdigest()


def check_room(path: Path, size: int) -> None:
    """Raise OutOfSpace when so many bytes do not fit on the disk of a file."""
    folder = next(parent for parent in path.parents if parent.exists())
    free = shutil.disk_usage(folder).free
    if size + MARGIN > free:
        raise OutOfSpace(f"{path.name} needs {size / 1e9:.2f} GB, and the disk has {free / 1e9:.2f} GB left.", "Free some space and try again; nothing was written.")


def _header(order: list[str], slots: Mapping[str, Slot], metadata: Mapping[str, str]) -> bytes:
    """The header with its length before it: types of wider numbers first, so that each begins where its size asks, padded to a multiple of eight."""
    said = {key: str(value) for key, value in metadata.items()}
    entries: dict[str, object] = {"__metadata__": {"format": "pt", **said, **({HASH: UNHASHED} if HASH in said else {})}}
    place = 0
    for name in order:
        slot = slots[name]
        entries[name] = {"dtype": _CODES[slot.dtype], "shape": list(slot.shape), "data_offsets": [place, place + slot.bytes]}
        place += slot.bytes
    text = json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text


def _bytes(name: str, tensor: Tensor, slot: Slot) -> memoryview:
    """The bytes of a tensor; one that is not of its slot is a mistake of the caller."""
    if tuple(tensor.shape) != slot.shape or tensor.dtype != slot.dtype:
        raise ValueError(f"{name} was announced as {slot} and came as {tensor.dtype} {tuple(tensor.shape)}")
    if not slot.bytes:
        return memoryview(b"")
    return memoryview(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())


def legacy_hash(path: Path) -> str:
    """The short hash that A1111 used at first: of 64 KiB at one MiB; empty for a folder."""
    if not path.is_file():
        return ""
    with path.open("rb") as file:
        file.seek(2**20, os.SEEK_SET)
        return hashlib.sha256(file.read(2**16)).hexdigest()[:8]
