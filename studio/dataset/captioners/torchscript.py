"""Tensors of a TorchScript archive, such as OpenAI's CLIP is published in, read without running the program that is inside."""

import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from studio.errors import Unreadable

KINDS = {
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "DoubleStorage": torch.float64,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}
"""What an archive calls the numbers it stores."""
Stored = tuple[torch.UntypedStorage, torch.dtype]


class _Node:
    """An object of the program: its attributes as the archive holds them."""

    def __init__(self) -> None:
        self.held: dict[str, Any] = {}

    def __setstate__(self, held: dict[str, Any]) -> None:
        self.held = held if isinstance(held, dict) else {}


class _Reader(pickle.Unpickler):
    """Knows objects of the program as nodes, tensors and torch's own containers, and nothing else."""

    def __init__(self, archive: zipfile.ZipFile, root: str) -> None:
        super().__init__(archive.open(f"{root}/data.pkl"))
        self.archive, self.root = archive, root
        self.storages: dict[str, torch.UntypedStorage] = {}

    def find_class(self, module: str, name: str) -> Any:
        """A node for what belongs to the program; raises UnpicklingError for what is not known to be harmless."""
        if module.split(".")[0] == "__torch__":
            return _Node
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _tensor
        if (module, name) == ("collections", "OrderedDict"):
            return dict
        if module == "torch" and name in KINDS:
            return KINDS[name]
        if module == "torch.jit._pickle" and (name.startswith("build_") or name == "restore_type_tag"):
            return _first
        raise pickle.UnpicklingError(f"it names {module}.{name}")

    def persistent_load(self, pid: Any) -> Stored:
        """A storage of the archive, always on the CPU."""
        _, kind, key, _, _ = pid
        if key not in self.storages:
            data = self.archive.read(f"{self.root}/data/{key}")
            self.storages[key] = torch.frombuffer(bytearray(data), dtype=torch.uint8).untyped_storage() if data else torch.UntypedStorage(0)
        return self.storages[key], kind


def _tensor(stored: Stored, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any) -> Tensor:
    """A tensor of a storage; raises RuntimeError when it would reach beyond."""
    storage, dtype = stored
    return torch.empty(0, dtype=dtype).set_(storage, offset, size, stride)


def _first(value: Any, *_: Any) -> Any:
    """A list as it is, without the type it was declared with."""
    return value


def read_torchscript(path: Path) -> dict[str, Tensor] | None:
    """Every tensor of the archive by its place in the program (`visual.conv1.weight`); None when it is no TorchScript. Raises Unreadable."""
    if not zipfile.is_zipfile(path):
        return None
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            root = names[0].split("/")[0] if names else ""
            if f"{root}/constants.pkl" not in names or f"{root}/data.pkl" not in names:
                return None
            return dict(_tensors(_Reader(archive, root).load()))
    except (pickle.UnpicklingError, zipfile.BadZipFile, KeyError, ValueError, TypeError, AttributeError, IndexError, EOFError, RuntimeError, OSError) as error:
        raise Unreadable(f"{path.name} cannot be read safely ({str(error)[:160]}).", "Nothing in it was run. Get the file again, as .safetensors if there is one.") from error


def _tensors(node: Any, prefix: str = "") -> list[tuple[str, Tensor]]:
    """Tensors below a node, and whole numbers that stand beside them as tensors, with dotted names."""
    found: list[tuple[str, Tensor]] = []
    for name, value in (node.held if isinstance(node, _Node) else {}).items():
        if isinstance(value, Tensor):
            found.append((prefix + name, value))
        elif isinstance(value, _Node):
            found += _tensors(value, f"{prefix}{name}.")
        elif isinstance(value, int) and not isinstance(value, bool) and not prefix:
            found.append((name, torch.tensor(value)))
    return found
