"""ModelCache: lends loaded models and their parts, keeps them within a byte budget, moves the least recently used to RAM, then drops them."""

import copy
import gc
import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import torch
from torch import nn

from studio.default_checkpoint import remember_checkpoint
from studio.diffusion import loading
from studio.diffusion.model import Model
from studio.diffusion.offload import RAM, Offload, bytes_of, modules_of, place, put, tensors_of, with_room
from studio.formats.hashes import remembered_sha256
from studio.preferences import MemoryMode, Preferences, current_preferences
from studio.settings import Paths

log = logging.getLogger("studio.cache")

RESERVE = 4 * 2**30
"""Bytes that are left to activations and other programs when no budget is set; a quarter of the memory where that is less."""
Key = tuple[str, str, str]
"""Kind of part, its file, and what tells one state of the file from another."""
Load = Callable[[], Any]
"""Reads a part."""


@dataclass(eq=False)
class _Held:
    """One resident part: its networks move, its value is what is lent; `visits` while hooks bring it to the device and back."""

    key: Key
    value: Any
    modules: tuple[nn.Module, ...]
    size: int
    on_device: bool
    used: int
    lent: int = 0
    visits: bool = False

    def groups(self) -> list[tuple[str, tuple[nn.Module, ...]]]:
        """What visits the device as one under medvram."""
        if isinstance(self.value, Model):
            return [("UNet", (self.value.unet,)), ("text encoder", tuple(self.value.text_encoders))]
        return [(self.key[0], self.modules)]


class ModelCache:
    """Owned by the worker. A lent part is never moved or dropped; the same part is never loaded twice.

    A checkpoint is held as a body (UNet and text encoders) and its autoencoder, so that both are shared in every combination.
    What is not given (budgets in bytes, memory mode) follows the preferences. A CPU is one memory: parts are kept there or dropped.
    """

    def __init__(self, paths: Paths, device: str | None = None, budget_bytes: int | None = None, memory_mode: MemoryMode | None = None, ram_bytes: int | None = None) -> None:
        self.paths = paths
        self.device = torch.device(device or _best_device())
        self.dtype = torch.float32 if self.device.type == "cpu" else torch.float16
        self.moves = self.device.type not in ("cpu", "mps")
        self._budget, self._mode, self._ram = budget_bytes, memory_mode, ram_bytes
        self._held: dict[Key, _Held] = {}
        self._models: dict[tuple[Key, Key], Model] = {}
        self._offload = Offload(self.device)
        self._wishes = Preferences()
        self._clock = 0
        self._last = ("", "Automatic")
        self._sizes: dict[Key, int] = {}
        self._measured = 0
        self._book = paths.outputs / "cache" / "hashes.json"

    # lending

    @contextmanager
    def lend(self, checkpoint: str = "", vae: str = "Automatic", private: bool = False) -> Iterator[Model]:
        """Lend a checkpoint by name for the length of the block; empty is the default one. Raises NotFound, Unreadable.

        `private` gives a UNet and text encoders of one's own, for methods that change them; they are dropped at the end.
        """
        path = loading.find_checkpoint(self.paths, checkpoint)
        other = loading.find_vae(self.paths, path, vae)
        with self._lent(self._wanted(path, other, private)) as (networks, autoencoder):
            self._last = (checkpoint, vae)
            remember_checkpoint(self.paths, path)
            yield self._composed(networks, autoencoder)

    def _wanted(self, path: Path, other: Path | None, private: bool) -> Iterator[tuple[Key, Load]]:
        """The parts of a checkpoint with its own or another autoencoder; which one that is depends on the family, known when the body is there."""
        body = first = _key("checkpoint", path)
        if private:
            first = (f"private {self._clock}", *body[1:])
        yield first, lambda: self._copied(body, path, other) if private else self._body(path, other)
        scale = self._held[first].value.family.latent_scale
        yield (_key("vae", path) if other is None else _key(f"vae {scale:g}", other)), lambda: loading.load_vae(other or _own_vae(path), self.dtype, scale)

    @contextmanager
    def lend_part(self, kind: str, path: Path, load: Load) -> Iterator[Any]:
        """Lend anything that holds networks, loading it when it is not resident or its file has changed."""
        with self._lent([(_key(kind, path), load)]) as (held,):
            yield held.value

    @contextmanager
    def _lent(self, wanted: Iterable[tuple[Key, Load]]) -> Iterator[list[_Held]]:
        """Lend parts together; what is lent together was used together."""
        self._wishes = current_preferences(self.paths.settings)
        self._clock += 1
        taken: list[_Held] = []
        try:
            for key, load in wanted:
                held = self._held.get(key) or self._load(key, load)
                held.lent += 1
                held.used = self._clock
                taken.append(held)
            for held in taken:
                self._bring(held)
            self._fit()
            yield taken
        finally:
            self._clock += 1
            for held in taken:
                held.lent -= 1
                held.used = self._clock
                self._take_back(held)
            self._fit()

    def _load(self, key: Key, load: Load) -> _Held:
        """Read a part; states of its file that are gone make place for it."""
        for old in [h for h in self._held.values() if h.key[:2] == key[:2] and not h.lent]:
            self._drop(old)
        self._measured = _free_bytes(self.device) + self._bytes(True) - _reserve(self.device)
        self._fit(incoming=self._sizes.get(key) or _bytes_on_disk(Path(key[1])))
        return self._hold(key, with_room(self, load))

    def _hold(self, key: Key, value: Any) -> _Held:
        """Take a part that was read into the cache."""
        modules = modules_of(value)
        there = not self.moves or any(t.device.type == self.device.type for t in tensors_of(modules))
        held = self._held[key] = _Held(key, value, modules, bytes_of(modules), there, self._clock)
        if not key[0].startswith("private"):
            self._sizes[key] = held.size
        return held

    def _body(self, path: Path, other: Path | None) -> Model:
        """Read a checkpoint: its UNet and text encoders; its own autoencoder, unless another is wanted, comes along and is held beside them."""
        model = loading.load_model(path, RAM, self.dtype, vae=other and nn.Identity(), hashes=self._book)
        own = _key("vae", path)
        if other is None and own not in self._held:
            self._hold(own, model.vae)
        model = copy.copy(model)
        model.vae, model.checkpoint = nn.Identity(), loading.checkpoint_name(self.paths, path)
        return model

    def _copied(self, body: Key, path: Path, other: Path | None) -> Model:
        """Networks of one's own: copied from the resident ones when nobody has put anything on them, else read anew."""
        held = self._held.get(body)
        if held is None or held.lent:
            return self._body(path, other)
        model = copy.copy(held.value)
        model.unet, model.text_encoders = copy.deepcopy((model.unet, tuple(model.text_encoders)))
        return model

    def _composed(self, networks: _Held, autoencoder: _Held) -> Model:
        """The model that is lent: the same object for the same parts."""
        pair = (networks.key, autoencoder.key)
        if pair in self._models:
            return self._models[pair]
        model = self._models[pair] = copy.copy(networks.value)
        model.vae = autoencoder.value.requires_grad_(False).eval()
        other = Path(autoencoder.key[1])
        if other != Path(networks.key[1]):
            model.vae_name, model.vae_hash = other.name, remembered_sha256(other, self._book)[:10] if other.is_file() else ""
        place(model, self.device)
        return model

    # moving

    def _bring(self, held: _Held) -> None:
        """Have a lent part on the device, or ready to visit it."""
        if held.on_device and (held.lent > 1 or self.mode == "normal" or not _splits(held.key)):
            return
        if held.visits:
            return
        if self.mode == "normal" or not _splits(held.key):
            self._fit(incoming=held.size)
            with_room(self, lambda: self._move(held, self.device))
            return
        if held.on_device:
            self._move(held, RAM)
        self._fit(incoming=max(bytes_of(modules) for _, modules in held.groups()))
        for name, modules in held.groups():
            self._offload.add(name, modules, layerwise=self.mode == "lowvram")
        held.visits = True

    def _take_back(self, held: _Held) -> None:
        """After a part came back: hooks go, and so does what is private or whose file has changed."""
        if held.lent:
            return
        if held.visits:
            for _, modules in held.groups():
                self._offload.remove(modules)
            held.visits = False
        held.size = bytes_of(held.modules)  # an autoencoder may have been widened to 32 bits
        kind, path, _ = held.key
        if kind.startswith("private") or _key(kind, Path(path)) != held.key:
            self._drop(held)

    def _move(self, held: _Held, device: torch.device) -> None:
        """Move a part; when it does not fit it stays in RAM and torch's failure passes through."""
        try:
            put(held.modules, device)
        except (RuntimeError, MemoryError):
            put(held.modules, RAM)
            held.on_device = False
            raise
        held.on_device = device != RAM
        log.info("%s of %s is on %s", held.key[0], Path(held.key[1]).name, device)

    def _drop(self, held: _Held) -> None:
        """Forget a part; a checkpoint's own autoencoder goes with its body, from whose file it would come again."""
        del self._held[held.key]
        for pair in [pair for pair in self._models if held.key in pair]:
            del self._models[pair]
        log.info("%s of %s is dropped", held.key[0], Path(held.key[1]).name)
        own = self._held.get(("vae", *held.key[1:]))
        if held.key[0] == "checkpoint" and own is not None and not own.lent:
            self._drop(own)

    def _fit(self, incoming: int = 0) -> None:
        """Keep both budgets: move what was not used for longest to RAM, and drop it there; what is lent stays. What is incoming is still in RAM, so that waits."""
        gone = False
        for held in self._held.values():
            if held.key[0].startswith("private"):
                held.size = bytes_of(held.modules)  # what learns was widened to 32 bits
        while self._bytes(True) + incoming > self.budget and (held := self._oldest(True)):
            self._give_way(held)
            gone = True
        while self.moves and not incoming and self._bytes(False) > self._ram_budget() and (held := self._oldest(False)):
            self._drop(held)
            gone = True
        if gone:
            self._collect()

    def _give_way(self, held: _Held) -> None:
        """Free the device of a part: it waits in RAM where that has room for it, or what waits there longer makes room; else it is dropped."""
        room = self._ram_budget() if self.moves else 0
        while held.size <= room < self._bytes(False) + held.size and (old := self._oldest(False)):
            self._drop(old)
        if self._bytes(False) + held.size <= room:
            self._move(held, RAM)
        else:
            self._drop(held)

    def _oldest(self, on_device: bool) -> _Held | None:
        """The part of a memory that was not used for longest; None when all are lent, or when what was used last is alone there."""
        tier = [held for held in self._held.values() if held.on_device == on_device]
        free = [held for held in tier if not held.lent]
        if not free or all(held.used == self._clock for held in tier):
            return None
        return min(free, key=lambda held: (held.used, -held.size))

    def _collect(self) -> None:
        """Give memory that nobody refers to back to the device."""
        gc.collect()
        if self.device.type == "cuda" and torch.cuda.is_available():
            torch.cuda.empty_cache()

    # what others ask

    def make_room(self, wanted: int | None = None) -> int:
        """Free the device of what is not lent, or of as much as is wanted; where nothing was, drop what waits in RAM. Returns bytes."""
        self._offload.clear()
        freed = self._clear(True, wanted) or self._clear(False, wanted)
        self._fit()
        self._collect()
        return freed

    def _clear(self, on_device: bool, wanted: int | None) -> int:
        """Free one memory of what is not lent, least recently used first; returns bytes."""
        before = self._bytes(on_device)
        for held in sorted((h for h in self._held.values() if h.on_device == on_device and not h.lent), key=lambda h: h.used):
            if wanted is not None and before - self._bytes(on_device) >= wanted:
                break
            if held.key in self._held:  # an autoencoder may have gone with its body
                (self._give_way if on_device else self._drop)(held)
        return before - self._bytes(on_device)

    def unload(self) -> int:
        """Drop everything that is not lent; returns bytes."""
        before = self._bytes(True) + self._bytes(False)
        for held in [h for h in self._held.values() if not h.lent]:
            if held.key in self._held:
                self._drop(held)
        self._collect()
        return before - self._bytes(True) - self._bytes(False)

    def reload(self) -> None:
        """Load what was lent last again; raises as lending does."""
        with self.lend(*self._last):
            self._collect()

    @property
    def budget(self) -> int:
        """Bytes that parts may take on the device: what was given, what is set, or what was free when something was loaded last."""
        if self._budget is not None:
            return self._budget
        return int(self._wishes.cache_gb * 2**30) or self._measured

    @property
    def mode(self) -> MemoryMode:
        """How models share the device; always normal where there is only one memory."""
        return (self._mode or self._wishes.memory_mode) if self.moves else "normal"

    def _ram_budget(self) -> int:
        """Bytes that parts may take while they wait in RAM: half of what would be free without them."""
        return self._ram if self._ram is not None else (psutil.virtual_memory().available + self._bytes(False)) // 2

    def _bytes(self, on_device: bool) -> int:
        """Bytes of the parts in one memory."""
        return sum(held.size for held in self._held.values() if held.on_device == on_device)

    def resident(self) -> list[tuple[str, int, str]]:
        """Name, bytes and place ("cuda:0", "cpu", "RAM") of what is loaded, least recently used first; safe to ask from another thread."""
        found: dict[tuple[str, str, str], int] = {}
        for held in sorted(self._held.values(), key=lambda h: h.used):
            entry = (*held.key[1:], str(self.device) if held.on_device else "RAM")
            found[entry] = found.pop(entry, 0) + held.size
        return [(Path(path).name, size, where) for (path, _, where), size in found.items()]


def _key(kind: str, path: Path) -> Key:
    """Kind, file, and the newest change and the size of the file or of what is in the folder."""
    files = [p for p in path.rglob("*") if p.is_file()] if path.is_dir() else [path]
    stats = [p.stat() for p in files if p.exists()]
    return kind, str(path), f"{max((s.st_mtime_ns for s in stats), default=0)} {sum(s.st_size for s in stats)}"


def _splits(key: Key) -> bool:
    """Whether a part belongs to a checkpoint and may visit the device piece by piece; what is private learns, and stays with its optimiser."""
    return key[0].startswith(("checkpoint", "vae"))


def _own_vae(path: Path) -> Path:
    """Where the autoencoder of a checkpoint is."""
    return path / "vae" if path.is_dir() else path


def _bytes_on_disk(path: Path) -> int:
    """Size of a file or folder, the first guess at what it takes in memory."""
    files = [p for p in path.rglob("*") if p.is_file()] if path.is_dir() else [path]
    return sum(p.stat().st_size for p in files if p.exists())


def _best_device() -> str:
    """The accelerator that is there, else the CPU."""
    if torch.cuda.is_available():
        return "cuda:0"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def _free_bytes(device: torch.device) -> int:
    """Bytes of a device that can still be taken, with what torch keeps for reuse."""
    if device.type != "cuda" or not torch.cuda.is_available():
        return psutil.virtual_memory().available
    return torch.cuda.mem_get_info(device)[0] + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)


def _reserve(device: torch.device) -> int:
    """Bytes of a device that models leave free."""
    total = torch.cuda.mem_get_info(device)[1] if device.type == "cuda" and torch.cuda.is_available() else psutil.virtual_memory().total
    return min(RESERVE, total // 4)
