"""Pictures that carry their infotext, in the layouts that other programs write and read."""

import json
import struct
import zlib
from pathlib import Path

import pytest
from PIL import ExifTags, Image

from studio.errors import InputError, Unreadable
from studio.formats.carriers import CHUNK, FORMATS, png_info, read_carrier, user_comment, write_picture
from studio.pasting import read_infotext

TEXTS = ["a red monster\nSteps: 20, Sampler: Euler, Seed: 7", "møñster 獣 🐉\nNegative prompt: ünscharf\nSteps: 20, Sampler: Euler, Seed: 7", "x" * 10_000]


def picture(mode: str = "RGB") -> Image.Image:
    """A small picture with something in it."""
    image = Image.linear_gradient("L").resize((24, 16))
    return image.convert(mode)


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("suffix", sorted(FORMATS))
def test_a_text_comes_back_from_every_format(tmp_path: Path, suffix: str, text: str) -> None:
    path = tmp_path / f"p.{suffix}"
    assert write_picture(picture(), path, text, suffix) is True
    assert read_carrier(path)[0] == text
    with Image.open(path) as image:
        assert (image.format, image.size) == (FORMATS[suffix], (24, 16))
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("suffix", sorted(FORMATS))
def test_no_text_is_an_empty_text(tmp_path: Path, suffix: str) -> None:
    write_picture(picture(), tmp_path / f"p.{suffix}", "", suffix)
    assert read_carrier(tmp_path / f"p.{suffix}")[0] == ""


@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGBA", "CMYK", "1", "I;16"])
@pytest.mark.parametrize("suffix", ["jpg", "webp", "avif", "gif"])
def test_any_picture_fits_any_format(tmp_path: Path, suffix: str, mode: str) -> None:
    image = Image.new("I;16", (24, 16), 700) if mode == "I;16" else picture(mode)
    write_picture(image, tmp_path / f"p.{suffix}", TEXTS[0], suffix)
    assert read_carrier(tmp_path / f"p.{suffix}")[0] == TEXTS[0]


def test_what_shines_through_becomes_white_in_a_jpeg(tmp_path: Path) -> None:
    write_picture(Image.new("RGBA", (16, 16), (255, 0, 0, 0)), tmp_path / "p.jpg", "", "jpg", 100)
    assert min(Image.open(tmp_path / "p.jpg").getpixel((8, 8))) > 250


@pytest.mark.parametrize("suffix", ["jpg", "webp", "avif"])
def test_quality_is_heard(tmp_path: Path, suffix: str) -> None:
    for quality in (10, 95):
        write_picture(Image.effect_noise((64, 64), 90), tmp_path / f"{quality}.{suffix}", TEXTS[0], suffix, quality)
    assert (tmp_path / f"10.{suffix}").stat().st_size < (tmp_path / f"95.{suffix}").stat().st_size


def test_a_png_keeps_every_pixel(tmp_path: Path) -> None:
    write_picture(picture(), tmp_path / "p.png", TEXTS[1])
    assert Image.open(tmp_path / "p.png").tobytes() == picture().tobytes()


def test_a_text_too_long_for_a_jpeg_lies_beside_it(tmp_path: Path) -> None:
    text = "word " * 9000
    assert write_picture(picture(), tmp_path / "p.jpg", text, "jpg") is False
    assert (tmp_path / "p.txt").read_text(encoding="utf-8") == text
    assert Image.open(tmp_path / "p.jpg").size == (24, 16)
    assert write_picture(picture(), tmp_path / "p.webp", text, "webp") is True


def test_an_unknown_format_is_said_and_nothing_is_written(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="tga"):
        write_picture(picture(), tmp_path / "p.tga", "", "tga")
    assert list(tmp_path.iterdir()) == []


def test_user_comment_is_laid_out_as_the_exif_standard_says() -> None:
    data = user_comment("aé")
    assert data.startswith(b"Exif\0\0")
    assert b"UNICODE\0" + "aé".encode("utf-16-be") in data


@pytest.mark.parametrize(
    "comment",
    [
        b"UNICODE\0" + "a red monster, é 獣".encode("utf-16-be"),
        b"UNICODE\0" + "a red monster, é 獣".encode("utf-16-le"),
        b"UNICODE\0" + "a red monster, é 獣".encode("utf-16"),
        b"ASCII\0\0\0" + "a red monster, é 獣".encode(),
        b"\0" * 8 + "a red monster, é 獣".encode(),
        "a red monster, é 獣".encode(),
    ],
    ids=["big", "little", "bom", "ascii", "undefined", "unlabelled"],
)
@pytest.mark.parametrize("suffix", ["jpg", "webp", "avif", "png"])
def test_comments_of_other_writers(tmp_path: Path, suffix: str, comment: bytes) -> None:
    exif = Image.Exif()
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.UserComment] = comment
    picture().save(tmp_path / f"p.{suffix}", FORMATS[suffix], exif=exif.tobytes())
    assert read_carrier(tmp_path / f"p.{suffix}")[0] == "a red monster, é 獣"


def chunk(kind: bytes, body: bytes) -> bytes:
    """One chunk of a PNG."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(*chunks: bytes, late: bytes = b"") -> bytes:
    """A grey 2x2 PNG with chunks before its pixels, and after them."""
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 2, 2, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(chunks) + chunk(b"IDAT", zlib.compress(b"\0\x10\x20\0\x30\x40")) + late + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    "body",
    [
        chunk(b"tEXt", b"parameters\0caf\xe9\nSteps: 1"),
        chunk(b"zTXt", b"parameters\0\0" + zlib.compress(b"caf\xe9\nSteps: 1")),
        chunk(b"iTXt", b"parameters\0\0\0\0\0" + "café\nSteps: 1".encode()),
        chunk(b"iTXt", b"parameters\0\1\0\0\0" + zlib.compress("café\nSteps: 1".encode())),
    ],
    ids=["tEXt", "zTXt", "iTXt", "iTXt-packed"],
)
@pytest.mark.parametrize("late", [False, True])
def test_every_text_chunk_of_the_png_standard(tmp_path: Path, body: bytes, late: bool) -> None:
    path = tmp_path / "p.png"
    path.write_bytes(png(late=body) if late else png(body))
    assert read_carrier(path) == ("café\nSteps: 1", {CHUNK: "café\nSteps: 1"})


def test_chunks_of_other_programs_are_shown_as_they_are(tmp_path: Path) -> None:
    graph = json.dumps({"3": {"class_type": "KSampler", "inputs": {"seed": 5}}})
    picture().save(tmp_path / "p.png", pnginfo=png_info("", {"prompt": graph, "workflow": "{}", "postprocessing": "Postprocess upscale by: 4"}))
    assert read_carrier(tmp_path / "p.png") == ("", {"prompt": graph, "workflow": "{}", "postprocessing": "Postprocess upscale by: 4"})


def test_novelai_is_understood(tmp_path: Path) -> None:
    facts = {"steps": 28, "sampler": "k_euler_ancestral", "seed": 123, "scale": 11.0, "uc": "lowres, bad hands"}
    picture().save(tmp_path / "p.png", pnginfo=png_info("", {"Software": "NovelAI", "Description": "a girl, {smile}", "Comment": json.dumps(facts)}))
    text, items = read_carrier(tmp_path / "p.png")
    assert text == "a girl, {smile}\nNegative prompt: lowres, bad hands\nSteps: 28, Sampler: Euler a, CFG scale: 11, Seed: 123, Size: 24x16, Clip skip: 2, ENSD: 31337"
    assert json.loads(items["Comment"]) == facts
    assert read_infotext(text)["Sampler"] == "Euler a"


@pytest.mark.parametrize("comment", ["", "{", "[]", "{}", '{"steps": 1}', "null", '"x"'])
def test_a_damaged_comment_of_novelai_is_no_infotext(tmp_path: Path, comment: str) -> None:
    picture().save(tmp_path / "p.png", pnginfo=png_info("", {"Software": "NovelAI", "Comment": comment}))
    assert read_carrier(tmp_path / "p.png")[0] == ""


@pytest.mark.parametrize("data", [b"", b"hello", b"\x89PNG\r\n\x1a\n", png()[:20], b"GIF89a", b"\xff\xd8\xff\xe1", b"RIFF\0\0\0\0WEBP", b"\0" * 100])
def test_what_is_no_picture_is_said(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "p.png").write_bytes(data)
    with pytest.raises(Unreadable, match=r"p\.png"):
        read_carrier(tmp_path / "p.png")


def test_a_picture_cut_off_in_its_pixels_still_tells_its_text(tmp_path: Path) -> None:
    write_picture(picture(), tmp_path / "whole.png", TEXTS[0])
    whole = (tmp_path / "whole.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[:-40])
    assert read_carrier(tmp_path / "cut.png")[0] == TEXTS[0]


@pytest.mark.parametrize(
    "exif", [b"Exif\0\0", b"Exif\0\0MM\0*\xff\xff\xff\xff", b"Exif\0\0II*\0\x08\0\0\0\xff\xff", b"nonsense", b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x87\x69\0\x04\0\0\0\x01\xff\xff\xff\xff\0\0\0\0"]
)
@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_damaged_exif_is_no_text(tmp_path: Path, exif: bytes) -> None:
    picture().save(tmp_path / "p.jpg", "JPEG")
    body = (tmp_path / "p.jpg").read_bytes()
    payload = exif if exif.startswith(b"Exif") else b"Exif\0\0" + exif
    (tmp_path / "p.jpg").write_bytes(body[:2] + b"\xff\xe1" + struct.pack(">H", len(payload) + 2) + payload + body[2:])
    assert read_carrier(tmp_path / "p.jpg")[0] == ""


def test_a_missing_file_is_missing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_carrier(tmp_path / "none.png")
