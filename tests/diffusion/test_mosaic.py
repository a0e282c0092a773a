"""Tiles: everything is covered, and seams vanish."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from studio.diffusion.mosaic import in_tiles, smaller_tiles

SIDE = st.integers(1, 120)


def enlarge(x: Tensor) -> Tensor:
    """Twice as large, by repeating."""
    return F.interpolate(x, scale_factor=2, mode="nearest")


@given(SIDE, SIDE, st.integers(8, 64), st.integers(0, 8), st.integers(1, 2))
@settings(deadline=None, max_examples=100)
def test_work_that_looks_at_one_cell_gives_the_same_in_tiles_as_at_once(height: int, width: int, tile: int, overlap: int, count: int) -> None:
    x = torch.randn(count, 3, height, width, generator=torch.Generator().manual_seed(height * 1000 + width))
    assert torch.allclose(in_tiles(x, enlarge, tile, min(overlap, tile - 1), 2), enlarge(x), atol=1e-5)


@given(st.integers(20, 90), st.integers(20, 90), st.integers(24, 40))
@settings(deadline=None, max_examples=40)
def test_work_that_looks_at_its_neighbours_leaves_no_seam_where_the_context_is_wide_enough(height: int, width: int, tile: int) -> None:
    weight = torch.randn(1, 1, 5, 5, generator=torch.Generator().manual_seed(0))
    x = torch.randn(1, 1, height, width, generator=torch.Generator().manual_seed(1))
    whole = F.conv2d(x, weight, padding=2)
    assert torch.allclose(in_tiles(x, lambda part: F.conv2d(part, weight, padding=2), tile, 12, 1), whole, atol=1e-4)


@given(SIDE, SIDE, st.integers(8, 64), st.integers(0, 8))
@settings(deadline=None, max_examples=60)
def test_no_tile_is_larger_than_allowed(height: int, width: int, tile: int, overlap: int) -> None:
    seen = []
    in_tiles(torch.zeros(1, 1, height, width), lambda part: seen.append(tuple(part.shape[-2:])) or part, tile, min(overlap, tile - 1), 1)
    assert max(max(s) for s in seen) <= tile
    assert len(seen) >= -(-height // tile) * -(-width // tile)


def test_half_precision_comes_back_as_floats() -> None:
    assert in_tiles(torch.zeros(1, 1, 40, 40, dtype=torch.float16), lambda part: part, 16, 4, 1).dtype == torch.float32


@pytest.mark.parametrize(("start", "least", "sizes"), [(192, 32, [192, 96, 48, 32]), (32, 32, [32]), (10, 32, [32]), (64, 16, [64, 32, 16])])
def test_tiles_are_halved_down_to_the_least(start: int, least: int, sizes: list[int]) -> None:
    assert list(smaller_tiles(start, least)) == sizes
