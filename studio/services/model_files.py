"""What the tools for model files work with: which files are meant, where the result goes, and how far the work is."""

import functools
import math
import shutil
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from studio import shelves
from studio.cancellation import Stopped
from studio.diffusion.blocks import BASE, block_weights
from studio.diffusion.loading import find_checkpoint, find_vae
from studio.diffusion.sources import Opened, open_checkpoint
from studio.errors import Conflict, InputError, NotFound
from studio.formats.adapter import Adapter, find_adapters, long_name, read_adapter
from studio.formats.finite import is_finite
from studio.formats.keys import VAE, vae_to_original
from studio.formats.streaming import Slot, Source
from studio.jobs import Lane
from studio.prompts.networks import networks
from studio.prompts.words import fold
from studio.requests.tools import NO_VAE, Precision
from studio.settings import Paths

MB = 10**6
OFTEN = 0.3
"""Seconds between two words about the progress."""
DTYPES: dict[Precision, torch.dtype | None] = {"as it is": None, "float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32}


class Bench(Protocol):
    """Where a tool works; it needs no loaded model."""

    @property
    def paths(self) -> Paths:
        """The studio's folders."""


class Meter:
    """Tells how far the work is, and looks whether to stop."""

    def __init__(self, lane: Lane, unit: str = "MB") -> None:
        self.lane, self.unit, self._told = lane, unit, 0.0

    def __call__(self, done: int, total: int) -> bool:
        """So much is done; whether to go on. Bytes are told as MB."""
        now = time.monotonic()
        if done == total or now - self._told > OFTEN:
            self._told = now
            share = MB if self.unit == "MB" else 1
            step, whole = math.ceil(done / share), max(1, math.ceil(total / share))
            self.lane.emit("progress", step=step, total=whole, unit=self.unit, text=f"{step} of {whole} {self.unit}")
        return not self.lane.stopping()

    def each(self, done: int, total: int) -> None:
        """The same for work that cannot ask: raises Stopped."""
        if not self(done, total):
            raise Stopped


def checkpoint_at(paths: Paths, name: str) -> Path:
    """A checkpoint by its name on the shelf or by its path; raises NotFound."""
    path = Path(name)
    return path if path.is_absolute() and path.exists() else find_checkpoint(paths, name)


def lora_at(paths: Paths, name: str) -> Path:
    """A LoRA by its name on the shelf or by its path; raises NotFound."""
    path = Path(name)
    if path.is_absolute() and path.is_file():
        return path
    files = list(shelves.loras(paths).values())
    found = next(iter(shelves.meant(files, paths.lora, name) or find_adapters(files, name)), None)
    if found is None:
        known = ", ".join(list(shelves.loras(paths))[:20])
        raise NotFound(f"There is no LoRA {name[:120]!r}.", f"Put it into models/{paths.lora.name}" + (f", or choose one of {known}." if known else "."))
    return found


def result_at(folder: Path, name: str, overwrite: bool, sources: tuple[Path, ...] = ()) -> Path:
    """The path of a new file or folder; raises Conflict when the name is taken and may not be replaced, or is that of what it is made from."""
    path = folder / name
    if any(path.exists() and source.exists() and path.samefile(source) for source in sources):
        raise Conflict(f"The result would be called {name!r}, as what it is made from.", "Give it another name.")
    if path.exists() and not overwrite:
        raise Conflict(f"{name!r} exists already in {folder.name}.", 'Give it another name, or tick "Overwrite".')
    return path


def lora_result(paths: Paths, name: str, overwrite: bool, sources: tuple[Path, ...] = ()) -> Path:
    """The path of a new LoRA; a name that prompts could not tell from another file's is taken too."""
    path = result_at(paths.lora, f"{name}.safetensors", overwrite, sources)
    twin = next((other for other in shelves.loras(paths).values() if fold(other.stem) == fold(name) and other != path), None)
    if twin is not None:
        raise Conflict(f"Prompts could not tell {name!r} from {twin.name!r}, which exists.", "Give it another name.")
    return path


@dataclass(frozen=True)
class Meant:
    """One LoRA that a text names: how strongly the text encoders and the UNet wear it, and its weights by block (none: 1 everywhere)."""

    adapter: Adapter
    path: Path
    te: float = 1.0
    unet: float = 1.0
    blocks: Mapping[str, float] = field(default_factory=dict)

    def strength(self, block: str | None, in_unet: bool) -> float:
        """How strongly it acts on a layer."""
        return (self.unet if in_unet else self.te) * (self.blocks.get(block or BASE, 0.0) if self.blocks else 1.0)


def loras_of(paths: Paths, text: str, xl: bool | None = None) -> list[Meant]:
    """The LoRAs that a text names as a prompt does, `<lora:name:0.8>`; raises InputError for what it does not understand, NotFound, Unreadable."""
    rest, named = networks(text)
    strange = rest.replace(",", " ").split() + [f"<{n.kind}:{n.name}>" for n in named if n.kind not in ("lora", "lyco")]
    if strange or not named:
        raise InputError(f"LoRAs: {strange[0][:80]!r} is no LoRA." if strange else "LoRAs: none is named.", "Write each as <lora:name:0.8>.")
    found = []
    for network in named:
        path = lora_at(paths, network.name)
        adapter, (te, unet) = read_adapter(path), network.strengths
        wide = xl if xl is not None else adapter.family == "SDXL"
        found.append(Meant(adapter, path, te, unet, block_weights(network.blocks, wide) if network.blocks else {}))
    return found


def one_family(loras: list[Meant], checkpoint: Opened | None = None) -> str | None:
    """The family that LoRAs, and the checkpoint if there is one, are all for; None when nothing tells. Raises InputError."""
    known = {meant.adapter.family: meant.path.stem for meant in loras if meant.adapter.family}
    if checkpoint is not None:
        known.setdefault(checkpoint.family.name.split()[0], checkpoint.path.name)
    if len(known) > 1:
        said = ", ".join(f"{name!r} is for {long_name(family)}" for family, name in known.items())
        raise InputError(f"These do not go together: {said}.", "Choose files of one family.")
    family = next(iter(known), None)
    if family not in (None, "SD1", "SD2", "SDXL"):
        raise InputError(f"{known[family]!r} is for {family}, which is not known here.", "SD1, SD2 and SDXL are.")
    return family


def widest_dtype(loras: list[Meant]) -> torch.dtype:
    """The smallest type of number that holds all of their tensors, float16 at least."""
    kinds = {t.dtype for meant in loras for delta in meant.adapter.modules.values() for t in delta.tensors.values() if t.is_floating_point()} - {torch.float64}
    return functools.reduce(torch.promote_types, sorted(kinds, key=str), torch.float16) if kinds != {torch.bfloat16} else torch.bfloat16


def wanted_dtype(slot: Slot, precision: Precision) -> torch.dtype:
    """The type of number a tensor is stored in; whole numbers and empty markers stay."""
    dtype = DTYPES[precision]
    return dtype if dtype is not None and slot.dtype.is_floating_point and slot.bytes else slot.dtype


def finite(tensor: Tensor, dtype: torch.dtype, name: str, was: Tensor | None = None) -> Tensor:
    """A tensor in another precision; raises InputError when a number that was finite no longer is."""
    made = tensor.to(dtype)
    if made.is_floating_point() and not is_finite(made) and is_finite(tensor if was is None else was):
        raise InputError(f"{name} would hold infinity or NaN in {str(dtype).removeprefix('torch.')}; nothing was written.", "Choose bfloat16 or float32, or smaller strengths.")
    return made


class Baked:
    """An autoencoder that takes the place of a checkpoint's own: `slots` under the checkpoint's names."""

    def __init__(self, paths: Paths, choice: str, stack: ExitStack) -> None:
        self.path: Path | None = None
        self.slots: dict[str, Slot] = {}
        self._state: dict[str, Tensor] = {}
        if choice in ("", NO_VAE):
            return
        self.path = find_vae(paths, paths.checkpoints, choice) or paths.vae
        file = next((p for p in sorted(self.path.glob("*.safetensors")) if p.is_file()), self.path) if self.path.is_dir() else self.path
        source = stack.enter_context(Source(file))
        root = VAE.root if VAE.names(source.slots) else ""
        state = {name.removeprefix(root): source.read(name) for name in source.slots if name.startswith(root)}
        if any(".down_blocks." in name for name in state):
            state = vae_to_original(state)
        self._state = {VAE.root + name: tensor for name, tensor in state.items() if name.startswith(("encoder.", "decoder.", "quant_conv.", "post_quant_conv."))}
        if not any(name.startswith(f"{VAE.root}decoder.") for name in self._state):
            raise InputError(f"{self.path.name} is not an autoencoder (VAE).", "Choose another VAE, or None.")
        self.slots = {name: Slot(tensor.dtype, tuple(tensor.shape)) for name, tensor in self._state.items()}

    def over(self, slots: Mapping[str, Slot]) -> dict[str, Slot]:
        """A checkpoint's slots with this autoencoder's in the place of its own."""
        return {name: slot for name, slot in slots.items() if not (self.slots and name.startswith(VAE.root))} | self.slots

    def read(self, name: str) -> Tensor:
        """One of its tensors."""
        return self._state[name]


def opened_all(stack: ExitStack, paths: Paths, *names: str) -> list[Opened]:
    """Checkpoints opened for as long as the stack stands; raises NotFound, Unreadable."""
    return [stack.enter_context(open_checkpoint(checkpoint_at(paths, name))) for name in names]


def settings_beside(source: Path, target: Path) -> None:
    """Copy the settings file `<name>.yaml` of a checkpoint, by which A1111 knows what it predicts, beside the new one; one that is there stays."""
    for suffix in (".yaml", ".yml"):
        if source.is_file() and source.with_suffix(suffix).is_file() and not target.with_suffix(suffix).exists():
            shutil.copy2(source.with_suffix(suffix), target.with_suffix(suffix))


def stopped() -> dict[str, object]:
    """What a tool returns that was stopped: there is no file."""
    return {"path": "", "stopped": True}
