"""Resize modes at any size and shape, and pictures of every kind opened or refused in words."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from studio.diffusion.resize import cropped, eight_bits, fitted, flattened, inner_box, on_white, open_image, open_picture, resized, whole_cells
from studio.errors import InputError, NotFound, Unreadable

MODES = ("Just resize", "Crop and resize", "Resize and fill")
SIDE = st.integers(1, 600)
SIZES = st.tuples(SIDE, SIDE)


def noise(size: tuple[int, int], seed: int = 0, channels: int = 3) -> Image.Image:
    """A picture of random pixels."""
    shape = (size[1], size[0], channels) if channels > 1 else (size[1], size[0])
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8))


@pytest.mark.parametrize("mode", MODES)
@given(SIZES, SIZES)
@example((1, 1), (600, 600))
@example((600, 1), (1, 600))
@example((1, 600), (512, 512))
@settings(deadline=None, max_examples=25)
def test_every_mode_gives_the_size_asked_for_from_any_picture(mode: str, source: tuple[int, int], size: tuple[int, int]) -> None:
    for kind in ("RGB", "L", "RGBA"):
        found = resized(Image.new(kind, source, "white"), size, mode)
        assert (found.size, found.mode) == (size, kind)
        assert all(np.asarray(found).reshape(-1) == 255)


@pytest.mark.parametrize("mode", MODES)
@given(SIZES, st.integers(0, 999))
@settings(deadline=None, max_examples=20)
def test_a_picture_of_the_size_asked_for_comes_back_to_the_pixel(mode: str, size: tuple[int, int], seed: int) -> None:
    picture = noise(size, seed)
    found = resized(picture, size, mode)
    assert found.tobytes() == picture.tobytes()
    assert found is not picture


@given(SIZES, SIZES)
@settings(deadline=None, max_examples=200)
def test_the_inner_box_is_inside_touches_two_sides_and_keeps_the_shape(source: tuple[int, int], size: tuple[int, int]) -> None:
    left, top, right, bottom = inner_box(source, size)
    width, height = right - left, bottom - top
    assert 0 <= left < right <= size[0]
    assert 0 <= top < bottom <= size[1]
    assert width == size[0] or height == size[1]
    assert width == pytest.approx(source[0] * height / source[1], abs=1 + source[0] / source[1]) or height == 1
    assert abs(left - (size[0] - right)) <= 1
    assert abs(top - (size[1] - bottom)) <= 1


@pytest.mark.parametrize(("source", "size", "box"), [((100, 37), (64, 64), (0, 21, 64, 44)), ((37, 100), (65, 64), (21, 0, 44, 64)), ((1000, 1), (64, 64), (0, 32, 64, 33))])
def test_a_picture_is_fitted_in_whole_pixels_as_a1111_does(source: tuple[int, int], size: tuple[int, int], box: tuple[int, int, int, int]) -> None:
    assert inner_box(source, size) == box  # 37 * 64 / 100 = 23.68 is 23


def test_crop_and_resize_keeps_the_middle_in_its_shape() -> None:
    picture = Image.new("RGB", (300, 100), "red")
    picture.paste("blue", (100, 0, 200, 100))
    found = np.asarray(cropped(picture, (64, 64)))
    assert (found[:, 4:-4] == (0, 0, 255)).all()


def test_just_resize_stretches() -> None:
    picture = Image.new("RGB", (300, 100), "red")
    picture.paste("blue", (100, 0, 200, 100))
    found = resized(picture, (90, 90), "Just resize")
    assert [found.getpixel((x, 45)) for x in (10, 45, 80)] == [(255, 0, 0), (0, 0, 255), (255, 0, 0)]


@pytest.mark.parametrize(("source", "size"), [((60, 20), (64, 64)), ((20, 60), (64, 64)), ((33, 7), (40, 200)), ((7, 33), (200, 40))])
def test_resize_and_fill_stretches_the_outermost_pixels_over_the_free_part(source: tuple[int, int], size: tuple[int, int]) -> None:
    found = np.asarray(fitted(noise(source), size))
    left, top, right, bottom = inner_box(source, size)
    assert (right - left, bottom - top) != size
    for y in range(size[1]):
        for x in range(size[0]):
            assert np.array_equal(found[y, x], found[min(max(y, top), bottom - 1), min(max(x, left), right - 1)])
    middle = noise(source).resize((right - left, bottom - top), Image.Resampling.LANCZOS)
    assert np.array_equal(found[top:bottom, left:right], np.asarray(middle))


@pytest.mark.parametrize(("source", "whole"), [((1, 1), (64, 64)), ((513, 300), (512, 304)), ((512, 64), (512, 64)), ((515, 516), (512, 520))])
def test_latent_upscale_leaves_a_picture_that_fits_the_latent_grid(source: tuple[int, int], whole: tuple[int, int]) -> None:
    picture = noise(source)
    found = resized(picture, (999, 999), "Just resize (latent upscale)")
    assert found.size == whole == (whole_cells(source[0]), whole_cells(source[1]))
    assert source != whole or found.tobytes() == picture.tobytes()


def test_an_unknown_mode_is_refused_with_its_name() -> None:
    with pytest.raises(InputError, match="Squash"):
        resized(noise((8, 8)), (8, 8), "Squash")


def saved(folder: Path, image: Image.Image, name: str, **options: object) -> Path:
    """A picture written to a file."""
    path = folder / name
    image.save(path, **options)
    return path


@pytest.mark.parametrize("name", ["a.png", "a.webp", "a.bmp", "a.gif", "a.tiff"])
def test_a_plain_picture_is_opened_as_it_is(tmp_path: Path, name: str) -> None:
    picture = Image.new("RGB", (5, 3), (10, 200, 30))
    found = open_picture(saved(tmp_path, picture, name, lossless=True), "Picture")
    assert (found.mode, found.size) == ("RGB", (5, 3))
    assert np.abs(np.asarray(found).astype(int) - np.asarray(picture)).max() <= 8


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_exif_orientation_stands_upright(tmp_path: Path, orientation: int) -> None:
    turns = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}
    upright = Image.new("RGB", (8, 4), "white")
    upright.paste("red", (0, 0, 3, 2))
    stored = upright if orientation == 1 else upright.transpose(Image.Transpose(turns[orientation]))
    exif = Image.Exif()
    exif[0x0112] = orientation
    found = open_picture(saved(tmp_path, stored, "turned.png", exif=exif), "Picture")
    assert found.size == (8, 4)
    assert found.tobytes() == upright.tobytes()


def test_alpha_lies_on_white(tmp_path: Path) -> None:
    layer = Image.new("RGBA", (2, 1), (0, 0, 0, 0))
    layer.putpixel((1, 0), (0, 0, 200, 255))
    path = saved(tmp_path, layer, "a.png")
    assert np.asarray(open_picture(path, "Picture")).tolist() == [[[255, 255, 255], [0, 0, 200]]]
    assert open_image(path).mode == "RGBA"
    assert np.asarray(flattened(open_image(path), "#102030")).tolist() == [[[16, 32, 48], [0, 0, 200]]]
    assert on_white(Image.new("LA", (1, 1), (0, 128))).getpixel((0, 0)) == pytest.approx((127, 127, 127), abs=1)


def test_a_palette_with_alpha_lies_on_white(tmp_path: Path) -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([0, 0, 0, 200, 10, 20])
    image.putpixel((1, 0), 1)
    assert np.asarray(open_picture(saved(tmp_path, image, "p.png", transparency=0), "Picture")).tolist() == [[[255, 255, 255], [200, 10, 20]]]
    assert np.asarray(open_picture(saved(tmp_path, image, "p.gif", transparency=0), "Picture")).tolist() == [[[255, 255, 255], [200, 10, 20]]]


@pytest.mark.parametrize("mode", ["1", "L", "RGB"])
def test_one_colour_declared_transparent_becomes_alpha(tmp_path: Path, mode: str) -> None:
    path = saved(tmp_path, Image.new(mode, (3, 3), 0), "t.png", transparency=(0, 0, 0) if mode == "RGB" else 0)
    assert open_picture(path, "Picture").getpixel((1, 1)) == (255, 255, 255)


def test_sixteen_bits_are_brought_to_eight(tmp_path: Path) -> None:
    ramp = np.array([[0, 128 * 257, 65535]], dtype=np.uint16)
    found = open_picture(saved(tmp_path, Image.fromarray(ramp), "deep.png"), "Picture")
    assert np.asarray(found)[0, :, 0].tolist() == [0, 128, 255]


@pytest.mark.parametrize(("values", "wanted"), [([0.0, 0.5, 1.0], [0, 128, 255]), ([0.0, 100.0, 255.0], [0, 100, 255])])
def test_floats_are_read_as_fractions_or_as_bytes(values: list[float], wanted: list[int]) -> None:
    found = eight_bits(Image.fromarray(np.array([values], dtype=np.float32)))
    assert np.asarray(found)[0].tolist() == wanted


def test_cmyk_becomes_colours(tmp_path: Path) -> None:
    found = open_picture(saved(tmp_path, Image.new("CMYK", (9, 9), (255, 0, 0, 0)), "c.jpg", quality=95), "Picture")
    assert found.getpixel((4, 4)) == pytest.approx((0, 255, 255), abs=6)


@pytest.mark.parametrize("name", ["a.gif", "a.webp", "a.png"])
def test_of_an_animation_the_first_frame_is_taken(tmp_path: Path, name: str) -> None:
    frames = [Image.new("RGB", (6, 6), colour) for colour in ("red", "blue", "lime")]
    found = open_picture(saved(tmp_path, frames[0], name, save_all=True, append_images=frames[1:]), "Picture")
    assert found.getpixel((3, 3)) == pytest.approx((255, 0, 0), abs=3)


def test_one_pixel_is_a_picture(tmp_path: Path) -> None:
    assert open_picture(saved(tmp_path, Image.new("L", (1, 1), 77), "dot.png"), "Picture").getpixel((0, 0)) == (77, 77, 77)


def png_claiming(width: int, height: int) -> bytes:
    """A PNG whose header claims a size that its few bytes of data do not hold."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)) + chunk(b"IDAT", zlib.compress(b"\0" * 64)) + chunk(b"IEND", b"")


def cut(kind: str) -> bytes:
    """The first half of a picture file."""
    buffer = io.BytesIO()
    noise((64, 64)).save(buffer, kind)
    return buffer.getvalue()[: buffer.tell() // 2]


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "is empty"),
        (b"hello, I am a text", "is not a picture"),
        (b"\x89PNG\r\n\x1a\n", "is not a picture|damaged"),
        (cut("PNG"), "damaged or cut off"),
        (cut("JPEG"), "damaged or cut off"),
        (cut("GIF"), "damaged or cut off|is not a picture"),
        (cut("WEBP"), "damaged or cut off|is not a picture"),
        (png_claiming(100_000, 100_000), "too many pixels"),
        (png_claiming(15_000, 11_000), "too large"),
        (png_claiming(50, 50), "damaged or cut off"),
    ],
    ids=["empty", "text", "signature", "half png", "half jpeg", "half gif", "half webp", "bomb", "large", "short"],
)
def test_what_is_no_picture_is_refused_in_words(tmp_path: Path, data: bytes, said: str) -> None:
    path = tmp_path / "given.png"
    path.write_bytes(data)
    with pytest.raises(Unreadable, match=said) as caught:
        open_picture(path, "Mask")
    assert caught.value.message.startswith("Mask: 'given.png'")
    assert caught.value.hint


@pytest.mark.parametrize("name", ["missing.png", "."])
def test_no_picture_there_is_told_with_its_path(tmp_path: Path, name: str) -> None:
    with pytest.raises(NotFound, match="Picture: there is no picture"):
        open_picture(tmp_path / name, "Picture")
