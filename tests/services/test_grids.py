"""Tables of pictures: every picture in its place, words that fit, nothing too large."""

import numpy as np
import pytest
from PIL import Image

from studio.requests.scripts import Label
from studio.services import grids
from studio.services.grids import Words, table, titled

RED, BLUE, WHITE = (200, 0, 0), (0, 0, 200), (255, 255, 255)


def plain(color: tuple[int, int, int], size: tuple[int, int] = (64, 48)) -> Image.Image:
    """A picture of one colour."""
    return Image.new("RGB", size, color)


def labels(*texts: str) -> list[tuple[Label, ...]]:
    """One label each."""
    return [(Label(text),) for text in texts]


def test_without_words_a_table_is_its_pictures() -> None:
    image = table({(0, 0): plain(RED), (1, 1): plain(BLUE)}, (2, 2))
    assert image.size == (128, 96)
    assert image.crop((0, 0, 64, 48)).tobytes() == plain(RED).tobytes()
    assert image.crop((64, 48, 128, 96)).tobytes() == plain(BLUE).tobytes()
    assert image.getpixel((100, 10)) == WHITE


def test_a_margin_lies_between_pictures_only() -> None:
    image = table({(i, 0): plain(RED) for i in range(3)}, (3, 1), margin=10)
    assert image.size == (3 * 64 + 20, 48)
    assert image.getpixel((70, 20)) == WHITE
    assert image.getpixel((211, 20)) == RED


def test_pictures_of_other_sizes_stand_in_the_middle() -> None:
    image = table({(0, 0): plain(RED, (64, 48)), (1, 0): plain(BLUE, (32, 16))}, (2, 1))
    assert image.getpixel((96, 24)) == BLUE
    assert image.getpixel((66, 2)) == WHITE


def test_words_take_room_and_leave_the_pictures_alone() -> None:
    image = table({(0, 0): plain(RED), (1, 0): plain(BLUE)}, (2, 1), Words(labels("Steps: 10", "Steps: 20"), labels("Euler a")))
    left, top = image.width - 128, image.height - 48
    assert left > 0
    assert top > 0
    assert image.crop((left, top, left + 64, top + 48)).tobytes() == plain(RED).tobytes()
    assert image.crop((left + 64, top, image.width, image.height)).tobytes() == plain(BLUE).tobytes()
    ink = np.array(image.convert("L"))
    assert (ink[:top, left:] < 128).any()
    assert (ink[top:, :left] < 128).any()


@pytest.mark.parametrize("text", ["word " * 200, "x" * 3000, "一个很长的提示词" * 40, "two\nlines", "møñster 🐉", "\0\t", "a" * 59 + " b"])
def test_long_words_are_wrapped_and_end(text: str) -> None:
    image = table({(0, 0): plain(RED)}, (1, 1), Words(labels(text), labels(text)))
    assert image.width < 400
    assert image.height < 400
    assert image.crop((image.width - 64, image.height - 48, image.width, image.height)).tobytes() == plain(RED).tobytes()


def test_every_line_fits_its_width() -> None:
    font = grids._font(12)
    for text in ("one two three four five", "unbreakablelongword", "小怪兽在森林里", "a b " * 50):
        lines = grids._wrapped(text, font, 60)
        assert all(font.getlength(line) <= 60 for line in lines)
        assert len(lines) <= 12
    assert "".join(grids._wrapped("小怪兽在森林里", font, 60)) == "小怪兽在森林里"
    assert " ".join(grids._wrapped("one two three", font, 60)) == "one two three"


@pytest.mark.skipif("CJK" not in grids._font_file(), reason="no Chinese font here")
def test_chinese_is_drawn_as_characters() -> None:
    drawn = {character: grids._written((Label(character),), 64, 24).tobytes() for character in "小怪兽"}
    assert len(set(drawn.values())) == 3


def test_without_a_font_of_the_system_pillows_own_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grids, "_FONTS", ("no-such-font.ttf",))
    grids._font_file.cache_clear()
    grids._font.cache_clear()
    try:
        assert grids._font_file() == ""
        assert (np.array(grids._written((Label("Steps: 10"),), 64, 12)) < 128).any()
    finally:
        monkeypatch.undo()
        grids._font_file.cache_clear()
        grids._font.cache_clear()


def test_inactive_words_are_grey_and_struck_through() -> None:
    active, inactive = (np.array(grids._written((Label("snow", on),), 64, 12)) for on in (True, False))
    assert active.min() < 60
    assert inactive.min() >= 140
    assert (inactive < 200).all(axis=2).sum(axis=1).max() > (active < 200).all(axis=2).sum(axis=1).max()


def test_a_table_that_would_be_too_large_is_drawn_smaller() -> None:
    image = table({(i, j): plain(RED, (400, 400)) for i in range(10) for j in range(10)}, (10, 10), Words(labels(*"0123456789"), labels(*"0123456789")), margin=20, megapixels=1.0)
    assert image.width * image.height < 1.1e6
    long = table({(0, 0): plain(RED, (200, 8))}, (500, 1))
    assert long.width <= grids.LONGEST


def test_tables_stand_side_by_side_under_their_titles() -> None:
    image = titled([plain(RED), plain(BLUE)], labels("Seed: 1", "Seed: 2"))
    assert image.width == 128
    assert image.getpixel((10, image.height - 5)) == RED
    assert image.getpixel((100, image.height - 5)) == BLUE


def test_an_empty_table_is_white() -> None:
    image = table({}, (2, 2), Words(labels("a", "b"), ()))
    assert image.getpixel((image.width - 3, image.height - 3)) == WHITE
