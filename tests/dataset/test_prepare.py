"""Any file a person may have becomes correct prepared pictures, or is told; what is written is whole, upright, in sRGB and never black at the rim."""

import io
import struct
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageOps

from studio.dataset.crew import Crew
from studio.dataset.folder import open_upright
from studio.dataset.prepare import Kind, Made, Task, encoded, finish, parts, prepare, shaped
from studio.dataset.sizing import Piece, Sizing
from studio.errors import InputError, StudioError, Unreadable
from studio.projects.cropping import Split, Weights
from studio.projects.facts import Crop

pytestmark = pytest.mark.filterwarnings("ignore")
"""Pillow warns about the damage that is meant here."""

RED, BLUE = (255, 0, 0), (0, 0, 255)
TO_XYZ = {
    "p3": np.array([[0.51512, 0.29198, 0.1571], [0.2412, 0.69225, 0.06657], [-0.00105, 0.04189, 0.78407]]),
    "srgb": np.array([[0.43607, 0.38515, 0.14307], [0.22249, 0.71687, 0.06061], [0.01392, 0.09708, 0.7141]]),
}
"""Colorants adapted to D50, as Display P3's and sRGB's profiles have them."""
GAMMA = 563 / 256


def display_p3() -> bytes:
    """A profile with the colorants of Display P3 and a plain gamma, written by hand (ICC.1:2001-04)."""

    def fixed(*values: float) -> bytes:
        return b"".join(struct.pack(">i", round(v * 65536)) for v in values)

    xyz = {tag: b"XYZ \0\0\0\0" + fixed(*TO_XYZ["p3"][:, i]) for i, tag in enumerate((b"rXYZ", b"gXYZ", b"bXYZ"))}
    xyz[b"wtpt"] = b"XYZ \0\0\0\0" + fixed(0.9642, 1.0, 0.8249)
    curve = b"curv\0\0\0\0" + struct.pack(">IHH", 1, 563, 0)
    name = b"By hand P3\0"
    tags = {b"desc": b"desc\0\0\0\0" + struct.pack(">I", len(name)) + name + bytes(79), **xyz, **dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve)}
    table, body, place = struct.pack(">I", len(tags)), b"", 128 + 4 + 12 * len(tags)
    for tag, data in tags.items():
        data += bytes(-len(data) % 4)
        table += tag + struct.pack(">II", place + len(body), len(data))
        body += data
    head = bytes(8) + struct.pack(">I", 0x02400000) + b"mntrRGB XYZ " + struct.pack(">6H", 2024, 1, 1, 0, 0, 0) + b"acsp" + bytes(28) + fixed(0.9642, 1.0, 0.8249)
    whole = head.ljust(128, b"\0") + table + body
    return struct.pack(">I", len(whole)) + whole[4:]


def from_p3(colour: tuple[int, int, int]) -> np.ndarray:
    """What a colour of that profile is in sRGB, by the formulas."""
    linear = np.linalg.inv(TO_XYZ["srgb"]) @ TO_XYZ["p3"] @ (np.array(colour) / 255) ** GAMMA
    linear = np.clip(linear, 0, 1)
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055) * 255


def halves(width: int = 200, height: int = 100) -> Image.Image:
    """Red on the left, blue on the right."""
    image = Image.new("RGB", (width, height), BLUE)
    image.paste(RED, (0, 0, width // 2, height))
    return image


def noise(size: tuple[int, int], seed: int = 0) -> Image.Image:
    """A picture of noise without a black pixel."""
    return Image.fromarray(np.random.default_rng(seed).integers(60, 256, (size[1], size[0], 3), dtype=np.uint8))


def task(picture: Path, **more: object) -> Task:
    """A small task: the whole picture stretched, so that every colour can be found again."""
    return Task(**{"picture": picture, "folder": picture.parent / "out", "rules": Sizing((64, 64), resize_mode="Just resize"), "after": f"-{picture.name}", **more})


def near(found: object, wanted: object, by: float = 8) -> bool:
    """Whether two colours are alike up to compression."""
    return bool(np.abs(np.array(found, float) - np.array(wanted, float)).max() <= by)


def result_of(made: list[Made]) -> Image.Image:
    """The first picture that was written, checked to say nothing about itself."""
    with Image.open(made[0].path) as image:
        assert "icc_profile" not in image.info
        assert image.getexif().get(0x0112, 1) == 1
        return image.copy()


def awkward(folder: Path) -> dict[str, tuple[object, object] | str]:
    """Files of every kind that goes wrong elsewhere; what must be left and right in the result, or a word of the reason."""
    image, alpha = halves(), Image.new("L", (200, 100), 255)
    alpha.paste(0, (100, 0, 200, 100))
    image.save(folder / "cut.jpg", quality=95)
    (folder / "cut.jpg").write_bytes((folder / "cut.jpg").read_bytes()[:-400])
    (folder / "zero.png").touch()
    (folder / "text.png").write_text("Dear reader")
    (folder / "page.jpg").write_text("<!DOCTYPE html><html><body>not found</body></html>")
    (folder / "dot.png").write_bytes(encoded(Image.new("RGB", (1, 1)), Kind()))
    frames = [image, Image.new("RGB", image.size, (0, 255, 0))]
    frames[0].save(folder / "moving.gif", save_all=True, append_images=frames[1:])
    frames[0].save(folder / "moving.webp", save_all=True, append_images=frames[1:], lossless=True)
    Image.fromarray(np.repeat(np.array([[0, 65535]], np.uint16), 100, 1).repeat(100, 0)).save(folder / "deep.png")
    image.convert("CMYK").save(folder / "print.jpg", quality=95)
    image.quantize(2).save(folder / "palette.png", transparency=image.quantize(2).getpixel((150, 50)))
    layered = image.copy()
    layered.putalpha(alpha)
    layered.save(folder / "alpha.png")
    grey = Image.new("LA", (200, 100), (90, 255))
    grey.putalpha(alpha)
    grey.save(folder / "grey.png")
    return {
        "cut.jpg": "damaged",
        "zero.png": "empty",
        "text.png": "not a picture",
        "page.jpg": "not a picture",
        "dot.png": "too small",
        "moving.gif": (RED, BLUE),
        "moving.webp": (RED, BLUE),
        "deep.png": ((0, 0, 0), (255, 255, 255)),
        "print.jpg": (RED, BLUE),
        "palette.png": (RED, (255, 255, 255)),
        "alpha.png": (RED, (255, 255, 255)),
        "grey.png": ((90, 90, 90), (255, 255, 255)),
    }


@pytest.mark.parametrize("count", [1, 2])
def test_every_awkward_file_is_prepared_rightly_or_told(tmp_path: Path, count: int) -> None:
    wanted = awkward(tmp_path)
    with Crew(count) as crew:
        found = {name: result for name, (_, result) in zip(wanted, sorted(crew.run(prepare, [task(tmp_path / name) for name in wanted]), key=lambda pair: pair[0]), strict=True)}
    for name, expected in wanted.items():
        result = found[name]
        if isinstance(expected, str):
            assert isinstance(result, Unreadable), name
            assert expected in str(result)
            assert name in str(result)
            continue
        assert isinstance(result, list), f"{name}: {result}"
        image = result_of(result)
        assert (image.mode, image.size) == ("RGB", (64, 64))
        assert near(image.getpixel((8, 32)), expected[0], 14), name
        assert near(image.getpixel((56, 32)), expected[1], 14), name
    assert {p.name for p in (tmp_path / "out").iterdir()} == {f"0-{name}.png" for name, expected in wanted.items() if not isinstance(expected, str)}


@pytest.mark.parametrize("turn", range(1, 9))
def test_a_photo_is_upright_whatever_its_exif_says(tmp_path: Path, turn: int) -> None:
    image, exif = halves(), Image.Exif()
    image.paste((0, 255, 0), (0, 0, 40, 40))
    exif[0x0112] = turn
    image.save(tmp_path / "photo.jpg", exif=exif, quality=95, subsampling=0)
    by_hand = {2: [0], 3: [3], 4: [1], 5: [5], 6: [4], 7: [6], 8: [2]}.get(turn, [])
    upright = image
    for way in by_hand:
        upright = upright.transpose(Image.Transpose(way))
    made = prepare(task(tmp_path / "photo.jpg"))
    assert made[0].original == upright.size
    assert near(np.asarray(result_of(made)), np.asarray(upright.resize((64, 64), Image.Resampling.LANCZOS)), 40)
    assert np.abs(np.asarray(result_of(made), float) - np.asarray(upright.resize((64, 64), Image.Resampling.LANCZOS), float)).mean() < 3


@pytest.mark.parametrize("colour", [(200, 100, 50), (30, 160, 90), (128, 128, 128), (255, 255, 255), (0, 0, 0)])
@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
def test_display_p3_becomes_srgb(tmp_path: Path, colour: tuple[int, int, int], suffix: str) -> None:
    path = tmp_path / f"wide.{suffix}"
    Image.new("RGB", (64, 64), colour).save(path, icc_profile=display_p3(), quality=100)
    assert near(result_of(prepare(task(path))).getpixel((30, 30)), from_p3(colour), 3)


def test_a_profile_reaches_palettes_alpha_and_grey(tmp_path: Path) -> None:
    colour, profile = (200, 100, 50), display_p3()
    Image.new("RGB", (64, 64), colour).quantize(4).save(tmp_path / "p.png", icc_profile=profile)
    layered = Image.new("RGBA", (64, 64), (*colour, 255))
    layered.paste((0, 0, 0, 0), (32, 0, 64, 64))
    layered.save(tmp_path / "a.png", icc_profile=profile)
    Image.new("L", (64, 64), 100).save(tmp_path / "g.png", icc_profile=profile)
    assert near(open_upright(tmp_path / "p.png").getpixel((3, 3)), from_p3(colour), 2)
    assert near(open_upright(tmp_path / "a.png").getpixel((3, 3)), from_p3(colour), 2)
    assert open_upright(tmp_path / "a.png").getpixel((50, 3)) == (255, 255, 255)
    assert open_upright(tmp_path / "g.png").getpixel((3, 3)) == (100, 100, 100)


def test_srgb_and_broken_profiles_change_nothing(tmp_path: Path) -> None:
    image = noise((64, 64))
    for name, profile in (("srgb", ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()), ("broken", b"not a profile"), ("cut", display_p3()[:200])):
        image.save(tmp_path / f"{name}.png", icc_profile=profile)
        assert result_of(prepare(task(tmp_path / f"{name}.png"))).tobytes() == image.tobytes()


@pytest.mark.parametrize("size", [(300, 40), (40, 300), (64, 64), (17, 16), (65, 64), (640, 480)])
def test_resize_and_fill_keeps_everything_and_has_no_black(size: tuple[int, int]) -> None:
    image = noise(size).point(lambda v: 150 + v // 4)  # Lanczos swings less than 100 grey levels around these
    made = shaped(image, Piece((0, 0, *size), (96, 64), fill=True))
    assert made.size == (96, 64)
    assert np.asarray(made).min() >= 50
    scale = min(96 / size[0], 64 / size[1])
    inner = image.resize((min(96, max(1, round(size[0] * scale))), min(64, max(1, round(size[1] * scale)))), Image.Resampling.LANCZOS)
    left, top = (96 - inner.width) // 2, (64 - inner.height) // 2
    assert made.crop((left, top, left + inner.width, top + inner.height)).tobytes() == inner.tobytes()
    assert np.array_equal(np.asarray(made)[:, 0], np.asarray(made)[:, left])


def test_copies_are_mirrored_each_way(tmp_path: Path) -> None:
    noise((64, 64)).save(tmp_path / "a.png")
    made = prepare(task(tmp_path / "a.png", rules=Sizing((64, 64), flips=("Horizontal", "Vertical", "Both"))))
    straight = open_upright(made[0].path)
    assert [m.path.name for m in made] == [f"{n}-a.png.png" for n in range(4)]
    wanted = (straight, ImageOps.mirror(straight), ImageOps.flip(straight), ImageOps.flip(ImageOps.mirror(straight)))
    assert [open_upright(m.path).tobytes() for m in made] == [image.tobytes() for image in wanted]


def test_an_oversized_picture_is_split_into_all_of_it(tmp_path: Path) -> None:
    noise((400, 64)).save(tmp_path / "a.png")
    made = prepare(task(tmp_path / "a.png", rules=Sizing((64, 64), weights=Weights(), split=Split(0.5, 0.2))))
    assert made[0].box[0] == 0
    assert made[-1].box[2] == 400
    assert all(a.box[2] > b.box[0] for a, b in pairwise(made))


def test_the_focus_is_found_and_a_choice_comes_first(tmp_path: Path) -> None:
    image = Image.new("RGB", (300, 100), (200, 200, 200))
    image.paste(noise((80, 80)), (210, 10))
    image.save(tmp_path / "a.png")
    rules = Sizing((64, 64), weights=Weights())
    assert prepare(task(tmp_path / "a.png", rules=rules))[0].box[2] >= 290
    assert prepare(task(tmp_path / "a.png", rules=rules, crop=Crop(0, 0.5)))[0].box == (0, 0, 100, 100)


def test_a_picture_without_an_allowed_size_is_told_by_name(tmp_path: Path) -> None:
    noise((2000, 40)).save(tmp_path / "a.png")
    with pytest.raises(InputError, match=r"a\.png: No size.*2000x40"):
        prepare(task(tmp_path / "a.png", rules=Sizing((64, 64), "auto")))


def test_captions_lie_beside_and_a_picture_can_wait_for_its_own(tmp_path: Path) -> None:
    noise((64, 64)).save(tmp_path / "a.png")
    prepare(task(tmp_path / "a.png", caption="说 a cat"))
    assert (tmp_path / "out" / "0-a.png.txt").read_text(encoding="utf-8") == "说 a cat"
    (waiting,) = prepare(task(tmp_path / "a.png", before="w", wait=True))
    assert list(parts(tmp_path / "out")) == [waiting.path]
    assert waiting.path.name.startswith(".")
    done = finish(waiting, "later")
    assert (done.path.name, done.path.with_suffix(".txt").read_text()) == ("w0-a.png.png", "later")
    assert set(done.marks) == {"w0-a.png.png", "w0-a.png.txt"}
    assert list(parts(tmp_path / "out")) == []


def test_a_subject_without_a_mask_is_cut_out_and_one_that_cannot_be_is_told(tmp_path: Path) -> None:
    image = Image.new("RGB", (128, 128), (40, 90, 160))
    image.paste((220, 40, 30), (40, 40, 90, 90))
    image.save(tmp_path / "a.png")
    Image.new("RGB", (128, 128), (40, 90, 160)).save(tmp_path / "flat.png")
    kind = Kind(colour="#ffffff", cut=True)
    found = result_of(prepare(task(tmp_path / "a.png", kind=kind)))
    assert found.getpixel((3, 3)) == (255, 255, 255)
    assert near(found.getpixel((32, 32)), (220, 40, 30))
    (kept,) = prepare(task(tmp_path / "flat.png", kind=kind))
    assert "flat.png keeps its background" in kept.note
    assert result_of([kept]).getpixel((3, 3)) == (40, 90, 160)


def test_drawings_show_the_crop_and_debug_pictures_lie_apart(tmp_path: Path) -> None:
    noise((300, 100)).save(tmp_path / "a.png")
    prepare(task(tmp_path / "a.png", drawing=tmp_path / "drawn" / "a.jpg", debug=True))
    with Image.open(tmp_path / "drawn" / "a.jpg") as small, Image.open(tmp_path / "out" / "debug" / "0-a.png.jpg") as large:
        assert (small.size, large.size) == ((300, 100), (300, 100))
    assert [p.name for p in (tmp_path / "out").glob("*.*")] == ["0-a.png.png"]


def test_a_full_disk_is_told_and_leaves_nothing_half_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    noise((64, 64)).save(tmp_path / "a.png")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("studio.files.os.replace", full)
    with pytest.raises(StudioError, match="disk is full"):
        prepare(task(tmp_path / "a.png", caption="x"))
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize(("kind", "form"), [(Kind("jpg", 90), "JPEG"), (Kind("webp", 100), "WEBP"), (Kind("png"), "PNG")])
def test_files_are_of_their_kind(kind: Kind, form: str) -> None:
    with Image.open(io.BytesIO(encoded(noise((32, 32)), kind))) as image:
        assert image.format == form
        assert form == "JPEG" or image.convert("RGB").tobytes() == noise((32, 32)).tobytes()
