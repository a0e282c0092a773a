"""Pictures that carry their infotext: PNG text, the UserComment of JPEG, WebP and AVIF, a GIF's comment; read with Pillow alone."""

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import ExifTags, Image, UnidentifiedImageError
from PIL.PngImagePlugin import PngInfo

from studio.errors import InputError, Unreadable
from studio.files import atomic_write
from studio.formats.opening import open_limited
from studio.pasting import write_infotext

CHUNK = "parameters"
FORMATS = {"png": "PNG", "jpg": "JPEG", "jpeg": "JPEG", "webp": "WEBP", "avif": "AVIF", "gif": "GIF"}
"""File formats that carry an infotext, by suffix, as Pillow calls them."""
_LABEL = {"UNICODE\0": "utf-16", "ASCII\0\0\0": "utf-8", "JIS\0\0\0\0\0": "iso2022_jp", "\0" * 8: "utf-8"}
_SEGMENT = 65_000
"""Bytes of EXIF that fit into one segment of a JPEG."""
_BROKEN = (OSError, ValueError, SyntaxError, KeyError, TypeError, IndexError, struct.error, Image.DecompressionBombError)
"""What Pillow raises on files that are damaged."""


def png_info(text: str, more: Mapping[str, str] | None = None) -> PngInfo:
    """The chunks that carry an infotext and whatever else is to be kept; text beyond ASCII goes into iTXt, which is UTF-8 by definition."""
    info = PngInfo()
    for key, value in {**({CHUNK: text} if text else {}), **(more or {})}.items():
        info.add_text(key, value) if value.isascii() else info.add_itxt(key, value)
    return info


def read_carrier(path: Path) -> tuple[str, dict[str, str]]:
    """The infotext inside a picture (empty when there is none) and every text it carries by name; raises Unreadable for what is no picture."""
    try:
        with open_limited(path) as image:
            texts = _texts(image)
            width, height = image.size
    except FileNotFoundError:
        raise
    except (UnidentifiedImageError, *_BROKEN) as error:
        raise Unreadable(f"{path.name} is not a picture that can be read ({type(error).__name__}).", "Choose a PNG, JPEG, WebP, AVIF or GIF file.") from error
    found = texts.get(CHUNK) or texts.get("UserComment") or (texts.get("comment", "") if "Software" not in texts else "")
    return found or _novelai(texts, (width, height)), texts


def infotext_of(path: Path) -> str:
    """The infotext inside a picture; empty when there is none."""
    return read_carrier(path)[0]


def _texts(image: Image.Image) -> dict[str, str]:
    """Every text of an open picture: its chunks, its comment, its EXIF."""
    if image.format == "PNG" and CHUNK not in image.info:
        _load(image)  # a chunk may also come after the pixels
    texts = {}
    for key, value in image.info.items():
        if isinstance(value, bytes) and key in ("comment", "xmp"):
            value = value.decode("utf-8", "replace")
        if isinstance(value, str) and value:
            texts[str(key)] = str(value)
    return texts | _exif(image)


def _load(image: Image.Image) -> None:
    """Read to the end of a file; one that is cut off keeps what came before."""
    try:
        image.load()
    except _BROKEN:
        image.info.setdefault("damaged", "The picture's pixels cannot be read; the file is damaged or not finished.")


def _exif(image: Image.Image) -> dict[str, str]:
    """The texts in a picture's EXIF; nothing when it is damaged."""
    try:
        exif = image.getexif()
        tags: dict[int, Any] = {**exif, **exif.get_ifd(ExifTags.IFD.Exif)}
    except _BROKEN:
        return {}
    found = {ExifTags.TAGS.get(tag, f"EXIF {tag}"): _comment(value) if tag == ExifTags.Base.UserComment else value for tag, value in tags.items()}
    return {key: value for key, value in found.items() if isinstance(value, str) and value.strip()}


def _comment(value: Any) -> str:
    """The text of a UserComment: eight bytes that name its encoding, then the text."""
    if not isinstance(value, bytes):
        return str(value)
    label, body = value[:8].decode("latin-1"), value[8:]
    encoding = _LABEL.get(label)
    if encoding is None:
        return value.decode("utf-8", "replace").strip("\0")
    if encoding == "utf-16" and body[:2] not in (b"\xff\xfe", b"\xfe\xff"):
        encoding = "utf-16-le" if body[1::2].count(0) > body[0::2].count(0) else "utf-16-be"
    return body.decode(encoding, "replace").strip("\0")


def user_comment(text: str) -> bytes:
    """EXIF with an infotext as A1111 writes it: UserComment, labelled UNICODE, UTF-16 with the high byte first."""
    exif = Image.Exif()
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.UserComment] = b"UNICODE\0" + text.encode("utf-16-be")
    return exif.tobytes()


def _novelai(texts: Mapping[str, str], size: tuple[int, int]) -> str:
    """What NovelAI wrote as an infotext, as A1111 understands it; empty when it is not NovelAI's."""
    if texts.get("Software") != "NovelAI":
        return ""
    try:
        facts = json.loads(texts["Comment"])
        sampler = {"k_euler": "Euler", "k_lms": "LMS", "k_dpmpp_2m": "DPM++ 2M", "ddim": "DDIM"}.get(str(facts["sampler"]), "Euler a")
        told = {"Steps": facts["steps"], "Sampler": sampler, "CFG scale": facts["scale"], "Seed": facts["seed"], "Size": f"{size[0]}x{size[1]}", "Clip skip": 2, "ENSD": 31337}
        return write_infotext(texts.get("Description", ""), str(facts.get("uc", "")), told)
    except (ValueError, KeyError, TypeError):
        return ""


def write_picture(image: Image.Image, path: Path, infotext: str = "", format: str = "png", quality: int = 80) -> bool:
    """Write a picture with its infotext, whole or not at all; False when the format had no room for the text, which then lies beside it as .txt.

    Raises InputError for a format that carries none, OutOfSpace when the disk is full.
    """
    name = FORMATS.get(format.lower().removeprefix("."))
    if name is None:
        raise InputError(f"Pictures cannot be saved as {format!r}.", f"Choose one of {', '.join(FORMATS)}.")
    extra, carried = _carrier(name, infotext, quality)
    with atomic_write(path) as temporary:
        _fitting(image, name).save(temporary, name, **extra)
    if not carried:
        with atomic_write(path.with_suffix(".txt")) as temporary:
            temporary.write_text(infotext, encoding="utf-8")
    return carried


def _carrier(name: str, text: str, quality: int) -> tuple[dict[str, Any], bool]:
    """What Pillow's `save` needs to put a text into a format, and whether the text fits."""
    if name == "PNG":
        return {"pnginfo": png_info(text)}, True
    if name == "GIF":
        return {"comment": text.encode("utf-8")} if text else {}, True
    extra: dict[str, Any] = {"quality": quality}
    if not text:
        return extra, True
    exif = user_comment(text)
    fits = name != "JPEG" or len(exif) < _SEGMENT
    return {**extra, **({"exif": exif} if fits else {})}, fits


def _fitting(image: Image.Image, name: str) -> Image.Image:
    """A picture in a mode the format can hold; what shines through becomes white where there is no alpha."""
    if name == "PNG" or image.mode in ("L", "RGB"):
        return image
    if name in ("WEBP", "AVIF") and image.mode == "RGBA":
        return image
    if "A" in image.mode or "transparency" in image.info:
        white = Image.new("RGBA", image.size, "white")
        white.alpha_composite(image.convert("RGBA"))
        return white.convert("RGB")
    return image.convert("RGB")
