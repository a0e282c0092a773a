"""Hypernetworks on a model: x + strength * net(x) on the context before keys and values are made of it, for the length of a block."""

import hashlib
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from studio.diffusion.model import Model
from studio.errors import InputError
from studio.formats.hypernetwork import Hypernetwork, State

__all__ = ["ACTIVATIONS", "INITIALIZATIONS", "Blend", "Chance", "begun", "blended", "build", "hooked", "live", "misfit", "networks", "state_of", "widths_of"]

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "linear": nn.Identity,
    "relu": nn.ReLU,
    "leakyrelu": nn.LeakyReLU,
    "elu": nn.ELU,
    "swish": nn.Hardswish,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "celu": nn.CELU,
    "gelu": nn.GELU,
    "hardshrink": nn.Hardshrink,
    "hardsigmoid": nn.Hardsigmoid,
    "hardswish": nn.Hardswish,
    "hardtanh": nn.Hardtanh,
    "logsigmoid": nn.LogSigmoid,
    "mish": nn.Mish,
    "prelu": nn.PReLU,
    "relu6": nn.ReLU6,
    "rrelu": nn.RReLU,
    "selu": nn.SELU,
    "silu": nn.SiLU,
    "softplus": nn.Softplus,
    "softshrink": nn.Softshrink,
    "softsign": nn.Softsign,
    "tanhshrink": nn.Tanhshrink,
}
"""A1111's names, of those that keep the width. Its "swish" is torch's hard swish."""
_PROJECTIONS = ("to_k", "to_v")
DEVIATION = 0.01
"""Standard deviation of numbers that begin as "Normal"."""
Fill = Callable[[Tensor, str, torch.Generator], Any]
INITIALIZATIONS: dict[str, Fill] = {
    "Normal": lambda weight, _bend, dice: nn.init.normal_(weight, std=DEVIATION, generator=dice),
    "KaimingUniform": lambda weight, bend, dice: nn.init.kaiming_uniform_(weight, nonlinearity=bend, generator=dice),
    "KaimingNormal": lambda weight, bend, dice: nn.init.kaiming_normal_(weight, nonlinearity=bend, generator=dice),
    "XavierUniform": lambda weight, _bend, dice: nn.init.xavier_uniform_(weight, generator=dice),
    "XavierNormal": lambda weight, _bend, dice: nn.init.xavier_normal_(weight, generator=dice),
}
"""A1111's names of how the linear layers begin; Kaiming's gain is that of leaky ReLU where that is the activation, else that of ReLU."""


@dataclass
class Chance:
    """What is random in training, as a pure function of the seed, the step and the place where a network acts: what is computed again, in whatever portions, comes out the same."""

    seed: int = 0
    step: int = 0
    place: str = ""

    @torch.compiler.disable
    def uniform(self, number: int, like: Tensor) -> Tensor:
        """Numbers 0..1 for the layer of that number, of the shape of one picture's states; pictures of a batch share them."""
        key = hashlib.sha256(f"{self.seed}/{self.step}/{self.place}/{number}".encode()).digest()[:8]
        dice = torch.Generator(like.device).manual_seed(int.from_bytes(key, "little") >> 1)
        return torch.rand(like.shape[1:], device=like.device, dtype=like.dtype, generator=dice)


class _Chanced(nn.Module):
    """A layer that is random in training."""

    def __init__(self, chance: Chance, number: int) -> None:
        super().__init__()
        self.chance, self.number = chance, number


class _Gaps(_Chanced):
    """Dropout: leaves out a share of what passes in training."""

    def __init__(self, chance: Chance, number: int, share: float) -> None:
        super().__init__(chance, number)
        self.share = share

    def forward(self, x: Tensor) -> Tensor:
        """Some of the states as 0, the others larger to make up for it."""
        return x * (self.chance.uniform(self.number, x) >= self.share) / (1 - self.share) if self.training else x


class _Slopes(_Chanced):
    """Randomised leaky ReLU: numbers below 0 keep a part of themselves, drawn in training and the mean of it after."""

    def forward(self, x: Tensor) -> Tensor:
        """The states, bent at 0."""
        lower, upper = 1 / 8, 1 / 3
        slope = lower + (upper - lower) * self.chance.uniform(self.number, x) if self.training else (lower + upper) / 2
        return torch.where(x >= 0, x, x * slope)


@dataclass(frozen=True)
class Blend:
    """One hypernetwork and its strength; `is_active` is asked at every use of a layer."""

    network: Hypernetwork
    strength: float = 1.0
    is_active: Callable[[], bool] = lambda: True


def build(width: int, network: Hypernetwork, state: State | None = None) -> nn.Sequential:
    """One small network in A1111's order of layers: a linear one, activation, norm, dropout; with a `state` its numbers are filled in by order. Raises InputError."""
    if network.activation.lower() not in ACTIVATIONS:
        raise InputError(f"The hypernetwork {network.name!r} uses the activation {network.activation!r}, which is not known here.", f"Known are {', '.join(ACTIVATIONS)}.")
    layers: list[nn.Module] = []
    steps = list(pairwise(network.structure))
    for i, (here, there) in enumerate(steps):
        layers.append(nn.Linear(int(width * here), int(width * there)))
        if network.activation.lower() != "linear" and (i < len(steps) - 1 or network.activate_output):
            layers.append(ACTIVATIONS[network.activation.lower()]())
        if network.layer_norm:
            layers.append(nn.LayerNorm(int(width * there)))
        if network.dropout and network.dropout[i + 1] > 0:
            layers.append(nn.Dropout(network.dropout[i + 1]))
    built = nn.Sequential(*layers)
    if state is not None:
        _fill(built, network, width, state)
    return built


def begun(width: int, network: Hypernetwork, seed: int, side: int) -> State:
    """The tensors of a new small network for keys (side 0) or values (1), from the seed alone: biases 0, norms as "Normal", the rest as the network's initialisation says. Raises InputError."""
    fill = INITIALIZATIONS.get(network.initialization)
    if fill is None:
        raise InputError(f"The hypernetwork {network.name!r} asks for the initialization {network.initialization!r}, which is not known here.", f"Known are {', '.join(INITIALIZATIONS)}.")
    built, bend = build(width, network), "leaky_relu" if network.activation.lower() == "leakyrelu" else "relu"
    for number, layer in enumerate(built):
        if isinstance(layer, nn.Linear | nn.LayerNorm):
            dice = torch.Generator().manual_seed(int.from_bytes(hashlib.sha256(f"{seed}/{width}/{side}/{number}".encode()).digest()[:8], "little") >> 1)
            (INITIALIZATIONS["Normal"] if isinstance(layer, nn.LayerNorm) else fill)(layer.weight.data, bend, dice)
            layer.bias.data.zero_()
    return state_of(built)


def live(width: int, network: Hypernetwork, state: State, chance: Chance) -> nn.Sequential:
    """A network with these numbers that can learn, in fp32; what is random in it comes from `chance`. Raises InputError."""
    built = build(width, network, state)
    for number, layer in enumerate(built):
        if isinstance(layer, nn.Dropout):
            built[number] = _Gaps(chance, number, layer.p)
        elif isinstance(layer, nn.RReLU):
            built[number] = _Slopes(chance, number)
    return built.train().requires_grad_(True)


def state_of(built: nn.Sequential) -> State:
    """A network's tensors under A1111's names: copies on the CPU."""
    return {f"linear.{key}": tensor.detach().to("cpu", torch.float32, copy=True) for key, tensor in built.state_dict().items()}


def widths_of(model: Model) -> tuple[int, ...]:
    """Widths of context that a model's attentions have, the smallest first."""
    return tuple(sorted({layer.in_features for path, layer in model.unet.named_modules() if path.endswith(_PROJECTIONS)}))


def _fill(built: nn.Sequential, network: Hypernetwork, width: int, state: State) -> None:
    """Give a network its numbers: files differ in how they count layers without numbers, so they go by order, linear layers and norms apart. Raises InputError."""
    groups: dict[str, State] = {}
    for key, tensor in state.items():
        head, _, tail = key.rpartition(".")
        groups.setdefault(head, {})[tail] = tensor
    square, flat = ([group for group in groups.values() if "weight" in group and group["weight"].ndim == rank] for rank in (2, 1))
    try:
        for layer in built:
            if isinstance(layer, nn.Linear):
                layer.load_state_dict(square.pop(0))
            elif isinstance(layer, nn.LayerNorm | nn.PReLU):
                layer.load_state_dict(flat.pop(0))
    except (IndexError, RuntimeError) as error:
        raise InputError(f"The hypernetwork {network.name!r} lacks numbers for its layers of width {width}.", "The file is damaged; get it again.") from error


def networks(network: Hypernetwork, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32) -> dict[int, tuple[nn.Sequential, nn.Sequential]]:
    """Every width's networks for keys and for values, filled, in evaluation mode. Raises InputError."""
    return {width: tuple(build(width, network, state).to(device, dtype).eval().requires_grad_(False) for state in pair) for width, pair in network.layers.items()}


@contextmanager
def blended(model: Model, blends: Sequence[Blend]) -> Iterator[None]:
    """Use hypernetworks for the length of the block, one after another in the order given; no weight is touched. Raises InputError for one that fits nowhere."""
    with ExitStack() as stack:
        for blend in blends:
            if not math.isfinite(blend.strength):
                raise InputError(f"The strength of the hypernetwork {blend.network.name!r} must be a finite number, not {blend.strength}.", "Between 0.3 and 1 is usual; 0 is off.")
            stack.enter_context(hooked(model, networks(blend.network, model.device, model.dtype), lambda blend=blend: blend.strength if blend.is_active() else 0.0, blend.network.name))
        yield


@contextmanager
def hooked(model: Model, pairs: dict[int, tuple[nn.Module, nn.Module]], strength: Callable[[], float], name: str = "", chance: Chance | None = None) -> Iterator[None]:
    """Let networks by width (keys, values) change the context of every attention, self-attention too; the networks may be in training, and `chance` is told where they act.

    Raises InputError when no layer has one of the widths.
    """
    handles = []
    try:
        for path, layer in model.unet.named_modules():
            side = next((i for i, end in enumerate(_PROJECTIONS) if path.endswith(f".{end}")), None)
            if side is not None and layer.in_features in pairs:
                handles.append(layer.register_forward_pre_hook(_hook(pairs[layer.in_features][side], strength, chance, path)))
        if not handles:
            raise misfit(model, name, pairs)
        yield
    finally:
        for handle in handles:
            handle.remove()


def misfit(model: Model, name: str, widths: Iterable[int]) -> InputError:
    """What to raise for a hypernetwork none of whose widths a model has."""
    return InputError(
        f"The hypernetwork {name!r} is for contexts of width {', '.join(map(str, widths))}; {model.checkpoint} has {', '.join(map(str, widths_of(model)))}.",
        "It was made for another kind of checkpoint.",
    )


def _hook(net: nn.Module, strength: Callable[[], float], chance: Chance | None, place: str) -> Callable[[nn.Module, tuple[Any, ...]], tuple[Any, ...] | None]:
    """What changes a layer's input: x + strength * net(x), in the networks' precision."""

    def before(_layer: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...] | None:
        x: Tensor = inputs[0]
        weight = next(net.parameters())
        if weight.device != x.device:
            net.to(x.device)
        if chance is not None:
            chance.place = place
        factor = strength()
        return None if factor == 0 else (x + factor * net(x.to(weight.dtype)).to(x.dtype), *inputs[1:])

    return before
