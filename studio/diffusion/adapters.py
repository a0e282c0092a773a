"""Adapters put on a model for the length of a block and taken off without a trace: every weight is afterwards the same tensor as before."""

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from studio.cancellation import raise_if_stopped
from studio.diffusion.blocks import BASE, block_of, block_weights
from studio.diffusion.model import Model
from studio.errors import InputError
from studio.formats.adapter import Adapter, long_name
from studio.formats.delta import Delta
from studio.formats.embedding import Embedding
from studio.formats.kohya_keys import module_paths
from studio.prompts.notices import BUNDLED_HALF, BUNDLED_WIDTH, NO_PLACE


@dataclass(frozen=True)
class Wear:
    """One adapter and how strongly it is worn: `te` by the text encoders, `unet` by the UNet (None: as `te`).

    `lbw` are weights by block, as numbers between commas or a preset's name (empty: 1 everywhere). `count` uses only the first ranks of a LoRA trained for that (0: all).
    """

    adapter: Adapter
    te: float = 1.0
    unet: float | None = None
    lbw: str | Mapping[str, float] = ""
    count: int = 0


@dataclass(frozen=True)
class _Share:
    """What one adapter, by its place among all, does to one layer."""

    place: int
    wear: Wear
    name: str
    delta: Delta
    strength: float


@dataclass
class Worn:
    """A model with its adapters on: which of their layers found no place, by adapter, and the embeddings they brought, each [n, width]."""

    missing: dict[str, tuple[str, ...]] = field(default_factory=dict)
    words: dict[str, Tensor] = field(default_factory=dict)
    dropped: list[str] = field(default_factory=list)
    """Sentences about embeddings that an adapter brought and that cannot be used with this model."""
    _shares: dict[nn.Module, list[_Share]] = field(default_factory=dict)
    _text: set[nn.Module] = field(default_factory=set)
    _on: dict[nn.Module, tuple[int, ...]] = field(default_factory=dict)
    _originals: dict[nn.Parameter, Tensor] = field(default_factory=dict)
    _checkpoint: str = ""

    @property
    def warnings(self) -> list[str]:
        """What a person should know, in sentences."""
        sentences = [NO_PLACE.format(count=len(names), name=name, checkpoint=self._checkpoint, layer=names[0]) for name, names in self.missing.items() if names]
        return [*sentences, *self.dropped]

    @property
    def text_places(self) -> frozenset[int]:
        """Places of the adapters that change a text encoder."""
        return frozenset(share.place for module, shares in self._shares.items() if module in self._text for share in shares)

    def select(self, active: Collection[int] | None = None, text: bool | None = None) -> None:
        """Apply the adapters at these places of the list and no others (None: all), in the text encoders (`text`), the UNet (not `text`) or both (None).

        Layers for which nothing changes are not touched. Raises InputError when a change does not fit, and Stopped between two layers.
        """
        with torch.inference_mode(False), torch.no_grad():
            for module, shares in self._shares.items():
                if text is not None and (module in self._text) != text:
                    continue
                chosen = [share for share in shares if active is None or share.place in active]
                places = tuple(share.place for share in chosen)
                if places == self._on.get(module, ()):
                    continue
                raise_if_stopped()
                self._restore(module)
                if chosen:
                    self._change(module, chosen)
                    self._on[module] = places

    def take_off(self) -> None:
        """Put back what was there."""
        with torch.inference_mode(False), torch.no_grad():
            for parameter, original in self._originals.items():
                parameter.data = original.to(parameter.device, parameter.dtype)  # the tensor itself, unless the model has moved meanwhile
        self._originals.clear()
        self._on.clear()

    def _restore(self, module: nn.Module) -> None:
        """Put back the weights of one layer."""
        self._on.pop(module, None)
        for parameter in module.parameters(recurse=False):
            if parameter in self._originals:
                parameter.data = self._originals.pop(parameter).to(parameter.device, parameter.dtype)

    def _change(self, module: nn.Module, shares: Sequence[_Share]) -> None:
        """Add to one layer what all adapters change about it; each starts from the layer as it was."""
        weight, bias = module.weight, getattr(module, "bias", None)
        bias = bias if isinstance(bias, nn.Parameter) else None
        sums: dict[nn.Parameter, Tensor] = {}
        for share in shares:
            try:
                changes = share.delta.change(weight.detach(), None if bias is None else bias.detach(), share.wear.count)
            except InputError as error:
                raise InputError(f"The LoRA {share.wear.adapter.name!r} does not fit {self._checkpoint}, at {share.name}. {error.message}", error.hint) from error
            for parameter, change in zip((weight, bias), changes, strict=True):
                if parameter is not None and change is not None:
                    sums[parameter] = sums.get(parameter, 0) + change * share.strength
        for parameter, change in sums.items():
            changed = (parameter.detach().float() + change).to(parameter.dtype)
            if not bool(torch.isfinite(changed).all()):
                names = " and ".join(repr(share.wear.adapter.name) for share in shares)
                raise InputError(f"With {names} at this strength the weights of {shares[0].name} are no longer finite numbers.", "Lower the strength; between 0.3 and 1.2 is usual.")
            self._originals.setdefault(parameter, parameter.data)
            parameter.data = changed


@contextmanager
def worn(model: Model, wears: Sequence[Wear], active: Collection[int] | None = None) -> Iterator[Worn]:
    """Wear adapters for the length of the block. Raises InputError for an adapter of another family, one that fits nowhere, or block weights that are none.

    Weights are replaced by W + the sum of all changes, computed once in fp32, so that a step costs what it costs without adapters.
    Afterwards every parameter holds the tensor it held before. Blocks may be nested: the inner one starts from what the outer one wears.
    At first the adapters at the places `active` are on (None: all), and `select` changes that.
    """
    dressed = Worn(_text={module for part in model.text_encoders for module in part.modules()}, _checkpoint=model.checkpoint)
    places = _places(model) if wears else {}
    for number, wear in enumerate(wears):
        _lay_out(dressed, model, (number, wear), places)
    try:
        dressed.select(active)
        yield dressed
    finally:
        dressed.take_off()


def is_xl(model: Model) -> bool:
    """Whether names and blocks are counted as in SDXL: it has two text encoders."""
    return len(model.text_encoders) > 1


def _places(model: Model) -> dict[str, tuple[nn.Module, str | None]]:
    """Every name a file may use for a layer: the layer, and its block when it is the UNet's."""
    places: dict[str, tuple[nn.Module, str | None]] = {}
    parts = zip(("text_encoder", "text_encoder_2"), model.text_encoders, strict=False)
    for name, part in (("unet", model.unet), *parts):
        modules = {path: module for path, module in part.named_modules() if isinstance(getattr(module, "weight", None), nn.Parameter)}
        blocks = block_of(modules) if name == "unet" else {}
        places |= {spelled: (modules[path], blocks.get(path)) for spelled, path in module_paths(is_xl(model), name, modules).items()}
    return places


def _lay_out(dressed: Worn, model: Model, which: tuple[int, Wear], places: Mapping[str, tuple[nn.Module, str | None]]) -> None:
    """Note what an adapter does to which layer; raises InputError when it is not for this model."""
    number, wear = which
    adapter, unet = wear.adapter, wear.te if wear.unet is None else wear.unet
    if adapter.family is not None and adapter.family != model.family.name.split()[0]:
        _refuse(adapter, model)
    if not (math.isfinite(wear.te) and math.isfinite(unet)):
        raise InputError(f"The strength of the LoRA {adapter.name!r} must be a finite number, not {wear.te} and {unet}.", "Between 0.3 and 1.2 is usual; 0 is off.")
    weights = block_weights(wear.lbw, is_xl(model)) if isinstance(wear.lbw, str) and wear.lbw else dict(wear.lbw or {})
    missing = []
    for name, delta in adapter.modules.items():
        if name not in places:
            missing.append(name)
            continue
        module, block = places[name]
        strength = (wear.te if block is None else unet) * (weights.get(block or BASE, 0.0) if weights else 1.0)
        if strength:
            dressed._shares.setdefault(module, []).append(_Share(number, wear, name, delta, strength))
    if adapter.modules and len(missing) == len(adapter.modules):
        _refuse(adapter, model)
    dressed.missing[adapter.name] = tuple(missing) + adapter.unknown
    for name, embedding in adapter.embeddings.items():
        if embedding.width == model.width:
            dressed.words[name] = embedding.vectors
        else:
            dressed.dropped.append(_no_use(name, embedding, adapter, model))


def _no_use(name: str, embedding: Embedding, adapter: Adapter, model: Model) -> str:
    """Why an embedding that came with an adapter cannot be used, in a sentence."""
    if is_xl(model) and embedding.width in model.widths:
        part = "clip_g" if embedding.width == model.widths[0] else "clip_l"
        return BUNDLED_HALF.format(name=name, lora=adapter.name, part=part)
    return BUNDLED_WIDTH.format(name=name, lora=adapter.name, width=embedding.width, checkpoint=model.checkpoint, needed=model.width)


def _refuse(adapter: Adapter, model: Model) -> None:
    """Raise InputError: an adapter for another kind of checkpoint."""
    raise InputError(
        f"The LoRA {adapter.name!r} was made for {long_name(adapter.family)}, but {model.checkpoint} is {long_name(model.family.name.split()[0])}.",
        "Choose a checkpoint of its kind, or take it out of the prompt.",
    )
