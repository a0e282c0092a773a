"""What one adapter changes about one layer: the tensors of every kind (LoRA, LyCORIS, PEFT), and the arithmetic that turns them into a change of the weight."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from studio.errors import InputError

Tensors = Mapping[str, Tensor]
Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Kind:
    """One kind of adapter: the sets of tensors that mark it, its rank by their shapes, and its change of a weight W [out, in, ...] in fp32.

    `change(tensors, weight, count)` uses the first `count` ranks only when that is not 0 (LoRA).
    """

    name: str
    marks: tuple[frozenset[str], ...]
    rank: Callable[[Shapes], int | None]
    change: Callable[[Tensors, Tensor, int], Tensor | None]


@dataclass(frozen=True)
class Delta:
    """The change of one layer; alpha None means as large as the rank, `factor` comes before alpha / rank when a file stores it."""

    kind: Kind
    tensors: Tensors
    alpha: float | None = None
    factor: float | None = None

    @property
    def rank(self) -> int | None:
        """Size of the inner dimension; None for kinds that have none, and where both factors of a LoKr are whole matrices."""
        return self.kind.rank({name: tuple(t.shape) for name, t in self.tensors.items()})

    @property
    def scale(self) -> float:
        """alpha / rank; 1 where there is no alpha or no rank."""
        if self.factor is not None:
            return self.factor
        return self.alpha / self.rank if self.alpha and self.rank else 1.0

    def change(self, weight: Tensor, bias: Tensor | None = None, count: int = 0) -> tuple[Tensor | None, Tensor | None]:
        """The change of `weight` and of `bias` at strength 1, in fp32 on the weight's device; None where nothing changes. Raises InputError when the shapes do not fit."""
        tensors = {name: tensor.to(weight.device, torch.float32) for name, tensor in self.tensors.items()}
        whole = weight.detach().float()
        try:
            changed = self.kind.change(tensors, whole, count)
            changed = None if changed is None else changed.reshape(weight.shape) * (self.scale * tensors.get("scalar", torch.ones((), device=weight.device)))
            if "dora_scale" in tensors:
                changed = decomposed(whole if changed is None else whole + changed, tensors["dora_scale"]) - whole
            return changed, None if bias is None else self._shift(tensors, bias)
        except (RuntimeError, IndexError) as error:
            shapes = ", ".join(f"{name} {list(tensor.shape)}" for name, tensor in self.tensors.items())
            raise InputError(f"Its {self.kind.name} tensors ({shapes}) do not fit a layer of shape {list(weight.shape)}.", "The file was made for another kind of checkpoint.") from error

    def _shift(self, tensors: Tensors, bias: Tensor) -> Tensor | None:
        """The change of the bias in fp32: `diff_b`, `b_norm` or what PEFT's lora_B has is added; PEFT's IA3 on the output scales it."""
        added = tensors.get("diff_b", tensors.get("b_norm"))
        if "up_bias" in tensors:
            added = tensors["up_bias"] * self.scale
        if added is not None:
            return added.reshape(bias.shape)
        if "ia3_l" in tensors and not _on_input(tensors["ia3_l"]):
            return bias.detach().float() * (tensors["ia3_l"].flatten() - 1)
        return None


def decomposed(weight: Tensor, magnitude: Tensor) -> Tensor:
    """DoRA (Liu et al. 2024): every row or column of W + ΔW brought to a learned length.

    The shape of `magnitude` says which: [out, 1, ...] rows, [1, in, ...] columns, a vector whichever it fits, rows when both.
    """
    axis = _decomposed_axis(weight, magnitude)
    others = [dim for dim in range(weight.ndim) if dim != axis]
    shape = [weight.shape[dim] if dim == axis else 1 for dim in range(weight.ndim)]
    lengths = torch.linalg.vector_norm(weight, dim=others, keepdim=True)
    return weight * (magnitude.reshape(shape) / (lengths + torch.finfo(torch.float32).eps))


def _decomposed_axis(weight: Tensor, magnitude: Tensor) -> int:
    """0 when `magnitude` holds lengths of rows (output axis), 1 when of columns (input axis)."""
    if magnitude.ndim > 1:
        return 1 if magnitude.shape[0] == 1 and magnitude.shape[1] == weight.shape[1] else 0
    return 0 if magnitude.numel() == weight.shape[0] else 1


def _lora(t: Tensors, weight: Tensor, count: int) -> Tensor | None:
    """up @ down; with a `mid` the Tucker core between them (LoCon)."""
    up, down = t["lora_up"].flatten(1), t["lora_down"]
    if "lora_mid" in t:
        return torch.einsum("abkl,oa,bi->oikl", t["lora_mid"], up, down.flatten(1))
    down = down.flatten(1)
    return up[:, :count] @ down[:count] if count else up @ down


def _loha(t: Tensors, weight: Tensor, count: int) -> Tensor:
    """Hadamard product of two low-rank matrices (FedPara, Hyeon-Woo et al. 2022), each with a Tucker core when there is one."""
    halves = []
    for n in "12":
        a, b = t[f"hada_w{n}_a"], t[f"hada_w{n}_b"]
        halves.append(torch.einsum("ijkl,jr,ip->prkl", t[f"hada_t{n}"], b, a) if f"hada_t{n}" in t else a @ b.flatten(1))
    return halves[0] * halves[1]


def _lokr(t: Tensors, weight: Tensor, count: int) -> Tensor:
    """Kronecker product of two matrices."""
    first, second = kronecker_factors(t, weight)
    return torch.kron(first.reshape(*first.shape, *[1] * (second.ndim - 2)), second.contiguous())


def kronecker_factors(t: Tensors, weight: Tensor) -> tuple[Tensor, Tensor]:
    """LoKr's two matrices for a weight W [out, in, ...], each whole or factored; the second is a convolution [c, d, k, k] where W is one, perhaps with a Tucker core."""
    first = t["lokr_w1"] if "lokr_w1" in t else t["lokr_w1_a"] @ t["lokr_w1_b"]
    if "lokr_w2" in t:
        second = t["lokr_w2"]
    elif "lokr_t2" in t:
        second = torch.einsum("ijkl,jr,ip->prkl", t["lokr_t2"], t["lokr_w2_b"], t["lokr_w2_a"])
    else:
        second = t["lokr_w2_a"] @ t["lokr_w2_b"].flatten(1)
    if second.ndim == 2 and weight.ndim == 4:
        second = second.reshape(weight.shape[0] // first.shape[0], -1, *weight.shape[2:])
    return first, second


def _ia3(t: Tensors, weight: Tensor, count: int) -> Tensor:
    """(IA)3 (Liu et al. 2022): columns scaled by 1 + v when `on_input`, else rows; PEFT stores the factor itself."""
    if "ia3_l" in t:
        factor, on_input = t["ia3_l"] - 1, _on_input(t["ia3_l"])
    else:
        factor, on_input = t["weight"], bool(t.get("on_input", torch.zeros(())).any())
    size = weight.shape[1 if on_input else 0]
    side = (1, size) if on_input else (size, 1)
    return weight * factor.reshape(*side, *[1] * (weight.ndim - 2))


def _on_input(factors: Tensor) -> bool:
    """Whether PEFT scaled what comes in: it keeps [1, in] then, [out, 1] for what goes out (for convolutions it is always what goes out here)."""
    return factors.ndim == 2 and factors.shape[0] == 1


def _full(t: Tensors, weight: Tensor, count: int) -> Tensor | None:
    """The change itself."""
    return t.get("diff")


def _norm(t: Tensors, weight: Tensor, count: int) -> Tensor | None:
    """The change of a normalising layer's gain."""
    return t.get("w_norm")


def _glora(t: Tensors, weight: Tensor, count: int) -> Tensor:
    """GLoRA (Chavan et al. 2023): W a2 a1 + b2 b1 in its first layout (a1 [r, in]), W a1 a2 + b1 b2 in the newer one (a1 [in, r])."""
    a1, a2, b1, b2 = (t[name].flatten(1) for name in ("a1", "a2", "b1", "b2"))
    if b2.shape[0] == weight.shape[0] and b2.shape[1] == b1.shape[0] == a1.shape[0]:
        a1, a2, b1, b2 = a2, a1, b2, b1
    turned = torch.einsum("oi...,ij->oj...", weight, a1 @ a2)
    added = torch.einsum("abkl,oa,bi->oikl", t["bm"], b1, b2) if "bm" in t else b1 @ b2
    return turned + added.reshape(weight.shape)


def _oft(t: Tensors, weight: Tensor, count: int) -> Tensor:
    """Blocks of rows turned by orthogonal matrices: diagonal OFT (Qiu et al. 2023) [k, b, b], or BOFT's stages in butterfly order (Liu et al. 2023) [m, k, b, b]."""
    if "oft_r" in t:
        return _turned_input(t, weight) - weight
    # LyCORIS before 2.0 kept the rotations themselves
    turns = t["oft_diag"] if "oft_diag" in t else _cayley(t["oft_blocks"], float(t["constraint"]) * weight.shape[0] if "constraint" in t else 0.0)
    turned = weight
    if turns.ndim == 3:
        turned = torch.einsum("knm,kn...->km...", turns, weight.reshape(*turns.shape[:2], *weight.shape[1:])).reshape(weight.shape)
    else:
        for stage, turn in enumerate(turns):
            order = _butterfly(stage, turn.shape[-1], weight.shape[0])
            mixed = torch.einsum("kmn,kn...->km...", turn, turned[order].reshape(*turn.shape[:2], *weight.shape[1:])).reshape(weight.shape)
            turned = mixed[torch.argsort(order)]
    if "rescale" in t:
        turned = turned * t["rescale"].reshape(-1, *[1] * (weight.ndim - 1))
    return turned - weight


def _turned_input(t: Tensors, weight: Tensor) -> Tensor:
    """OFT as PEFT (from 0.16) and OneTrainer keep it: `oft_r` [k, b (b - 1) / 2] holds the upper triangles of skew matrices that turn blocks of the input.

    One triangle is shared by all blocks. The rotation is their Cayley transform by five terms of its Neumann series, which is what both compute.
    """
    vectors = t["oft_r"]
    side = round((1 + (1 + 8 * vectors.shape[1]) ** 0.5) / 2)
    if bool(t.get("scaled_oft", torch.zeros(())).any()):
        vectors = vectors / (2 * max(1, side - 1) ** 0.5)
    skew = vectors.new_zeros(len(vectors), side, side)
    rows, columns = torch.triu_indices(side, side, 1)
    skew[:, rows, columns] = vectors
    skew = skew - skew.transpose(1, 2)
    square = skew @ skew
    turns = torch.eye(side, device=skew.device) + 2 * (skew + square + square @ skew) + square @ square
    flat = weight.flatten(1)
    blocks = flat.reshape(len(flat), -1, side)
    return torch.einsum("kij,okj->oki", turns.expand(blocks.shape[1], -1, -1), blocks).reshape(weight.shape)


def _cayley(blocks: Tensor, limit: float) -> Tensor:
    """(I + Q)(I - Q)^-1 of the skew part Q of square blocks [..., b, b]; Q no longer than `limit` unless that is 0."""
    skew = blocks - blocks.transpose(-1, -2)
    if limit > 0:
        length = skew.norm() + 1e-8
        skew = skew * (length.clamp(max=limit) / length)
    eye = torch.eye(blocks.shape[-1], device=blocks.device)
    return (eye + skew) @ torch.linalg.inv(eye - skew)


def _butterfly(stage: int, block: int, rows: int) -> Tensor:
    """The order of rows in one stage of BOFT: pairs of groups of 2^stage * block/2 rows are interleaved."""
    group = 2**stage * (block // 2)
    return torch.arange(rows).reshape(-1, 2, group).transpose(1, 2).reshape(-1)


def _size(name: str, axis: int) -> Callable[[Shapes], int | None]:
    """A rank that is read from one axis of one tensor."""
    return lambda shapes: shapes[name][axis] if name in shapes and len(shapes[name]) > axis else None


def _lokr_rank(shapes: Shapes) -> int | None:
    """The inner dimension of whichever factor is factored."""
    name = next((n for n in ("lokr_w2_b", "lokr_w1_b") if n in shapes), None)
    return shapes[name][0] if name else None


def _smaller(shapes: Shapes) -> int | None:
    """The smaller side of a1, whose order differs between layouts."""
    return min(shapes["a1"][:2]) if shapes.get("a1") else None


def _none(shapes: Shapes) -> None:
    """The rank of a kind that has none, whatever its shapes."""
    return None


def _marks(*names: str) -> tuple[frozenset[str], ...]:
    """Sets of names, each written with spaces."""
    return tuple(frozenset(entry.split()) for entry in names)


_LOKR = [f"{first} {second}" for first in ("lokr_w1", "lokr_w1_a lokr_w1_b") for second in ("lokr_w2", "lokr_w2_a lokr_w2_b")]
KINDS: tuple[Kind, ...] = (
    Kind("LoHa", _marks("hada_w1_a hada_w1_b hada_w2_a hada_w2_b"), _size("hada_w1_b", 0), _loha),
    Kind("LoKr", _marks(*_LOKR), _lokr_rank, _lokr),
    Kind("OFT", _marks("oft_blocks", "oft_diag", "oft_r"), _none, _oft),
    Kind("GLoRA", _marks("a1 a2 b1 b2"), _smaller, _glora),
    Kind("LoRA", _marks("lora_up lora_down"), _size("lora_down", 0), _lora),
    Kind("IA3", _marks("weight on_input", "ia3_l"), _none, _ia3),
    Kind("Norm", _marks("w_norm", "b_norm"), _none, _norm),
    Kind("Full", _marks("diff", "diff_b"), _none, _full),
)
"""Every kind that is understood; the first of which one set of marks is there is meant."""


def kind_of(names: frozenset[str]) -> Kind | None:
    """The kind whose tensors these are; None when some are missing or unknown."""
    return next((kind for kind in KINDS if any(marks <= names for marks in kind.marks)), None)
