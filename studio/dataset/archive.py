"""Unpacking a zip of pictures without trusting it: no path leaves the folder, and count and size are bounded."""

import zipfile
from pathlib import Path, PurePosixPath

from studio import shelves
from studio.errors import Unreadable

MOST_FILES = 10_000
MOST_BYTES = 4 * 2**30
_PIECE = 2**20


def unpack(file: Path, folder: Path) -> int:
    """Write the pictures and captions of a zip flat into a folder; returns how many. Raises Unreadable."""
    try:
        with zipfile.ZipFile(file) as archive:
            members = [m for m in archive.infolist() if _wanted(m)]
            if len(archive.infolist()) > MOST_FILES:
                raise Unreadable(f"{file.name} holds {len(archive.infolist())} files; at most {MOST_FILES} are taken.", "Split it.")
            left = MOST_BYTES
            for member in members:
                left -= _extract(archive, member, _free(folder, _name(member)), left)
            return len(members)
    except (zipfile.BadZipFile, RuntimeError, EOFError, OSError) as error:
        raise Unreadable(f"{file.name} is not a zip file that can be read ({str(error)[:100]}).", "Pack it again without a password, or drop the pictures themselves.") from error


def _wanted(member: zipfile.ZipInfo) -> bool:
    """Pictures and captions that are plain files and not a system's own clutter."""
    path = PurePosixPath(_name(member))
    link = member.external_attr >> 16 & 0o170000 == 0o120000
    return not member.is_dir() and not link and not path.name.startswith(".") and "__MACOSX" not in member.filename and path.suffix.lower() in {*shelves.IMAGE_SUFFIXES, ".txt"}


def _name(member: zipfile.ZipInfo) -> str:
    """The bare file name; names written in GBK by Chinese systems are read as such."""
    name = member.filename
    if not member.flag_bits & 0x800:
        try:
            name = name.encode("cp437").decode("gbk")
        except (UnicodeEncodeError, UnicodeDecodeError):
            name = member.filename
    return name.replace("\\", "/").rsplit("/", 1)[-1]


def _free(folder: Path, name: str) -> Path:
    """A path for a name that is not taken yet; a caption goes with the picture of its number."""
    path, number = folder / name, 1
    while path.exists():
        path = folder / f"{Path(name).stem}-{number}{Path(name).suffix}"
        number += 1
    return path


def _extract(archive: zipfile.ZipFile, member: zipfile.ZipInfo, path: Path, left: int) -> int:
    """Copy one member, counting what really comes out; raises Unreadable over the limit."""
    size = 0
    with archive.open(member) as source, path.open("wb") as target:
        while piece := source.read(_PIECE):
            size += len(piece)
            if size > left:
                raise Unreadable(f"{archive.filename} unpacks to more than {MOST_BYTES // 2**30} GB.", "Split it.")
            target.write(piece)
    return size
