"""Bypasses: what a layer answers with a live adapter beside it, without a trace in the layer, and with gradients for the adapter alone.

LoRA, LoKr and (IA)3 are a second path beside the layer. The others change its weight by `studio.formats.delta`, whose result is computed again on the way back instead of being kept.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from studio.formats.delta import Delta, kronecker_factors

Forward = Callable[[Tensor], Tensor]
Tensors = dict[str, Tensor]
_EPS = torch.finfo(torch.float32).eps


class Gaps:
    """What dropout leaves out of one layer in one step, as factors that are 0 or what makes up for the zeros; None where nothing is left out.

    `inner(shape, like)` are factors for what passes through a LoRA's middle, the same for every picture; `rows` and `columns` for a change of weight [out, in].
    """

    def __init__(self, draw: Callable[[str, tuple[int, ...], float, Tensor], Tensor], dropout: float, rank_dropout: float) -> None:
        self.draw, self.dropout, self.rank_dropout = draw, dropout, rank_dropout

    def inner(self, shape: tuple[int, ...], axis: int, like: Tensor) -> Tensor | None:
        """Factors of `shape`, whose axis of ranks is `axis`."""
        ranks = [size if i == axis % len(shape) else 1 for i, size in enumerate(shape)]
        factors = self.draw("inner", shape, self.dropout, like) if self.dropout else None
        if self.rank_dropout:
            whole = self.draw("ranks", tuple(ranks), self.rank_dropout, like)
            factors = whole if factors is None else factors * whole
        return factors

    def sides(self, out: int, into: int, like: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """Factors of rows [out] and of columns [in]."""
        rows = self.draw("ranks", (out,), self.rank_dropout, like) if self.rank_dropout else None
        return rows, self.draw("inner", (into,), self.dropout, like) if self.dropout else None


def bypass(module: nn.Module, delta: Delta) -> Callable[[nn.Module, Delta, Forward | None, Tensor, Gaps | None], Tensor]:
    """Which of the ways below computes a layer with this adapter; each takes the layer, the adapter, what the layer's forward was replaced by before (None: its own), the input and the gaps."""
    names = set(delta.tensors)
    if isinstance(module, nn.LayerNorm | nn.GroupNorm):
        return _normed
    if delta.kind.name == "LoRA" and names == {"lora_up", "lora_down"}:
        return _low_rank if isinstance(module, nn.Linear) else _convolved
    if delta.kind.name == "LoRA" and names == {"lora_up", "lora_down", "lora_mid"}:
        return _convolved
    if delta.kind.name == "LoRA" and names == {"lora_up", "lora_down", "dora_scale"} and isinstance(module, nn.Linear) and delta.tensors["dora_scale"].shape == (1, module.in_features):
        return _decomposed
    if delta.kind.name == "LoKr" and not names & {"dora_scale", "scalar"}:
        return _kronecker
    return _scaled if delta.kind.name == "IA3" and names <= {"weight", "on_input"} else _changed


def _low_rank(module: nn.Module, delta: Delta, forward: Forward | None, x: Tensor, gaps: Gaps | None) -> Tensor:
    """W x + s up(down x) for a linear layer."""
    down, up = delta.tensors["lora_down"], delta.tensors["lora_up"]
    factors = gaps and gaps.inner((*x.shape[1:-1], len(down)), -1, x)
    if forward is None:
        return _LowRank.apply(x, down, up, (module.weight, module.bias, factors, delta.scale))
    inner = F.linear(x, down.to(x.dtype))
    return torch.add(forward(x), F.linear(inner if factors is None else inner * factors, up.to(x.dtype)), alpha=delta.scale)


class _LowRank(torch.autograd.Function):
    """A linear layer with a LoRA in one piece: of what is computed only the middle is kept, and nothing is added that could be accumulated."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, down: Tensor, up: Tensor, fixed: tuple[Tensor, Tensor | None, Tensor | None, float]) -> Tensor:
        """x [..., in] to [..., out]; `fixed` are the layer's weight and bias, factors of the middle [..., r] without the first axis, and the scale."""
        weight, bias, factors, scale = fixed
        out = F.linear(x, weight, bias).contiguous()
        inner = F.linear(x, down.to(x.dtype))
        inner = inner if factors is None else inner * factors
        out.view(-1, out.shape[-1]).addmm_(inner.reshape(-1, inner.shape[-1]), up.to(x.dtype).t(), alpha=scale)
        ctx.save_for_backward(x, weight, down, up, factors, inner)
        ctx.scale = scale
        return out

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of the input, of `down` and of `up`."""
        x, weight, down, up, factors, inner = ctx.saved_tensors
        flat = gradient.reshape(-1, gradient.shape[-1])
        before = torch.mm(flat, up.to(flat.dtype)).mul_(ctx.scale)
        if factors is not None:
            before = before.view(inner.shape).mul_(factors).view(before.shape)
        to_up = torch.mm(flat.t(), inner.reshape(-1, inner.shape[-1])).mul_(ctx.scale).to(up.dtype) if ctx.needs_input_grad[2] else None
        to_down = torch.mm(before.t(), x.reshape(-1, x.shape[-1])).to(down.dtype) if ctx.needs_input_grad[1] else None
        to_x = torch.mm(flat, weight).addmm_(before, down.to(flat.dtype)).view(x.shape) if ctx.needs_input_grad[0] else None
        return to_x, to_down, to_up, None


def _convolved(module: nn.Module, delta: Delta, forward: Forward | None, x: Tensor, gaps: Gaps | None) -> Tensor:
    """The same for a convolution, whose kernel is in `down`, or in a core between thin matrices."""
    t = {name: tensor.to(x.dtype) for name, tensor in delta.tensors.items()}
    place = (module.stride, module.padding, module.dilation)
    before, kernel = (F.conv2d(x, t["lora_down"]), t["lora_mid"]) if "lora_mid" in t else (x, t["lora_down"])
    inner = F.conv2d(before, kernel, None, *place)
    factors = gaps and gaps.inner((1, *inner.shape[1:]), 1, x)
    second = F.conv2d(inner if factors is None else inner * factors, t["lora_up"])
    return own(module, x).add_(second, alpha=delta.scale) if forward is None else torch.add(forward(x), second, alpha=delta.scale)


def own(module: nn.Module, x: Tensor) -> Tensor:
    """What a layer answers by its class."""
    answer: Tensor = type(module).forward(module, x)
    return answer


def _decomposed(module: nn.Module, delta: Delta, forward: Forward | None, x: Tensor, gaps: Gaps | None) -> Tensor:
    """DoRA on the input axis for a linear layer: (W + s up down) (c x), where c brings each column to its learned length.

    The lengths of W + s up down follow from small products, and no gradient goes through them (Liu et al. 2024, 4.3).
    """
    down, up, scale = delta.tensors["lora_down"], delta.tensors["lora_up"], delta.scale
    with torch.no_grad():
        weight = module.weight
        crossed = torch.mm(up.t().to(weight.dtype), weight).float()
        squares = torch.linalg.vector_norm(weight, dim=0, dtype=torch.float32).square()
        squares += (2 * scale * crossed + scale**2 * (up.t() @ up @ down)).mul_(down).sum(0)
        lengths = squares.clamp_(min=0).sqrt_().add_(_EPS)
    factor = (delta.tensors["dora_scale"][0] / lengths).to(x.dtype)
    plain = Delta(delta.kind, {"lora_up": up, "lora_down": down}, scale * len(down))
    return _low_rank(module, plain, forward, x * factor, gaps)


def _kronecker(module: nn.Module, delta: Delta, forward: Forward | None, x: Tensor, gaps: Gaps | None) -> Tensor:
    """W x + s (A kron B) x: B on every part of the input, then A over the parts; what lies between is computed again on the way back."""
    sides = gaps.sides(module.weight.shape[0], module.weight.shape[1], x) if gaps else (None, None)
    part = partial(_kronecker_part, module, delta, sides)
    added = checkpoint(part, x, use_reentrant=False, preserve_rng_state=False) if torch.is_grad_enabled() else part(x)
    return torch.add((forward or module_forward(module))(x), added, alpha=delta.scale)


def _kronecker_part(module: nn.Module, delta: Delta, sides: tuple[Tensor | None, Tensor | None], x: Tensor) -> Tensor:
    """(A kron B) x without what is left out."""
    first, second = (factor.to(x.dtype) for factor in kronecker_factors(delta.tensors, module.weight))
    rows, columns = sides
    spread = [1] * (module.weight.ndim - 2)
    inner = x if columns is None else x * columns.view(-1, *spread)
    if isinstance(module, nn.Linear):
        inner = F.linear(inner.unflatten(-1, (first.shape[1], -1)), second)
        added = torch.matmul(first, inner).flatten(-2)
    else:
        inner = F.conv2d(inner.reshape(len(x) * first.shape[1], -1, *x.shape[2:]), second, None, module.stride, module.padding, module.dilation)
        added = torch.matmul(first, inner.view(len(x), first.shape[1], -1)).view(len(x), -1, *inner.shape[2:])
    return added if rows is None else added * rows.view(-1, *spread)


def module_forward(module: nn.Module) -> Forward:
    """A layer's forward by its class."""
    return lambda x: own(module, x)


def _scaled(module: nn.Module, delta: Delta, forward: Forward | None, x: Tensor, gaps: Gaps | None) -> Tensor:
    """(IA)3: what enters, or what leaves without the bias, times 1 + v."""
    by = delta.tensors["weight"].to(x.dtype).view(-1, *[1] * (module.weight.ndim - 2))
    forward = forward or module_forward(module)
    if "on_input" in delta.tensors and bool(delta.tensors["on_input"]):
        return forward(x + x * by)
    out = forward(x)
    bias = None if module.bias is None else module.bias.view(by.shape)
    return out + (out if bias is None else out - bias) * by


def _normed(module: nn.Module, delta: Delta, forward: Forward | None, x: Tensor, gaps: Gaps | None) -> Tensor:
    """A norm whose gain and shift are changed."""
    gain, shift = (None if old is None else old + delta.tensors[new].to(old.dtype) if new in delta.tensors else old for old, new in ((module.weight, "w_norm"), (module.bias, "b_norm")))
    if isinstance(module, nn.LayerNorm):
        return F.layer_norm(x, module.normalized_shape, gain, shift, module.eps)
    return F.group_norm(x, module.num_groups, gain, shift, module.eps)


@torch.compiler.disable
def _changed(module: nn.Module, delta: Delta, forward: Forward | None, x: Tensor, gaps: Gaps | None) -> Tensor:
    """(W + change) x for every other kind."""
    sides = gaps.sides(module.weight.shape[0], module.weight.shape[1], x) if gaps else (None, None)
    answer: Tensor = _Changed.apply(x, module, delta, sides, *delta.tensors.values())
    return answer


class _Changed(torch.autograd.Function):
    """A layer with a changed weight that is not kept: on the way back it is made again from the adapter's few numbers."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, module: nn.Module, delta: Delta, sides: tuple[Tensor | None, Tensor | None], *tensors: Tensor) -> Tensor:
        """The layer's answer to x; `tensors` are the adapter's, so that gradients reach them."""
        ctx.module, ctx.delta, ctx.sides = module, delta, sides
        ctx.save_for_backward(x, *tensors)
        weight, bias = _weights(module, delta, sides)
        if isinstance(module, nn.Linear):
            return F.linear(x, weight.to(x.dtype), None if bias is None else bias.to(x.dtype))
        return F.conv2d(x, weight.to(x.dtype), None if bias is None else bias.to(x.dtype), module.stride, module.padding, module.dilation)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Any, ...]:
        """Gradients of the input and of the adapter's tensors."""
        x, *tensors = ctx.saved_tensors
        module = ctx.module
        leaves = [t.detach().requires_grad_(needed) for t, needed in zip(tensors, ctx.needs_input_grad[4:], strict=True)]
        with torch.enable_grad():
            weight, bias = _weights(module, Delta(ctx.delta.kind, dict(zip(ctx.delta.tensors, leaves, strict=True)), ctx.delta.alpha, ctx.delta.factor), ctx.sides)
        to_x, to_weight, to_bias = _gradients(module, x, weight.detach().to(x.dtype), gradient, ctx.needs_input_grad[0])
        outputs = [(w, g) for w, g in ((weight, to_weight), (bias, to_bias)) if w is not None and w.requires_grad]
        wanted = [leaf for leaf in leaves if leaf.requires_grad]
        found = iter(torch.autograd.grad([w for w, _ in outputs], wanted, [g.to(w.dtype) for w, g in outputs], allow_unused=True) if outputs else [None] * len(wanted))
        return to_x, None, None, None, *(next(found) if leaf.requires_grad else None for leaf in leaves)


def _weights(module: nn.Module, delta: Delta, sides: tuple[Tensor | None, Tensor | None]) -> tuple[Tensor, Tensor | None]:
    """A layer's weight and bias with the change in fp32."""
    change, shift = delta.change(module.weight, module.bias)
    weight, bias = module.weight.detach().float(), module.bias
    if change is not None:
        rows, columns = sides
        spread = [1] * (weight.ndim - 2)
        change = change if rows is None else change * rows.view(-1, 1, *spread)
        change = change if columns is None else change * columns.view(1, -1, *spread)
        weight = weight + change
    return weight, bias if bias is None or shift is None else bias.detach().float() + shift


def _gradients(module: nn.Module, x: Tensor, weight: Tensor, gradient: Tensor, of_x: bool) -> tuple[Tensor | None, Tensor, Tensor]:
    """Gradients of the input (when wanted), of the weight and of the bias."""
    if isinstance(module, nn.Linear):
        flat = gradient.reshape(-1, gradient.shape[-1])
        return torch.mm(flat, weight).view(x.shape) if of_x else None, torch.mm(flat.t(), x.reshape(-1, x.shape[-1])), flat.sum(0)
    sizes = [len(weight)] if module.bias is not None else None
    found = torch.ops.aten.convolution_backward(gradient, x, weight, sizes, module.stride, module.padding, module.dilation, False, [0, 0], 1, (of_x, True, sizes is not None))
    return found[0], found[1], found[2]
