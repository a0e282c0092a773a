"""LoRA (Hu et al. 2021) and what is grown beside layers as it is: small networks learn, the checkpoint stays as it is and is shared."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from studio.diffusion.adapters import is_xl
from studio.diffusion.blocks import block_weights
from studio.diffusion.growing import Grown, Growth, Recipe
from studio.diffusion.model import Model
from studio.diffusion.targets import layers_of
from studio.errors import InputError
from studio.formats.adapter import Adapter, read_adapter
from studio.formats.adapter_writing import write_adapter
from studio.requests.train import LoraConfig, NetworkConfig, TrainConfig
from studio.settings import Paths
from studio.training.continued_file import Comparison, compare_with_form
from studio.training.growth_figures import mean_change, mean_distance
from studio.training.methods.trainable import Group, Method, Trainable, begun, taken
from studio.training.schedule import Schedule

PRECISIONS = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}
SMALL = 64 * 2**20
"""Bytes up to which a copy is kept with every preview."""
_SECOND = ("lora_up", "hada_w2_a", "lokr_w2", "lokr_w2_b")
"""Those of a layer's tensors that begin as zeros: the ones LoRA+ lets learn faster."""


@dataclass(frozen=True)
class Rates:
    """Parts of the written rate: the text encoders', by block, and how many times faster the second matrix of each pair learns (LoRA+, Hayou et al. 2024)."""

    text: float = 0.0
    blocks: Mapping[str, float] = field(default_factory=dict)
    plus: float = 1.0

    def of(self, growth: Growth, tensor: str) -> float:
        """The part for one tensor of a layer."""
        part = 1.0 if growth.layer.part == "unet" else self.text
        return part * self.blocks.get(growth.layer.block, 1.0) * (self.plus if tensor in _SECOND else 1.0)


class Lora(Trainable):
    """Adapters grown beside layers: written as one file of kohya's layout in `precision`."""

    changes_network = True
    told: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()

    def __init__(self, grown: Grown, rates: Rates, precision: torch.dtype = torch.float16) -> None:
        self.model, self.grown, self.rates, self.precision = grown.model, grown, rates, precision
        self.start = [parameter.detach().clone() for parameter in grown.parameters()]
        self.changes_reading = any(growth.layer.part != "unet" for growth in grown.growths.values())
        self.copies = sum(parameter.numel() for parameter in self.start) * precision.itemsize <= SMALL
        self._groups = self._by_rate()

    def _by_rate(self) -> list[Group]:
        """Parameters that learn at one rate together."""
        found: dict[tuple[str, float], list[nn.Parameter]] = {}
        for growth in self.grown.learning:
            part = "UNet" if growth.layer.part == "unet" else "text encoder"
            for name, parameter in growth.parameters.items():
                found.setdefault((part, self.rates.of(growth, name)), []).append(parameter)
        return [Group(part if share == 1 else f"{part}, rate times {share:g}", tuple(parameters), lambda _step, share=share: share) for (part, share), parameters in found.items()]

    def groups(self) -> list[Group]:
        """By part of the model, block and matrix."""
        return self._groups

    def before_step(self, step: int) -> None:
        """What dropout leaves out depends on the step."""
        self.grown.at(step)

    def figures(self) -> dict[str, float]:
        """Mean Frobenius norm of what is added to a layer's weight, and mean distance of a tensor from where it started."""
        norm, distance = torch.stack([mean_change(self.grown.learning), mean_distance(self.grown.parameters(), self.start)]).tolist()
        return {"norm": norm, "distance": distance}

    def shelve(self, path: Path, step: int) -> None:
        """Write what is there now."""
        write_adapter(path, self.grown.adapter(path.stem), self.provenance, self.precision)

    def state(self) -> dict[str, Tensor]:
        """Every tensor by layer and name; where they started follows from the file it goes on from, or from the seed."""
        return {name: tensor.detach().cpu().clone() for name, tensor in self.grown.tensors().items()}

    @torch.no_grad()
    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Take up every tensor again."""
        for name, tensor in self.grown.tensors().items():
            tensor.copy_(state[name])

    def contradictions(self) -> list[str]:
        """Settings that the file it goes on from contradicts."""
        return list(self.refused)

    def warnings(self) -> list[str]:
        """What of the file it goes on from is as the form does not say, and which programs will not read the result."""
        return [*self.told, *unread_by(self.grown.recipe)]

    def live_adapters(self, name: str) -> Mapping[str, Callable[[], Adapter]]:
        """As it is when it is asked for."""
        return {name: lambda: self.grown.adapter(name)}

    def attached(self) -> AbstractContextManager[None]:
        """On the model for the length of a run."""
        return self.grown.on()

    def off(self) -> AbstractContextManager[None]:
        """The checkpoint as it is."""
        return self.grown.off()

    def shown(self) -> AbstractContextManager[None]:
        """Without dropout."""
        return self.grown.still()


def unread_by(recipe: Recipe) -> list[str]:
    """Which programs don't read the file of an adapter, or read it as something else; nothing for a plain LoRA, which all of them read."""
    if recipe.kind == "IA3":
        return ["(IA)3 is read here, by A1111 and by LyCORIS; Forge, ComfyUI and diffusers do not read it. Choose LoKr or LoCon for Forge and ComfyUI, LoRA for diffusers."]
    if recipe.kind in ("LoHa", "LoKr"):
        return [f"{recipe.kind} is read here, by A1111, Forge, ComfyUI and LyCORIS; diffusers does not read it. Choose LoRA for diffusers."]
    found = []
    if recipe.tucker:
        found.append("Tucker decomposition is read here, by A1111, Forge, ComfyUI and LyCORIS; diffusers does not read it. Switch it off for diffusers.")
    if recipe.dora:
        found.append("DoRA is read here, by A1111, Forge and ComfyUI; diffusers drops its magnitudes and makes other images. Switch it off for diffusers.")
    return found


def recipe_of(config: NetworkConfig, kind: str = "LoRA") -> Recipe:
    """What the knobs that all have in common say."""
    return Recipe(
        kind,
        config.rank,
        config.alpha,
        config.conv_rank,
        config.conv_alpha,
        dora=config.dora and kind != "IA3",
        dropout=config.dropout,
        rank_dropout=config.rank_dropout,
        module_dropout=config.module_dropout,
        seed=config.seed,
    )


def grow(model: Model, start: Path | None, config: NetworkConfig, recipe: Recipe, form: TrainConfig | None = None) -> Lora:
    """Networks on a model by a recipe, going on from the file `start` if there is one; `form` are the settings a person sees, where they are not `config`.

    Raises InputError when the file or the settings do not fit the model.
    """
    first = Schedule.parse(config.learn_rate, 2**31).segments[0][0]
    ranks, rates = (_by_block(name, text, model) for name, text in (("Rank of each block", config.block_ranks), ("Rate of each block", config.block_rates)))
    ranks = {block: ranks.get(block, 1.0) * (rates.get(block, 1.0) > 0) for block in {*ranks, *rates}}
    text = config.text_encoder_rate / first if first else 0.0
    grown = Grown(model, layers_of(model, config.layers, text > 0, config.conv_rank > 0), recipe, ranks)
    told: tuple[str, ...] = ()
    compared = Comparison()
    if start is not None:
        wanted = {name: growth.delta for name, growth in grown.growths.items()}
        adapter = read_adapter(start)
        told = grown.load(adapter)
        compared = compare_with_form(adapter.name, grown, wanted, form or config)
    learner = Lora(grown, Rates(text, rates, config.plus_ratio), PRECISIONS[config.save_precision])
    learner.told, learner.refused = (*told, *compared.told), compared.refused
    return learner


def _by_block(name: str, text: str, model: Model) -> dict[str, float]:
    """A number for each block; empty when none are given. Raises InputError, also for numbers below 0."""
    if not text.strip():
        return {}
    try:
        found = block_weights(text, is_xl(model))
    except InputError as error:
        raise InputError(f"{name}: {error.message}", error.hint) from error
    if min(found.values()) < 0:
        raise InputError(f"{name}: {min(found.values()):g} is below 0.", "0 leaves a block as it is; 1 is the common value.")
    return found


def attach(model: Model, start: Path | None, config: TrainConfig) -> Lora:
    """A LoRA on `model`, going on from the file `start` if there is one; raises InputError when that does not fit."""
    if not isinstance(config, NetworkConfig):
        raise InputError(f"The knobs of {config.title} are not those of a LoRA.", "Choose the method LoRA.")
    return grow(model, start, config, recipe_of(config))


def shelves(paths: Paths, config: TrainConfig) -> dict[str, Path]:
    """Where LoRA files lie."""
    return {".safetensors": paths.lora / f"{config.subject}.safetensors"}


def start_of(paths: Paths, config: TrainConfig) -> Path | None:
    """The file it goes on from; raises InputError when it is not there."""
    return begun(next(iter(shelves(paths, config).values())), str(getattr(config, "start_from", "")))


def mistakes(paths: Paths, config: TrainConfig) -> list[str]:
    """A file that would be overwritten."""
    return taken(next(iter(shelves(paths, config).values())), str(getattr(config, "start_from", "")), bool(getattr(config, "overwrite", False)))


LORA = Method(LoraConfig, attach, shelves, start_of, mistakes=mistakes)
