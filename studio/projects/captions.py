"""Captions: bytes of any usual encoding to text, A1111's rule for pictures without one, and tags."""

import codecs
import re
from pathlib import Path

_LEADING = re.compile(r"^[-\d]+\s*")
_TAGS = re.compile(r"[,，、]")


def decode_caption(data: bytes) -> str:
    """Text of a caption file: BOM, UTF-8, UTF-16 or GB 18030; what fits none is read with replacement marks. NUL characters go."""
    for mark, encoding in ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16")):
        if data.startswith(mark):
            return data.decode(encoding, errors="replace").replace("\0", "").strip()
    for encoding in ("utf-8", "gb18030"):
        try:
            return data.decode(encoding).replace("\0", "").strip()
        except UnicodeDecodeError:
            continue
    return data.decode("utf-8", errors="replace").replace("\0", "").strip()


def caption_file(image: Path) -> Path:
    """The .txt beside a picture."""
    return image.with_suffix(".txt")


def caption_of(image: Path) -> str:
    """The caption of a picture: its .txt, else its file name without leading numbers (A1111's rule)."""
    file = caption_file(image)
    if file.is_file():
        return decode_caption(file.read_bytes())
    return _LEADING.sub("", image.stem)


def existing_caption(image: Path) -> str:
    """The caption that lies beside a picture; empty when there is none."""
    file = caption_file(image)
    return decode_caption(file.read_bytes()) if file.is_file() else ""


def split_tags(caption: str) -> list[str]:
    """Tags of a caption, split at western and Chinese commas, trimmed, without empty ones."""
    return [tag.strip() for tag in _TAGS.split(caption) if tag.strip()]


def merge_captions(action: str, old: str, new: str) -> str:
    """What is written for a picture that had the caption `old` and got `new`: ignore, copy, prepend or append the old one."""
    if action == "copy":
        return old or new
    if action == "prepend":
        return " ".join(filter(None, (old, new)))
    if action == "append":
        return " ".join(filter(None, (new, old)))
    return new
