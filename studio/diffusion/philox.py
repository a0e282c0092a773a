"""The counter-based generator behind CUDA's normal noise, for any device: Philox 4x32-10 (Salmon et al. 2011) with Box-Muller."""

import numpy as np
from numpy.typing import NDArray

_MULTIPLIERS = (np.uint64(0xD2511F53), np.uint64(0xCD9E8D57))
_WEYL = (0x9E3779B9, 0xBB67AE85)
_WORD = 0xFFFFFFFF
_LOW, _SHIFT = np.uint64(_WORD), np.uint64(32)
_UNIT = float(np.float32(2.0**-32))
_TURN = float(np.float32(2.0**-32 * 2 * np.pi))
"""What a 32-bit word is multiplied with to become a share of one, and of a full turn; in single precision, as the card holds them."""


def philox(counter: NDArray[np.uint32], key: tuple[int, int], rounds: int = 10) -> NDArray[np.uint32]:
    """Random words [4, n] for counters [4, n] and one key of two 32-bit words."""
    a, b, c, d = (row.astype(np.uint64) for row in counter)
    left, right = key
    for _ in range(rounds):
        first, second = a * _MULTIPLIERS[0], c * _MULTIPLIERS[1]
        a, b, c, d = (second >> _SHIFT) ^ b ^ np.uint64(left), second & _LOW, (first >> _SHIFT) ^ d ^ np.uint64(right), first & _LOW
        left, right = (left + _WEYL[0]) & _WORD, (right + _WEYL[1]) & _WORD
    return np.stack((a, b, c, d)).astype(np.uint32)


def normals(seed: int, draw: int, count: int) -> NDArray[np.float32]:
    """The `count` normal numbers that `torch.randn` gives on a CUDA card seeded with `seed`, at its draw number `draw` (from 0).

    Element i is the first of the four normals of thread i; so it is as long as each element has a thread of its own (about 100 000 on common cards).
    """
    counter = np.zeros((4, count), np.uint32)
    counter[0] = draw & _WORD
    counter[2] = np.arange(count, dtype=np.uint32)
    words = philox(counter, (seed & _WORD, seed >> 32 & _WORD))
    share = words[0] * _UNIT + _UNIT / 2
    angle = words[1] * _TURN + _TURN / 2
    return (np.sqrt(-2 * np.log(share)) * np.sin(angle)).astype(np.float32)
