"""Opening image files that nobody vouches for: the one place that calls `Image.open`, and the one limit of pixels, checked in the header before any pixel is decoded."""

from pathlib import Path
from typing import BinaryIO

from PIL import Image

from studio.errors import Unreadable

PIXEL_LIMIT = 2**27
"""Pixels of an image; a file of 2 MB can unfold to gigabytes."""


def open_limited(source: Path | str | BinaryIO, label: str = "") -> Image.Image:
    """An image whose pixels are not decoded yet, as `Image.open` gives it; raises Unreadable when its header claims too many, and else what Pillow raises. `label` is how the error calls it."""
    name = label or (Path(source).name if isinstance(source, Path | str) else "The image")
    try:
        image = Image.open(source)
    except Image.DecompressionBombError as error:
        raise Unreadable(f"{name} claims far too many pixels, and is too large to open safely.", "Scale it down first.") from error
    if image.width * image.height > PIXEL_LIMIT:
        width, height = image.size
        image.close()
        raise Unreadable(f"{name} is {width}x{height} pixels, too large to open safely.", "Scale it down first.")
    return image
