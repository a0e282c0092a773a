"""Pictures as clients send and get them: base64 to files and back, and the text inside a picture."""

import base64
import binascii
import hashlib
import io
import os
import re
from pathlib import Path
from typing import Any
from uuid import uuid4

from PIL import Image, ImageOps, UnidentifiedImageError

from studio.errors import InputError, NotFound, StudioError, Unreadable
from studio.settings import Paths

MAX_BYTES = 64 * 2**20
"""Largest picture file a client may send."""
MAX_PIXELS = 100_000_000
"""Largest picture in pixels; a small file can unfold to gigabytes."""
ORIENTATION = 0x0112
EXIF_BLOCK, USER_COMMENT = 0x8769, 0x9286
SUFFIXES = {"PNG": "png", "JPEG": "jpg", "WEBP": "webp", "GIF": "gif", "BMP": "bmp", "TIFF": "tif", "AVIF": "avif"}
_HEAD = re.compile(r"data:image/[\w.+-]+;base64,", re.ASCII)
_FACTS = frozenset(
    ("jfif", "jfif_version", "jfif_unit", "jfif_density", "dpi", "exif", "loop", "background", "timestamp", "duration", "progressive", "progression", "icc_profile", "chromaticity", "photoshop")
)
"""What Pillow knows of a picture that is not text somebody wrote into it."""


def decoded(text: str | None, label: str) -> bytes:
    """The bytes of a base64 picture, with or without `data:image/...;base64,`; raises StudioError in words."""
    if not text:
        raise NotFound(f"{label}: no picture was sent.", "Send it as base64.")
    if text[:8].lower().startswith(("http://", "https://")):
        raise InputError(f"{label}: addresses are not fetched.", "Send the picture itself as base64.")
    if len(text) > MAX_BYTES * 4 // 3 + 100:
        raise StudioError(f"{label}: the picture is larger than {MAX_BYTES // 2**20} MB.", "Send a smaller one.", "too_large")
    head = _HEAD.match(text)
    try:
        return base64.b64decode("".join(text[head.end() if head else 0 :].split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise Unreadable(f"{label}: this is not base64 ({text[:20]!r}…).", "Send the picture's bytes as base64.") from error


def opened(data: bytes, label: str) -> Image.Image:
    """The picture in these bytes, whole; raises Unreadable in words."""
    try:
        image = Image.open(io.BytesIO(data))
        if image.width * image.height > MAX_PIXELS:
            raise StudioError(f"{label}: {image.width}x{image.height} pixels are too many.", f"Send at most {MAX_PIXELS // 10**6} million.", "too_large")
        image.load()
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError, ValueError, SyntaxError) as error:
        raise Unreadable(f"{label}: the bytes are not a picture that can be read.", "Send a PNG, JPEG or WebP.") from error
    return image


def received(paths: Paths, text: str | None, label: str) -> str:
    """Write a picture a client sent under the uploads, named by its content, upright; returns the path."""
    data = decoded(text, label)
    image = opened(data, label)
    suffix = SUFFIXES.get(image.format or "", "")
    if not suffix or image.getexif().get(ORIENTATION, 1) != 1:
        buffer, suffix = io.BytesIO(), "png"
        upright = ImageOps.exif_transpose(image)
        (upright if upright.mode in ("L", "LA", "RGB", "RGBA", "1", "P", "I;16") else upright.convert("RGB")).save(buffer, "PNG")
        data = buffer.getvalue()
    folder = paths.uploads / "api"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{hashlib.sha256(data).hexdigest()[:24]}.{suffix}"
    if not path.exists():
        temporary = path.with_name(f"{uuid4().hex}.tmp")
        temporary.write_bytes(data)
        os.replace(temporary, path)
    return str(path)


def sent(path: str) -> str:
    """A picture file as bare base64; raises NotFound when it is gone."""
    try:
        return base64.b64encode(Path(path).read_bytes()).decode()
    except OSError as error:
        raise NotFound(f"The picture {Path(path).name} is no longer there.", "It was moved or deleted after it was painted.") from error


def texts_of(image: Image.Image) -> tuple[str, dict[str, str]]:
    """The infotext inside a picture (PNG chunk, EXIF comment, GIF comment) and everything else that is written in it."""
    items = {str(key): _text(value) for key, value in image.info.items() if key not in _FACTS and isinstance(value, str | bytes | int | float)}
    infotext = items.pop("parameters", "")
    comment = image.getexif().get_ifd(EXIF_BLOCK).get(USER_COMMENT)
    if comment:
        items["exif comment"] = _comment(comment)
        infotext = infotext or items["exif comment"]
    if "comment" in items:
        items["gif comment"] = items.pop("comment")
        infotext = infotext or items["gif comment"]
    return infotext, items


def _text(value: Any) -> str:
    """A value of a picture's head as text."""
    return value.decode("utf-8", errors="replace") if isinstance(value, bytes) else str(value)


def _comment(value: Any) -> str:
    """An EXIF UserComment without its 8-byte code of the alphabet; UTF-16 of either order, or ASCII."""
    if isinstance(value, str):
        return value
    code, body = bytes(value[:8]), bytes(value[8:])
    if not code.startswith(b"UNICODE"):
        return (body if code.startswith((b"ASCII", b"\0")) else bytes(value)).decode("utf-8", errors="replace").strip("\0")
    if body[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return body.decode("utf-16", errors="replace")
    big = body[::2].count(0) >= body[1::2].count(0)  # Latin letters have their zero first when the large end comes first
    return body.decode("utf-16-be" if big else "utf-16-le", errors="replace")
