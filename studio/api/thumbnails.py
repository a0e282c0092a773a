"""Small copies of pictures, made once by a few threads beside the requests and kept on disk."""

import asyncio
import hashlib
import os
import struct
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from PIL import Image, ImageOps, UnidentifiedImageError

from studio.errors import NotFound, Unreadable
from studio.formats.opening import open_limited
from studio.projects.staging import in_words

SIDES = (256, 1280)
"""Longer sides in pixels that can be had: for a grid, and for looking at one picture."""
THREADS = 2
HURT = (Image.DecompressionBombError, OSError, RuntimeError, ValueError, SyntaxError, EOFError, IndexError, TypeError, KeyError, struct.error)
"""What Pillow raises for a hurt file."""
WIDE = ("I;16", "I;16L", "I;16B", "I;16N", "I", "F")
"""Modes with more than 8 bits for a pixel."""


class Thumbnails:
    """Copies of pictures as JPEG under one folder, named by file, time and size, so that a changed picture is never shown as it was."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="thumbnails")
        self._running: dict[Path, Future[None]] = {}
        self._lock = threading.Lock()

    def path(self, picture: Path, side: int) -> Path:
        """Where the copy of a picture lies or will lie; raises NotFound when the picture is gone."""
        try:
            status = picture.stat()
        except OSError as error:
            raise NotFound(f"There is no picture {picture.name!r} any more.", "It may have been moved or deleted.") from error
        key = hashlib.sha256(f"{picture}\0{status.st_mtime_ns}\0{status.st_size}\0{side}".encode("utf-8", "surrogateescape")).hexdigest()
        return self.folder / key[:2] / f"{key[:32]}.jpg"

    async def get(self, picture: Path, side: int) -> Path:
        """The copy of a picture, made now if it is not there; raises NotFound, Unreadable. The disk, which may be slow, is never asked on the event loop."""
        path, there = await asyncio.to_thread(self._look, picture, side)
        if not there:
            await asyncio.shield(asyncio.wrap_future(self._begun(picture, path, side)))
        return path

    def _look(self, picture: Path, side: int) -> tuple[Path, bool]:
        """Where a copy lies, and whether it does."""
        path = self.path(picture, side)
        return path, path.is_file()

    def _begun(self, picture: Path, path: Path, side: int) -> "Future[None]":
        """The making of one copy; two requests for the same share it."""
        with self._lock:
            running = self._running.get(path)
            if running is None:
                running = self._running[path] = self._pool.submit(small_copy, picture, path, side)
                running.add_done_callback(lambda _: self._running.pop(path, None))
            return running


def small_copy(picture: Path, path: Path, side: int) -> None:
    """Write an upright JPEG copy whose longer side is at most `side` pixels, transparency on a light checkerboard's mean grey; raises Unreadable."""
    try:
        with open_limited(picture) as image:
            image.draft("RGB", (side, side))
            small = greys(ImageOps.exif_transpose(image))
            small = _flat(small) if small.mode in ("1", "P", "PA") else small
            small.thumbnail((side, side), Image.Resampling.BILINEAR if side <= SIDES[0] else Image.Resampling.LANCZOS, reducing_gap=2.0)
            small = _flat(small)
    except UnidentifiedImageError as error:
        raise Unreadable(f"{picture.name} is not a picture.") from error
    except HURT as error:
        raise Unreadable(f"{picture.name} cannot be shown ({str(error)[:80]}).") from error
    temporary = path.with_suffix(f".{threading.get_ident()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        small.save(temporary, "JPEG", quality=84)
        os.replace(temporary, path)  # not flushed: a copy that is lost is made again
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise in_words(error, path) from error


def greys(image: Image.Image) -> Image.Image:
    """A picture of more than 8 bits for a pixel as greys of 8 bits, not clipped: 16 bits count to 65535, fractions to 1 or the highest that is there. Any other picture as it is."""
    if image.mode not in WIDE:
        return image
    wide = image.convert("F")
    high = float(wide.getextrema()[1])
    few = image.mode == "I" and 1 < high <= 255  # eight bits in a wider file
    top = 255.0 if few else max(high, 1.0) if image.mode == "F" else 65535.0
    return wide.point(lambda v: v * (255.0 / top)).convert("L")


def _flat(image: Image.Image) -> Image.Image:
    """Any mode as RGB, transparent parts on white."""
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        layer = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")
    return image.convert("RGB")
