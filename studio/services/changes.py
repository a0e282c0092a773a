"""What LoRAs of every kind change about each layer, summed by strength: as low-rank halves where all are plain, else as the change of the checkpoint's own weights."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from torch import Tensor

from studio.diffusion.sources import Opened, Place, places
from studio.errors import InputError
from studio.formats.delta import Delta
from studio.formats.low_rank import plain_halves
from studio.services.model_files import Meant

_SHIFTS = frozenset({"diff_b", "b_norm", "ia3_l"})
"""Tensors that change a bias."""


@dataclass(frozen=True)
class Share:
    """What one LoRA does to one layer, and how strongly."""

    meant: Meant
    name: str
    delta: Delta
    strength: float

    @property
    def halves(self) -> tuple[Tensor, Tensor] | None:
        """Up and down at strength 1 when it is a plain LoRA that leaves the bias alone."""
        return None if _SHIFTS & set(self.delta.tensors) else plain_halves(self.delta)

    @property
    def shifts(self) -> bool:
        """Whether it may change the bias."""
        return bool(_SHIFTS & set(self.delta.tensors))

    def change(self, weight: Tensor, bias: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
        """Its change of a weight and a bias at strength 1, in fp32; raises InputError naming the file and the layer."""
        try:
            return self.delta.change(weight, bias)
        except InputError as error:
            raise InputError(f"The LoRA {self.meant.path.stem!r} does not fit at {self.name}. {error.message}", error.hint) from error


@dataclass(frozen=True)
class Layers:
    """An opened checkpoint's layers by every name that adapters use."""

    opened: Opened

    @cached_property
    def places(self) -> dict[str, Place]:
        """Where each layer stands."""
        return places(self.opened)

    def weight(self, place: Place) -> Tensor:
        """A layer's weight as it is stored."""
        return place.of(self.opened.read(place.weight))

    def bias(self, place: Place) -> Tensor | None:
        """A layer's bias as it is stored; None when it has none."""
        return place.of(self.opened.read(place.bias)) if place.bias else None

    def shares(self, loras: Iterable[Meant]) -> tuple[dict[Place, list[Share]], dict[str, list[str]]]:
        """What each layer gets from which LoRA, those of strength 0 left out; and the layers that found no place, by LoRA."""
        found: dict[Place, list[Share]] = {}
        missing: dict[str, list[str]] = {}
        for meant in loras:
            for name, delta in meant.adapter.modules.items():
                place = self.places.get(name)
                if place is None:
                    missing.setdefault(meant.path.stem, []).append(name)
                elif strength := meant.strength(place.block, place.part == "unet"):
                    found.setdefault(place, []).append(Share(meant, name, delta, strength))
            if len(missing.get(meant.path.stem, ())) == len(meant.adapter.modules) and meant.adapter.modules:
                raise InputError(f"No layer of the LoRA {meant.path.stem!r} fits {self.opened.path.name}.", "Choose files of one family.")
        return found, missing

    def summed(self, place: Place, shares: list[Share], shifts: bool = True) -> tuple[Tensor | None, Tensor | None]:
        """The sum of all changes of a layer's weight and bias in fp32, each times its strength, in the order of the LoRAs, as when they are worn."""
        weight = self.weight(place)
        bias = self.bias(place) if shifts and any(share.shifts for share in shares) else None
        sums: list[Tensor | None] = [None, None]
        for share in shares:
            for n, change in enumerate(share.change(weight, bias)):
                if change is not None:
                    before = sums[n]
                    sums[n] = change * share.strength if before is None else before + change * share.strength
        return sums[0], sums[1]


def unplaced_warning(missing: dict[str, list[str]], checkpoint: str) -> list[str]:
    """Sentences on layers that found no place."""
    return [f"{len(names)} layers of the LoRA {lora!r} found no place in {checkpoint} (the first: {names[0]})." for lora, names in missing.items()]
