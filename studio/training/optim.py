"""Optimisers by name, what they remember, clipped gradients, and the rate of a step."""

import importlib
import importlib.util
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from lion_pytorch import Lion
from prodigyopt import Prodigy
from torch import Tensor, nn
from torch.optim import Optimizer
from transformers.optimization import Adafactor

from studio.errors import InputError
from studio.training.schedule import Schedule

__all__ = ["OPTIMIZERS", "Schedule", "adamw", "build", "clip", "effective_rate", "optimizer_tensors", "restore_optimizer", "set_rate", "why_not"]

Parameters = list[nn.Parameter]
FEW = 8
"""Tensors that are stepped one after another; more are faster together."""
Groups = list[Any]
"""Parameters, or groups of them as torch's optimisers take them."""


def adamw(parameters: Groups, rate: float, decay: float = 0.0) -> Optimizer:
    """AdamW (Loshchilov & Hutter 2019); on a graphics card, and where many tensors learn, all of them in one kernel."""
    count = sum(len(part["params"]) if isinstance(part, dict) else 1 for part in parameters)
    fused = _first(parameters).device.type == "cuda" or count > FEW
    return torch.optim.AdamW(parameters, lr=rate, weight_decay=decay, **({"fused": True} if fused else {"foreach": False}))


def _first(parameters: Groups) -> nn.Parameter:
    """The first parameter of all."""
    first = parameters[0]
    return first["params"][0] if isinstance(first, dict) else first


def _adamw_8bit(parameters: Groups, rate: float, decay: float) -> Optimizer:
    """AdamW whose moments take 8 bits each (Dettmers et al. 2022); tensors below 4096 numbers keep 32. Raises InputError where it cannot be had."""
    reason = why_not("AdamW 8-bit", _first(parameters).device.type)
    if reason:
        raise InputError(reason)
    return importlib.import_module("bitsandbytes").optim.AdamW8bit(parameters, lr=rate, weight_decay=decay)


def _prodigy(parameters: Groups, rate: float, decay: float) -> Optimizer:
    """Prodigy (Mishchenko & Defazio 2024): estimates the rate itself and multiplies it with `rate`, so that 1 is right; safe with a warm-up."""
    return Prodigy(parameters, lr=rate, weight_decay=decay, use_bias_correction=True, safeguard_warmup=True)


def _adafactor(parameters: Groups, rate: float, decay: float) -> Optimizer:
    """Adafactor (Shazeer & Stern 2018) at the rates that are written, as AdamW takes them: neither its own rate nor one relative to the weights."""
    return Adafactor(parameters, lr=rate, weight_decay=decay, relative_step=False, scale_parameter=False)


def _lion(parameters: Groups, rate: float, decay: float) -> Optimizer:
    """Lion (Chen et al. 2023): each number moves by exactly the rate, so it wants a third to a tenth of AdamW's."""
    return Lion(parameters, lr=rate, weight_decay=decay)


OPTIMIZERS: tuple[tuple[str, Callable[[Groups, float, float], Optimizer]], ...] = (
    ("AdamW", adamw),
    ("AdamW 8-bit", _adamw_8bit),
    ("Prodigy", _prodigy),
    ("Adafactor", _adafactor),
    ("Lion", _lion),
)
"""Every optimiser and what builds it from parameters, a rate and a weight decay."""


def why_not(name: str, device: str) -> str:
    """A sentence about why this optimiser cannot be used on a kind of device ("cuda", "cpu"); empty when it can."""
    if name != "AdamW 8-bit":
        return ""
    if device != "cuda":
        return f"Optimizer: {name} needs an NVIDIA card, and this training runs on {device}; choose AdamW, which learns the same with a little more memory."
    if importlib.util.find_spec("bitsandbytes") is None:
        return f"Optimizer: {name} needs the package bitsandbytes, which is not installed; run pip install bitsandbytes, or choose AdamW."
    return ""


def build(name: str, parameters: Iterable[nn.Parameter] | Sequence[Parameters], rate: float, decay: float = 0.0) -> Optimizer:
    """The optimiser called `name` over `parameters`, or over groups of them, in their order; raises InputError when it is unknown or cannot be used here."""
    maker = dict(OPTIMIZERS).get(name)
    if maker is None:
        raise InputError(f"Optimizer: there is no {name!r}; choose one of {', '.join(known for known, _ in OPTIMIZERS)}.")
    return maker([part if isinstance(part, nn.Parameter) else {"params": list(part)} for part in parameters], rate, decay)


def set_rate(optimizer: Optimizer, rate: float, shares: Sequence[float] = ()) -> None:
    """Use `rate` for the next step, times each group's share; an optimiser that finds its own rate knows on and off alone."""
    for number, group in enumerate(optimizer.param_groups):
        share = shares[number] if shares else 1.0
        group["lr"] = rate * (float(share > 0) if "d" in group else share)
        if not share:
            for parameter in group["params"]:
                parameter.grad = None


def effective_rate(optimizer: Optimizer) -> float:
    """The rate that steps are taken at: what was set, times the estimate of an optimiser that makes one."""
    return max(group["lr"] * group.get("d", 1.0) for group in optimizer.param_groups)


def clip(parameters: Iterable[nn.Parameter], mode: str, amount: float) -> None:
    """Cap each number of the gradients ("value") or the length of all of them together ("norm") at `amount`; any loss scale must be out of them already."""
    if mode == "value":
        nn.utils.clip_grad_value_(list(parameters), amount)
    elif mode == "norm":
        nn.utils.clip_grad_norm_(list(parameters), amount)


def optimizer_tensors(optimizer: Optimizer) -> dict[str, Tensor]:
    """Everything the optimiser remembers, by name, on the CPU: tensors of each parameter, and numbers, also those of its groups, as tensors of 64 bits."""
    kept: dict[str, Tensor] = {}
    for i, parameter in enumerate(_parameters(optimizer)):
        for key, value in optimizer.state.get(parameter, {}).items():
            if isinstance(value, Tensor):
                kept[f"optimizer.{i}.{key}"] = value.detach().cpu().clone()
            elif _number(value):
                kept[f"optimizer.number.{i}.{key}"] = _boxed(value)
    for i, group in enumerate(optimizer.param_groups):
        kept |= {f"optimizer.group.{i}.{key}": _boxed(value) for key, value in group.items() if _number(value)}
    return kept


def restore_optimizer(optimizer: Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Make the optimiser remember what `optimizer_tensors` gave; step counters that are tensors stay on the CPU, as AdamW keeps them where it is not fused."""
    parameters = _parameters(optimizer)
    for name, value in tensors.items():
        if not name.startswith("optimizer."):
            continue
        kind, _, rest = name.removeprefix("optimizer.").partition(".")
        index, _, key = rest.partition(".")
        if kind == "group":
            optimizer.param_groups[int(index)][key] = value.item()
        elif kind == "number":
            optimizer.state[parameters[int(index)]][key] = value.item()
        else:
            parameter = parameters[int(kind)]
            fused = optimizer.param_groups[0].get("fused")
            optimizer.state[parameter][rest] = value.clone() if rest == "step" and not fused else value.to(parameter.device).clone()


def _parameters(optimizer: Optimizer) -> Parameters:
    """All parameters in the order of their groups."""
    return [p for group in optimizer.param_groups for p in group["params"]]


def _number(value: Any) -> bool:
    """Whether a value is a whole or a decimal number, and not a switch."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def _boxed(value: float) -> Tensor:
    """A number as a tensor that holds all of it."""
    return torch.tensor(value, dtype=torch.int64 if isinstance(value, int) else torch.float64)
