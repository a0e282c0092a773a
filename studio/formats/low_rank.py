"""Matrices of low rank: singular values of whole ones and of products, how many to keep, and the LoRA they make."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from studio.formats.delta import KINDS, Delta

_LORA = next(kind for kind in KINDS if kind.name == "LoRA")
_FULL = next(kind for kind in KINDS if kind.name == "Full")
_NORM = next(kind for kind in KINDS if kind.name == "Norm")
_FLAT = 2
"""From this ratio of its sides on, a matrix is decomposed by the product with itself (in double precision)."""


@dataclass(frozen=True)
class Factors:
    """A matrix [out, in] as left [out, k] @ diag(values [k], the largest first) @ right [k, in]."""

    left: Tensor
    values: Tensor
    right: Tensor

    def kept(self, rank: int) -> float:
        """The share of its Frobenius norm that the first `rank` singular values hold, 0..1."""
        whole = self.values.double().square().sum()
        return float((self.values[:rank].double().square().sum() / whole).sqrt()) if whole > 0 else 1.0

    def lora(self, rank: int, shape: tuple[int, ...]) -> Delta:
        """The nearest LoRA of a rank for a layer of a shape [out, in, ...]; alpha is the rank, both halves weigh the same."""
        rank = max(1, min(rank, len(self.values)))
        root = self.values[:rank].clamp(min=0).sqrt()
        down = (root[:, None] * self.right[:rank]).reshape(rank, *shape[1:])
        up = (self.left[:, :rank] * root).reshape(shape[0], rank, *[1] * (len(shape) - 2))
        return Delta(_LORA, {"lora_down": down.contiguous(), "lora_up": up.contiguous()}, float(rank))


def factored(matrix: Tensor) -> Factors:
    """All singular values of a matrix [out, in] in fp32; a flat or high one through the eigenvectors of its smaller side, in double precision, which is as exact and much faster."""
    rows, columns = matrix.shape
    if max(rows, columns) < _FLAT * min(rows, columns):
        return Factors(*torch.linalg.svd(matrix.float(), full_matrices=False))
    if rows > columns:
        turned = factored(matrix.T)
        return Factors(turned.right.T, turned.values, turned.left.T)
    wide = matrix.double()
    squares, left = torch.linalg.eigh(wide @ wide.T)
    squares, left = squares.flip(0), left.flip(1)
    values = squares.clamp(min=0).sqrt()
    right = (left.T @ wide) / values.clamp(min=torch.finfo(torch.float64).tiny)[:, None]
    right[values <= values[:1] * 1e-12] = 0
    return Factors(left.float(), values.float(), right.float())


def factored_product(up: Tensor, down: Tensor) -> Factors:
    """The singular values of up [out, r] @ down [r, in], exactly and without making the product."""
    if up.shape[1] >= min(up.shape[0], down.shape[1]):
        return factored(up.float() @ down.float())
    left, a = torch.linalg.qr(up.float())
    right, b = torch.linalg.qr(down.float().T)
    inner = torch.linalg.svd(a @ b.T, full_matrices=False)
    return Factors(left @ inner[0], inner[1], inner[2] @ right.T)


def rank_by(method: str, target: float) -> Callable[[Tensor], int]:
    """From singular values, the largest first, to how many are kept: at least one.

    "Ratio" keeps those above the largest / target, "Cumulative" as many as hold that share of their sum, "Frobenius" that share of their norm; anything else keeps all.
    """

    def chosen(values: Tensor) -> int:
        values = values.double()
        if method == "Ratio":
            return max(1, int((values > values[0] / target).sum()))
        powers = {"Cumulative": values, "Frobenius": values.square()}.get(method)
        if powers is None or float(powers.sum()) <= 0:
            return len(values) if powers is None else 1
        share = powers.cumsum(0) / powers.sum()
        wanted = target if method == "Cumulative" else target**2
        return min(len(values), 1 + int((share < wanted - 1e-12).sum()))

    return chosen


def plain_halves(delta: Delta) -> tuple[Tensor, Tensor] | None:
    """Up [out, r] and down [r, in, ...] of a change that is a LoRA and nothing else, alpha and scalar within `up`, a Tucker core within `down`; None for all other kinds."""
    parts = delta.tensors
    if delta.kind is not _LORA or "dora_scale" in parts:
        return None
    down = parts["lora_down"].float()
    if "lora_mid" in parts:
        down = torch.einsum("abkl,bi->aikl", parts["lora_mid"].float(), down.flatten(1))
    return parts["lora_up"].float().flatten(1) * (delta.scale * float(parts.get("scalar", 1.0))), down


def joined(halves: list[tuple[Tensor, Tensor]], weights: list[float]) -> Delta:
    """The sum of weighted LoRAs of one layer as one LoRA: the ranks add up, each weight goes into both halves as the root of its size."""
    ups = [up * (abs(w) ** 0.5 if w >= 0 else -(abs(w) ** 0.5)) for (up, _), w in zip(halves, weights, strict=True)]
    downs = [down * abs(w) ** 0.5 for (_, down), w in zip(halves, weights, strict=True)]
    up, down = torch.cat(ups, 1), torch.cat(downs)
    return Delta(_LORA, {"lora_up": up.reshape(*up.shape, *[1] * (down.ndim - 2)), "lora_down": down}, float(len(down)))


def whole_change(weight: Tensor | None, bias: Tensor | None, normal: bool) -> Delta:
    """A change that is kept as it is, number by number: of a layer's weight and bias, or of a normalising layer's."""
    names = ("w_norm", "b_norm") if normal else ("diff", "diff_b")
    return Delta(_NORM if normal else _FULL, {name: t for name, t in zip(names, (weight, bias), strict=True) if t is not None})


def with_bias(delta: Delta, bias: Tensor | None) -> Delta:
    """The same change that also shifts the bias."""
    return delta if bias is None else Delta(delta.kind, {**delta.tensors, "diff_b": bias}, delta.alpha, delta.factor)
