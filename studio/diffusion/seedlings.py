"""Seedlings: how the tensors of each kind of adapter begin, so that at first nothing changes; the same numbers on every machine."""

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from studio.diffusion.targets import Layer, is_spatial
from studio.formats.delta import KINDS, Kind

Tensors = dict[str, Tensor]
_ON_INPUT = (".ff.net.2", ".mlp.fc2")
"""Layers whose input (IA)3 scales, as its authors do between a transformer's two feed-forward layers; of all others it scales what comes out."""


@dataclass(frozen=True)
class Recipe:
    """What is put beside layers: kind ("LoRA", "LoHa", "LoKr", "IA3", "Full"; norms get a "Norm" of their own), and how large it is and how strong.

    `alpha` and `conv_alpha` 0 mean as large as the rank, `conv_rank` 0 the rank of all others. `tucker` splits 3x3 convolutions into a core and two matrices (not in Full);
    `factor` and `full` are LoKr's. Shares of what is left out in training, 0 to 1: `dropout` of what passes through, `rank_dropout` of ranks (of outputs, where there are none
    in the middle), `module_dropout` of whole layers.
    """

    kind: str = "LoRA"
    rank: int = 16
    alpha: float = 0.0
    conv_rank: int = 0
    conv_alpha: float = 0.0
    tucker: bool = False
    factor: int = -1
    full: bool = False
    dora: bool = False
    dropout: float = 0.0
    rank_dropout: float = 0.0
    module_dropout: float = 0.0
    seed: int = 0


@dataclass(frozen=True)
class Seedling:
    """The tensors of one layer's adapter in fp32 on the CPU, as `studio.formats.delta` reads them; alpha None where there is no rank."""

    kind: Kind
    tensors: Tensors
    alpha: float | None


def seedling(layer: Layer, recipe: Recipe, rank: int) -> Seedling:
    """What begins beside a layer, with a change of exactly nothing."""
    name = "Norm" if isinstance(layer.module, nn.LayerNorm | nn.GroupNorm) else recipe.kind
    kind = next(kind for kind in KINDS if kind.name == name)
    tensors = _BEGINNINGS[name](_Plot(layer, recipe, rank))
    alpha = (recipe.conv_alpha if is_spatial(layer.module) and recipe.conv_rank else recipe.alpha) or float(rank)
    ranked = kind.rank({name: tuple(t.shape) for name, t in tensors.items()})
    return Seedling(kind, tensors, alpha if ranked else None)


def column_lengths(weight: Tensor) -> Tensor:
    """DoRA's magnitudes on the input axis, [1, in] or [1, in, 1, 1] in fp32: how long each column of a weight is."""
    return torch.linalg.vector_norm(weight.detach().float(), dim=[dim for dim in range(weight.ndim) if dim != 1], keepdim=True)


class _Plot:
    """One layer's shape, and numbers drawn for it by the recipe's seed and its name alone."""

    def __init__(self, layer: Layer, recipe: Recipe, rank: int) -> None:
        self.layer, self.recipe, self.rank = layer, recipe, rank
        self.shape = tuple(layer.module.weight.shape)
        self.kernel = self.shape[2:]
        self.tucker = recipe.tucker and is_spatial(layer.module)

    def _draw(self, name: str) -> np.random.Generator:
        """Random numbers for one tensor."""
        key = hashlib.sha256(f"{self.recipe.seed}/{self.layer.name}/{name}".encode()).digest()[:16]
        return np.random.Generator(np.random.Philox(key=int.from_bytes(key, "little")))

    def uniform(self, name: str, *shape: int) -> Tensor:
        """Kaiming's uniform numbers with a = sqrt 5: as far as 1 / sqrt(how much comes in)."""
        bound = 1 / math.sqrt(max(1, math.prod(shape[1:])))
        return torch.from_numpy(self._draw(name).random(shape, dtype=np.float32)).mul_(2 * bound).sub_(bound)

    def normal(self, name: str, deviation: float, *shape: int) -> Tensor:
        """Normal numbers."""
        return torch.from_numpy(self._draw(name).standard_normal(shape, dtype=np.float32)).mul_(deviation)


def _lora(plot: _Plot) -> Tensors:
    """down drawn, up zeros; with a core, the kernel is in the middle (LoCon)."""
    out, into, flat, r = *plot.shape[:2], [1] * len(plot.kernel), plot.rank
    up = torch.zeros(out, r, *flat)
    if plot.tucker:
        return {"lora_down": plot.uniform("lora_down", r, into, *flat), "lora_up": up, "lora_mid": plot.uniform("lora_mid", r, r, *plot.kernel)}
    return {"lora_down": plot.uniform("lora_down", r, into, *plot.kernel), "lora_up": up}


def _loha(plot: _Plot) -> Tensors:
    """Two products, of which the second begins as zeros (LyCORIS)."""
    out, into, r = *plot.shape[:2], plot.rank
    size = into * math.prod(plot.kernel)
    first = {"hada_w1_a": plot.normal("hada_w1_a", 0.1, *((r, out) if plot.tucker else (out, r))), "hada_w1_b": plot.normal("hada_w1_b", 1.0, r, into if plot.tucker else size)}
    second = {"hada_w2_a": torch.zeros_like(first["hada_w1_a"]), "hada_w2_b": plot.normal("hada_w2_b", 1.0, r, into if plot.tucker else size)}
    cores = {name: plot.normal(name, 0.1, r, r, *plot.kernel) for name in ("hada_t1", "hada_t2")} if plot.tucker else {}
    return first | second | cores


def _lokr(plot: _Plot) -> Tensors:
    """A small matrix drawn, and a large one that begins as zeros: whole when asked or when the rank would save nothing (LyCORIS)."""
    (out1, out2), (in1, in2) = (divided(size, plot.recipe.factor) for size in plot.shape[:2])
    r = plot.rank
    first = {"lokr_w1": plot.uniform("lokr_w1", out1, in1)}
    if plot.recipe.full or r >= max(out2, in2) / 2:
        return first | {"lokr_w2": torch.zeros(out2, in2, *plot.kernel)}
    if plot.tucker:
        return first | {"lokr_t2": plot.uniform("lokr_t2", r, r, *plot.kernel), "lokr_w2_a": plot.uniform("lokr_w2_a", r, out2), "lokr_w2_b": torch.zeros(r, in2)}
    return first | {"lokr_w2_a": plot.uniform("lokr_w2_a", out2, r), "lokr_w2_b": torch.zeros(r, in2 * math.prod(plot.kernel))}


def divided(size: int, factor: int) -> tuple[int, int]:
    """A size as a product, the smaller first: `factor` if it divides it, else its largest divisor that is at most `factor` (-1: anything) and the square root."""
    if factor > 0 and size % factor == 0:
        return min(factor, size // factor), max(factor, size // factor)
    limit = math.isqrt(size) if factor < 0 else min(factor, math.isqrt(size))
    small = next(n for n in range(max(1, limit), 0, -1) if size % n == 0)
    return small, size // small


def _ia3(plot: _Plot) -> Tensors:
    """No scaling at all; LyCORIS keeps a linear layer's factors as a vector, a convolution's as [1, n, 1, 1]."""
    on_input = f".{plot.layer.path}".endswith(_ON_INPUT)
    size = plot.shape[1 if on_input else 0]
    return {"weight": torch.zeros(1, size, *[1] * len(plot.kernel)) if plot.kernel else torch.zeros(size), "on_input": torch.tensor(on_input)}


def _added(weight: str, bias: str) -> Callable[[_Plot], Tensors]:
    """Zeros as large as the weight, and the bias if there is one."""

    def begin(plot: _Plot) -> Tensors:
        given = getattr(plot.layer.module, "bias", None)
        return {weight: torch.zeros(plot.shape)} | ({} if given is None else {bias: torch.zeros(given.shape)})

    return begin


_BEGINNINGS: dict[str, Callable[[_Plot], Tensors]] = {
    "LoRA": _lora,
    "LoHa": _loha,
    "LoKr": _lokr,
    "IA3": _ia3,
    "Full": _added("diff", "diff_b"),
    "Norm": _added("w_norm", "b_norm"),
}
