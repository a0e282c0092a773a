"""Dice: random numbers that depend on a seed, a purpose and a place alone, so that a run that goes on needs no saved state."""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

ITEM, WORDS, LATENT, NOISE, TIME, FLIP, BARE, BUCKET, MIRROR = range(1, 10)
"""Purposes of randomness: each has numbers of its own, so that one more draw here moves nothing there.

Which picture, which words, its latent, noise, timestep, whether mirrored, whether without its caption, which bucket, and the latent of the mirrored picture.
"""


def dice(seed: int, purpose: int, step: int = 0, sample: int = 0) -> np.random.Generator:
    """Random numbers that depend on nothing but these four (Philox, Salmon et al. 2011): a resumed run needs no saved state."""
    return np.random.Generator(np.random.Philox(key=seed, counter=[0, sample, step, purpose]))


def normal(shape: Sequence[int], draw: np.random.Generator) -> Tensor:
    """Standard normal numbers of `shape` in fp32, the same on every device."""
    return torch.from_numpy(draw.standard_normal(tuple(shape), dtype=np.float32))


@lru_cache(maxsize=64)
def order(seed: int, purpose: int, round_: int, count: int, group: int = 0) -> tuple[int, ...]:
    """A permutation of `count` numbers for one round of one group."""
    return tuple(int(i) for i in dice(seed, purpose, round_, group).permutation(count))
