"""Latents decoded tile by tile, for pictures that do not fit into memory at once."""

from collections.abc import Callable

import torch
from torch import Tensor


def decode_tiled(decode: Callable[[Tensor], Tensor], z: Tensor, tile: int, scale: int) -> Tensor:
    """Decode latents [b, 4, h, w] to pictures [b, 3, H, W] in squares of `tile` cells that overlap by a quarter and fade into each other; `scale` pixels a cell.

    What the autoencoder sees of its surroundings ends at a tile's edge, so the result differs slightly from decoding at once.
    """
    height, width = z.shape[-2:]
    tile = max(8, tile)
    if max(height, width) <= tile:
        return decode(z)
    overlap = tile // 4
    total, weight = torch.zeros(len(z), 3, height * scale, width * scale), torch.zeros(height * scale, width * scale)
    for top in _starts(height, tile, overlap):
        for left in _starts(width, tile, overlap):
            piece = decode(z[..., top : top + tile, left : left + tile]).float().cpu()
            rows, columns = piece.shape[-2:]
            mask = _ramp(rows, overlap * scale)[:, None] * _ramp(columns, overlap * scale)[None, :]
            y, x = top * scale, left * scale
            total[..., y : y + rows, x : x + columns] += piece * mask
            weight[y : y + rows, x : x + columns] += mask
    return (total / weight).to(z.device)


def _starts(size: int, tile: int, overlap: int) -> list[int]:
    """Where tiles begin along one side, the last one ending at its end."""
    if size <= tile:
        return [0]
    return [*range(0, size - tile, tile - overlap), size - tile]


def _ramp(length: int, overlap: int) -> Tensor:
    """Weights along one side of a tile: rising over the overlap, falling likewise, never zero."""
    steps = torch.arange(1, length + 1, dtype=torch.float32)
    return torch.minimum(steps, steps.flip(0)).clamp(max=max(1, overlap)) / max(1, overlap)
