"""A quick look into files, without torch or Pillow: whether a picture carries an embedding, whether a file is the second half of one."""

import json
import struct
import zlib
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO

CHUNK = b"sd-ti-embedding"
_PNG = b"\x89PNG\r\n\x1a\n"
_SECOND = 1280
"""Width of what SDXL's second text encoder reads."""


def carries_embedding(path: Path) -> bool:
    """Whether a PNG carries an embedding: in a text chunk, or in its pixels, whose first row tells. False for what cannot be read."""
    try:
        status = path.stat()
        return _carries(path, status.st_mtime_ns, status.st_size)
    except (OSError, struct.error, zlib.error):
        return False


def is_second_half(path: Path) -> bool:
    """Whether `x_2.safetensors` lies beside `x.safetensors` and holds one tensor as wide as SDXL's second text encoder: diffusers keeps an embedding so."""
    if not path.stem.endswith("_2") or path.suffix.lower() != ".safetensors" or not path.with_name(f"{path.stem.removesuffix('_2')}{path.suffix}").is_file():
        return False
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            header = json.loads(file.read(length)) if length < 2**16 else {}
        shapes = [entry["shape"] for key, entry in header.items() if key != "__metadata__"]
    except (OSError, struct.error, ValueError, KeyError, TypeError, AttributeError):
        return False
    return len(shapes) == 1 and bool(shapes[0]) and shapes[0][-1] == _SECOND


@lru_cache(4096)
def _carries(path: Path, changed: int, size: int) -> bool:
    """Whether a PNG of this time and size carries an embedding; raises what reading a damaged file raises."""
    with path.open("rb") as file:
        if file.read(8) != _PNG:
            return False
        unpack, head, row = zlib.decompressobj(), b"", b""
        for kind, length in _chunks(file):
            if kind in (b"tEXt", b"iTXt", b"zTXt") and file.read(min(length, len(CHUNK) + 1)) == CHUNK + b"\0":
                return True
            if kind == b"IHDR":
                head = file.read(13)
            elif kind == b"IDAT":
                wanted = _row_length(head)
                if len(row) < wanted:
                    row += unpack.decompress(file.read(length), wanted - len(row))
                if len(row) >= wanted:  # a chunk of text may still follow the pixels, but A1111's stands before them
                    step = 3 if head[9] == 2 else 4
                    return wanted > 0 and _is_marked(_unfiltered(row[:wanted], step), step)
    return False


def _chunks(file: BinaryIO) -> Iterator[tuple[bytes, int]]:
    """Kind and length of each chunk of a PNG; the file stands at its content."""
    place = 8
    while True:
        file.seek(place)
        start = file.read(8)
        if len(start) < 8:
            return
        length, kind = struct.unpack(">I4s", start)
        yield kind, length
        place += length + 12


def _row_length(head: bytes) -> int:
    """Bytes of one row with its filter: of 8-bit RGB or RGBA that is not interlaced, else 0."""
    width, _, depth, colours, _, _, interlaced = struct.unpack(">IIBBBBB", head)
    return 0 if depth != 8 or colours not in (2, 6) or interlaced or width > 2**16 else 1 + width * (3 if colours == 2 else 4)


def _unfiltered(row: bytes, step: int) -> bytes:
    """The pixels of a first row, `step` bytes each: what lies above counts as black, so filters 1 and 4 add the pixel to the left, 3 half of it."""
    kind, values = row[0], bytearray(row[1:])
    if kind in (1, 3, 4):
        for i in range(step, len(values)):
            values[i] = (values[i] + (values[i - step] // 2 if kind == 3 else values[i - step])) & 255
    return bytes(values)


def _is_marked(row: bytes, step: int) -> bool:
    """Whether the two blocks that A1111 sets beside a picture begin in this row as they must: with the halves of a zlib stream's first bytes, 78 DA, mixed with the pattern."""
    first = 1013904223
    second = (1664525 * first + 1013904223) % 2**32
    pad = [first % 255 & 15, second % 255 & 15]
    halves = [[value & 15 ^ mask for value, mask in zip(row[place : place + 2], pad, strict=False)] for place in range(0, len(row), step)]
    if halves[:1] != [[0x8, 0xA]]:
        return False
    count = len(halves)
    black = {i for i in range(count) if not any(row[i * step : i * step + 3])}
    return any(count - 1 - i in black and halves[count - i] == [0x7, 0xD] for i in black if 0 < i < count // 2)
