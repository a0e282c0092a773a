"""ModelCache: lends loaded models, keeps them within a byte budget, and drops the least recently used."""

import gc
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import torch

from studio.diffusion.loading import find_checkpoint, load_model
from studio.diffusion.model import Model
from studio.settings import Paths


@dataclass
class _Held:
    """One resident part."""

    value: Any
    size: int
    lent: int = 0


class ModelCache:
    """Owned by the worker; a lent model is never dropped."""

    def __init__(self, paths: Paths, device: str | None = None, budget_bytes: int | None = None) -> None:
        self.paths = paths
        self.device = torch.device(device or _best_device())
        self.dtype = torch.float32 if self.device.type == "cpu" else torch.float16
        self.budget = budget_bytes if budget_bytes is not None else _free_bytes(self.device) // 2
        self._held: OrderedDict[tuple[str, str], _Held] = OrderedDict()

    @contextmanager
    def lend(self, checkpoint: str = "") -> Iterator[Model]:
        """Lend a checkpoint by name for the length of the block; empty is the default. Raises NotFound, Unreadable."""
        path = find_checkpoint(self.paths, checkpoint)
        with self.lend_part("checkpoint", path, lambda: load_model(path, self.device, self.dtype)) as model:
            yield model

    @contextmanager
    def lend_part(self, kind: str, path: Path, load: Callable[[], Any]) -> Iterator[Any]:
        """Lend anything that holds tensors, loading it when it is not resident or its file has changed."""
        key = (kind, f"{path}@{_stamp(path)}")
        if key not in self._held:
            for old in [k for k, h in self._held.items() if k[0] == kind and k[1].startswith(f"{path}@") and not h.lent]:
                del self._held[old]
            value = load()
            self._held[key] = _Held(value, _size_of(value))
        held = self._held[key]
        self._held.move_to_end(key)
        held.lent += 1
        try:
            self._fit()
            yield held.value
        finally:
            held.lent -= 1
            self._fit()

    def resident(self) -> list[tuple[str, int]]:
        """Names and bytes of what is loaded, least recently used first."""
        return [(Path(key[1].rsplit("@", 1)[0]).name, held.size) for key, held in self._held.items()]

    def _fit(self) -> None:
        """Drop what was not used for longest until the budget is kept; what is lent stays."""
        while sum(h.size for h in self._held.values()) > self.budget:
            victim = next((k for k, h in self._held.items() if not h.lent), None)
            if victim is None or len(self._held) == 1:
                return
            del self._held[victim]
            gc.collect()
            if self.device.type == "cuda":
                torch.cuda.empty_cache()


def _stamp(path: Path) -> int:
    """When a file, or the newest file of a folder, was last changed."""
    files = [p for p in path.rglob("*") if p.is_file()] if path.is_dir() else [path]
    return max((p.stat().st_mtime_ns for p in files if p.exists()), default=0)


def _best_device() -> str:
    """The accelerator that is there, else the CPU."""
    if torch.cuda.is_available():
        return "cuda:0"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def _free_bytes(device: torch.device) -> int:
    """Free memory of the device in bytes."""
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else psutil.virtual_memory().available


def _size_of(value: Any) -> int:
    """Bytes of the tensors in a part."""
    parts = [value, *vars(value).values()] if hasattr(value, "__dict__") else [value]
    flat = [part for entry in parts for part in (entry if isinstance(entry, tuple) else (entry,))]
    modules = [part for part in flat if isinstance(part, torch.nn.Module)]
    tensors = {t.data_ptr(): t.numel() * t.element_size() for m in modules for t in (*m.parameters(), *m.buffers())}
    return sum(tensors.values())
