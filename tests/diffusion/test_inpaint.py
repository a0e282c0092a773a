"""Masks: what counts as painted, the box that is cut out, and what pasting leaves alone."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from studio.diffusion.inpaint import blurred, crop_box, filled, mask_of, pasted
from studio.errors import InputError

SIZE = (40, 24)
BOX = (8, 6, 20, 14)


def grey(box: tuple[int, int, int, int] = BOX, size: tuple[int, int] = SIZE, value: int = 255) -> Image.Image:
    """A black mask with one lighter box."""
    mask = Image.new("L", size, 0)
    mask.paste(value, box)
    return mask


def noise(seed: int, size: tuple[int, int] = SIZE) -> Image.Image:
    """A colour picture of random pixels."""
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))


def brush(opacity: int) -> Image.Image:
    """A transparent layer on which a box was painted black, as a page's editor gives it."""
    layer = Image.new("RGBA", SIZE, (0, 0, 0, 0))
    layer.paste((0, 0, 0, opacity), BOX)
    return layer


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "1", "P"])
def test_white_on_black_is_repainted_in_every_mode(mode: str) -> None:
    mask = mask_of(grey().convert(mode), SIZE, invert=False)
    assert mask.mode == "L"
    assert mask.tobytes() == grey().tobytes()


def test_invert_repaints_the_rest() -> None:
    mask = np.asarray(mask_of(grey(), SIZE, invert=True))
    assert np.array_equal(mask, 255 - np.asarray(grey()))


@pytest.mark.parametrize(("value", "painted"), [(128, True), (255, True), (200, True)])
def test_light_greys_are_painted(value: int, painted: bool) -> None:
    assert (mask_of(grey(value=value), SIZE, invert=False).getbbox() == BOX) is painted


def test_dark_greys_are_not_painted() -> None:
    mask = grey(value=127)
    mask.putpixel((0, 0), 255)
    assert mask_of(mask, SIZE, invert=False).getbbox() == (0, 0, 1, 1)


def test_a_mask_has_two_values_only() -> None:
    ramp = Image.linear_gradient("L").resize(SIZE)
    assert set(np.unique(np.asarray(mask_of(ramp, SIZE, invert=False)))) == {0, 255}


@pytest.mark.parametrize("opacity", [128, 255])
def test_a_brush_layer_is_painted_where_it_is_opaque_whatever_its_colour(opacity: int) -> None:
    assert mask_of(brush(opacity), SIZE, invert=False).tobytes() == grey().tobytes()


def test_an_inverted_brush_layer_repaints_what_was_not_painted() -> None:
    assert np.array_equal(np.asarray(mask_of(brush(255), SIZE, invert=True)), 255 - np.asarray(grey()))


def test_the_mask_that_was_given_is_not_changed() -> None:
    mask = grey(value=200)
    mask_of(mask, SIZE, invert=True)
    assert mask.tobytes() == grey(value=200).tobytes()


@pytest.mark.parametrize("image", [Image.new("L", SIZE, 0), Image.new("RGB", SIZE, "black"), Image.new("RGBA", SIZE, (255, 255, 255, 0)), brush(100)], ids=["grey", "rgb", "layer", "faint"])
def test_an_empty_mask_is_refused_in_words(image: Image.Image) -> None:
    with pytest.raises(InputError, match="empty") as caught:
        mask_of(image, SIZE, invert=False)
    assert caught.value.hint


def test_a_full_mask_inverted_is_refused_in_words() -> None:
    with pytest.raises(InputError, match="empty"):
        mask_of(Image.new("L", SIZE, 255), SIZE, invert=True)


@pytest.mark.parametrize("size", [(24, 40), (41, 24), (1, 1)])
def test_a_mask_of_another_size_is_refused_with_both_sizes(size: tuple[int, int]) -> None:
    with pytest.raises(InputError) as caught:
        mask_of(Image.new("L", size, 255), SIZE, invert=False)
    assert f"{size[0]}x{size[1]}" in caught.value.message
    assert "40x24" in caught.value.message
    assert caught.value.hint


def test_a_blur_of_nought_changes_nothing() -> None:
    assert blurred(grey(), 0).tobytes() == grey().tobytes()


def test_a_blur_softens_the_edge_and_leaves_the_far_alone() -> None:
    soft = np.asarray(blurred(grey(), 2))
    assert len(np.unique(soft)) > 10
    assert soft[10, 14] > 200
    assert 0 < soft[10, 7] < soft[10, 8] < soft[10, 9]
    assert soft[23, 39] == 0


def boxes(width: int, height: int) -> st.SearchStrategy[tuple[int, int, int, int]]:
    """Boxes of at least one pixel inside a picture."""
    return st.tuples(st.integers(0, width - 1), st.integers(0, height - 1)).flatmap(lambda p: st.tuples(st.just(p[0]), st.just(p[1]), st.integers(p[0] + 1, width), st.integers(p[1] + 1, height)))


@st.composite
def masks(draw: st.DrawFn) -> Image.Image:
    """A mask of any size with one painted box."""
    size = draw(st.integers(1, 300)), draw(st.integers(1, 300))
    return grey(draw(boxes(*size)), size)


@given(masks(), st.integers(0, 400), st.floats(0.05, 20))
@settings(deadline=None)
def test_the_crop_box_is_inside_the_picture_and_holds_the_mask_with_its_padding(mask: Image.Image, padding: int, aspect: float) -> None:
    left, top, right, bottom = crop_box(mask, padding, aspect)
    inner = mask.getbbox()
    assert 0 <= left < right <= mask.width
    assert 0 <= top < bottom <= mask.height
    assert left <= max(0, inner[0] - padding)
    assert top <= max(0, inner[1] - padding)
    assert right >= min(mask.width, inner[2] + padding)
    assert bottom >= min(mask.height, inner[3] + padding)


@given(masks(), st.integers(0, 64), st.floats(0.3, 3))
@settings(deadline=None)
def test_the_crop_box_has_the_aspect_asked_for_unless_the_picture_is_too_small(mask: Image.Image, padding: int, aspect: float) -> None:
    left, top, right, bottom = crop_box(mask, padding, aspect)
    width, height = right - left, bottom - top
    assert width in (round(height * aspect), mask.width) or height in (round(width / aspect), mask.height)


def test_the_crop_box_of_a_mask_in_a_corner_is_pushed_inside() -> None:
    assert crop_box(grey((0, 0, 4, 4), (100, 100)), 8, 2.0) == (0, 0, 24, 12)
    assert crop_box(grey((96, 96, 100, 100), (100, 100)), 8, 2.0) == (76, 88, 100, 100)


def test_the_crop_box_is_widened_around_the_middle() -> None:
    assert crop_box(grey((40, 40, 60, 60), (100, 100)), 0, 2.0) == (30, 40, 70, 60)
    assert crop_box(grey((40, 40, 60, 60), (100, 100)), 0, 0.5) == (40, 30, 60, 70)


@given(boxes(*SIZE), st.integers(0, 6), st.integers(0, 10**6))
@settings(deadline=None, max_examples=50)
def test_pasting_leaves_every_pixel_under_a_black_mask_identical(box: tuple[int, int, int, int], radius: int, seed: int) -> None:
    original, painted, mask = noise(seed), noise(seed + 1), blurred(grey(box), radius)
    before, after, soft = (np.asarray(i) for i in (original, pasted(original, painted, mask), mask))
    assert np.array_equal(after[soft == 0], before[soft == 0])
    assert np.array_equal(after[soft == 255], np.asarray(painted)[soft == 255])


def test_pasting_does_not_change_the_original() -> None:
    original = noise(1)
    pasted(original, noise(2), grey())
    assert original.tobytes() == noise(1).tobytes()


def test_a_half_mask_mixes_both_pictures() -> None:
    found = pasted(Image.new("RGB", SIZE, (0, 0, 0)), Image.new("RGB", SIZE, (200, 100, 50)), Image.new("L", SIZE, 128))
    assert found.getpixel((3, 3)) == pytest.approx((100, 50, 25), abs=1)


def test_filling_leaves_what_is_not_masked_and_forgets_what_is() -> None:
    one, two = noise(1), noise(1)
    two.paste((255, 0, 255), BOX)
    a, b = filled(one, grey()), filled(two, grey())
    assert a.mode == "RGB"
    assert a.size == SIZE
    assert a.tobytes() == b.tobytes()
    outside = np.asarray(grey()) == 0
    assert np.array_equal(np.asarray(a)[outside], np.asarray(one)[outside])


def test_filling_takes_the_colour_that_surrounds_the_mask() -> None:
    picture = Image.new("RGB", SIZE, (30, 160, 90))
    picture.paste((255, 0, 0), BOX)
    inside = np.asarray(filled(picture, grey()).crop(BOX)).reshape(-1, 3)
    assert np.abs(inside.astype(int) - (30, 160, 90)).max() <= 3
