"""Text in PNG files by their chunks (PNG specification, 5.3 and 11.3.4.5), without decoding the picture."""

import struct
import zlib
from collections.abc import Iterator

from studio.errors import Unreadable

SIGNATURE = b"\x89PNG\r\n\x1a\n"
MOST_TEXT = 4 * 2**20
"""Bytes a packed text may unpack to."""


def chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Kind and content of each chunk; raises Unreadable for what is no whole PNG."""
    if not data.startswith(SIGNATURE):
        raise Unreadable("This is no PNG file.", "Only the original file carries the recipe.")
    at = len(SIGNATURE)
    while at < len(data):
        if at + 12 > len(data):
            raise Unreadable("The PNG file is cut off.", "Download it again.")
        size, kind = struct.unpack_from(">I4s", data, at)
        content = data[at + 8 : at + 8 + size]
        if len(content) < size or data[at + 8 + size : at + 12 + size] != struct.pack(">I", zlib.crc32(kind + content)):
            raise Unreadable("The PNG file is damaged.", "Download it again.")
        yield kind, content
        if kind == b"IEND":
            return
        at += 12 + size
    raise Unreadable("The PNG file is cut off.", "Download it again.")


def with_text(data: bytes, keyword: str, text: str) -> bytes:
    """The same picture with a text in it, packed; a text of this keyword that was there is replaced. Raises Unreadable."""
    made = keyword.encode("latin-1") + b"\0\1\0\0\0" + zlib.compress(text.encode("utf-8"))
    kept = [(kind, content) for kind, content in chunks(data) if not (kind == b"iTXt" and content.startswith(keyword.encode("latin-1") + b"\0"))]
    place = next((at for at, (kind, _) in enumerate(kept) if kind == b"IDAT"), len(kept) - 1)
    return SIGNATURE + b"".join(_packed(kind, content) for kind, content in [*kept[:place], (b"iTXt", made), *kept[place:]])


def text_of(data: bytes, keyword: str) -> str | None:
    """The text of this keyword; None when there is none. Raises Unreadable for a damaged file, or a text that unpacks to too much."""
    for kind, content in chunks(data):
        if kind == b"iTXt" and content.startswith(keyword.encode("latin-1") + b"\0"):
            return _unpacked(content[len(keyword) + 1 :])
    return None


def _packed(kind: bytes, content: bytes) -> bytes:
    """A chunk with its length and checksum."""
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def _unpacked(rest: bytes) -> str:
    """The text of an iTXt chunk after its keyword: flag, method, language, translated keyword, text."""
    parts = rest[2:].split(b"\0", 2)
    if len(rest) < 2 or len(parts) < 3:
        raise Unreadable("The text in the PNG file is damaged.", "Download it again.")
    text = parts[2]
    try:
        if rest[0]:
            unpacker = zlib.decompressobj()
            text = unpacker.decompress(text, MOST_TEXT)
            if unpacker.unconsumed_tail:
                raise Unreadable(f"The text in the PNG file unpacks to more than {MOST_TEXT // 2**20} MB.")
        return text.decode("utf-8")
    except (zlib.error, UnicodeDecodeError) as error:
        raise Unreadable("The text in the PNG file is damaged.", "Download it again.") from error
