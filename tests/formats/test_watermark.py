"""Embeddings inside pictures: built here pixel by pixel from the layout's description, and read back from what is written."""

import base64
import json
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from studio.errors import InputError, Unreadable
from studio.formats.embedding import Embedding, embed_in_png, read_embedding

VECTORS = [[0.25, -0.5, 0.125], [1.0, 2.0, -0.0625]]
DATA = {"string_to_token": {"*": 265}, "string_to_param": {"*": {"TORCHTENSOR": VECTORS}}, "name": "rick", "step": 60, "sd_checkpoint": "0123456789", "sd_checkpoint_name": "tiny"}


def photo(width: int = 64, height: int = 48) -> Image.Image:
    """A picture without black pixels."""
    return Image.fromarray(np.random.default_rng(0).integers(20, 255, (height, width, 3), dtype=np.uint8).astype(np.uint8))


def golden(path: Path, data: dict = DATA, border: int = 0) -> None:
    """A picture between two blocks of half bytes mixed with the sequence s <- 1664525 s + 1013904223, with ten columns more than it needs."""
    picture = photo()
    content = zlib.compress(json.dumps(data).encode(), 9)
    columns = -(-len(content) // (picture.height * 3)) + 10
    whole = Image.new("RGB", (picture.width + 2 * columns + 2 + 2 * border, picture.height + 2 * border))
    for shift, left in ((0, border), (4, border + columns + 2 + picture.width)):
        state = place = 0
        for y in range(picture.height):
            for x in range(columns):
                pixel = []
                for _ in range(3):
                    state = (1664525 * state + 1013904223) % 2**32
                    half = (content[place % len(content)] >> shift) % 16
                    pixel.append((half ^ (state % 255 % 16)) + 16 * ((x * y) % 15 + 1))
                    place += 1
                whole.putpixel((left + x, border + y), tuple(pixel))
    whole.paste(picture, (border + columns + 1, border))
    whole.save(path, lossless=True)


@pytest.mark.parametrize("suffix", [".png", ".webp"])
@pytest.mark.parametrize("border", [0, 7])
def test_pixels_alone_carry_an_embedding(tmp_path: Path, suffix: str, border: int) -> None:
    golden(tmp_path / f"from-a-site{suffix}", border=border)
    back = read_embedding(tmp_path / f"from-a-site{suffix}")
    assert back.vectors.tolist() == VECTORS and back.vectors.dtype == torch.float32
    assert (back.name, back.step, back.checkpoint_hash, back.checkpoint_name) == ("rick", 60, "0123456789", "tiny")


def test_the_chunk_alone_carries_an_embedding(tmp_path: Path) -> None:
    info = PngInfo()
    info.add_text("sd-ti-embedding", base64.b64encode(json.dumps(DATA).encode()).decode())
    photo().save(tmp_path / "x.png", pnginfo=info)
    assert read_embedding(tmp_path / "x.png").vectors.tolist() == VECTORS


@pytest.mark.parametrize("count", [1, 75])
def test_what_is_put_into_a_picture_is_read_from_its_pixels_and_from_its_chunk(tmp_path: Path, count: int) -> None:
    vectors = torch.randn(count, 96, generator=torch.Generator().manual_seed(1))
    image, info = embed_in_png(photo(), Embedding("hero", vectors, 12, "0123456789", "tiny"))
    image.save(tmp_path / "both.png", pnginfo=info)
    image.save(tmp_path / "pixels.png")
    photo().save(tmp_path / "chunk.png", pnginfo=info)
    for name in ("both", "pixels", "chunk"):
        back = read_embedding(tmp_path / f"{name}.png")
        assert torch.equal(back.vectors, vectors) and (back.name, back.step) == ("hero", 12)
    with Image.open(tmp_path / "both.png") as opened:
        told = json.loads(base64.b64decode(opened.text["sd-ti-embedding"]))
    assert set(told) == {"string_to_token", "string_to_param", "name", "step", "sd_checkpoint", "sd_checkpoint_name"}


def test_the_picture_stands_untouched_between_black_columns(tmp_path: Path) -> None:
    image, _ = embed_in_png(photo(), Embedding("hero", torch.ones(2, 3)))
    margin = (image.width - 64) // 2
    pixels = np.asarray(image)
    assert np.array_equal(pixels[:, margin : margin + 64], np.asarray(photo()))
    assert not pixels[:, margin - 1].any() and not pixels[:, margin + 64].any()


def test_an_embedding_for_sdxl_goes_into_a_picture_too(tmp_path: Path) -> None:
    image, info = embed_in_png(photo(), Embedding("hero", torch.arange(2048.0)[None]))
    image.save(tmp_path / "x.png", pnginfo=info)
    assert torch.equal(read_embedding(tmp_path / "x.png").vectors, torch.arange(2048.0)[None])


@pytest.mark.parametrize("kind", ["photo", "black", "columns", "white"])
def test_a_picture_without_an_embedding_says_so(tmp_path: Path, kind: str) -> None:
    pixels = np.asarray(photo()).copy()
    if kind == "black":
        pixels[:] = 0
    elif kind == "white":
        pixels[:] = 255
    elif kind == "columns":
        pixels[:, [10, 53]] = 0
    Image.fromarray(pixels).save(tmp_path / "x.png")
    with pytest.raises(Unreadable, match="without an embedding"):
        read_embedding(tmp_path / "x.png")


@pytest.mark.parametrize("text", ["", "!!", base64.b64encode(b"{").decode(), base64.b64encode(b"[1]").decode(), base64.b64encode(b'{"TORCHTENSOR": [[1], [1, 2]]}').decode()])
def test_a_chunk_that_is_no_embedding_is_refused_in_words(tmp_path: Path, text: str) -> None:
    info = PngInfo()
    info.add_text("sd-ti-embedding", text)
    photo().save(tmp_path / "x.png", pnginfo=info)
    with pytest.raises(Unreadable, match="without an embedding"):
        read_embedding(tmp_path / "x.png")


@pytest.mark.parametrize("content", [b"x", b"\x89PNG\r\n\x1a\n", b"RIFF\0\0\0\0WEBP"])
def test_what_is_no_picture_is_refused_in_words(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.png").write_bytes(content)
    with pytest.raises(Unreadable, match="not a picture"):
        read_embedding(tmp_path / "x.png")


def test_a_picture_that_was_saved_as_jpeg_lost_its_embedding(tmp_path: Path) -> None:
    image, _ = embed_in_png(photo(), Embedding("hero", torch.ones(2, 3)))
    image.save(tmp_path / "x.jpg", quality=90)
    Image.open(tmp_path / "x.jpg").save(tmp_path / "x.png")
    with pytest.raises(Unreadable, match="without an embedding"):
        read_embedding(tmp_path / "x.png")


def test_spoilt_vectors_are_not_put_into_a_picture() -> None:
    with pytest.raises(InputError, match="not finite"):
        embed_in_png(photo(), Embedding("hero", torch.full((1, 3), float("nan"))))
