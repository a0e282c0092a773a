"""Figures of growth: how much networks beside layers change, cheaply enough for every step."""

from collections.abc import Sequence

import torch
from torch import Tensor

from studio.diffusion.growing import Growth
from studio.formats.delta import Delta

SEEN = 8
"""Layers that are looked at, spread over the network, where a change must be multiplied out to be measured."""


@torch.no_grad()
def mean_change(growths: Sequence[Growth]) -> Tensor:
    """Mean Frobenius norm of what is added to a layer's weight, before DoRA scales it; a scalar in fp32.

    Of two matrices the norm follows from their small Gram matrices: |U D|^2 = sum of (U^T U) * (D D^T). Of other kinds some layers stand for all.
    """
    plain: dict[tuple[tuple[int, ...], ...], list[Delta]] = {}
    others = []
    for growth in growths:
        t = growth.delta.tensors
        if growth.delta.kind.name == "LoRA" and not {"lora_mid", "scalar"} & set(t):
            plain.setdefault((tuple(t["lora_down"].shape), tuple(t["lora_up"].shape)), []).append(growth.delta)
        else:
            others.append(growth)
    norms = [_products(deltas) for deltas in plain.values()]
    norms += [_multiplied(growth)[None] for growth in others[:: max(1, -(-len(others) // SEEN))]]
    return torch.cat(norms).mean()


def _products(deltas: Sequence[Delta]) -> Tensor:
    """Norms [n] of n products of the same shape."""
    down, up = (torch.stack([delta.tensors[name].flatten(1) for delta in deltas]) for name in ("lora_down", "lora_up"))
    squares = (torch.bmm(up.mT, up) * torch.bmm(down, down.mT)).sum((1, 2)).clamp(min=0)
    return squares.sqrt() * torch.tensor([abs(delta.scale) for delta in deltas], device=squares.device)


def _multiplied(growth: Growth) -> Tensor:
    """The norm of one change, by multiplying it out."""
    tensors = {name: tensor for name, tensor in growth.delta.tensors.items() if name != "dora_scale"}
    change, _ = Delta(growth.delta.kind, tensors, growth.delta.alpha, growth.delta.factor).change(growth.layer.module.weight)
    return torch.zeros((), device=growth.layer.module.weight.device) if change is None else change.norm()


@torch.no_grad()
def mean_distance(parameters: Sequence[Tensor], start: Sequence[Tensor]) -> Tensor:
    """Mean length of how far tensors are from where they started; a scalar."""
    return torch.stack(torch._foreach_norm(torch._foreach_sub(list(parameters), list(start)))).mean()
