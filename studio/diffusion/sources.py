"""A checkpoint, file or folder, as tensors under original names that are read one at a time; and where each of its layers stands."""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import torch
from torch import Tensor

from studio.diffusion.blocks import block_of
from studio.diffusion.families import Family, recognise
from studio.diffusion.folder import Folder, modern_name, weight_files
from studio.errors import Unreadable
from studio.formats.checkpoint import V_MARKER, ZERO_SNR_MARKER, Facts, Weights, read_facts
from studio.formats.keys import Part, levels_of, text_name
from studio.formats.kohya_keys import kohya_name, module_paths
from studio.formats.streaming import Slot, Source

UNPLACED = "unplaced.safetensors"
"""In a diffusers folder that was made here: tensors of the single file that have no place in it, so that the way back loses nothing."""
EMA = "model_ema."
_FUSED = re.compile(r"transformer\.resblocks\.(\d+)\.attn\.in_proj_weight")
_THIRDS = ("q_proj", "k_proj", "v_proj")
_BARE = ("embeddings.", "encoder.", "final_layer_norm.")


class Opened:
    """An opened checkpoint: its family, what it says about itself, `slots` under original names, and tensors one at a time. Raises Unreadable."""

    path: Path
    family: Family
    facts: Facts
    metadata: dict[str, str]
    slots: dict[str, Slot]
    _take: Callable[[str], Tensor]
    _sources: list[Source]

    def read(self, name: str) -> Tensor:
        """One tensor, in memory of its own."""
        return self._take(name)

    def close(self) -> None:
        """Let go of the files."""
        for source in self._sources:
            source.close()

    def __enter__(self) -> Self:
        """The checkpoint itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Let go of the files."""
        self.close()

    @property
    def name(self) -> str:
        """What it is called."""
        return self.path.name if self.path.is_dir() else self.path.stem

    @property
    def xl(self) -> bool:
        """Whether names and blocks are counted as in SDXL."""
        return len(self.family.text_encoders) > 1

    @property
    def weights_file(self) -> Path | None:
        """The file whose hash stands for the whole."""
        files = [self.path] if self.path.is_file() else weight_files(self.path / "unet")
        return files[0] if files else None


class OpenedFile(Opened):
    """A single file; text encoders of the first checkpoints get the names that are used now."""

    def __init__(self, path: Path) -> None:
        weights = Weights(path)
        self.path, self.facts, self.metadata = path, read_facts(weights), dict(weights.metadata)
        self.family = recognise(path.name, weights.shapes, self.facts.prediction)
        self._source = Source(path)
        self._take, self._sources = self._tensor, [self._source]
        self._stored = {self._named(name): name for name in self._source.slots}
        self.slots = {name: self._source.slots[stored] for name, stored in self._stored.items()}

    def _named(self, name: str) -> str:
        """A tensor's name with `text_model.` where it was left out."""
        for encoder in self.family.text_encoders:
            bare = name.removeprefix(encoder.root)
            if encoder.kind == "clip" and bare != name and bare.startswith(_BARE):
                return encoder.root + text_name(bare)
        return name

    def _tensor(self, name: str) -> Tensor:
        """One tensor by the name that is used now."""
        return self._source.read(self._stored[name])


@dataclass(frozen=True)
class _Held:
    """Where a tensor of a folder comes from: the part, and the names it is made of there."""

    part: Part
    root: str
    needs: tuple[str, ...]


class OpenedFolder(Opened):
    """A diffusers folder, seen as the single file it would be."""

    def __init__(self, path: Path) -> None:
        folder = Folder(path)
        self.path, self.family, self.metadata = path, folder.family, {}
        prediction = str(folder.schedule.get("prediction_type") or folder.family.prediction)
        self.facts = Facts(prediction, bool(folder.schedule.get("rescale_betas_zero_snr")))
        self.slots, self._held, self._files, self._sources, self._take = {}, {}, {}, [], self._tensor
        for root, part in self.family.parts.items():
            self._add(root, part)
        self._rest = Source(path / UNPLACED) if (path / UNPLACED).is_file() else None
        self._sources += [self._rest] if self._rest else []
        self.slots |= {name: slot for name, slot in (self._rest.slots if self._rest else {}).items() if name not in self.slots}
        for marker, wanted in ((V_MARKER, prediction == "v_prediction" != self.family.prediction), (ZERO_SNR_MARKER, self.facts.zero_snr)):
            if wanted:
                self.slots.setdefault(marker, Slot(torch.float32, (0,)))

    def _add(self, root: str, part: Part) -> None:
        """Note the tensors of one part."""
        named: dict[str, tuple[Source, str]] = {}
        for file in weight_files(self.path / root):
            source = Source(file)
            self._sources.append(source)
            named |= {self._spelled(part, name): (source, name) for name in source.slots}
        if not named:
            raise Unreadable(f"{self.path.name}/{root} holds no weights.", "Get the folder again.")
        self._files[root] = named
        ghosts = {name: _ghost(source.slots[stored]) for name, (source, stored) in named.items()}
        origin = {id(ghost): name for name, ghost in ghosts.items()}
        for key, value in part.to_original(ghosts).items():
            needs = (origin[id(value)],) if id(value) in origin else tuple(part.to_diffusers({key: value}))
            self.slots[key] = Slot(value.dtype, tuple(value.shape))
            self._held[key] = _Held(part, root, needs)

    @staticmethod
    def _spelled(part: Part, name: str) -> str:
        """A tensor's name as diffusers and transformers spell it now."""
        return modern_name(name) if part.kind == "vae" else name if part.kind == "unet" else text_name(name)

    def _tensor(self, name: str) -> Tensor:
        """One tensor, made of those that the folder holds."""
        held = self._held.get(name)
        if held is None:
            return self._rest.read(name) if self._rest and name in self._rest.slots else torch.empty(0)
        found = {need: source.read(stored) for need in held.needs for source, stored in [self._files[held.root][need]]}
        if len(found) == 1 and held.part.kind in ("unet", "clip"):
            return next(iter(found.values()))
        made = held.part.to_original(found)
        return made[name] if name in made else next(iter(made.values()))


def open_checkpoint(path: Path) -> Opened:
    """A checkpoint to be read tensor by tensor; raises Unreadable in words."""
    return OpenedFolder(path) if path.is_dir() else OpenedFile(path)


def _ghost(slot: Slot) -> Tensor:
    """A tensor without numbers."""
    return torch.empty(slot.shape, dtype=slot.dtype, device="meta")


@dataclass(frozen=True)
class Place:
    """Where a layer stands in a checkpoint: the tensor of its weight and, if it has one, of its bias; `third` of a fused one, and its block in the UNet."""

    part: str
    path: str
    weight: str
    bias: str | None = None
    third: int | None = None
    transposed: bool = False
    block: str | None = None

    def of(self, tensor: Tensor) -> Tensor:
        """The layer's own part of a tensor, as diffusers shapes it; a window that writes through."""
        if self.third is not None:
            return tensor.chunk(3)[self.third]
        return tensor.T if self.transposed else tensor


def places(opened: Opened) -> dict[str, Place]:
    """Every layer of the UNet and of the text encoders by every name an adapter may use for it."""
    found: dict[str, Place] = {}
    for root, part in opened.family.parts.items():
        if part.kind == "vae":
            continue
        here = {place.path: place for place in _layers(root, part, {k: opened.slots[k] for k in part.names(opened.slots)})}
        blocks = block_of(here) if part.kind == "unet" else {}
        placed = {path: Place(root, path, p.weight, p.bias, p.third, p.transposed, blocks.get(path)) for path, p in here.items()}
        found |= {name: placed[path] for name, path in module_paths(opened.xl, root, placed).items()}
    return found


def _layers(root: str, part: Part, slots: Mapping[str, Slot]) -> Iterable[Place]:
    """The layers of one part, from the names of its tensors."""
    ghosts = {key: _ghost(slot) for key, slot in slots.items()}
    origin = {id(ghost): key for key, ghost in ghosts.items()}
    for name, ghost in part.to_diffusers(ghosts).items():
        if name.endswith(".weight") and id(ghost) in origin:
            key = origin[id(ghost)]
            bias = f"{key.removesuffix('weight')}bias"
            yield Place(root, name.removesuffix(".weight"), key, bias if bias in slots else None)
    for key in slots if part.kind == "open_clip" else ():
        bare = key.removeprefix(part.root)
        if match := _FUSED.fullmatch(bare):
            for third, name in enumerate(_THIRDS):
                yield Place(root, f"text_model.encoder.layers.{match[1]}.self_attn.{name}", key, key.removesuffix("weight") + "bias", third)
        elif bare == "text_projection":
            yield Place(root, "text_projection", key, transposed=True)


def written(opened: Opened) -> dict[str, Place]:
    """Every layer of the UNet and of the text encoders by the one name that kohya's files are written with."""
    root = opened.family.parts["unet"].root
    levels = levels_of([key.removeprefix(root) for key in opened.slots if key.startswith(root)])
    return {kohya_name(opened.xl, place.part, place.path, levels): place for place in dict.fromkeys(places(opened).values())}
