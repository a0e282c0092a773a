"""Unpacking a zip of pictures without trusting it: no path leaves the folder, and count and size are bounded."""

import zipfile
import zlib
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
            for member, name in zip(members, _flat([_name(m) for m in members]), strict=True):
                left -= _extract(archive, member, folder / name, left)
            return len(members)
    except (zipfile.BadZipFile, zlib.error, RuntimeError, ValueError, EOFError, OSError) as error:
        raise Unreadable(f"{file.name} is not a zip file that can be read ({str(error)[:100]}).", "Pack it again without a password, or drop the pictures themselves.") from error


def _wanted(member: zipfile.ZipInfo) -> bool:
    """Pictures and captions that are plain files and not a system's own clutter."""
    path = PurePosixPath(_name(member))
    link = member.external_attr >> 16 & 0o170000 == 0o120000
    return not member.is_dir() and not link and not path.name.startswith(".") and "__MACOSX" not in member.filename and path.suffix.lower() in {*shelves.IMAGE_SUFFIXES, ".txt"}


def _name(member: zipfile.ZipInfo) -> str:
    """The name with plain slashes and no drive; names written in GBK by Chinese systems are read as such."""
    name = member.filename
    if not member.flag_bits & 0x800:
        try:
            name = name.encode("cp437").decode("gbk")
        except (UnicodeEncodeError, UnicodeDecodeError):
            name = member.filename
    return name.replace("\\", "/").replace(":", "_")


def _flat(names: list[str]) -> list[str]:
    """Bare names that do not collide; files of one stem in one folder keep one stem, so that a caption stays with its picture."""
    stems: dict[str, str] = {}
    taken: set[str] = set()
    for path in map(PurePosixPath, names):
        stem, number = path.stem, 1
        while str(path.with_suffix("")) not in stems and stem.lower() in taken:
            stem, number = f"{path.stem}-{number}", number + 1
        stems.setdefault(str(path.with_suffix("")), stem)
        taken.add(stem.lower())
    return [f"{stems[str(path.with_suffix(''))]}{path.suffix}" for path in map(PurePosixPath, names)]


def _extract(archive: zipfile.ZipFile, member: zipfile.ZipInfo, path: Path, left: int) -> int:
    """Copy one member, counting what really comes out; raises Unreadable over the limit."""
    size = 0
    with archive.open(member) as source, path.open("wb") as target:
        while piece := source.read(_PIECE):
            size += len(piece)
            if size > left:
                raise Unreadable(f"{Path(str(archive.filename)).name} unpacks to more than {MOST_BYTES // 2**30} GB.", "Split it.")
            target.write(piece)
    return size
