"""Masks are read in every mode from beside the picture or from its alpha, upright; what is wrong with them is told."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from studio.dataset.masks import ORIENTATION, alpha_of, filled, fitted, header, mask_file, mask_png, read_mask, refine, trouble
from studio.errors import Unreadable

SIZE = (24, 16)


def disc(size: tuple[int, int] = SIZE) -> Image.Image:
    """A white rectangle in the left upper part of a black picture, different in all four directions."""
    mask = Image.new("L", size, 0)
    ImageDraw.Draw(mask).rectangle((2, 1, size[0] // 2, size[1] // 2), fill=255)
    return mask


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    """A picture without a mask."""
    path = tmp_path / "a.jpg"
    Image.new("RGB", SIZE, "orange").save(path)
    return path


def as_mode(mask: Image.Image, mode: str) -> Image.Image:
    """The same mask in another mode, as programs write it."""
    greys = np.asarray(mask)
    if mode == "16 bit":
        return Image.fromarray(greys.astype(np.uint16) * 257)
    if mode == "painted":
        return Image.merge("RGBA", (*[Image.new("L", mask.size, 255)] * 3, mask))
    if mode == "painted black":
        return Image.merge("RGBA", (*[Image.new("L", mask.size, 0)] * 3, mask))
    if mode == "labels":
        return Image.fromarray((greys > 0).astype(np.uint8))
    if mode == "P":
        return mask.convert("RGB").convert("P", palette=Image.Palette.ADAPTIVE, colors=2)
    return mask.convert(mode)


@pytest.mark.parametrize("mode", ["L", "1", "RGB", "RGBA", "LA", "P", "16 bit", "painted", "painted black", "labels"])
def test_a_mask_beside_its_picture_is_read_in_every_mode(picture: Path, mode: str) -> None:
    as_mode(disc(), mode).save(mask_file(picture))
    found = read_mask(picture)
    assert found is not None and found.mode == "L" and found.size == SIZE
    assert np.array_equal(np.asarray(found), np.asarray(disc()))
    assert trouble(picture) == ""


def test_half_greys_survive_in_eight_and_sixteen_bits(picture: Path) -> None:
    ramp = Image.fromarray(np.linspace(0, 255, SIZE[0] * SIZE[1]).astype(np.uint8).reshape(SIZE[1], SIZE[0]))
    for mode in ("L", "16 bit", "RGB"):
        as_mode(ramp, mode).save(mask_file(picture))
        assert np.array_equal(np.asarray(read_mask(picture)), np.asarray(ramp)), mode


def test_the_file_beside_the_picture_goes_before_its_alpha(tmp_path: Path) -> None:
    path = tmp_path / "b.png"
    Image.merge("RGBA", (*[Image.new("L", SIZE, 90)] * 3, disc().transpose(Image.Transpose.ROTATE_180))).save(path)
    assert np.array_equal(np.asarray(read_mask(path)), np.asarray(disc().transpose(Image.Transpose.ROTATE_180)))
    disc().save(mask_file(path))
    assert np.array_equal(np.asarray(read_mask(path)), np.asarray(disc()))


def test_an_alpha_that_is_all_the_same_is_no_mask(tmp_path: Path, picture: Path) -> None:
    for name, alpha in (("full.png", 255), ("clear.png", 0), ("half.png", 120)):
        Image.new("RGBA", SIZE, (9, 8, 7, alpha)).save(tmp_path / name)
        assert read_mask(tmp_path / name) is None
    assert read_mask(picture) is None and trouble(picture) == ""
    assert "wholly transparent" in trouble(tmp_path / "clear.png")
    assert trouble(tmp_path / "full.png") == ""


def test_a_palette_with_a_transparent_colour_has_an_alpha(tmp_path: Path) -> None:
    path = tmp_path / "p.gif"
    Image.merge("RGBA", (*[Image.new("L", SIZE, 200)] * 3, disc())).save(path)
    assert np.array_equal(np.asarray(read_mask(path)), np.asarray(disc()))
    assert alpha_of(Image.new("RGB", SIZE)) is None


def turned(path: Path, image: Image.Image, orientation: int) -> Path:
    """Save a picture whose EXIF turns it."""
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    image.save(path, exif=exif)
    return path


@pytest.mark.parametrize("orientation", range(1, 9))
def test_masks_are_upright_whatever_the_exif_says(tmp_path: Path, orientation: int) -> None:
    stored = Image.merge("RGBA", (*[Image.new("L", SIZE, 50)] * 3, disc()))
    path = turned(tmp_path / "t.png", stored, orientation)
    upright = SIZE if orientation < 5 else SIZE[::-1]
    assert header(path) == (upright, orientation)
    alpha = read_mask(path)
    assert alpha is not None and alpha.size == upright
    disc(upright).save(mask_file(path))
    assert np.array_equal(np.asarray(read_mask(path)), np.asarray(disc(upright))), "a mask beside it is upright already"
    if orientation >= 5:
        disc().save(mask_file(path))
        assert np.array_equal(np.asarray(read_mask(path)), np.asarray(alpha)), "one in the stored shape is turned along"
        assert trouble(path) == ""


def test_a_mask_of_another_size_is_scaled_and_told(picture: Path) -> None:
    disc((48, 32)).save(mask_file(picture))
    found = read_mask(picture)
    assert found is not None and found.size == SIZE
    assert trouble(picture) == "The mask a-masklabel.png is 48x32 pixels and its picture 24x16: it is scaled."
    disc((30, 30)).save(mask_file(picture))
    assert read_mask(picture).size == SIZE
    assert "stretched" in trouble(picture)
    assert fitted(disc((48, 32)), (24, 16)).getpixel((3, 3)) == 255


@pytest.mark.parametrize(("value", "word"), [(0, "nothing of the picture"), (255, "all white"), (77, "77 of 255")])
def test_a_constant_mask_is_told(picture: Path, value: int, word: str) -> None:
    Image.new("L", SIZE, value).save(mask_file(picture))
    assert word in trouble(picture)


@pytest.mark.parametrize("content", [b"", b"not a picture", b"\x89PNG\r\n\x1a\n" + b"\0" * 40])
def test_a_damaged_mask_is_told_and_never_read_as_something(picture: Path, content: bytes) -> None:
    mask_file(picture).write_bytes(content)
    assert "a-masklabel.png" in trouble(picture)
    with pytest.raises(Unreadable):
        read_mask(picture)


def test_a_truncated_mask_is_told(picture: Path) -> None:
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (200, 200), dtype=np.uint8)).save(mask_file(picture))
    whole = mask_file(picture).read_bytes()
    mask_file(picture).write_bytes(whole[: len(whole) // 2])
    assert "damaged" in trouble(picture)


def test_a_mask_without_its_picture_and_a_damaged_picture_are_told(picture: Path) -> None:
    disc().save(mask_file(picture))
    picture.write_bytes(b"no")
    assert "a.jpg" in trouble(picture)
    with pytest.raises(Unreadable):
        read_mask(picture)
    picture.unlink()
    assert "no picture 'a.jpg'" in trouble(picture)


def test_the_bytes_of_a_mask_depend_on_its_greys_alone(tmp_path: Path) -> None:
    mask = disc()
    mask.info["Software"] = "another"
    assert mask_png(mask) == mask_png(disc()) == mask_png(disc().convert("RGB"))
    (tmp_path / "m.png").write_bytes(mask_png(mask))
    with Image.open(tmp_path / "m.png") as image:
        assert image.mode == "L" and np.array_equal(np.asarray(image), np.asarray(disc()))


def spot(radius: int, size: int = 101) -> np.ndarray:
    """Greys of a disc in the middle."""
    y, x = np.mgrid[:size, :size] - size // 2
    return np.where(np.hypot(x, y) <= radius + 0.5, np.uint8(255), np.uint8(0))


@pytest.mark.parametrize("pixels", [1, 7, 20, -1, -7, -15])
def test_growing_moves_the_edge_by_so_many_pixels(pixels: int) -> None:
    grown = np.asarray(refine(Image.fromarray(spot(25)), grow=pixels))
    across = (grown[50] >= 128).sum()
    assert across == 51 + 2 * pixels
    exact = (spot(25 + pixels) > 0).sum()
    assert abs((grown >= 128).sum() - exact) < 0.05 * exact, "as far in every direction"
    assert np.array_equal(grown, grown.T)


def test_shrinking_does_not_eat_from_the_border_and_constants_stay() -> None:
    half = np.zeros((20, 20), np.uint8)
    half[:, :10] = 255
    shrunk = np.asarray(refine(Image.fromarray(half), grow=-3))
    assert (shrunk[:, :7] == 255).all() and (shrunk[:, 7:] == 0).all()
    for value in (0, 255):
        assert np.asarray(refine(Image.new("L", (9, 9), value), grow=4, feather=3, fill=True)).min() == value
        assert np.asarray(refine(Image.new("L", (9, 9), value), grow=-4)).max() == value
    assert refine(Image.new("L", (1, 1), 255), grow=5, feather=2, fill=True).size == (1, 1)


def test_feather_softens_both_sides_and_keeps_far_pixels() -> None:
    soft = np.asarray(refine(Image.fromarray(spot(25)), feather=6)).astype(int)
    row = soft[50, 50:]
    assert (np.diff(row) <= 0).all() and row[0] == 255 and row[25 + 13] == 0
    assert 64 < row[25] < 192


def test_holes_are_filled_but_bays_are_not() -> None:
    ring = np.where(spot(10) > 0, np.uint8(0), spot(30))
    assert np.array_equal(filled(ring), spot(30))
    ring[50, 50:] = 0
    assert np.array_equal(filled(ring), ring), "an opening to the outside makes it no hole"
    assert np.array_equal(np.asarray(refine(Image.fromarray(np.where(spot(10) > 0, np.uint8(90), spot(30))), fill=True)), spot(30))
