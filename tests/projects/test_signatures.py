"""What a file is by its first bytes: pictures as picture libraries write them, and what only pretends."""

import io

import pytest
from PIL import Image

from studio.projects.signatures import HEAD, looks_like, picture_kind


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WebP", "BMP", "GIF", "TIFF", "AVIF"])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_pictures_are_known_by_their_first_bytes(kind: str, mode: str) -> None:
    buffer = io.BytesIO()
    Image.new(mode, (20, 30), 90 if mode == "L" else (90, 10, 200)).save(buffer, kind)
    assert picture_kind(buffer.getvalue()[:HEAD]) == kind
    assert picture_kind(buffer.getvalue()[:64]) == kind


@pytest.mark.parametrize(
    ("head", "words"),
    [
        (b"", "empty"),
        (b"<!DOCTYPE html><html>not found", "a web page (HTML)"),
        (b"\xef\xbb\xbf\r\n <html lang=en>", "a web page (HTML)"),
        (b"a cat on a mat", "text"),
        ("一只猫".encode(), "text"),
        ("一只猫".encode("gbk"), "text"),
        ("一只猫".encode("utf-16"), "text"),
        (("字" * 2000).encode()[:HEAD], "text"),
        (b"x" + ("字" * 2000).encode()[: HEAD - 1], "text"),
        (b"BM is how this sentence starts, and it is long", "text"),
        (b"RIFF\x10\0\0\0WAVEfmt ", "data of no known kind"),
        (bytes(200), "nothing but zeros"),
        (bytes(range(1, 200)), "data of no known kind"),
        (b"%PDF-1.7\n", "a PDF"),
        (b"PK\3\4rest", "a zip archive"),
        (b"MZ\x90\0", "a program"),
        (b"8BPS\0\1", "a Photoshop file"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'>", "an SVG drawing, which has to be saved as PNG first"),
        (b"<?xml version='1.0'?><svg>", "an SVG drawing, which has to be saved as PNG first"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(20), "a HEIC photo, which has to be saved as JPEG or PNG first"),
        (b"\0\0\0\x18ftypmp42\0\0\0\0isommp42" + bytes(20), "a video"),
        (b"\x89PNG\r\n\x1a", "data of no known kind"),
    ],
)
def test_what_is_no_picture_is_named(head: bytes, words: str) -> None:
    assert picture_kind(head) == ""
    assert looks_like(head) == words


def test_any_short_start_is_answered() -> None:
    for length in range(20):
        for start in (b"BM", b"\0\0\0\x18ftypavif\0\0\0\0", b"RIFF1234WEBP", b"\xff\xd8\xff"):
            assert isinstance(picture_kind(start[:length]), str)
            assert looks_like(start[:length])
