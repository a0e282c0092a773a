"""Growing: adapters that learn, put on a model for the length of a block. The model is shared: only the forward of chosen layers is replaced, and put back exactly."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from studio.diffusion.adapters import is_xl
from studio.diffusion.attaching import Attachment
from studio.diffusion.bypasses import Forward, Gaps, bypass, module_forward
from studio.diffusion.model import Model
from studio.diffusion.seedlings import Recipe, column_lengths, seedling
from studio.diffusion.targets import Layer, every_layer, is_spatial
from studio.errors import InputError
from studio.formats.adapter import Adapter, long_name
from studio.formats.delta import Delta
from studio.formats.kohya_keys import module_paths

__all__ = ["Grown", "Growth", "Recipe"]

_DECOMPOSABLE = ("LoRA", "LoHa", "LoKr", "Full")


@dataclass
class Growth:
    """One layer's live adapter: tensors that learn are parameters in fp32, all as `studio.formats.delta` reads them. `learns` is False for what a file held beyond the chosen layers."""

    layer: Layer
    delta: Delta
    learns: bool = True

    @property
    def parameters(self) -> dict[str, nn.Parameter]:
        """What learns, by the tensor's name."""
        return {name: tensor for name, tensor in self.delta.tensors.items() if isinstance(tensor, nn.Parameter) and tensor.requires_grad}


@dataclass
class Grown:
    """Trainable adapters beside layers of a model, by kohya's name. `ranks` are multiples of the recipe's rank by block (1 where none is given); a block of rank 0 is not trained at all.

    `training` switches dropout; what is left out depends on the seed, the step and the layer alone, so that what is computed again, in whatever portions, comes out the same.
    """

    model: Model
    layers: Sequence[Layer]
    recipe: Recipe
    ranks: Mapping[str, float] = field(default_factory=dict)
    training: bool = True
    step: int = 0
    growths: dict[str, Growth] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Let something begin beside every layer."""
        self._attachment = Attachment(self._replaced)
        for layer in self.layers:
            if self.recipe.kind == "IA3" and layer.module.weight.ndim > 2:
                continue  # A1111 can't apply (IA)3 to a convolution's weight
            rank = self._rank(layer)
            if rank:
                begun = seedling(layer, self.recipe, rank)
                self.growths[layer.name] = self._grow(layer, Delta(begun.kind, begun.tensors, begun.alpha))
        if not self.growths:
            raise InputError("No layer of the checkpoint would learn: the rank is 0 in every block that was chosen.", "Give at least one block a rank, or choose more layers.")

    def _rank(self, layer: Layer) -> int:
        """The rank beside one layer."""
        times = self.ranks.get(layer.block, 1.0)
        rank = self.recipe.conv_rank if self.recipe.conv_rank and is_spatial(layer.module) else self.recipe.rank
        return max(1, round(rank * times)) if times > 0 else 0

    def _grow(self, layer: Layer, delta: Delta, learns: bool = True) -> Growth:
        """Make tensors live on the model's device, with DoRA's magnitudes when they are wanted and not there."""
        tensors = {name: tensor.to(self.model.device, torch.float32, copy=True) if tensor.is_floating_point() else tensor.clone() for name, tensor in delta.tensors.items()}
        if learns and self.recipe.dora and delta.kind.name in _DECOMPOSABLE and "dora_scale" not in tensors and layer.module.weight.ndim > 1:
            change, _ = Delta(delta.kind, tensors, delta.alpha, delta.factor).change(layer.module.weight)
            whole = layer.module.weight.detach().float()
            tensors["dora_scale"] = column_lengths(whole if change is None else whole + change)
        live = {name: nn.Parameter(tensor, requires_grad=learns) if tensor.is_floating_point() else tensor for name, tensor in tensors.items()}
        return Growth(layer, Delta(delta.kind, live, delta.alpha, delta.factor), learns)

    @property
    def learning(self) -> list[Growth]:
        """Those that learn, in the order of the network."""
        return [growth for growth in self.growths.values() if growth.learns]

    def parameters(self) -> list[nn.Parameter]:
        """Everything that learns."""
        return [parameter for growth in self.learning for parameter in growth.parameters.values()]

    def at(self, step: int) -> None:
        """Leave out from now on what is left out in this step."""
        self.step = step

    def on(self) -> AbstractContextManager[None]:
        """Let layers answer with their adapters for the length of the block; nothing of the model but `forward` of these layers is replaced."""
        return self._attachment.on()

    def off(self) -> AbstractContextManager[None]:
        """Within `on`: the model as it was, for the length of the block."""
        return self._attachment.off()

    @contextmanager
    def still(self) -> Iterator[None]:
        """No dropout for the length of the block."""
        before, self.training = self.training, False
        try:
            yield
        finally:
            self.training = before

    @contextmanager
    def _replaced(self) -> Iterator[None]:
        """Forwards replaced, and put back as they were, the last first."""
        replaced: list[tuple[dict[str, Any], Forward | None]] = []
        try:
            for growth in self.growths.values():
                module = growth.layer.module
                before = vars(module).get("forward")
                replaced.append((vars(module), before))
                vars(module)["forward"] = partial(self._answer, growth, bypass(module, growth.delta), before)
            yield
        finally:
            for own, before in reversed(replaced):
                if before is None:
                    own.pop("forward", None)
                else:
                    own["forward"] = before

    def _answer(self, growth: Growth, way: object, before: Forward | None, x: Tensor) -> Tensor:
        """What a layer answers now."""
        gaps = None
        if self.training and growth.learns and _has_gaps(self.recipe):
            if self.recipe.module_dropout and self._number(growth, "module") / 2**63 < self.recipe.module_dropout:
                return (before or module_forward(growth.layer.module))(x)
            gaps = Gaps(partial(self._drawn, growth), self.recipe.dropout, self.recipe.rank_dropout)
        answer: Tensor = way(growth.layer.module, growth.delta, before, x, gaps)
        return answer

    def _number(self, growth: Growth, purpose: str) -> int:
        """63 bits that depend on the seed, the step, the layer and the purpose."""
        return int.from_bytes(hashlib.sha256(f"{self.recipe.seed}/{self.step}/{growth.layer.name}/{purpose}".encode()).digest()[:8], "little") >> 1

    def _drawn(self, growth: Growth, purpose: str, shape: tuple[int, ...], share: float, like: Tensor) -> Tensor:
        """Factors of `shape`: a `share` of them 0, the others what makes up for it."""
        dice = torch.Generator(like.device).manual_seed(self._number(growth, purpose))
        return torch.empty(shape, device=like.device, dtype=like.dtype).bernoulli_(1 - share, generator=dice).div_(1 - share)

    def adapter(self, name: str) -> Adapter:
        """What was learned so far, as a file holds it: copies on the CPU in fp32."""
        modules = {
            spelled: Delta(growth.delta.kind, {key: t.detach().cpu().clone() for key, t in growth.delta.tensors.items()}, growth.delta.alpha, growth.delta.factor)
            for spelled, growth in self.growths.items()
        }
        return Adapter(name, modules, family=self.model.family.name.split()[0])

    def load(self, adapter: Adapter) -> tuple[str, ...]:
        """Go on from a file of the same kind, with the ranks and alphas it has; what it holds beyond the chosen layers stays on as it is. Raises InputError when it does not fit.

        Returns sentences about what of the file does not learn, and about chosen layers that it does not have.
        """
        family = self.model.family.name.split()[0]
        if adapter.family not in (None, family):
            raise InputError(f"{adapter.name!r} was made for {long_name(adapter.family)}, but {self.model.checkpoint} is {long_name(family)}.", "Choose a checkpoint of its kind, or begin anew.")
        places = _places(self.model)
        found = {places[name].name: (places[name], delta) for name, delta in adapter.modules.items() if name in places}
        chosen = {name: growth.delta.kind.name for name, growth in self.growths.items()}
        kinds = sorted({delta.kind.name for name, (_, delta) in found.items() if chosen.get(name, delta.kind.name) != delta.kind.name})
        if kinds:
            raise InputError(f"{adapter.name!r} is a {' and '.join(kinds)}, but what is trained is a {self.recipe.kind}.", "Train it with the method and algorithm it was made with, or begin anew.")
        if not chosen.keys() & found.keys():
            raise InputError(f"Nothing in {adapter.name!r} fits the chosen layers of {self.model.checkpoint}.", "Choose more layers or the text encoder, or begin anew.")
        for name, (layer, delta) in found.items():
            self._check(adapter.name, layer, delta)
            order = [*(self.growths[name].delta.tensors if name in chosen else ()), *sorted(delta.tensors)]
            self.growths[name] = self._grow(layer, _plain(delta, order), name in chosen)
        beyond, new, unknown = len(found.keys() - chosen.keys()), len(chosen.keys() - found.keys()), [name for name in adapter.modules if name not in places]
        told = (
            f"{beyond} layers of {adapter.name!r} are not among the chosen ones: they stay in the file as they are and do not learn." if beyond else "",
            f"{new} of the {len(chosen)} chosen layers are not in {adapter.name!r}: they begin anew." if new else "",
            f"{len(unknown)} parts of {adapter.name!r} belong to no layer of {self.model.checkpoint} and are left out of the result, such as {next(iter(unknown), '')}." if unknown else "",
        )
        return tuple(filter(None, told))

    @staticmethod
    def _check(name: str, layer: Layer, delta: Delta) -> None:
        """Raise InputError when a change does not fit its layer."""
        try:
            delta.change(layer.module.weight, getattr(layer.module, "bias", None))
        except InputError as error:
            raise InputError(f"{name!r} does not fit the checkpoint, at {layer.name}. {error.message}", error.hint) from error

    def tensors(self) -> dict[str, Tensor]:
        """Every live tensor by layer and name."""
        return {f"{name}.{key}": tensor for name, growth in self.growths.items() for key, tensor in growth.delta.tensors.items()}


def _has_gaps(recipe: Recipe) -> bool:
    """Whether anything is left out in training."""
    return bool(recipe.dropout or recipe.rank_dropout or recipe.module_dropout)


def _plain(delta: Delta, order: Sequence[str]) -> Delta:
    """The same change with its tensors in a given order, and its scale in alpha alone where it has a rank."""
    tensors = {name: delta.tensors[name] for name in order if name in delta.tensors}
    return Delta(delta.kind, tensors, delta.factor * delta.rank) if delta.rank and delta.factor is not None else Delta(delta.kind, tensors, delta.alpha, delta.factor)


def _places(model: Model) -> dict[str, Layer]:
    """Every name that a file may use for a layer."""
    places: dict[str, Layer] = {}
    for part, layers in every_layer(model).items():
        paths = {layer.path: layer for layer in layers}
        network = model.unet if part == "unet" else model.text_encoders[part == "text_encoder_2"]
        spelled = module_paths(is_xl(model), part, [path for path, _ in network.named_modules()])
        places |= {name: paths[path] for name, path in spelled.items() if path in paths}
    return places
