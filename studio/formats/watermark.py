"""Embeddings inside pictures, as A1111 shares them: a text chunk, and the pixels beside the picture, which outlive a site that strips chunks."""

import base64
import binascii
import itertools
import json
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw, UnidentifiedImageError
from torch import Tensor

from studio.errors import Unreadable
from studio.formats.opening import open_limited

CHUNK = "sd-ti-embedding"
_TENSOR = "TORCHTENSOR"
_LIMIT = 64 * 2**20
"""Bytes of text an embedding may unfold to."""


def packed(data: Mapping[str, Any]) -> str:
    """The text of the chunk: base64 of JSON in which a tensor is a nested list."""
    return base64.b64encode(_json(data)).decode("ascii")


def unpacked(text: str) -> dict[str, Any] | None:
    """What a chunk holds; None when it is no embedding."""
    try:
        return _data(base64.b64decode(text, validate=True))
    except (binascii.Error, ValueError):
        return None


def with_margins(image: Image.Image, data: Mapping[str, Any], shades: Tensor) -> Image.Image:
    """The picture between two blocks of pixels that carry the data: low halves of its bytes on the left, high halves on the right, a black column beside each.

    `shades` are numbers whose sizes draw the circles the blocks are decorated with.
    """
    height = image.height
    content = np.frombuffer(zlib.compress(_json(data), 9), np.uint8)
    size = -(-content.size // (height * 3)) * height * 3
    content = np.resize(content, size).reshape(height, -1, 3)
    levels = shades.detach().abs().float().cpu().numpy()[:1024]
    levels = (levels / max(float(levels.max()), 1e-12) * 255).astype(np.uint8)
    width = content.shape[1]
    whole = Image.new("RGB", (image.width + 2 * width + 2, height))
    whole.paste(_decorated((content & 15) ^ _pad(content.shape), levels), (0, 0))
    whole.paste(image.convert("RGB"), (width + 1, 0))
    whole.paste(_decorated((content >> 4) ^ _pad(content.shape), levels[::-1]), (width + 2 + image.width, 0))
    return whole


def read_picture(path: Path) -> dict[str, Any] | None:
    """What is written into a picture, by chunk or by pixels; None when it holds no embedding. Raises Unreadable for what is no picture."""
    try:
        with open_limited(path) as image:
            text = image.info.get(CHUNK)
            found = unpacked(text) if isinstance(text, str) else None
            return found if found is not None else between_margins(image)
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise Unreadable(f"{path.name} is not a picture that can be read ({type(error).__name__}).", "It is damaged or not finished; copy it again.") from error


def between_margins(image: Image.Image) -> dict[str, Any] | None:
    """What the pixels beside a picture carry; None when they carry nothing."""
    pixels = _trimmed(np.asarray(image.convert("RGB")))
    halves = pixels & 15
    black = np.flatnonzero(~halves.any(axis=(0, 2)))
    if len(black) < 2:
        return None
    low, high = halves[:, : black[0]], halves[:, black[-1] + 1 :]
    if not low.size or low.shape != high.shape:
        return None
    pad = _pad(low.shape)
    try:
        return _data(zlib.decompressobj().decompress(((low ^ pad) | ((high ^ pad) << 4)).tobytes(), _LIMIT))
    except (zlib.error, ValueError):
        return None


def _trimmed(pixels: np.ndarray) -> np.ndarray:
    """A picture [h, w, 3] without rows and columns at its edge that are black."""
    lit = pixels.all(axis=2)
    if not lit.any():
        return pixels[:0]
    rows, columns = np.flatnonzero(lit.any(1)), np.flatnonzero(lit.any(0))
    return pixels[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def _pad(shape: tuple[int, ...]) -> np.ndarray:
    """The pattern the halves are mixed with, so that they look like noise: a linear congruential sequence, its low four bits."""
    return (np.fromiter(itertools.islice(_sequence(), int(np.prod(shape))), np.int64).astype(np.uint8) & 15).reshape(shape)


def _sequence() -> Iterator[int]:
    """s <- 1664525 s + 1013904223 modulo 2^32 from 0; each modulo 255."""
    state = 0
    while True:
        state = (1664525 * state + 1013904223) & 0xFFFFFFFF
        yield state % 255


def _decorated(block: np.ndarray, levels: np.ndarray) -> Image.Image:
    """A block of halves with rows of circles in its upper bits, shaded by the embedding's numbers."""
    drawn = Image.new("RGB", (block.shape[1], block.shape[0]))
    pen = ImageDraw.Draw(drawn)
    shades = itertools.cycle(int(level) for level in levels)
    for x in range(-6, drawn.width, 8):
        for row, y in enumerate(range(-6, drawn.height, 8)):
            left, shade = x + (0 if row % 2 else 4), next(shades)
            pen.ellipse((left, y, left + 6, y + 6), fill=(shade, shade, shade))
    return Image.fromarray(block.astype(np.uint8) | (np.asarray(drawn) & 0xF0), "RGB")


def _json(data: Mapping[str, Any]) -> bytes:
    """Data as JSON; tensors as nested lists."""
    return json.dumps(data, default=_listed).encode()


def _listed(value: Any) -> Any:
    """A tensor as JSON knows it; raises TypeError for anything else."""
    if isinstance(value, Tensor):
        return {_TENSOR: value.detach().cpu().tolist()}
    raise TypeError(type(value).__name__)


def _data(text: bytes) -> dict[str, Any] | None:
    """Data from JSON, nested lists as tensors in fp32; None when it is no dict. Raises ValueError."""
    try:
        data = json.loads(text.decode("utf-8"), object_hook=_tensor)
    except (RecursionError, TypeError, RuntimeError) as error:
        raise ValueError("not an embedding") from error
    return data if isinstance(data, dict) else None


def _tensor(entry: dict[str, Any]) -> Any:
    """A nested list that stands for a tensor, as one."""
    return torch.tensor(entry[_TENSOR], dtype=torch.float32) if _TENSOR in entry else entry
