"""Masks: what counts as painted, the box that is cut out, and what pasting leaves alone."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from studio.diffusion.inpaint import blurred, crop_box, filled, mask_of, pasted, read_mask, sketch, strokes
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


def opaque(mode: str, corner: tuple[int, ...] | None = None) -> Image.Image:
    """The mask of `grey()`, white on black with alpha, one corner of it another value."""
    image = grey().convert(mode)
    if corner is not None:
        image.putpixel((SIZE[0] - 1, SIZE[1] - 1), corner)
    return image


def faded() -> Image.Image:
    """White on black whose upper edge is not quite opaque."""
    image, alpha = opaque("RGBA"), Image.new("L", SIZE, 255)
    alpha.paste(254, (0, 0, SIZE[0], 1))
    image.putalpha(alpha)
    return image


def coloured() -> Image.Image:
    """Red strokes on transparency."""
    layer = Image.new("RGBA", SIZE, (0, 0, 0, 0))
    layer.paste((200, 30, 60, 255), BOX)
    return layer


def palette() -> Image.Image:
    """White on a black that the palette calls transparent."""
    image = Image.fromarray((np.asarray(grey()) > 0).astype(np.uint8)).convert("P")
    image.putpalette([0, 0, 0, 255, 255, 255])
    image.info["transparency"] = 0
    return image


def numbers(dtype: type, white: float) -> Image.Image:
    """The mask of `grey()` in numbers of another kind."""
    return Image.fromarray((np.asarray(grey()) / 255 * white).astype(dtype))


KINDS = {
    "opaque RGBA": opaque("RGBA"),
    "opaque black RGBA with one transparent pixel": opaque("RGBA", (0, 0, 0, 0)),
    "opaque black RGBA with a faded edge": faded(),
    "LA with a transparent corner": opaque("LA", (255, 0)),
    "white strokes on transparency": Image.merge("RGBA", (grey(),) * 4),
    "coloured strokes on transparency": coloured(),
    "palette": grey().convert("P"),
    "palette with a transparent black": palette(),
    "16 bits": numbers(np.uint16, 65535),
    "32 bits": numbers(np.int32, 65535),
    "float": numbers(np.float32, 1),
    "CMYK": grey().convert("RGB").convert("CMYK"),
}
"""The mask of `grey()` as the kinds of files that people have."""


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_mask_repaints_what_it_shows(kind: str) -> None:
    assert mask_of(KINDS[kind], SIZE, invert=False).tobytes() == grey().tobytes()


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


@given(st.tuples(st.integers(1, 300), st.integers(1, 300)), st.tuples(st.integers(1, 300), st.integers(1, 300)), st.data())
@settings(deadline=None, max_examples=60)
def test_a_mask_of_any_size_is_brought_to_the_picture_and_no_stroke_is_lost(source: tuple[int, int], size: tuple[int, int], data: st.DataObject) -> None:
    box = data.draw(boxes(*source))
    for given_mask in (grey(box, source), Image.merge("RGBA", (*[Image.new("L", source)] * 3, grey(box, source)))):
        mask = read_mask(given_mask, size)
        assert (mask.mode, mask.size) == ("L", size)
        assert mask.getextrema()[1] == (255 if given_mask.mode == "L" or box != (0, 0, *source) else 0)
        assert np.array_equal(np.asarray(read_mask(given_mask, size, invert=True)), 255 - np.asarray(mask))


def test_a_mask_twice_as_large_covers_the_same_part() -> None:
    assert mask_of(grey((16, 12, 40, 28), (80, 48)), SIZE, invert=False).tobytes() == grey().tobytes()


def test_a_mask_keeps_its_greys_when_it_is_not_rounded() -> None:
    ramp = Image.linear_gradient("L")
    assert read_mask(ramp, ramp.size, rounded=False).tobytes() == ramp.tobytes()
    assert len(np.unique(np.asarray(read_mask(ramp, (100, 100), rounded=False)))) > 90


@pytest.mark.parametrize("mode", ["I;16", "LA", "PA", "CMYK", "F"])
def test_rarer_modes_are_read_too(mode: str) -> None:
    plain = grey()
    image = Image.fromarray(np.asarray(plain).astype(np.uint16) * 257) if mode == "I;16" else plain.convert("LA").convert("PA") if mode == "PA" else plain.convert(mode)
    assert read_mask(image, SIZE).tobytes() == plain.tobytes()


def test_a_blur_of_nought_changes_nothing() -> None:
    assert blurred(grey(), 0).tobytes() == grey().tobytes()


def test_a_blur_softens_the_edge_and_leaves_the_far_alone() -> None:
    soft = np.asarray(blurred(grey(), 2))
    assert len(np.unique(soft)) > 10
    assert soft[10, 14] > 200
    assert 0 < soft[10, 7] < soft[10, 8] < soft[10, 9]
    assert soft[23, 39] == 0


@pytest.mark.parametrize("sigma", [0.3, 1, 4, 10, 64])
def test_the_blur_is_a_gaussian_cut_off_after_two_and_a_half_deviations(sigma: float) -> None:
    reach = int(2.5 * sigma + 0.5)
    edge = Image.new("L", (400, 3), 0)
    edge.paste(255, (200, 0, 400, 3))
    found = np.asarray(blurred(edge, sigma, 0))[1].astype(float)
    weights = np.exp(-(np.arange(-reach, reach + 1) ** 2) / (2 * sigma**2))
    wanted = np.convolve(np.pad((np.arange(400) >= 200) * 255.0, reach, mode="edge"), weights / weights.sum(), "valid")
    assert np.abs(found - wanted).max() <= 2
    assert not found[: 200 - reach].any()


def test_the_blur_may_differ_across_and_down() -> None:
    soft = np.asarray(blurred(grey((20, 20, 21, 21), (41, 41)).point(lambda v: v), 0, 3)).astype(int)
    assert not np.delete(soft, 20, axis=1).any()
    assert soft[:, 20].sum() > 200
    across = np.asarray(blurred(grey((20, 20, 21, 21), (41, 41)), 3, 0)).astype(int)
    assert np.array_equal(across, soft.T)


@pytest.mark.parametrize("size", [(1, 1), (1, 50), (50, 1), (3, 2)])
def test_a_blur_wider_than_the_mask_works(size: tuple[int, int]) -> None:
    assert (np.asarray(blurred(Image.new("L", size, 255), 64)) >= 253).all()


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
    assert width in (int(height * aspect), mask.width) or height in (int(width / aspect), mask.height)


def test_the_crop_box_of_a_mask_in_a_corner_is_pushed_inside() -> None:
    assert crop_box(grey((0, 0, 4, 4), (100, 100)), 8, 2.0) == (0, 0, 24, 12)
    assert crop_box(grey((96, 96, 100, 100), (100, 100)), 8, 2.0) == (76, 88, 100, 100)


def test_the_crop_box_is_widened_around_the_middle() -> None:
    assert crop_box(grey((40, 40, 60, 60), (100, 100)), 0, 2.0) == (30, 40, 70, 60)
    assert crop_box(grey((40, 40, 60, 60), (100, 100)), 0, 0.5) == (40, 30, 60, 70)
    # A1111's integers: 30 / 0.7 = 42.86 is 42, and of an odd number of pixels one more goes behind.
    assert crop_box(grey((40, 40, 70, 60), (200, 200)), 0, 0.7) == (40, 29, 70, 71)
    assert crop_box(grey((40, 40, 61, 60), (200, 200)), 0, 0.49) == (40, 29, 61, 71) != (40, 28, 61, 71)


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


def test_filling_a_wholly_masked_picture_gives_grey_and_keeps_nothing_of_it() -> None:
    assert set(filled(noise(3), Image.new("L", SIZE, 255)).get_flattened_data()) == {(128, 128, 128)}


def test_far_from_everything_known_the_mean_colour_is_filled_in() -> None:
    size = (2600, 8)
    found = np.asarray(filled(Image.new("RGB", size, (30, 160, 90)), grey((4, 0, *size), size)))
    assert np.abs(found[4, -1].astype(int) - (30, 160, 90)).max() <= 3


@given(boxes(*SIZE), st.integers(0, 999))
@settings(deadline=None, max_examples=40)
def test_strokes_are_what_differs_from_the_picture(box: tuple[int, int, int, int], seed: int) -> None:
    picture = noise(seed)
    painted = picture.copy()
    painted.paste(tuple(255 - v for v in picture.getpixel(box[:2])), box)
    differs = np.asarray(strokes(picture, painted)) == 255
    assert np.array_equal(differs, (np.asarray(picture) != np.asarray(painted)).any(-1))
    assert differs[box[1], box[0]]


def test_a_sketch_by_difference_keeps_the_strokes_and_everything_else_of_the_picture() -> None:
    picture, painted = noise(1), noise(1)
    painted.paste((255, 0, 255), BOX)
    begin, mask = sketch(picture, painted)
    assert begin.tobytes() == painted.tobytes()
    assert np.asarray(mask)[BOX[1] : BOX[3], BOX[0] : BOX[2]].min() == 255 or (255, 0, 255) in set(picture.crop(BOX).get_flattened_data())


@pytest.mark.parametrize("factor", [1, 2])
def test_a_sketch_on_a_layer_of_its_own_is_laid_over_the_picture_and_faint_strokes_count(factor: int) -> None:
    layer = Image.new("RGBA", (SIZE[0] * factor, SIZE[1] * factor), (0, 0, 0, 0))
    layer.paste((255, 0, 0, 60), tuple(v * factor for v in BOX))
    begin, mask = sketch(Image.new("RGB", SIZE, "white"), layer)
    inside = np.asarray(begin)[9:12, 11:17].astype(int)
    assert np.abs(inside - (255, 195, 195)).max() <= 2
    assert np.asarray(mask)[9:12, 11:17].min() == 255
    assert np.asarray(mask)[:3].max() == 0
    assert (np.asarray(begin)[:3] == 255).all()


def test_a_sketch_lets_the_picture_through_but_repaints_all_of_it() -> None:
    picture, painted = Image.new("RGB", SIZE, "black"), Image.new("RGB", SIZE, "black")
    painted.paste((200, 100, 0), BOX)
    begin, mask = sketch(picture, painted, blur=0, transparency=0.5)
    assert begin.getpixel((12, 10)) == pytest.approx((100, 50, 0), abs=1)
    assert mask.tobytes() == grey().tobytes()


def test_a_sketch_with_blur_has_soft_edges() -> None:
    picture, painted = Image.new("RGB", SIZE, "black"), Image.new("RGB", SIZE, "black")
    painted.paste("white", BOX)
    begin, _ = sketch(picture, painted, blur=2)
    row = np.asarray(begin)[10, :, 0].astype(int)
    assert 0 < row[7] < row[9] < row[13]


def test_a_sketch_of_another_size_is_refused_with_both_sizes() -> None:
    with pytest.raises(InputError, match="41x24") as caught:
        sketch(noise(1), noise(2, (41, 24)))
    assert "40x24" in caught.value.message
    assert caught.value.hint


def test_an_empty_mask_cannot_be_cut_out() -> None:
    with pytest.raises(InputError, match="empty"):
        crop_box(Image.new("L", SIZE, 0), 4, 1.0)
