"""Large maps worked on in overlapping tiles and blended, so that memory is bounded."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from studio.cancellation import raise_if_stopped


def in_tiles(x: Tensor, work: Callable[[Tensor], Tensor], tile: int | tuple[int, int], overlap: int, scale: int) -> Tensor:
    """`work` over a map [b, c, h, w] in tiles of at most `tile` (a side, or height and width), as one map [b, c', scale h, scale w] of floats on the CPU.

    `work` makes each tile `scale` times larger. Neighbours share at least `overlap`: its outer quarters are context that is thrown away, over the rest one
    tile fades into the next. Raises Stopped.
    """
    height, width = x.shape[-2:]
    high, wide = (tile, tile) if isinstance(tile, int) else tile
    rows, columns = _starts(height, high, overlap), _starts(width, wide, overlap)
    if len(rows) == len(columns) == 1:
        return work(x).float().cpu()
    down, across = _weights(rows, min(high, height), overlap, height, scale), _weights(columns, min(wide, width), overlap, width, scale)
    result: Tensor | None = None
    for top, fade_y in zip(rows, down, strict=True):
        for left, fade_x in zip(columns, across, strict=True):
            raise_if_stopped()
            done = work(x[..., top : top + high, left : left + wide]).float().cpu()
            if result is None:
                result = done.new_zeros(*done.shape[:2], height * scale, width * scale)
            y, x_ = top * scale, left * scale
            result[..., y : y + len(fade_y), x_ : x_ + len(fade_x)] += done * fade_y[:, None] * fade_x
    assert result is not None
    return result


def tile_count(size: tuple[int, int], tile: tuple[int, int], overlap: int) -> int:
    """How many tiles of (height, width) `in_tiles` cuts a map of (height, width) into."""
    return len(_starts(size[0], tile[0], overlap)) * len(_starts(size[1], tile[1], overlap))


def _starts(length: int, tile: int, overlap: int) -> list[int]:
    """Where tiles begin along a side, evenly spaced."""
    if length <= tile:
        return [0]
    count = 1 + -(-(length - tile) // max(1, tile - overlap))
    return [round(i * (length - tile) / (count - 1)) for i in range(count)]


def _weights(starts: list[int], tile: int, overlap: int, length: int, scale: int) -> list[Tensor]:
    """How much each tile counts along a side, [scale * tile] each; all tiles together count one everywhere."""
    total = torch.zeros(length * scale)
    fades = []
    for start in starts:
        steps = torch.arange(tile * scale) + 0.5
        fade = torch.ones(tile * scale)
        if start > 0:
            fade = torch.minimum(fade, _ramp(steps, overlap * scale))
        if start + tile < length:
            fade = torch.minimum(fade, _ramp(tile * scale - steps, overlap * scale))
        total[start * scale : (start + tile) * scale] += fade
        fades.append(fade)
    return [fade / total[start * scale : (start + tile) * scale] for start, fade in zip(starts, fades, strict=True)]


def _ramp(distance: Tensor, overlap: int) -> Tensor:
    """From 0 to 1 over the middle half of an overlap, by the distance from a tile's edge."""
    return ((distance - overlap / 4) / max(overlap / 2, 1e-6)).clamp(0, 1)


def smaller_tiles(start: int, least: int) -> Iterator[int]:
    """Tile sizes from `start` down to `least`, halved each time."""
    size = max(start, least)
    while size > least:
        yield size
        size = max(least, size // 2)
    yield least
