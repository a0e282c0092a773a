"""Any picture a person may drop in opens as upright RGB, or is refused in words."""

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from studio.dataset.folder import list_pictures, open_upright, read_folder
from studio.errors import InputError, Unreadable
from studio.projects.facts import Change
from studio.projects.project import Project

pytestmark = pytest.mark.filterwarnings("ignore")
"""Pillow warns about the damage that is meant here."""

RED, BLUE = (255, 0, 0), (0, 0, 255)


def two_colours(width: int = 40, height: int = 20) -> Image.Image:
    """Red on the left, blue on the right."""
    image = Image.new("RGB", (width, height), BLUE)
    image.paste(RED, (0, 0, width // 2, height))
    return image


def noise(side: int = 64) -> Image.Image:
    """A picture whose file is long enough to be cut."""
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8))


def opened(path: Path) -> Image.Image:
    """What the data set sees of a file, checked to be RGB."""
    image = open_upright(path)
    assert image.mode == "RGB"
    return image


def near(found: tuple[int, ...], wanted: tuple[int, ...], by: int = 6) -> bool:
    """Whether two colours are alike up to compression."""
    return all(abs(a - b) <= by for a, b in zip(found, wanted, strict=True))


# What EXIF orientation puts where the stored red half lay: (size, place that must be red, place that must be blue).
TURNS = {
    1: ((40, 20), (5, 10), (35, 10)),
    2: ((40, 20), (35, 10), (5, 10)),
    3: ((40, 20), (35, 10), (5, 10)),
    4: ((40, 20), (5, 10), (35, 10)),
    5: ((20, 40), (10, 5), (10, 35)),
    6: ((20, 40), (10, 5), (10, 35)),
    7: ((20, 40), (10, 35), (10, 5)),
    8: ((20, 40), (10, 35), (10, 5)),
}


@pytest.mark.parametrize("turn", TURNS)
def test_a_photo_is_turned_upright_by_its_exif(tmp_path: Path, turn: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = turn
    two_colours().save(tmp_path / "photo.jpg", exif=exif, quality=95)
    size, red, blue = TURNS[turn]
    image = opened(tmp_path / "photo.jpg")
    assert image.size == size
    assert near(image.getpixel(red), RED)
    assert near(image.getpixel(blue), BLUE)


@pytest.mark.parametrize("value", [0, 9, 65535])
def test_a_meaningless_exif_orientation_changes_nothing(tmp_path: Path, value: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = value
    two_colours().save(tmp_path / "photo.jpg", exif=exif, quality=95)
    image = opened(tmp_path / "photo.jpg")
    assert image.size == (40, 20)
    assert near(image.getpixel((5, 10)), RED)


def test_alpha_is_laid_onto_white(tmp_path: Path) -> None:
    image = Image.new("RGBA", (3, 1))
    image.putdata([(0, 0, 0, 0), (0, 0, 0, 128), (10, 20, 30, 255)])
    image.save(tmp_path / "a.png")
    pixels = [opened(tmp_path / "a.png").getpixel((x, 0)) for x in range(3)]
    assert pixels[0] == (255, 255, 255)
    assert near(pixels[1], (127, 127, 127), 1)
    assert pixels[2] == (10, 20, 30)


def test_grey_with_alpha_is_laid_onto_white(tmp_path: Path) -> None:
    image = Image.new("LA", (2, 1))
    image.putdata([(0, 0), (90, 255)])
    image.save(tmp_path / "a.png")
    assert [opened(tmp_path / "a.png").getpixel((x, 0)) for x in range(2)] == [(255, 255, 255), (90, 90, 90)]


@pytest.mark.parametrize("transparency", [0, bytes([0, 255])])
def test_a_palette_with_alpha_is_laid_onto_white(tmp_path: Path, transparency: int | bytes) -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([0, 0, 0, 200, 100, 50])
    image.putdata([0, 1])
    image.save(tmp_path / "p.png", transparency=transparency)
    assert [opened(tmp_path / "p.png").getpixel((x, 0)) for x in range(2)] == [(255, 255, 255), (200, 100, 50)]


def test_a_transparent_colour_of_an_rgb_png_becomes_white(tmp_path: Path) -> None:
    image = Image.new("RGB", (2, 1))
    image.putdata([(0, 255, 0), (9, 8, 7)])
    image.save(tmp_path / "t.png", transparency=(0, 255, 0))
    assert [opened(tmp_path / "t.png").getpixel((x, 0)) for x in range(2)] == [(255, 255, 255), (9, 8, 7)]


def test_a_cmyk_jpeg_keeps_its_colours(tmp_path: Path) -> None:
    two_colours().convert("CMYK").save(tmp_path / "print.jpg", quality=95)
    image = opened(tmp_path / "print.jpg")
    assert near(image.getpixel((5, 10)), RED, 12)
    assert near(image.getpixel((35, 10)), BLUE, 12)


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_sixteen_bits_are_brought_to_eight_without_clipping(tmp_path: Path, suffix: str) -> None:
    ramp = np.linspace(0, 65535, 256).astype(np.uint16)[None].repeat(4, 0)
    Image.fromarray(ramp).save(tmp_path / f"deep.{suffix}")
    row = np.asarray(opened(tmp_path / f"deep.{suffix}"))[0, :, 0].astype(int)
    assert np.abs(row - np.arange(256)).max() <= 1


def test_a_black_sixteen_bit_picture_stays_black(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((4, 4), np.uint16)).save(tmp_path / "black.png")
    assert opened(tmp_path / "black.png").getextrema() == ((0, 0),) * 3


def test_a_dark_sixteen_bit_picture_is_not_made_bright(tmp_path: Path) -> None:
    Image.fromarray(np.full((4, 4), 100, np.uint16)).save(tmp_path / "dark.png")
    assert opened(tmp_path / "dark.png").getpixel((0, 0))[0] <= 1


def test_a_float_tiff_opens(tmp_path: Path) -> None:
    Image.fromarray(np.linspace(0, 1, 16, dtype=np.float32).reshape(4, 4)).save(tmp_path / "f.tif")
    low, high = opened(tmp_path / "f.tif").getextrema()[0]
    assert (low, high) == (0, 255)


def test_a_float_tiff_with_holes_opens_or_is_refused_in_words(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0.5, np.nan], [np.inf, -np.inf]], dtype=np.float32)).save(tmp_path / "f.tif")
    try:
        assert opened(tmp_path / "f.tif").size == (2, 2)
    except Unreadable as error:
        assert "f.tif" in str(error)


def test_one_bit_black_and_white_opens(tmp_path: Path) -> None:
    image = Image.new("1", (2, 1))
    image.putdata([0, 255])
    image.save(tmp_path / "bw.png")
    assert [opened(tmp_path / "bw.png").getpixel((x, 0)) for x in range(2)] == [(0, 0, 0), (255, 255, 255)]


def test_an_animated_gif_gives_its_first_frame(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (20, 20), colour) for colour in (RED, BLUE, (0, 255, 0))]
    frames[0].save(tmp_path / "moving.gif", save_all=True, append_images=frames[1:], duration=50)
    assert near(opened(tmp_path / "moving.gif").getpixel((10, 10)), RED)


def test_a_file_of_zero_bytes_is_called_empty(tmp_path: Path) -> None:
    (tmp_path / "nothing.png").touch()
    with pytest.raises(Unreadable, match=r"nothing\.png is not a picture \(it is empty\)"):
        open_upright(tmp_path / "nothing.png")


def test_a_text_named_png_is_called_no_picture(tmp_path: Path) -> None:
    (tmp_path / "letter.png").write_text("Dear reader, " * 50)
    with pytest.raises(Unreadable, match=r"letter\.png is not a picture\.") as caught:
        open_upright(tmp_path / "letter.png")
    assert caught.value.hint


@pytest.mark.parametrize("name", ["cut.png", "cut.jpg", "cut.webp", "cut.bmp", "cut.gif"])
def test_a_picture_cut_in_half_is_refused_in_words(tmp_path: Path, name: str) -> None:
    noise().save(tmp_path / name)
    data = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(data[: len(data) // 2])
    with pytest.raises(Unreadable) as caught:
        open_upright(tmp_path / name)
    assert name in str(caught.value)


@pytest.mark.parametrize("name", ["cut.png", "cut.jpg", "cut.webp", "cut.bmp", "cut.gif", "cut.tif"])
def test_a_picture_cut_anywhere_opens_or_is_refused_in_words(tmp_path: Path, name: str) -> None:
    noise(16).save(tmp_path / name)
    data = (tmp_path / name).read_bytes()
    refused = 0
    for length in range(0, len(data), max(1, len(data) // 60)):
        (tmp_path / name).write_bytes(data[:length])
        try:
            opened(tmp_path / name)
        except Unreadable as error:
            refused += 1
            assert name in str(error)
    assert refused


@pytest.mark.parametrize("name", ["hurt.png", "hurt.jpg", "hurt.webp", "hurt.bmp", "hurt.gif", "hurt.tif"])
def test_a_picture_with_wrong_bytes_opens_or_is_refused_in_words(tmp_path: Path, name: str) -> None:
    noise(16).save(tmp_path / name)
    data = (tmp_path / name).read_bytes()
    rng = np.random.default_rng(1)
    outcomes = set()
    for _ in range(80):
        bytes_now = bytearray(data)
        for place in rng.integers(0, len(data), 3):
            bytes_now[place] = int(rng.integers(256))
        (tmp_path / name).write_bytes(bytes(bytes_now))
        try:
            outcomes.add(opened(tmp_path / name).mode)
        except Unreadable as error:
            outcomes.add("refused")
            assert name in str(error)
    assert outcomes <= {"RGB", "refused"}


def _huge_png(width: int, height: int) -> bytes:
    """A png whose header claims a size its few bytes never fill."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        """One chunk with its length and sum."""
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)) + chunk(b"IDAT", zlib.compress(b"\0" * 100_000)) + chunk(b"IEND", b"")


@pytest.mark.parametrize("side", [13_400, 18_000, 30_000, 60_000])
def test_a_decompression_bomb_is_refused_before_it_unfolds(tmp_path: Path, side: int) -> None:
    (tmp_path / "bomb.png").write_bytes(_huge_png(side, side))
    with pytest.raises(Unreadable, match=r"bomb\.png.*(too large|too many pixels)"):
        open_upright(tmp_path / "bomb.png")


def test_a_picture_of_one_pixel_opens(tmp_path: Path) -> None:
    Image.new("RGB", (1, 1), RED).save(tmp_path / "dot.png")
    image = opened(tmp_path / "dot.png")
    assert (image.size, image.getpixel((0, 0))) == ((1, 1), RED)


@pytest.mark.parametrize("name", ["水墨山水.png", "猫 咪（一）.png", "😀.png", "it's [a] %20 name.png"])
def test_any_file_name_opens_and_gives_its_caption(tmp_path: Path, name: str) -> None:
    two_colours().save(tmp_path / name)
    assert opened(tmp_path / name).size == (40, 20)
    items, problems = read_folder(tmp_path)
    assert [(item.image.name, item.caption) for item in items] == [(name, Path(name).stem)]
    assert problems == []


def test_a_missing_file_is_refused_in_words(tmp_path: Path) -> None:
    with pytest.raises(Unreadable, match=r"gone\.png"):
        open_upright(tmp_path / "gone.png")


def test_a_folder_is_read_in_natural_order_and_bad_files_are_told(tmp_path: Path) -> None:
    for name in ("10 c.png", "2 b.png", "1 a.PNG"):
        two_colours().save(tmp_path / name)
    (tmp_path / "3 bad.png").write_text("no")
    (tmp_path / "notes.md").write_text("no picture, no word about it")
    (tmp_path / "deeper.png").mkdir()
    items, problems = read_folder(tmp_path)
    assert [item.image.name for item in items] == ["1 a.PNG", "2 b.png", "10 c.png"]
    assert [item.caption for item in items] == ["a", "b", "c"]
    assert [path.name for path, _ in problems] == ["3 bad.png"]
    assert "not a picture" in problems[0][1]


def test_a_folder_that_is_empty_or_missing_or_a_file_is_refused_in_words(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "empty").mkdir()
    for name, words in (("empty", "no picture"), ("missing", "not a folder"), ("file", "not a folder")):
        with pytest.raises(InputError, match=words):
            list_pictures(tmp_path / name)


def test_pictures_that_were_left_out_or_held_out_are_not_learned(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        Image.new("RGB", (32, 32)).save(tmp_path / f"{name}.png")
    project = Project(tmp_path)
    project.edit("Leave out", [Change("a.png", "left_out", False, True), Change("b.png", "held_out", False, True)])
    assert [item.image.name for item in read_folder(tmp_path)[0]] == ["c.png"]
    project.edit("Leave out", [Change("c.png", "left_out", False, True)])
    with pytest.raises(InputError, match="All 3 pictures"):
        read_folder(tmp_path)
    project.undo()
    assert [item.image.name for item in read_folder(tmp_path)[0]] == ["c.png"]
