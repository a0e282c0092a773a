"""One-file checkpoints: the header without the tensors, the tensors without running code, what the file says about itself, and writing one."""

import hashlib
import json
import re
import struct
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from studio.cancellation import raise_if_stopped
from studio.errors import OutOfSpace, Unreadable
from studio.files import atomic_write
from studio.formats.keys import Part, State
from studio.formats.pickles import load_pickle

Shapes = Mapping[str, tuple[int, ...]]

_HEADER_LIMIT = 100 * 2**20
_V_YAML = re.compile(r"""^\s*parameterization\s*:\s*["']?v["']?\s*(#.*)?$""", re.M)
_PREDICTIONS = {"v": "v_prediction", "v_prediction": "v_prediction", "v-prediction": "v_prediction", "epsilon": "epsilon", "eps": "epsilon"}
V_MARKER, ZERO_SNR_MARKER = "v_pred", "ztsnr"
HASH = "modelspec.hash_sha256"
"""Metadata that is filled in after the tensors were written: 0x and the SHA-256 of all bytes after the header."""
UNHASHED = "0x" + "0" * 64
"""What stands there until then."""


class _Inert:
    """Stands in for what training programs leave in a .ckpt beside the weights; takes anything, runs nothing."""

    def __new__(cls, *args: Any) -> "_Inert":
        """An object of nothing, whatever it was made from."""
        return super().__new__(cls)

    def __init__(self, *args: Any) -> None:
        self.held = args

    def __setstate__(self, state: Any) -> None:
        self.held = (state,)


_INERT = (
    "pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint",
    "pytorch_lightning.callbacks.early_stopping.EarlyStopping",
    "lightning.pytorch.callbacks.model_checkpoint.ModelCheckpoint",
    "omegaconf.dictconfig.DictConfig",
    "omegaconf.listconfig.ListConfig",
    "omegaconf.base.ContainerMetadata",
    "omegaconf.base.Metadata",
    "omegaconf.nodes.AnyNode",
    "typing.Any",
    "numpy.core.multiarray.scalar",
    "numpy._core.multiarray.scalar",
    "numpy.dtype",
    "_codecs.encode",
)
"""Names in the pickles of Stable Diffusion's first checkpoints that carry no weights; none of them is imported or called."""


@dataclass(frozen=True)
class Facts:
    """What a checkpoint says about itself beyond its shapes; `prediction` is None when it says nothing."""

    prediction: str | None = None
    zero_snr: bool = False


class Weights:
    """An opened .safetensors, .ckpt or .pt file: `shapes` (name to shape) and `metadata` at once, tensors on demand. Raises Unreadable."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._state: State | None = None
        if _looks_like_safetensors(path):
            self.shapes, self.metadata = _safetensors_header(path)
        elif path.suffix.lower() == ".safetensors":
            hint = "It is a torch file; name it .ckpt." if zipfile.is_zipfile(path) else "Its name says so, but its content does not; get it again."
            raise Unreadable(f"{path.name} is not a safetensors file, or is cut off.", hint)
        else:
            self._state, self.metadata = _pickled(path), {}
            self.shapes = {name: tuple(tensor.shape) for name, tensor in self._state.items()}

    def read(self, root: str = "") -> State:
        """The tensors whose names begin with `root`, on the CPU as they were stored; they may be windows into the file. Raises Unreadable, Stopped."""
        if self._state is not None:
            return {k: v for k, v in self._state.items() if k.startswith(root)}
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(self.path, "pt") as file:
                return {k: _tensor(file, k) for k in file.keys() if k.startswith(root)}  # noqa: SIM118
        except (SafetensorError, OSError) as error:
            raise Unreadable(f"{self.path.name} is damaged or cut off ({error}).", "Get it again.") from error


def _tensor(file: Any, key: str) -> Tensor:
    """One tensor of an opened file; raises Stopped."""
    raise_if_stopped()
    return file.get_tensor(key)


def read_header(path: Path) -> dict[str, tuple[int, ...]]:
    """Name to shape of a checkpoint's tensors, which are not read; raises Unreadable."""
    return dict(Weights(path).shapes)


def _looks_like_safetensors(path: Path) -> bool:
    """Whether a file begins as safetensors do: a length that fits, then a brace."""
    with path.open("rb") as file:
        start = file.read(9)
    return len(start) == 9 and start[8:] == b"{" and 2 <= struct.unpack("<Q", start[:8])[0] <= min(_HEADER_LIMIT, path.stat().st_size)


def _safetensors_header(path: Path) -> tuple[dict[str, tuple[int, ...]], dict[str, str]]:
    """Shapes and metadata of a .safetensors file; raises Unreadable, also when its tensors are cut off."""
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            header = json.loads(file.read(length))
        metadata = {str(k): str(v) for k, v in (header.pop("__metadata__", None) or {}).items()}
        shapes = {key: tuple(int(n) for n in value["shape"]) for key, value in header.items()}
        end = 8 + length + max((int(value["data_offsets"][1]) for value in header.values()), default=0)
    except (struct.error, ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError) as error:
        raise Unreadable(f"{path.name} is not a safetensors file, or is cut off.", "Get it again.") from error
    if end > path.stat().st_size:
        raise Unreadable(f"{path.name} is cut off: it should have {end:,} bytes and has {path.stat().st_size:,}.", "Get it again.")
    return shapes, metadata


def _pickled(path: Path) -> State:
    """The tensors of a torch file, mapped into memory where its format allows; no code in it is run. Raises Unreadable."""
    with torch.serialization.safe_globals([(_Inert, name) for name in _INERT]):  # type: ignore[list-item]
        data = load_pickle(path, mmap=zipfile.is_zipfile(path))
    data = data.get("state_dict", data) if isinstance(data, dict) else {}
    return {k: v for k, v in data.items() if isinstance(k, str) and isinstance(v, Tensor)} if isinstance(data, dict) else {}


def read_facts(weights: Weights) -> Facts:
    """Whether the network predicts noise or velocity, which its shapes do not show.

    Asked in this order: `<name>.yaml` beside the file (a person's way to say it: one line `parameterization: v`), an empty
    tensor `v_pred`, and modelspec metadata. Who loads a checkpoint that says nothing asks the network itself. `ztsnr`, likewise empty, says that the last step holds no signal at all.
    """
    said = next((p for p in (weights.path.with_suffix(".yaml"), weights.path.with_suffix(".yml")) if p.is_file()), None)
    zero_snr = ZERO_SNR_MARKER in weights.shapes
    if said is not None:
        return Facts("v_prediction" if _V_YAML.search(said.read_text(encoding="utf-8", errors="replace")) else "epsilon", zero_snr)
    if V_MARKER in weights.shapes:
        return Facts("v_prediction", zero_snr)
    stated = _PREDICTIONS.get(weights.metadata.get("modelspec.prediction_type", "").lower())
    if stated is None and weights.metadata.get("modelspec.architecture", "").startswith("stable-diffusion-v2-768-v"):
        stated = "v_prediction"
    return Facts(stated, zero_snr)


def write_checkpoint(
    path: Path,
    parts: Mapping[Part, Mapping[str, Tensor]],
    half: bool | torch.dtype = False,
    metadata: Mapping[str, str] | None = None,
    markers: Iterable[str] = (),
) -> None:
    """Write networks under diffusers' names as one .safetensors file in the original layout; raises OutOfSpace.

    `half` stores numbers in fp16, or in the type it names; `markers` become empty tensors (`v_pred`, `ztsnr`). A `modelspec.hash_sha256` among the metadata is filled in.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    state: State = {}
    for part, tensors in parts.items():
        state |= part.to_original(tensors)
    dtype = half if isinstance(half, torch.dtype) else torch.float16 if half else None
    stored = {k: _stored(v, dtype) for k, v in state.items()} | {marker: torch.zeros(0) for marker in markers}
    said = {"format": "pt", **(metadata or {}), **({HASH: UNHASHED} if HASH in (metadata or {}) else {})}
    with atomic_write(path) as temporary:
        try:
            save_file(stored, temporary, metadata=said)
        except SafetensorError as error:
            if "space" not in str(error).lower():
                raise
            raise OutOfSpace(f"The disk is full: {path.name} was not written.", "Free some space and try again; the file that was there before is untouched.") from error
        if HASH in said:
            _fill_hash(temporary)


def _fill_hash(path: Path) -> None:
    """Put the hash of a file's tensors into its place in the header."""
    with path.open("r+b") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        place = 8 + file.read(length).index(UNHASHED.encode())
        digest = hashlib.sha256()
        while block := file.read(2**24):
            digest.update(block)
        file.seek(place)
        file.write(f"0x{digest.hexdigest()}".encode())


def _stored(tensor: Tensor, dtype: torch.dtype | None) -> Tensor:
    """A tensor as it goes into a file: on the CPU, in one piece, numbers in `dtype` if one is wanted."""
    tensor = tensor.detach().to("cpu", dtype if dtype is not None and tensor.is_floating_point() else tensor.dtype)
    return tensor.contiguous() if tensor.untyped_storage().nbytes() == tensor.numel() * tensor.element_size() else tensor.clone(memory_format=torch.contiguous_format)
