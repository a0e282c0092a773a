"""Hypernetworks on a model: x + strength * net(x) on the context before keys and values are made of it, for the length of a block."""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from studio.diffusion.model import Model
from studio.errors import InputError
from studio.formats.hypernetwork import Hypernetwork, State

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


@dataclass(frozen=True)
class Blend:
    """One hypernetwork and its strength."""

    network: Hypernetwork
    strength: float = 1.0


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
            stack.enter_context(hooked(model, networks(blend.network, model.device, model.dtype), lambda strength=blend.strength: strength, blend.network.name))
        yield


@contextmanager
def hooked(model: Model, pairs: dict[int, tuple[nn.Module, nn.Module]], strength: Callable[[], float], name: str = "") -> Iterator[None]:
    """Let networks by width (keys, values) change the context of every attention, self-attention too; the networks may be in training. Raises InputError when no layer has one of the widths."""
    handles = []
    try:
        for path, layer in model.unet.named_modules():
            side = next((i for i, end in enumerate(_PROJECTIONS) if path.endswith(f".{end}")), None)
            if side is not None and layer.in_features in pairs:
                handles.append(layer.register_forward_pre_hook(_hook(pairs[layer.in_features][side], strength)))
        if not handles:
            widths = sorted({layer.in_features for path, layer in model.unet.named_modules() if path.endswith(_PROJECTIONS)})
            raise InputError(
                f"The hypernetwork {name!r} is for contexts of width {', '.join(map(str, pairs))}; {model.checkpoint} has {', '.join(map(str, widths))}.",
                "It was made for another kind of checkpoint.",
            )
        yield
    finally:
        for handle in handles:
            handle.remove()


def _hook(net: nn.Module, strength: Callable[[], float]) -> Callable[[nn.Module, tuple[Any, ...]], tuple[Any, ...] | None]:
    """What changes a layer's input: x + strength * net(x), in the networks' precision."""

    def before(_layer: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...] | None:
        x: Tensor = inputs[0]
        weight = next(net.parameters())
        if weight.device != x.device:
            net.to(x.device)
        factor = strength()
        return None if factor == 0 else (x + factor * net(x.to(weight.dtype)).to(x.dtype), *inputs[1:])

    return before
