"""Encodings of caption files that aren't UTF-8: detected from the bytes of one file or of a whole folder, or chosen by the user. Torch-free."""

import codecs
import json
import sqlite3
from collections.abc import Callable, Iterable
from contextlib import closing
from functools import lru_cache
from pathlib import Path

import charset_normalizer

from studio.projects.sidecar import HIDDEN

ENCODINGS = {
    "gb18030": "Chinese (GBK)",
    "big5": "Traditional Chinese (Big5)",
    "cp932": "Japanese (Shift-JIS)",
    "cp949": "Korean (EUC-KR)",
    "cp1252": "Western European (Windows-1252)",
    "cp1251": "Cyrillic (Windows-1251)",
}
"""Python's name of each encoding that captions are read in when they aren't Unicode, and what it is called."""
UNICODE = {"utf-8": "UTF-8", "utf-16-le": "UTF-16", "utf-16-be": "UTF-16"}
AUTOMATIC = "Automatic"
SETTINGS_KEY = "room"
"""Key of a dataset's settings; `caption_encoding` in them is the user's choice."""
CAPTION_SUFFIXES = (".txt", ".caption", ".cap")
"""Suffixes of caption files in the order in which they count: A1111's and kohya's, then kohya's older ones."""
_SAMPLE_FILES, _SAMPLE_BYTES = 400, 2**18
_HANGUL, _COMMON = range(0xB0, 0xC9), range(0xB0, 0xD8)
"""First bytes of Hangul in EUC-KR, and of the 3,755 most common characters in GB 2312."""


def label_of_encoding(encoding: str) -> str:
    """What an encoding is called on the page."""
    return ENCODINGS.get(encoding) or UNICODE.get(encoding) or encoding


def detect_encoding(data: bytes) -> str:
    """The most likely of ENCODINGS for bytes that aren't UTF-8; empty when none fits.

    Short Chinese tags are the commonest case and the one that statistics get wrong, so text made of common GB 2312 characters is settled first;
    everything else is left to charset-normalizer.
    """
    if _is_common_chinese(data):
        return "gb18030"
    found = charset_normalizer.from_bytes(data, cp_isolation=list(ENCODINGS), threshold=0.4, preemptive_behaviour=False).best()
    return found.encoding if found is not None and found.encoding in ENCODINGS else ""


def _is_common_chinese(data: bytes) -> bool:
    """Whether the bytes are GB 2312 whose characters are mostly common ones, and aren't all Hangul as well."""
    try:
        text = data.decode("gb2312")
    except UnicodeDecodeError:
        return False
    leads = [char.encode("gb2312")[0] for char in text if ord(char) > 0x3400]
    common = sum(lead in _COMMON for lead in leads)
    hangul = sum(lead in _HANGUL for lead in leads)
    return bool(leads) and common * 2 > len(leads) and (hangul < len(leads) or len(leads) < 3)


def is_utf8(data: bytes, cut: bool = False) -> bool:
    """Whether bytes are UTF-8; `cut` allows the last character to be incomplete."""
    try:
        codecs.getincrementaldecoder("utf-8")().decode(data, final=not cut)
    except UnicodeDecodeError:
        return False
    return True


def folder_encoding(folder: Path) -> str:
    """The encoding in which captions of a folder that aren't Unicode are read: the user's choice, else what all of them together look like; empty when nothing is known.

    One caption is often too short to tell; a folder of them is not.
    """
    chosen = chosen_encoding(folder)
    if chosen != AUTOMATIC:
        return chosen
    try:
        return _detected(folder, folder.stat().st_mtime_ns)
    except OSError:
        return ""


@lru_cache(64)
def _detected(folder: Path, _changed: int) -> str:
    """What the captions of a folder look like, at this time of its last change. Raises OSError."""
    names = sorted(path for path in folder.iterdir() if path.suffix.lower() in CAPTION_SUFFIXES)
    return detect_together(_bytes_of(path) for path in names)


def detect_together(texts: Iterable[bytes]) -> str:
    """The encoding of several texts, of which those in Unicode don't count; empty when all are."""
    sample, count = bytearray(), 0
    for data in texts:
        if count >= _SAMPLE_FILES or len(sample) >= _SAMPLE_BYTES:
            break
        if not is_utf8(data, cut=True) and not data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) and b"\0" not in data:
            sample += data + b"\n"
            count += 1
    return detect_encoding(bytes(sample)) if sample else ""


def _bytes_of(path: Path) -> bytes:
    """The beginning of a file; nothing of one that can't be read."""
    try:
        with path.open("rb") as file:
            return file.read(2**14)
    except OSError:
        return b""


def chosen_encoding(folder: Path) -> str:
    """The user's choice for a folder, AUTOMATIC where none was made or it can't be read."""
    path = folder / HIDDEN / "project.db"
    if not path.is_file():
        return AUTOMATIC
    try:
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, timeout=5)) as db:
            row = db.execute("SELECT value FROM settings WHERE key = ?", (SETTINGS_KEY,)).fetchone()
        values = json.loads(row[0]) if row else {}
    except (sqlite3.Error, ValueError):
        return AUTOMATIC
    chosen = values.get("caption_encoding", AUTOMATIC) if isinstance(values, dict) else AUTOMATIC
    return next((encoding for encoding, label in ENCODINGS.items() if label == chosen), AUTOMATIC)


def legacy_encoding(folder: Path) -> str:
    """What the encoding is called in which a folder's captions that aren't Unicode are read; empty when all of them are."""
    try:
        found = _detected(folder, folder.stat().st_mtime_ns)
    except OSError:
        return ""
    return label_of_encoding(folder_encoding(folder)) if found else ""


Guess = Callable[[], str]
"""Gives the encoding of texts that aren't Unicode; asked only when one is met."""


def guess_for(folder: Path) -> Guess:
    """The guess for captions of a folder."""
    return lambda: folder_encoding(folder)
