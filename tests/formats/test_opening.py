"""Images are opened in one place, with one limit."""

import ast
import io
import struct
import zlib
from pathlib import Path

import pytest

from studio.errors import Unreadable
from studio.formats.opening import PIXEL_LIMIT, open_limited

SOURCES = sorted((Path(__file__).resolve().parents[2] / "studio").rglob("*.py"))
ALLOWED = {"opening.py"}
"""Files that may call Image.open: the function that checks the size."""


def png(width: int, height: int) -> bytes:
    """A PNG that claims this size and has hardly any pixels."""
    chunks = ((b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)), (b"IDAT", zlib.compress(b"\0")), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks)


def opens(source: str) -> bool:
    """Whether a source calls Pillow's or opencv's opening functions, or touches Pillow's own limit."""
    names = {node.attr for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Attribute)}
    called = {f"{node.value.id}.{node.attr}" for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)}
    return bool({"Image.open", "PIL.open"} & called or {"imread", "imdecode", "MAX_IMAGE_PIXELS"} & names)


def test_images_are_opened_in_one_place() -> None:
    assert [path.name for path in SOURCES if opens(path.read_text(encoding="utf-8"))] == sorted(ALLOWED)
    assert opens("from PIL import Image\nImage.open('a')") and opens("cv2.imread('a')") and opens("Image.MAX_IMAGE_PIXELS = None")


def test_the_header_is_enough_to_refuse(tmp_path: Path) -> None:
    side = int(PIXEL_LIMIT**0.5)
    assert open_limited(io.BytesIO(png(side, side))).size == (side, side)
    for width, height in ((side + 1, side + 1), (60_000, 60_000), (2**31 - 1, 1)):
        (tmp_path / "a.png").write_bytes(png(width, height))
        with pytest.raises(Unreadable, match=r"^a\.png .*too large to open safely"):
            open_limited(tmp_path / "a.png")
        with pytest.raises(Unreadable, match=r"^Mask "):
            open_limited(io.BytesIO(png(width, height)), "Mask")
