"""Where the noise of a batch comes from: each picture's from streams of its own, so that it never depends on its neighbours or on the program's randomness."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from studio.diffusion.brownian import BrownianTree
from studio.diffusion.philox import normals
from studio.errors import InputError

CHANNELS = 4
_WORDS = 2**64


class CpuStream:
    """Normal noise as torch's CPU generator gives it."""

    def __init__(self, seed: int) -> None:
        """A stream that begins at a seed."""
        self._generator = torch.Generator().manual_seed(seed % _WORDS)

    def draw(self, shape: tuple[int, ...]) -> Tensor:
        """The next noise of a shape."""
        return torch.randn(shape, generator=self._generator)


class NvStream:
    """Normal noise as a CUDA card gives it, made without one."""

    def __init__(self, seed: int) -> None:
        """A stream that begins at a seed."""
        self._seed, self._drawn = seed % _WORDS, 0

    def draw(self, shape: tuple[int, ...]) -> Tensor:
        """The next noise of a shape."""
        self._drawn += 1
        return torch.from_numpy(normals(self._seed, self._drawn - 1, torch.Size(shape).numel())).reshape(shape)


Stream = CpuStream | NvStream
SOURCES: dict[str, type[CpuStream] | type[NvStream]] = {"CPU": CpuStream, "NV": NvStream}
"""A1111's names of where noise comes from (its setting RNG)."""


@dataclass(frozen=True)
class Seeds:
    """What decides all noise of a batch: a seed for each picture, and how they are used.

    `variation` holds the seeds to drift towards by `strength` (0 to 1); `resize_from` is the (height, width) in latent cells for which
    the first noise is made before it is pasted into the middle; `ensd` is added to the seeds of noise that is drawn on the way.
    """

    seeds: tuple[int, ...]
    variation: tuple[int, ...] = ()
    strength: float = 0.0
    resize_from: tuple[int, int] | None = None
    source: str = "CPU"
    ensd: int = 0

    def at(self, index: int) -> "Seeds":
        """What decides the noise of one picture of the batch."""
        return replace(self, seeds=self.seeds[index : index + 1], variation=self.variation[index : index + 1])

    def first(self, size: tuple[int, int]) -> Tensor:
        """The noise [b, 4, h, w] that a walk of this batch begins with, on the CPU."""
        return Noise(self, size).first()


def row(seed: int, count: int, variation: int = 0, strength: float = 0.0) -> Seeds:
    """Seeds of a batch as A1111 counts them: seed + i; where they drift, one seed for all and variation + i."""
    if strength == 0:
        return Seeds(tuple(seed + i for i in range(count)))
    return Seeds((seed,) * count, tuple(variation + i for i in range(count)), strength)


class Noise:
    """The noise of one walk of a batch of latents [b, 4, h, w]: what it begins with, what it draws on the way, and Brownian motion."""

    def __init__(self, seeds: Seeds, size: tuple[int, int], device: torch.device | str = "cpu") -> None:
        """Streams at their beginning; raises InputError on an unknown source."""
        if seeds.source not in SOURCES:
            raise InputError(f"There is no source of noise {seeds.source!r}.", f"Choose one of {', '.join(SOURCES)}.")
        self._seeds, self._shape, self._device = seeds, (CHANNELS, *size), device
        self._stream = SOURCES[seeds.source]
        self._first = tuple(self._stream(seed) for seed in seeds.seeds)
        self._later = self._first if seeds.ensd == 0 else tuple(self._stream(seed + seeds.ensd) for seed in seeds.seeds)
        self._begun = False

    def first(self) -> Tensor:
        """The noise to begin with. Asked again, it is the same; what is drawn on the way comes after it."""
        if self._begun:
            return Noise(self._seeds, self._shape[1:], self._device).first()
        self._begun = True
        return self._gathered([self._begin(i) for i in range(len(self._first))])

    def next(self) -> Tensor:
        """The next noise on the way, of variance 1."""
        if not self._begun:
            self.first()
        return self._gathered([stream.draw(self._shape) for stream in self._later])

    def brownian(self, low: float, high: float) -> Callable[[float, float], Tensor]:
        """A function of two noise levels within `low` and `high`: the increment of each picture's Brownian motion between them, scaled to variance 1."""
        trees = [BrownianTree((low, high), seed % _WORDS, lambda word: self._stream(word).draw(self._shape)) for seed in self._seeds.seeds]

        def increment(sigma: float, following: float) -> Tensor:
            return self._gathered([tree.between(sigma, following) for tree in trees]) / max(abs(following - sigma), 1e-12) ** 0.5

        return increment

    def _begin(self, index: int) -> Tensor:
        """The first noise of one picture [4, h, w]: drifted towards its variation, then pasted where the seed is resized."""
        seeds, shape = self._seeds, self._shape
        inner = shape if seeds.resize_from is None else (CHANNELS, *seeds.resize_from)
        seed = seeds.seeds[index]
        noise = self._first[index].draw(shape) if inner == shape else self._stream(seed).draw(inner)
        if seeds.strength and index < len(seeds.variation):
            noise = slerp(noise, self._stream(seeds.variation[index]).draw(inner), seeds.strength)
        return noise if inner == shape else pasted(noise, self._first[index].draw(shape))

    def _gathered(self, pictures: list[Tensor]) -> Tensor:
        """Pictures as one batch on the walk's device; the card is not waited for."""
        return torch.stack(pictures).to(self._device, non_blocking=True)


def slerp(start: Tensor, end: Tensor, share: float) -> Tensor:
    """From one noise [4, h, w] to another along the arc between them, each column of cells by itself, as A1111 does; straight where both point one way."""
    cosine = (start / start.norm(dim=1, keepdim=True) * (end / end.norm(dim=1, keepdim=True))).sum(1, keepdim=True)
    if cosine.mean() > 0.9995:
        return start * (1 - share) + end * share
    angle = cosine.clamp(-1, 1).acos()
    whole = angle.sin()
    return ((1 - share) * angle).sin() / whole * start + (share * angle).sin() / whole * end


def pasted(noise: Tensor, ground: Tensor) -> Tensor:
    """Noise [4, h, w] in the middle of the noise of another size; what does not fit is cut off evenly."""
    result = ground.clone()
    here, there = [], []
    for inner, outer in zip(noise.shape[1:], ground.shape[1:], strict=True):
        shift = (outer - inner) // 2
        length = inner + 2 * min(shift, 0)
        here.append(slice(max(shift, 0), max(shift, 0) + length))
        there.append(slice(max(-shift, 0), max(-shift, 0) + length))
    result[:, here[0], here[1]] = noise[:, there[0], there[1]]
    return result
