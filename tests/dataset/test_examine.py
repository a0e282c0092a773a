"""What is measured is right for every kind of file, bad files come back with a sentence, and the profiles follow the subject."""

import hashlib
import json
import struct
import subprocess
import sys
import zlib
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
import pytest
import skimage.data
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms, ImageDraw, ImageFilter

from studio.dataset import saliency
from studio.dataset.examine import examine, measure, perceptual_hash, profile, sharpness
from studio.projects.cropping import Weights, box_of, suggest
from studio.projects.facts import BINS, Facts


def photograph(side: tuple[int, int] = (300, 200)) -> Image.Image:
    """A small photograph with detail."""
    return Image.fromarray(skimage.data.chelsea()).resize(side)


def written(path: Path, image: Image.Image, **options: object) -> Facts:
    """The facts of a picture once it is a file."""
    image.save(path, **options)
    return examine(path)


def apart(one: Facts, other: Facts) -> int:
    """Bits in which two perceptual hashes differ."""
    return (int(one.perceptual, 16) ^ int(other.perceptual, 16)).bit_count()


def middle(bins: tuple[int, ...]) -> float:
    """The centre of a profile's mass, 0 to 1."""
    return sum((i + 0.5) * b for i, b in enumerate(bins)) / sum(bins) / BINS


@pytest.mark.parametrize(("name", "kind"), [("a.png", "PNG"), ("a.jpg", "JPEG"), ("a.webp", "WEBP"), ("a.bmp", "BMP"), ("a.tif", "TIFF")])
def test_a_file_is_measured(tmp_path: Path, name: str, kind: str) -> None:
    facts = written(tmp_path / name, photograph())
    assert (facts.size, facts.format, facts.mode, facts.turned, facts.alpha, facts.frames, facts.problem) == ((300, 200), kind, "RGB", False, False, 1, "")
    assert facts.digest == hashlib.sha256((tmp_path / name).read_bytes()).hexdigest()
    assert facts.sharpness > 50
    assert len(facts.perceptual) == 16
    assert all(len(line) == BINS and max(line) == 255 and min(line) >= 0 for line in (facts.detail_x, facts.detail_y, facts.edges_x, facts.edges_y))


def test_facts_outlive_the_database(tmp_path: Path) -> None:
    facts = written(tmp_path / "a.png", Image.fromarray(skimage.data.astronaut()))
    assert Facts.from_json(json.loads(json.dumps(facts.as_json()))) == facts


def test_without_focal_the_rest_is_the_same(tmp_path: Path) -> None:
    photograph().save(tmp_path / "a.png")
    whole, less = examine(tmp_path / "a.png"), examine(tmp_path / "a.png", focal=False)
    assert (less.detail_x, less.edges_y, less.faces) == ((), (), ())
    assert (less.digest, less.sharpness, less.perceptual, less.size) == (whole.digest, whole.sharpness, whole.perceptual, whole.size)


def test_a_picture_in_memory_has_the_facts_of_its_file(tmp_path: Path) -> None:
    facts = written(tmp_path / "a.png", photograph())
    memory = measure(photograph())
    assert (memory.size, memory.sharpness, memory.perceptual, memory.detail_x, memory.edges_y, memory.faces) == (
        facts.size,
        facts.sharpness,
        facts.perceptual,
        facts.detail_x,
        facts.edges_y,
        facts.faces,
    )


def test_the_astronauts_face_is_found_in_shares(tmp_path: Path) -> None:
    (face,) = written(tmp_path / "a.png", Image.fromarray(skimage.data.astronaut())).faces
    assert face == pytest.approx((177 / 512, 66 / 512, 272 / 512, 161 / 512), abs=0.03)


@pytest.mark.parametrize("turn", range(1, 9))
def test_a_turned_picture_is_measured_upright(tmp_path: Path, turn: int) -> None:
    upright = photograph()
    exif = Image.Exif()
    exif[0x0112] = turn
    undo = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # Pillow's transpositions that lay it on its side
    stored = upright if turn == 1 else upright.transpose(Image.Transpose(undo[turn]))
    facts = written(tmp_path / "turned.jpg", stored, exif=exif, quality=95)
    assert facts.size == (300, 200)
    assert facts.turned == (turn > 1)
    assert apart(facts, measure(upright)) <= 4


def test_an_exif_of_nonsense_turns_nothing(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 99
    facts = written(tmp_path / "a.jpg", photograph(), exif=exif)
    assert (facts.size, facts.turned, facts.problem) == ((300, 200), False, "")


def test_alpha_counts_only_where_it_is_used(tmp_path: Path) -> None:
    opaque = photograph().convert("RGBA")
    assert not written(tmp_path / "opaque.png", opaque).alpha
    assert written(tmp_path / "opaque.png", opaque).mode == "RGBA"
    opaque.putpixel((3, 3), (0, 0, 0, 254))
    assert written(tmp_path / "used.png", opaque).alpha
    assert written(tmp_path / "used.webp", opaque, lossless=True).alpha
    grey = Image.new("LA", (20, 20), (9, 255))
    assert not written(tmp_path / "la.png", grey).alpha
    grey.putpixel((0, 0), (9, 0))
    assert written(tmp_path / "la2.png", grey).alpha


def test_a_palette_with_transparency_counts_when_a_pixel_has_it(tmp_path: Path) -> None:
    image = Image.new("P", (20, 20), 0)
    image.putpalette([10, 10, 10, 200, 100, 50])
    assert not written(tmp_path / "unused.png", image, transparency=1).alpha
    facts = written(tmp_path / "used.png", image, transparency=0)
    assert (facts.alpha, facts.mode, facts.problem) == (True, "P", "")


@pytest.mark.parametrize("name", ["moving.gif", "moving.webp", "moving.png"])
def test_frames_are_counted_and_the_first_is_measured(tmp_path: Path, name: str) -> None:
    frames = [photograph(), *(Image.new("RGB", (300, 200), (0, 90 * i, 0)) for i in range(3))]
    facts = written(tmp_path / name, frames[0], save_all=True, append_images=frames[1:], duration=50)
    assert (facts.frames, facts.size, facts.problem) == (4, (300, 200), "")
    assert apart(facts, measure(photograph())) <= 6


def test_a_tiff_whose_second_page_is_damaged_is_measured_by_its_first(tmp_path: Path) -> None:
    photograph().save(tmp_path / "pages.tif", save_all=True, append_images=[Image.new("RGB", (300, 200))])
    data = (tmp_path / "pages.tif").read_bytes()
    second = data.rindex(struct.pack("<HHI", 256, 3, 1)) if data.count(struct.pack("<HHI", 256, 3, 1)) > 1 else data.rindex(struct.pack("<HHI", 256, 4, 1))
    (tmp_path / "pages.tif").write_bytes(data[:second] + b"\xfe\xfe" + data[second + 2 :])
    facts = examine(tmp_path / "pages.tif")
    assert (facts.size, facts.frames, facts.problem) == ((300, 200), 1, "")


def test_odd_kinds_of_pixels_are_measured(tmp_path: Path) -> None:
    grey = np.asarray(photograph().convert("L"))
    kinds = {
        "deep.png": Image.fromarray(grey.astype(np.uint16) * 257),
        "grey.png": Image.fromarray(grey),
        "bw.png": photograph().convert("1"),
        "print.jpg": photograph().convert("CMYK"),
        "float.tif": Image.fromarray(grey.astype(np.float32) / 255),
    }
    for name, image in kinds.items():
        facts = written(tmp_path / name, image)
        assert (facts.size, facts.problem) == ((300, 200), ""), name
        assert apart(facts, measure(Image.fromarray(grey).convert("RGB"))) <= 10, name


def test_a_display_p3_profile_changes_nothing_that_is_measured(tmp_path: Path) -> None:
    tag = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes().replace(b"sRGB", b"P3  ")
    facts = written(tmp_path / "p3.png", photograph(), icc_profile=tag)
    assert (facts.problem, facts.perceptual) == ("", measure(photograph()).perceptual)
    assert written(tmp_path / "bad.png", photograph(), icc_profile=b"nonsense").problem == ""


def bomb(width: int, height: int) -> bytes:
    """A PNG whose header claims more than its few bytes hold."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        """One chunk with its length and sum."""
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)) + chunk(b"IDAT", zlib.compress(b"\0" * 100_000)) + chunk(b"IEND", b"")


@pytest.mark.parametrize("side", [13_400, 60_000])
def test_a_bomb_is_refused_from_its_header(tmp_path: Path, side: int) -> None:
    (tmp_path / "bomb.png").write_bytes(bomb(side, side))
    facts = examine(tmp_path / "bomb.png")
    assert facts.problem.startswith("bomb.png")
    assert "too" in facts.problem
    assert facts.size == (0, 0)


@pytest.mark.parametrize(("content", "said"), [(b"", "empty"), (b"Dear reader, " * 9, "not a picture"), (b"<html><body>404</body></html>", "not a picture")])
@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.gif"])
def test_what_is_no_picture_comes_back_with_a_sentence(tmp_path: Path, name: str, content: bytes, said: str) -> None:
    (tmp_path / name).write_bytes(content)
    facts = examine(tmp_path / name)
    assert name in facts.problem
    assert said in facts.problem
    assert facts == Facts(problem=facts.problem)


def test_a_file_that_is_gone_and_a_folder_come_back_with_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "folder.png").mkdir()
    assert "gone.png" in examine(tmp_path / "gone.png").problem
    assert "folder.png" in examine(tmp_path / "folder.png").problem


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
@pytest.mark.parametrize("name", ["cut.png", "cut.jpg", "cut.webp", "cut.gif", "cut.tif", "cut.bmp"])
def test_a_file_cut_or_hurt_anywhere_is_measured_or_told(tmp_path: Path, name: str) -> None:
    photograph((48, 32)).save(tmp_path / name)
    data = (tmp_path / name).read_bytes()
    rng, told = np.random.default_rng(1), 0
    for length in range(0, len(data), max(1, len(data) // 15)):
        (tmp_path / name).write_bytes(data[:length])
        told += bool(examine(tmp_path / name).problem)
    for _ in range(15):
        hurt = bytearray(data)
        for place in rng.integers(0, len(data), 3):
            hurt[place] = int(rng.integers(256))
        (tmp_path / name).write_bytes(bytes(hurt))
        facts = examine(tmp_path / name)
        assert bool(facts.problem) == (facts.width == 0)
    assert told


@pytest.mark.parametrize("size", [(1, 1), (1, 700), (700, 1), (2, 3), (16, 4000), (4000, 16), (13, 13)])
@pytest.mark.parametrize("plain", [True, False])
def test_a_picture_of_any_size_is_measured(size: tuple[int, int], plain: bool) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    facts = measure(Image.new("RGB", size, (7, 99, 200)) if plain else Image.fromarray(pixels))
    assert (facts.size, facts.faces, facts.problem) == (size, (), "")
    lines = (facts.detail_x, facts.detail_y, facts.edges_x, facts.edges_y)
    assert all(len(line) == BINS and 0 <= min(line) <= max(line) <= 255 for line in lines)
    if plain:
        assert all(max(line) == 0 for line in lines)
        assert facts.sharpness == 0


@settings(deadline=None, max_examples=15)
@given(size=st.tuples(st.integers(1, 300), st.integers(1, 300)), seed=st.integers(0, 99))
def test_noise_of_any_size_is_measured_and_always_the_same(size: tuple[int, int], seed: int) -> None:
    picture = Image.fromarray(np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))
    assert measure(picture) == measure(picture.copy())


def test_a_blurred_picture_is_less_sharp_at_every_size() -> None:
    for side in (300, 900, 2400):
        sharp = Image.fromarray(skimage.data.coffee()).resize((side, side * 2 // 3), Image.Resampling.LANCZOS)
        blurred = sharp.filter(ImageFilter.GaussianBlur(side / 100))
        assert measure(blurred, focal=False).sharpness < measure(sharp, focal=False).sharpness / 4


def test_sharpness_does_not_depend_on_how_large_the_file_is(tmp_path: Path) -> None:
    base = Image.fromarray(skimage.data.rocket())
    found = [written(tmp_path / f"{side}.png", base.resize((side, side * 427 // 640), Image.Resampling.LANCZOS)).sharpness for side in (640, 1100, 1900)]
    assert max(found) < 1.4 * min(found)


def test_a_large_jpeg_is_measured_as_a_whole_one(tmp_path: Path) -> None:
    large = Image.fromarray(skimage.data.astronaut()[:256]).resize((3100, 1550), Image.Resampling.LANCZOS)
    large = Image.fromarray(np.clip(np.asarray(large) + np.random.default_rng(0).normal(0, 12, (1550, 3100, 1)), 0, 255).astype(np.uint8))
    large.save(tmp_path / "large.jpg", quality=92)
    quick, whole = examine(tmp_path / "large.jpg"), measure(Image.open(tmp_path / "large.jpg"))
    assert quick.size == (3100, 1550)
    assert quick.sharpness == pytest.approx(whole.sharpness, rel=0.1)
    assert apart(quick, whole) <= 2
    assert quick.faces[0] == pytest.approx(whole.faces[0], abs=0.02)
    assert np.abs(np.subtract(quick.detail_x, whole.detail_x)).max() <= 16


def test_near_duplicates_have_near_hashes_and_others_far_ones() -> None:
    pictures = {name: Image.fromarray(getattr(skimage.data, name)()).convert("RGB") for name in ("astronaut", "chelsea", "coffee", "rocket", "camera")}
    known = {name: measure(picture, focal=False) for name, picture in pictures.items()}
    for name, picture in pictures.items():
        packed = BytesIO()
        picture.save(packed, "JPEG", quality=40)
        for near in (picture.resize((200, 150)), picture.point(lambda v: min(255, int(v * 1.15))), Image.open(packed).convert("RGB")):
            assert apart(measure(near, focal=False), known[name]) <= 8, name
    assert min(apart(known[a], known[b]) for a in known for b in known if a < b) >= 18


def test_a_hash_is_sixty_four_bits_in_hexadecimal() -> None:
    grey = np.arange(64 * 64, dtype=np.uint8).reshape(64, 64)
    assert int(perceptual_hash(grey), 16) < 2**64
    assert perceptual_hash(grey) != perceptual_hash(grey[::-1].copy())
    assert sharpness(np.zeros((5, 5), np.uint8)) == 0


def test_a_profile_says_where_the_mass_lies() -> None:
    found = np.zeros((10, 128), np.float32)
    found[:, 32:34] = 1
    line = profile(found, 0)
    assert (line.index(255), sum(line)) == (16, 255)
    assert profile(found, 1) == (255,) * BINS
    assert sum(profile(np.eye(3, dtype=np.float32), 0)) > 0


def scene(kind: str, left: int, size: tuple[int, int] = (600, 300)) -> Image.Image:
    """A flat red ball with an eye on one kind of background."""
    rng, (width, height) = np.random.default_rng(5), size
    y, x = np.mgrid[0:height, 0:width]
    grounds = {
        "flat": np.full((height, width), 120.0),
        "gradient": 60 + 140 * x / width,
        "noise": 120 + rng.normal(0, 40, (height, width)),
        "checks": 90 + 70.0 * ((x // 10 + y // 10) % 2),
        "stripes": 90 + 70.0 * ((x + y) // 16 % 2),
    }
    picture = Image.fromarray(np.clip(grounds[kind], 0, 255).astype(np.uint8)).convert("RGB")
    pen = ImageDraw.Draw(picture)
    pen.ellipse((left, 90, left + 120, 210), fill=(200, 40, 40))
    pen.ellipse((left + 45, 120, left + 75, 150), fill="white", outline="black", width=4)
    return picture


@pytest.mark.parametrize("kind", ["flat", "gradient", "noise", "checks", "stripes"])
@pytest.mark.parametrize("left", [20, 140, 330, 460])
@pytest.mark.parametrize("tall", [False, True])
def test_the_crop_keeps_the_subject_before_any_background(kind: str, left: int, tall: bool) -> None:
    picture = scene(kind, left)
    picture = picture.transpose(Image.Transpose.TRANSPOSE) if tall else picture
    facts = measure(picture)
    for weights in (Weights(), Weights(face=0, entropy=1, edges=0), Weights(face=0, entropy=0, edges=1)):
        box = box_of(picture.size, (512, 512), suggest(facts, (512, 512), weights))
        assert box[tall] <= left + 6
        assert box[2 + tall] >= left + 114


def test_edges_at_the_bottom_count_less() -> None:
    marked = Image.new("RGB", (400, 400), (90, 90, 90))
    pen = ImageDraw.Draw(marked)
    for left in (60, 300):
        pen.rectangle((left, 60, left + 40, 90), fill="white")
        pen.rectangle((left, 368, left + 40, 398), fill="white")
    facts = measure(marked)
    assert max(facts.edges_y[58:]) < 0.5 * max(facts.edges_y[:20])


def test_real_entropy_prefers_many_levels_to_specks() -> None:
    grey = np.full((96, 192), 250, np.uint8)
    grey[::24, :96:24] = 0
    grey[:, 96:] = np.random.default_rng(0).integers(0, 256, (96, 96))
    found = saliency.entropies(grey, (24, 12))
    assert found[:, :11].mean() < 0.15
    assert found[:, 13:].mean() > 0.85


def test_ways_from_the_rim_go_around_walls() -> None:
    features = np.zeros((15, 15, 1), np.float32)
    features[4:11, 4] = features[4:11, 10] = features[4, 4:11] = features[10, 4:11] = 50
    assert saliency.rim_distance(features)[7, 7] == pytest.approx(100)
    features[10, 7] = 0
    assert saliency.rim_distance(features)[7, 7] == 0


def test_one_side_of_the_rim_may_hold_the_subject() -> None:
    features = np.random.default_rng(0).normal(0, 1, (30, 40, 4)).astype(np.float32)
    features[18:, 15:25, 0] += 60
    found = saliency.rim_contrast(features)
    assert found[20:28, 17:23].min() > 2 * np.delete(found, range(15, 25), axis=1).max()


def test_measuring_imports_neither_torch_nor_scipy() -> None:
    code = "import sys, studio.dataset.examine as e; from PIL import Image; e.measure(Image.new('RGB', (90, 60))); print(sorted({'torch', 'scipy', 'pydantic'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"


def test_a_picture_can_be_grey_or_large_for_the_maps() -> None:
    colour = cv2.resize(skimage.data.rocket(), (2000, 1300))
    detail, edges = saliency.maps(colour)
    assert detail.shape == edges.shape == (31, 48)
    assert 0 <= detail.min() <= detail.max() <= 1
    assert 0 <= edges.min() <= edges.max() <= 1
    assert middle(profile(detail, 0)) == pytest.approx(0.5, abs=0.12)
