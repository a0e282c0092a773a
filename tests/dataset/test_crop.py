"""The crop stays in the picture, has the target's shape, and goes where there is something to see."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from studio.dataset.crop import Weights, center, crop_size, cut, drawn, edge_point, entropy_point, focal_point, window

SIDES = st.tuples(st.integers(16, 2000), st.integers(16, 2000))
FOCUS = st.tuples(st.floats(-3000, 5000), st.floats(-3000, 5000))
FRAME = (13, 148, 136)
CORNERS = {"top left": (0, 0), "top right": (1, 0), "bottom left": (0, 1), "bottom right": (1, 1)}


def busy_corner(size: tuple[int, int], corner: tuple[int, int], side: int = 60) -> Image.Image:
    """A flat dark picture with a bright checkered patch in one corner."""
    pixels = np.full((size[1], size[0], 3), 20, np.uint8)
    ys, xs = np.mgrid[0:side, 0:side]
    patch = np.where((ys // 10 + xs // 10) % 2, 250, 60) + np.random.default_rng(0).integers(-40, 5, (side, side))
    top, left = corner[1] * (size[1] - side), corner[0] * (size[0] - side)
    pixels[top : top + side, left : left + side] = patch.clip(0, 255)[..., None]
    return Image.fromarray(pixels)


@settings(deadline=None)
@given(size=SIDES, target=SIDES, focus=FOCUS)
def test_the_window_always_lies_in_the_picture(size: tuple[int, int], target: tuple[int, int], focus: tuple[float, float]) -> None:
    left, top, right, bottom = window(size, target, focus)
    assert 0 <= left < right <= size[0]
    assert 0 <= top < bottom <= size[1]


@settings(deadline=None)
@given(size=SIDES, target=SIDES, focus=FOCUS)
def test_the_window_has_the_shape_of_the_target_within_a_pixel(size: tuple[int, int], target: tuple[int, int], focus: tuple[float, float]) -> None:
    left, top, right, bottom = window(size, target, focus)
    width, height = right - left, bottom - top
    if height == size[1]:
        assert abs(width - height * target[0] / target[1]) <= 1
    else:
        assert width == size[0]
        assert abs(height - width * target[1] / target[0]) <= 1


@settings(deadline=None)
@given(size=SIDES, target=SIDES)
def test_the_window_is_the_largest_that_fits(size: tuple[int, int], target: tuple[int, int]) -> None:
    width, height = crop_size(size, target)
    assert width == size[0] or height == size[1]


@settings(deadline=None)
@given(size=SIDES, target=SIDES)
def test_a_window_around_the_middle_leaves_equal_margins(size: tuple[int, int], target: tuple[int, int]) -> None:
    left, top, right, bottom = window(size, target, center(size))
    assert abs(left - (size[0] - right)) <= 1
    assert abs(top - (size[1] - bottom)) <= 1


@settings(deadline=None)
@given(size=SIDES, target=SIDES, focus=st.tuples(st.floats(0, 1), st.floats(0, 1)))
def test_a_focus_in_the_picture_lies_in_the_window(size: tuple[int, int], target: tuple[int, int], focus: tuple[float, float]) -> None:
    x, y = focus[0] * size[0], focus[1] * size[1]
    left, top, right, bottom = window(size, target, (x, y))
    assert left - 1 <= x <= right + 1
    assert top - 1 <= y <= bottom + 1


@pytest.mark.parametrize("size", [(1, 1), (1, 500), (500, 1), (16, 2000)])
def test_even_the_thinnest_picture_has_a_window_of_a_pixel(size: tuple[int, int]) -> None:
    left, top, right, bottom = window(size, (512, 512), center(size))
    assert (right - left, bottom - top) == (min(size), min(size))


@pytest.mark.parametrize("weights", [Weights(), Weights(face=0, edges=0, entropy=1), Weights(face=0, edges=1, entropy=0)])
@pytest.mark.parametrize("corner", CORNERS)
def test_the_focus_goes_to_a_bright_detailed_corner(corner: str, weights: Weights) -> None:
    size, place = (400, 300), CORNERS[corner]
    x, y = focal_point(busy_corner(size, place), weights)
    assert (x > size[0] / 2) == bool(place[0])
    assert (y > size[1] / 2) == bool(place[1])
    assert min(x, size[0] - x) < 80
    assert min(y, size[1] - y) < 80


@pytest.mark.parametrize("corner", CORNERS)
def test_the_focus_is_found_at_the_same_place_in_a_large_picture(corner: str) -> None:
    picture = busy_corner((400, 300), CORNERS[corner])
    x, y = focal_point(picture, Weights())
    large_x, large_y = focal_point(picture.resize((1600, 1200)), Weights())
    assert abs(large_x / 4 - x) < 20
    assert abs(large_y / 4 - y) < 20


@pytest.mark.parametrize("corner", CORNERS)
def test_the_crop_of_a_long_picture_holds_the_detailed_corner(corner: str) -> None:
    for size in ((600, 150), (150, 600)):
        picture = busy_corner(size, CORNERS[corner])
        box = window(size, (128, 128), focal_point(picture, Weights()))
        assert np.asarray(cut(picture, box, (128, 128))).max() > 200
        away = window(size, (128, 128), (size[0] - size[0] * CORNERS[corner][0], size[1] - size[1] * CORNERS[corner][1]))
        assert np.asarray(cut(picture, away, (128, 128))).max() < 60


@pytest.mark.parametrize("size", [(300, 200), (16, 16), (1, 1), (2000, 16), (3, 900)])
def test_a_flat_picture_is_cut_in_the_middle(size: tuple[int, int]) -> None:
    x, y = focal_point(Image.new("RGB", size, (90, 90, 90)), Weights())
    assert (x, y) == pytest.approx(center(size))


def test_no_weights_at_all_mean_the_middle() -> None:
    picture = busy_corner((400, 300), (0, 0))
    assert focal_point(picture, Weights(0, 0, 0)) == (200, 150)


def test_a_flat_picture_has_no_edges_and_no_detail() -> None:
    grey = np.full((64, 64), 128, np.uint8)
    assert edge_point(grey) is None
    assert entropy_point(grey) is None


@settings(deadline=None, max_examples=30)
@given(size=st.tuples(st.integers(16, 300), st.integers(16, 300)), seed=st.integers(0, 99))
def test_the_focus_never_leaves_the_picture(size: tuple[int, int], seed: int) -> None:
    picture = Image.fromarray(np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))
    x, y = focal_point(picture, Weights())
    assert 0 <= x <= size[0]
    assert 0 <= y <= size[1]


def test_a_cut_has_the_size_of_the_target_and_what_lay_in_the_box() -> None:
    picture = Image.new("RGB", (100, 50), (0, 0, 200))
    picture.paste((200, 0, 0), (50, 0, 100, 50))
    assert cut(picture, (50, 0, 100, 50), (64, 64)).size == (64, 64)
    assert cut(picture, (50, 0, 100, 50), (64, 64)).getextrema() == ((200, 200), (0, 0), (0, 0))


def test_the_drawn_crop_is_small_dimmed_outside_and_framed() -> None:
    picture = Image.new("RGB", (640, 320), (200, 200, 200))
    shown = drawn(picture, (320, 0, 640, 320))
    assert shown.size == (320, 160)
    assert shown.getpixel((240, 80)) == (200, 200, 200)
    assert shown.getpixel((80, 80)) == (80, 80, 80)
    for place in ((160, 80), (319, 80), (240, 0), (240, 159)):
        assert shown.getpixel(place) == FRAME
    assert picture.getextrema() == ((200, 200),) * 3


def test_a_small_picture_is_drawn_at_its_own_size() -> None:
    assert drawn(Image.new("RGB", (40, 30)), (5, 0, 35, 30)).size == (40, 30)


@settings(deadline=None, max_examples=30)
@given(size=st.tuples(st.integers(16, 2000), st.integers(16, 2000)), target=SIDES, focus=FOCUS)
def test_any_window_can_be_drawn(size: tuple[int, int], target: tuple[int, int], focus: tuple[float, float]) -> None:
    shown = drawn(Image.new("RGB", size), window(size, target, focus), side=64)
    assert max(shown.size) == min(64, max(size))
