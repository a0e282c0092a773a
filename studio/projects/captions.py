"""Captions: which file holds them, bytes of any usual encoding to text, A1111's rule for pictures without one, and tags."""

import codecs
import re
import unicodedata
from collections.abc import Iterable
from pathlib import Path

from studio.projects.facts import Item

LONGEST = 2**20
"""A caption file is read up to so many bytes; what is longer is cut there and said to be in trouble."""
TROUBLES = {
    "unreadable": "The file cannot be opened.",
    "undecodable": "Some of its bytes are text in no encoding that is known.",
    "nul": "It holds NUL characters.",
    "encoding": "It is not plain UTF-8, so other programs may read it wrongly.",
    "long": f"It is longer than {LONGEST // 2**20} MB; only its beginning is read.",
}
"""What can be wrong with the bytes of a caption: code and sentence, the worst first."""

_LEADING = re.compile(r"^[-\d]+\s*")
_TAGS = re.compile(r"[,，、]")
_MARKS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))
_PLAIN_SHARE = 0.5
"""A guess at UTF-16 counts when at least so much of it is usual text."""
_CLEARLY = 0.1
"""By how much UTF-16 must read better than GB 18030, which is far commoner."""


def decode_caption(data: bytes) -> str:
    """Text of a caption file: BOM, UTF-8, UTF-16 or GB 18030; what fits none is read with replacement marks. NUL characters and outer space go."""
    return read_caption(data)[0]


def caption_trouble(data: bytes) -> str:
    """What is wrong with the bytes of a caption file, as a code of TROUBLES; empty when nothing is."""
    return read_caption(data)[1]


def read_caption(data: bytes) -> tuple[str, str]:
    """Text of a caption file, and what is wrong with its bytes as a code of TROUBLES."""
    text, encoding = _reading(data)
    found = {
        "undecodable": not encoding,
        "nul": "\0" in text,
        "encoding": encoding != "utf-8" or data.startswith(codecs.BOM_UTF8),
        "long": len(data) > LONGEST,
    }
    return text.replace("\0", "").strip(), next((code for code, true in found.items() if true), "")


def _reading(data: bytes) -> tuple[str, str]:
    """Text as it stands, and its encoding; an empty encoding when replacement marks were needed."""
    cut, data = len(data) > LONGEST, data[:LONGEST]
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            text = _strictly(data[len(mark) :], encoding, cut)
            return (data[len(mark) :].decode(encoding, errors="replace"), "") if text is None else (text, encoding)
    wide = _wide(data, cut)
    if wide is not None and data.count(0) * 4 >= len(data):
        return wide
    text = _strictly(data, "utf-8", cut)
    if text is not None:
        return text, "utf-8"
    text = _strictly(data, "gb18030", cut)
    if wide is not None and (text is None or _plainness(wide[0]) > _plainness(text) + _CLEARLY):
        return wide
    return (data.decode("utf-8", errors="replace"), "") if text is None else (text, "gb18030")


def _strictly(data: bytes, encoding: str, cut: bool) -> str | None:
    """Text when every byte fits the encoding, but for a last character that the cut may have split; None otherwise."""
    try:
        return codecs.getincrementaldecoder(encoding)().decode(data, final=not cut)
    except UnicodeDecodeError:
        return None


def _wide(data: bytes, cut: bool) -> tuple[str, str] | None:
    """The better of the two readings as UTF-16 without a mark; None when neither gives usual text."""
    if not data or (len(data) % 2 and not cut):
        return None
    readings = [(text, encoding) for encoding in ("utf-16-le", "utf-16-be") if (text := _strictly(data, encoding, cut)) is not None and "\0" not in text]
    best = max(readings, key=lambda reading: _plainness(reading[0]), default=None)
    return best if best is not None and _plainness(best[0]) >= _PLAIN_SHARE else None


def _plainness(text: str) -> float:
    """Share of characters that are usual in captions: those GB 2312 knows (ASCII, kana, some 6,700 Chinese characters), control characters apart."""
    known = text.encode("gb2312", errors="ignore").decode("gb2312")
    usual = sum(char in "\t\r\n" or unicodedata.category(char) != "Cc" for char in known)
    return usual / max(1, len(text))


def clean_caption(text: str) -> str:
    """A caption as it can be saved: without NUL characters and lone surrogates."""
    return text.replace("\0", "").encode("utf-8", errors="ignore").decode("utf-8")


def own_caption_name(name: str) -> str:
    """File name of the caption that belongs to one picture alone, also when another has its stem: `a.png.txt`."""
    return f"{name}.txt"


def caption_file(image: Path) -> Path:
    """The caption file of a picture: `a.png.txt` when it is there, else `a.txt`, which `a.jpg` shares."""
    own = image.with_name(own_caption_name(image.name))
    return own if is_file(own) else image.with_suffix(".txt")


def is_file(path: Path) -> bool:
    """Whether there is a file; a name that the system cannot even ask for is none."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def read_bytes(file: Path) -> bytes:
    """A caption file's bytes, one more than LONGEST at most, which says that there is more."""
    with file.open("rb") as stream:
        return stream.read(LONGEST + 1)


def caption_of(image: Path) -> str:
    """The caption of a picture: its caption file, else its file name without leading numbers (A1111's rule)."""
    file = caption_file(image)
    if is_file(file):
        return decode_caption(read_bytes(file))
    return _LEADING.sub("", image.stem)


def existing_caption(image: Path) -> str:
    """The caption that lies beside a picture, LONGEST bytes of it at most; empty when there is none."""
    file = caption_file(image)
    return decode_caption(read_bytes(file)) if is_file(file) else ""


def sharing(items: Iterable[Item]) -> dict[str, list[str]]:
    """Caption files that more than one picture uses, with the names of those pictures: what is written for one shows in all."""
    users: dict[str, list[str]] = {}
    for item in items:
        users.setdefault(item.caption_name, []).append(item.name)
    return {file: names for file, names in users.items() if len(names) > 1}


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
