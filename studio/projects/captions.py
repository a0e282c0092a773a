"""Captions: which file holds them, bytes of any usual encoding to text, A1111's rule for pictures without one, and tags."""

import codecs
import re
import unicodedata
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

from studio.errors import StudioError
from studio.projects import kohya
from studio.projects.facts import Item
from studio.projects.text_encodings import CAPTION_SUFFIXES, ENCODINGS, Guess, detect_encoding, guess_for

LONGEST = 2**20
"""A caption file is read up to so many bytes; what is longer is cut there and said to be in trouble."""
METADATA_NAMES = ("metadata.jsonl", "metadata.csv")
"""Files with the captions of all images in and below a folder, each with file_name and text."""
TROUBLES = {
    "unreadable": "The file cannot be opened.",
    "undecodable": "Some of its bytes are text in no encoding that is known.",
    "nul": "It holds NUL characters.",
    "legacy": "It is not Unicode, so the encoding it is read in is a guess.",
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
"""By how much UTF-16 without a mark must read better than another encoding, which is far commoner."""


def decode_caption(data: bytes, guess: Guess | None = None) -> str:
    """Text of a caption file: UTF-8, UTF-16, else the encoding that `guess` gives or that is detected; what fits none is read with replacement marks. NUL characters and outer space go."""
    return read_caption(data, guess)[0]


def caption_trouble(data: bytes) -> str:
    """What is wrong with the bytes of a caption file, as a code of TROUBLES; empty when nothing is."""
    return read_caption(data)[1]


def read_caption(data: bytes, guess: Guess | None = None) -> tuple[str, str]:
    """Text of a caption file, and what is wrong with its bytes as a code of TROUBLES; `guess` gives the encoding of its folder."""
    text, encoding = _reading(data, guess)
    found = {
        "undecodable": not encoding,
        "nul": "\0" in text,
        "legacy": encoding in ENCODINGS,
        "encoding": encoding != "utf-8" or data.startswith(codecs.BOM_UTF8),
        "long": len(data) > LONGEST,
    }
    return text.replace("\0", "").strip(), next((code for code, true in found.items() if true), "")


def encoding_of(data: bytes, guess: Guess | None = None) -> str:
    """In which encoding a caption file is read; empty when replacement marks are needed."""
    return _reading(data, guess)[1]


def _reading(data: bytes, guess: Guess | None = None) -> tuple[str, str]:
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
    encoding, text = _legacy(data, guess, cut)
    if wide is not None and (text is None or _plainness(wide[0]) > _plainness(text) + _CLEARLY):
        return wide
    return (data.decode("utf-8", errors="replace"), "") if text is None else (text, encoding)


def _legacy(data: bytes, guess: Guess | None, cut: bool) -> tuple[str, str | None]:
    """An encoding that isn't Unicode and the text in it: the folder's, else the one that the bytes look like; no text when neither fits."""
    for encoding in (guess() if guess is not None else "", detect_encoding(data)):
        text = _strictly(data, encoding, cut) if encoding else None
        if text is not None:
            return encoding, text
    return "", None


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


def caption_names(name: str) -> list[str]:
    """File names that the caption of an image may have, in the order in which they count; suffixes in small letters, in capitals or with one."""
    stem = name[: name.rfind(".")] if "." in name[1:] else name
    return [own_caption_name(name), *(stem + form for suffix in CAPTION_SUFFIXES for form in (suffix, suffix.upper(), suffix.title()))]


def caption_file(image: Path) -> Path:
    """The caption file of an image: `a.png.txt` when it is there, else `a.txt`, which `a.jpg` shares, else `a.caption` or `a.cap`; `a.txt` when there is none."""
    found = (path for name in caption_names(image.name) if is_file(path := image.with_name(name)))
    return next(found, image.with_suffix(".txt"))


@lru_cache(64)
def _metadata(file: Path, _changed: int, _size: int) -> dict[str, str]:
    """What a file that describes a folder says, by path, name or stem; nothing when it can't be read."""
    try:
        return kohya.read_metadata(file.read_bytes(), file.name)
    except (OSError, StudioError):
        return {}


def described(image: Path) -> str:
    """The caption that `metadata.jsonl` or `metadata.csv` in the image's folder, or the one above, gives it; empty without one."""
    for folder in (image.parent, image.parent.parent):
        for name in METADATA_NAMES:
            try:
                status = (folder / name).stat()
            except (OSError, ValueError):
                continue
            said = _metadata(folder / name, status.st_mtime_ns, status.st_size)
            keys = (image.relative_to(folder).as_posix(), *((image.name, image.stem) if folder == image.parent else ()))
            if words := next((said[key] for key in keys if said.get(key)), ""):
                return words.strip()
    return ""


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
    """The caption of a picture: its caption file, else what the folder's metadata file says, else its file name without leading numbers (A1111's rule)."""
    file = caption_file(image)
    if is_file(file):
        return decode_caption(read_bytes(file), guess_for(image.parent))
    return described(image) or _LEADING.sub("", image.stem)


def existing_caption(image: Path) -> str:
    """The caption that lies beside a picture, LONGEST bytes of it at most, or that the folder's metadata file gives it; empty when there is none."""
    file = caption_file(image)
    return decode_caption(read_bytes(file), guess_for(image.parent)) if is_file(file) else described(image)


def is_captioned(image: Path) -> bool:
    """Whether an image has a caption of its own: a caption file, or words in the folder's metadata file."""
    return is_file(caption_file(image)) or bool(described(image))


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
    """What is written for a picture that had the caption `old` and got `new`: ignore, copy, prepend or append the old one. Two captions are joined by a comma, so that no two tags become one."""
    if action == "copy":
        return old or new
    if action == "prepend":
        return _joined(old, new)
    if action == "append":
        return _joined(new, old)
    return new


def _joined(first: str, second: str) -> str:
    """Two captions as one, with exactly one comma between them; a space after a full stop."""
    first, second = first.rstrip(" ,，、\t\r\n"), second.lstrip(" ,，、\t\r\n")
    if not first or not second:
        return first or second
    return f"{first} {second}" if first.endswith((".", "!", "?", "。", "！", "？")) else f"{first}, {second}"
