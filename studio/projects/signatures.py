"""What a file is by its first bytes, so that a text named .png is told at the door without any picture library."""

import codecs
import struct

HEAD = 4096
"""Bytes that are looked at."""
_STARTS: tuple[tuple[bytes, str], ...] = (
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"\xff\xd8\xff", "JPEG"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"II+\0", "TIFF"),
    (b"MM\0+", "TIFF"),
)
_OTHERS: tuple[tuple[bytes, str], ...] = (
    (b"%PDF-", "a PDF"),
    (b"PK\3\4", "a zip archive"),
    (b"PK\5\6", "a zip archive"),
    (b"Rar!\x1a\x07", "a RAR archive"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"8BPS", "a Photoshop file"),
    (b"MZ", "a program"),
    (b"\x7fELF", "a program"),
    (b"\x1aE\xdf\xa3", "a video"),
    (b"SQLite format 3\0", "a database"),
)
_BITMAP_HEADERS = {12, 16, 40, 52, 56, 64, 108, 124}
"""Lengths of the header that follows the 14 bytes of a BMP."""


def picture_kind(head: bytes) -> str:
    """The kind of picture that starts with these bytes, such as "PNG"; empty when it is none that is read here."""
    for start, kind in _STARTS:
        if head.startswith(start):
            return kind
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WebP"
    if head[:2] == b"BM" and len(head) >= 18 and struct.unpack_from("<I", head, 14)[0] in _BITMAP_HEADERS:
        return "BMP"
    return "AVIF" if _brands(head) & {b"avif", b"avis"} else ""


def looks_like(head: bytes) -> str:
    """What a file that is no picture seems to be, in words: "a web page (HTML)", "text", "empty"."""
    if not head:
        return "empty"
    for start, words in _OTHERS:
        if head.startswith(start):
            return words
    if brands := _brands(head):
        return "a HEIC photo, which has to be saved as JPEG or PNG first" if brands & {b"heic", b"heix", b"mif1", b"heim"} else "a video"
    text = _text(head)
    if text is None:
        return "nothing but zeros" if not head.strip(b"\0") else "data of no known kind"
    start = text.lstrip("\ufeff \t\r\n").lower()
    if start.startswith("<svg") or (start.startswith("<?xml") and "<svg" in start):
        return "an SVG drawing, which has to be saved as PNG first"
    return "a web page (HTML)" if start.startswith(("<!doctype html", "<html", "<head", "<body")) else "text"


def _brands(head: bytes) -> set[bytes]:
    """What an ISO media file says it is compatible with; empty for other files (ISO/IEC 14496-12, 4.3)."""
    if len(head) < 16 or head[4:8] != b"ftyp":
        return set()
    end = min(int.from_bytes(head[:4], "big"), len(head))
    return {head[8:12], *(head[place : place + 4] for place in range(16, end - 3, 4))}


def _text(head: bytes) -> str | None:
    """The bytes as text; None when they are none."""
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        return head.decode("utf-16", errors="replace")
    if b"\0" in head:
        return None
    whole = len(head) < HEAD  # else the last character may be cut
    for encoding in ("utf-8", "gb18030"):
        try:
            text = codecs.getincrementaldecoder(encoding)().decode(head, final=whole)
        except UnicodeDecodeError:
            continue
        if not any(letter < " " and letter not in "\t\r\n\f" for letter in text):
            return text
    return None
