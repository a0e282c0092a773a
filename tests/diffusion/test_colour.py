"""Colour correction: colours come from the original, light and shade from the result."""

import colorsys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from studio.diffusion.colour import corrected

LUMA = np.array([0.3, 0.59, 0.11])
SIZES = st.tuples(st.integers(1, 80), st.integers(1, 80))


def noise(seed: int, size: tuple[int, int] = (64, 48), tint: tuple[float, float, float] = (1, 1, 1)) -> Image.Image:
    """Random pixels between two colours."""
    values = np.random.default_rng(seed).integers(20, 230, (size[1], size[0], 1)) * np.array(tint)
    return Image.fromarray(values.clip(0, 255).astype(np.uint8))


def spread(seed: int, size: tuple[int, int]) -> Image.Image:
    """Pixels of every colour."""
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))


@given(SIZES, SIZES, st.integers(0, 999))
@settings(deadline=None, max_examples=60)
def test_the_lightness_of_the_result_is_kept_whatever_the_original(size: tuple[int, int], other: tuple[int, int], seed: int) -> None:
    result = spread(seed, size)
    found = corrected(result, spread(seed + 1, other))
    assert (found.size, found.mode) == (size, "RGB")
    assert np.abs(np.asarray(found) @ LUMA - np.asarray(result) @ LUMA).max() <= 1.01


@given(SIZES, st.integers(0, 999))
@settings(deadline=None, max_examples=30)
def test_a_picture_matched_to_itself_hardly_changes(size: tuple[int, int], seed: int) -> None:
    picture = spread(seed, size)
    assert np.abs(np.asarray(corrected(picture, picture)).astype(int) - np.asarray(picture)).max() <= 32
    assert np.abs(np.asarray(corrected(picture, picture)).astype(int) - np.asarray(picture)).mean() <= 3  # a picture of one pixel has no neighbour to average with


def test_the_colours_become_the_originals() -> None:
    bluish, reddish = noise(1, tint=(0.4, 0.6, 1.0)), noise(2, tint=(1.0, 0.5, 0.4))
    found = np.asarray(corrected(bluish, reddish)).reshape(-1, 3) / 255
    hues = [colorsys.rgb_to_hsv(*pixel)[0] for pixel in found if pixel.max() - pixel.min() > 0.1]
    wanted = colorsys.rgb_to_hsv(1.0, 0.5, 0.4)[0]
    assert len(hues) > 1000
    away = np.abs((np.array(hues) - wanted + 0.5) % 1 - 0.5)
    assert np.median(away) < 0.04
    assert away.max() < 0.1


def test_a_picture_drifted_in_colour_comes_closer() -> None:
    # Painted pictures drift a little with every pass: here towards green.
    picture = spread(5, (64, 64)).resize((64, 64), Image.Resampling.BICUBIC, box=(0, 0, 6, 6))
    drifted = Image.fromarray((np.asarray(picture) * np.array([0.85, 1.0, 0.9])).round().astype(np.uint8))
    assert np.abs(chroma(corrected(drifted, picture)) - chroma(picture)).mean() < np.abs(chroma(drifted) - chroma(picture)).mean() * 0.6


def chroma(picture: Image.Image) -> np.ndarray:
    """Each pixel's distance from its own grey [h, w, 3]."""
    pixels = np.asarray(picture).astype(float)
    return pixels - (pixels @ LUMA)[..., None]


@pytest.mark.parametrize("colour", ["white", "black", "red"])
def test_a_picture_of_one_colour_is_no_trouble_on_either_side(colour: str) -> None:
    plain = Image.new("RGB", (9, 7), colour)
    assert corrected(plain, spread(1, (5, 5))).size == (9, 7)
    assert np.abs(np.asarray(corrected(plain, plain)).astype(int) - np.asarray(plain)).max() <= 2
    found = np.asarray(corrected(spread(1, (5, 5)), plain))
    assert np.abs(found @ LUMA - np.asarray(spread(1, (5, 5))) @ LUMA).max() <= 1.01


def test_neither_picture_is_changed() -> None:
    one, two = spread(1, (8, 8)), spread(2, (8, 8))
    corrected(one, two)
    assert one.tobytes() == spread(1, (8, 8)).tobytes()
    assert two.tobytes() == spread(2, (8, 8)).tobytes()
