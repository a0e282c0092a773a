"""What is worked on and what pasting back leaves alone, over every knob, size and mask."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.ndimage import maximum_filter

from studio.diffusion.canvas import EMPTY_NOTE, Canvas, canvas, put_back
from studio.diffusion.resize import resized
from studio.requests.generate import GenerateRequest

SIZE = (40, 24)


def grey(box: tuple[int, int, int, int], size: tuple[int, int]) -> Image.Image:
    """A black mask with one white box."""
    mask = Image.new("L", size, 0)
    mask.paste(255, box)
    return mask


def noise(seed: int, size: tuple[int, int] = SIZE) -> Image.Image:
    """A colour picture of random pixels."""
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))


@st.composite
def one_box(draw: st.DrawFn) -> Image.Image:
    """A mask of any size with one painted box."""
    width, height = draw(st.integers(1, 300)), draw(st.integers(1, 300))
    left, top = draw(st.integers(0, width - 1)), draw(st.integers(0, height - 1))
    return grey((left, top, draw(st.integers(left + 1, width)), draw(st.integers(top + 1, height))), (width, height))


def request(**change: object) -> GenerateRequest:
    """A request to repaint."""
    return GenerateRequest(init_image="picture.png", **change)


KNOBS = {
    "resize_mode": st.sampled_from(["Just resize", "Crop and resize", "Resize and fill", "Just resize (latent upscale)"]),
    "mask_blur": st.integers(0, 64),
    "mask_mode": st.sampled_from(["Inpaint masked", "Inpaint not masked"]),
    "inpaint_area": st.sampled_from(["Whole picture", "Only masked"]),
    "padding": st.integers(0, 256),
    "soft_inpainting": st.booleans(),
}
WORKING = st.tuples(st.sampled_from([64, 72, 128, 200]), st.sampled_from([64, 72, 128, 200]))


@st.composite
def any_masks(draw: st.DrawFn) -> Image.Image:
    """A mask of any size: a box, a gradient, noise, nothing or everything."""
    size = draw(st.integers(1, 300)), draw(st.integers(1, 300))
    kind = draw(st.sampled_from(["box", "gradient", "noise", "black", "white"]))
    if kind == "box":
        return draw(one_box())
    if kind == "gradient":
        return Image.linear_gradient("L").resize(size)
    return noise(draw(st.integers(0, 99)), size).convert("L") if kind == "noise" else Image.new("L", size, kind)


@given(st.fixed_dictionaries(KNOBS), WORKING, any_masks(), st.tuples(st.integers(1, 600), st.integers(1, 600)), st.integers(0, 10**6))
@settings(deadline=None, max_examples=120)
def test_unmasked_pixels_are_identical_in_every_case(knobs: dict, working: tuple[int, int], mask: Image.Image, size: tuple[int, int], seed: int) -> None:
    picture = noise(seed, size)
    found = canvas(picture, mask, request(**knobs), working)
    assert found.working.size == working or knobs["resize_mode"] == "Just resize (latent upscale)"
    painted = noise(seed + 1, working)
    for how_much in (None, noise(seed + 2, working).convert("L")):
        result = np.asarray(put_back(found, painted, how_much))
        if found.mask is None:
            assert found.note == EMPTY_NOTE
            assert result.tobytes() == painted.tobytes()
            continue
        zoomed = knobs["inpaint_area"] == "Only masked"
        mode = "Just resize" if "latent" in knobs["resize_mode"] else knobs["resize_mode"]
        wanted = picture if zoomed else resized(picture, working, mode)
        keep = np.asarray(found.mask) == 0
        assert result.shape == np.asarray(wanted).shape
        assert np.array_equal(result[keep], np.asarray(wanted)[keep])


@given(one_box(), st.integers(0, 12), st.integers(0, 40), WORKING)
@settings(deadline=None, max_examples=60)
def test_every_pixel_that_is_replaced_lies_inside_the_part_that_was_worked_on(mask: Image.Image, blur: int, padding: int, working: tuple[int, int]) -> None:
    found = canvas(noise(1, mask.size), mask, request(inpaint_area="Only masked", mask_blur=blur, padding=padding), working)
    left, top, right, bottom = found.mask.getbbox()
    assert found.box[0] <= left
    assert found.box[1] <= top
    assert found.box[2] >= right
    assert found.box[3] >= bottom
    assert found.working_mask.size == working


def test_only_masked_shows_the_masked_part_at_the_working_size_and_puts_it_back_there() -> None:
    picture = Image.new("RGB", (300, 200), (0, 90, 0))
    picture.paste((200, 0, 0), (100, 60, 140, 100))
    found = canvas(picture, grey((100, 60, 140, 100), (300, 200)), request(inpaint_area="Only masked", mask_blur=0, padding=12), (64, 64))
    assert found.box == (88, 48, 152, 112)
    assert found.working.tobytes() == picture.crop(found.box).tobytes()
    result = put_back(found, Image.new("RGB", (64, 64), (0, 0, 255)))
    wanted = picture.copy()
    wanted.paste((0, 0, 255), (100, 60, 140, 100))
    assert result.tobytes() == wanted.tobytes()


def test_only_masked_in_a_picture_too_small_for_the_shape_stretches_its_edges_and_comes_back_in_its_shape() -> None:
    picture = noise(5, (40, 200))
    found = canvas(picture, grey((0, 90, 40, 110), (40, 200)), request(inpaint_area="Only masked", mask_blur=0, padding=0), (128, 64))
    assert found.box == (0, 90, 40, 110)
    found = canvas(picture, grey((0, 50, 40, 150), (40, 200)), request(inpaint_area="Only masked", mask_blur=0, padding=0), (128, 64))
    assert found.box == (0, 50, 40, 150)
    assert found.inner == (52, 0, 77, 64)  # 25.6 pixels wide: 25, as in A1111
    columns = np.asarray(found.working)
    assert (columns[:, :51] == columns[:, 51:52]).all()
    result = np.asarray(put_back(found, found.working)).astype(int)
    assert np.abs(result[50:150] - np.asarray(picture)[50:150]).mean() < 80
    assert np.array_equal(result[:50], np.asarray(picture)[:50])


def test_a_wholly_painted_canvas_takes_the_new_picture() -> None:
    found = canvas(noise(1), Image.new("L", SIZE, 255), request(mask_blur=4), (64, 64))
    assert put_back(found, noise(2, (64, 64))).tobytes() == noise(2, (64, 64)).tobytes()


def test_without_a_mask_all_is_repainted() -> None:
    found = canvas(noise(1), None, request(), (64, 72))
    assert (found.mask, found.working_mask, found.note) == (None, None, "")
    assert found.working.size == (64, 72)
    assert put_back(found, noise(2, (64, 72))).tobytes() == noise(2, (64, 72)).tobytes()


def test_inside_the_painted_area_the_new_picture_shows_wholly_when_the_whole_picture_is_repainted() -> None:
    found: Canvas = canvas(noise(1, (64, 64)), grey((16, 16, 48, 48), (64, 64)), request(mask_blur=4), (64, 64))
    assert np.asarray(found.mask)[20:44, 17:47].min() >= 250
    assert np.asarray(found.working_mask)[16, 32] < 160
    assert 0 < np.asarray(found.mask)[12, 32] < 255


def test_a_soft_canvas_keeps_the_greys_of_its_mask() -> None:
    mask = Image.new("L", (64, 64), 77)
    assert np.asarray(canvas(noise(1, (64, 64)), mask, request(soft_inpainting=True), (64, 64)).working_mask).mean() == 77
    assert np.asarray(canvas(noise(1, (64, 64)), mask, request(), (64, 64)).working_mask).mean() == 0


@given(one_box(), st.integers(0, 20))
@settings(deadline=None, max_examples=60)
def test_the_soft_mask_ends_two_and_a_half_blurs_from_what_was_painted(mask: Image.Image, blur: int) -> None:
    near = maximum_filter(np.asarray(mask), 2 * int(2.5 * blur + 0.5) + 1) > 0
    found = canvas(noise(1, mask.size), mask, request(inpaint_area="Only masked", mask_blur=blur), (64, 64))
    assert not np.asarray(found.mask)[~near].any()


@pytest.mark.parametrize(("across", "down"), [(0, 5), (5, 0)])
def test_the_blur_down_can_differ_from_the_blur_across(across: int, down: int) -> None:
    found = canvas(noise(1, (64, 64)), grey((30, 30, 34, 34), (64, 64)), request(inpaint_area="Only masked", mask_blur=across), (64, 64), blur_y=down)
    left, top, right, bottom = found.mask.getbbox()
    assert (right - left > bottom - top) is (across > down)


@pytest.mark.parametrize("area", ["Whole picture", "Only masked"])
def test_a_single_pixel_is_repainted_however_wide_the_blur(area: str) -> None:
    found = canvas(noise(1, (64, 64)), grey((30, 30, 31, 31), (64, 64)), request(inpaint_area=area, mask_blur=64), (64, 64))
    assert found.mask.getbbox() == (30, 30, 31, 31)
    assert found.note == ""
