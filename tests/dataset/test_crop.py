"""A crop is cut out at its size, and drawn over the picture it belongs to."""

from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from studio.dataset.crop import FRAME, cut, drawn, window

SIDES = st.tuples(st.integers(16, 2000), st.integers(16, 2000))
FOCUS = st.tuples(st.floats(-3000, 5000), st.floats(-3000, 5000))


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
