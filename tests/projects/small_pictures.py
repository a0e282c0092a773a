"""Small real picture files for tests of data sets."""

import io
from pathlib import Path

from PIL import Image


def encoded(shade: int = 0, kind: str = "PNG", side: int = 20) -> bytes:
    """The bytes of a small picture, different for each shade (0 to 16,777,215)."""
    buffer = io.BytesIO()
    Image.new("RGB", (side, side), (shade & 255, shade >> 8 & 255, shade >> 16 & 255)).save(buffer, kind)
    return buffer.getvalue()


def masked(shade: int = 255) -> bytes:
    """The bytes of a mask."""
    buffer = io.BytesIO()
    Image.new("L", (20, 20), shade).save(buffer, "PNG")
    return buffer.getvalue()


def lay(folder: Path, files: dict[str, bytes | str]) -> Path:
    """Write files, in folders where their names say so; returns the folder."""
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data.encode() if isinstance(data, str) else data)
    return folder


def read(folder: Path) -> dict[str, bytes]:
    """Every file below a folder that is not hidden, by its relative path."""
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file() and not any(part.startswith(".") for part in p.relative_to(folder).parts)}
