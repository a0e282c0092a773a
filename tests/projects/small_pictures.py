"""Small real picture files for tests of data sets."""

import io
import unicodedata
import zipfile
from pathlib import Path

from PIL import Image

from studio.projects.importing import Imported
from studio.projects.project import Project

ROW_16 = [
    "猫咪.png",
    "猫.png",
    "狗.png",
    "😀👩\u200d👩\u200d👧.png",
    unicodedata.normalize("NFC", "café.png"),
    unicodedata.normalize("NFD", "café.png"),
    "trailing .png",
    "dot..png",
    "spaced.png ",
    "dotted.png.",
    "n" * 251 + ".png",
    "字" * 83 + ".png",
    "CON.png",
    "nul.jpg",
    "a\"b'.png",
    "-rf.png",
    "two\nlines.png",
    "A.png",
    "a.png",
    "a.JPG",
    "tab\there.png",
    "q?u*e<s>t|i:o.png",
    "back\\slash.png",
    "%2e%2e%2fup.png",
    "~.png",
    "$HOME.png",
    "mask-masklabel.jpg",
    "a.png.jpg",
]
"""File names that some system or some program cannot keep, or takes for another one of them."""


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


def zipped(path: Path, folder: Path) -> Path:
    """A zip of everything in a folder."""
    with zipfile.ZipFile(path, "w") as file:
        for entry in sorted(folder.rglob("*")):
            file.write(entry, entry.relative_to(folder).as_posix())
    return path


def said(folder: Path) -> dict[str, str]:
    """Captions by picture, as the data set reads them."""
    return {item.name: item.caption for item in Project(folder).items()}


def reasons(done: Imported) -> dict[str, str]:
    """Why files were not taken, by name."""
    return {refused.name: refused.reason for refused in done.skipped}
