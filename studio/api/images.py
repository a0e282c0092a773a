"""Pictures as clients send and get them: base64 to files and back."""

import base64
import binascii
import hashlib
import io
import os
import re
from pathlib import Path
from uuid import uuid4

from PIL import Image, ImageOps, UnidentifiedImageError

from studio.errors import InputError, NotFound, StudioError, Unreadable
from studio.formats.opening import PIXEL_LIMIT, open_limited
from studio.settings import Paths

MAX_BYTES = 64 * 2**20
"""Largest picture file a client may send."""
ORIENTATION = 0x0112
SUFFIXES = {"PNG": "png", "JPEG": "jpg", "WEBP": "webp", "GIF": "gif", "BMP": "bmp", "TIFF": "tif", "AVIF": "avif"}
_HEAD = re.compile(r"data:image/[\w.+-]+;base64,", re.ASCII)


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
        image = open_limited(io.BytesIO(data), f"{label}: the picture")
        image.load()
    except Unreadable as error:
        raise StudioError(error.message, f"Send at most {PIXEL_LIMIT // 10**6} million pixels.", "too_large") from error
    except (OSError, RuntimeError, UnidentifiedImageError, ValueError, SyntaxError) as error:
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
