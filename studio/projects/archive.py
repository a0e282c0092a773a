"""A zip of pictures without trusting it: names that point elsewhere are refused one by one, count and size are bounded before and while it is read."""

import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import BinaryIO

from studio import shelves
from studio.errors import Unreadable
from studio.projects.names import clean, key, stem_of

MOST_FILES = 50_000
"""Entries of a zip; more are refused before its directory is taken into memory."""
MOST_BYTES = 4 * 2**30
"""What any zip may unpack to; a larger one may be ten times its own size, as photographs hardly shrink and bombs do."""
_HONEST = 10
_PIECE = 2**20
_PACKED = frozenset({".zip", ".rar", ".7z", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".zst"})
_CLUTTER = frozenset({"thumbs.db", "desktop.ini"})
_UNIX = (3, 19)
"""Systems (APPNOTE 4.4.2) whose programs write names as UTF-8 also where they do not say so."""


@dataclass(frozen=True)
class Refused:
    """A file that was not taken by its bare name, and a sentence that says why."""

    name: str
    reason: str


@dataclass(frozen=True)
class Member:
    """A plain file in a zip whose path stays inside; `size` is what the zip says, in bytes."""

    path: PurePosixPath
    size: int
    info: zipfile.ZipInfo


@dataclass(frozen=True)
class Unpacked:
    """How many files came out of a zip, and which did not."""

    count: int
    refused: tuple[Refused, ...] = ()


class Archive:
    """An open zip: `members` can be read, `refused` says what cannot and why. Raises Unreadable for a file that is no sound zip, or too large."""

    def __init__(self, file: Path) -> None:
        self.name = file.name
        try:
            with file.open("rb") as raw:
                count = _entries(raw)
            if count > MOST_FILES:
                raise Unreadable(f"{file.name} holds {count} files; at most {MOST_FILES} are taken.", "Split it.")
            self._zip = zipfile.ZipFile(file)
        except (zipfile.BadZipFile, RuntimeError, ValueError, OSError, struct.error) as error:
            raise Unreadable(f"{file.name} is not a zip file that can be read ({str(error)[:100]}).", "Pack it again, or drop the pictures themselves.") from error
        self._left = max(MOST_BYTES, _HONEST * file.stat().st_size)
        self.members, self.refused = _sorted_out(self._zip.infolist())
        try:
            self._bound(sum(member.size for member in self.members))
            self._locked()
        except Unreadable:
            self._zip.close()
            raise

    def __enter__(self) -> "Archive":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._zip.close()

    def pieces(self, member: Member) -> Iterator[bytes]:
        """The bytes of a member, as they come out; raises Unreadable when they are damaged, or when all that came out is too much."""
        try:
            with self._zip.open(member.info) as source:
                while piece := source.read(_PIECE):
                    self._left -= len(piece)
                    self._bound(0)
                    yield piece
        except (zipfile.BadZipFile, zlib.error, RuntimeError, ValueError, EOFError, OSError) as error:
            raise Unreadable(f"{member.path.name} in {self.name} is damaged ({str(error)[:100]}).", "Pack it again, or drop the pictures themselves.") from error

    def _bound(self, more: int) -> None:
        """Refuse what unpacks to more than is left."""
        if more > self._left:
            raise Unreadable(f"{self.name} unpacks to more than {max(self._left, MOST_BYTES) / 2**30:.3g} GB.", "Split it.")

    def _locked(self) -> None:
        """Refuse a zip of which nothing can be read without its password."""
        locked = [refused for refused in self.refused if "password" in refused.reason]
        if locked and not self.members:
            raise Unreadable(f"{self.name} is locked with a password.", "Pack it again without a password, or drop the pictures themselves.")


def unpack(file: Path, folder: Path) -> int:
    """Write the pictures and captions of a zip flat into a folder; returns how many. Raises Unreadable."""
    return unpack_told(file, folder).count


def unpack_told(file: Path, folder: Path) -> Unpacked:
    """Like `unpack`, and says what was refused and why. Files of one stem in one folder keep one stem, so that a caption stays with its picture."""
    with Archive(file) as archive:
        wanted = [member for member in archive.members if member.path.suffix.lower() in {*shelves.IMAGE_SUFFIXES, ".txt"}]
        others = tuple(Refused(m.path.name, f"{m.path.name} is neither a picture nor a caption.") for m in archive.members if m not in wanted)
        for member, name in zip(wanted, _flat([member.path for member in wanted]), strict=True):
            _write(archive.pieces(member), folder / name)
        return Unpacked(len(wanted), (*archive.refused, *others))


def _write(pieces: Iterator[bytes], path: Path) -> None:
    """Write one file."""
    try:
        with path.open("xb") as target:
            target.writelines(pieces)
    except OSError as error:
        raise Unreadable(f"{path.name} could not be unpacked ({error.strerror}).", "Is the disk full?") from error


def _flat(paths: Sequence[PurePosixPath]) -> list[str]:
    """Bare names that do not collide; a picture, its caption and its mask keep one stem."""
    stems: dict[tuple[PurePosixPath, str], str] = {}
    taken: set[str] = set()
    found = []
    for path in paths:
        old = stem_of(path.name)
        if path.suffix.lower() == ".txt" and PurePosixPath(old).suffix.lower() in shelves.IMAGE_SUFFIXES:
            old = stem_of(old)
        if (path.parent, old) not in stems:
            stem, number = clean(f"{old}.png")[0], 2
            new = stem
            while key(new) in taken:
                new, number = f"{clean(f'{old}.png', room=8)[0]}-{number}", number + 1
            taken.add(key(new))
            stems[path.parent, old] = new
        found.append(stems[path.parent, old] + path.name[len(old) :])
    return found


def _sorted_out(infos: Sequence[zipfile.ZipInfo]) -> tuple[list[Member], list[Refused]]:
    """What can be read, and what is refused; a system's own clutter is passed over in silence."""
    members, refused, seen = [], [], set()
    for info in infos:
        name = _name(info)
        path = PurePosixPath(name)
        if info.is_dir() or stat.S_ISDIR(info.external_attr >> 16) or not path.name or _is_clutter(path):
            continue
        reason = _reason(info, name) or ("another file of the zip has the same name, but for its case" if key(str(path)) in seen else "")
        if reason:
            refused.append(Refused(path.name, f"{path.name} was left out: {reason}."))
        else:
            seen.add(key(str(path)))
            members.append(Member(path, info.file_size, info))
    return members, refused


def _is_clutter(path: PurePosixPath) -> bool:
    """Files that systems put into zips by themselves, and what is hidden."""
    return path.name.lower() in _CLUTTER or any(part == "__MACOSX" or (part.startswith(".") and part != "..") for part in path.parts)


def _reason(info: zipfile.ZipInfo, name: str) -> str:
    """Why an entry is not taken; empty when it is."""
    kind = stat.S_IFMT(info.external_attr >> 16)
    if name.startswith("/") or name[1:2] == ":" or ".." in name.split("/"):
        return "its name points outside the folder"
    if kind not in (0, stat.S_IFREG):
        return "it is a link" if kind == stat.S_IFLNK else "it is a device, not a file"
    if info.flag_bits & 1:
        return "it is locked with a password"
    if PurePosixPath(name).suffix.lower() in _PACKED:
        return "archives in an archive are not opened; unpack it and import what is inside"
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return "it is packed by a method that is not read here; pack it as an ordinary zip"
    return ""


def _name(info: zipfile.ZipInfo) -> str:
    """The path with plain slashes; names in GBK, as Chinese systems write them, or in UTF-8 without saying so, are read as such."""
    name = info.filename
    if not info.flag_bits & 0x800 and not name.isascii():
        raw = name.encode("cp437", errors="replace")
        for encoding in ("utf-8", "gbk"):
            try:
                found = raw.decode(encoding)
            except UnicodeDecodeError:
                continue
            # Two bytes of GBK may also be one letter of two bytes in UTF-8; three hardly ever are.
            if encoding == "gbk" or info.create_system in _UNIX or any(letter > "\u07ff" for letter in found):
                name = found
                break
    return name.replace("\\", "/")


def _entries(file: BinaryIO) -> int:
    """How many entries the directory of a zip has, by its own count or by what is there, whichever is more; 0 when there is no directory. Stops counting past the limit."""
    size = file.seek(0, 2)
    start = max(0, size - 22 - 65_535)
    file.seek(start)
    tail = file.read()
    plain = tail[-22:-18] == b"PK\5\6" and tail[-2:] == b"\0\0"
    place = len(tail) - 22 if plain else tail.rfind(b"PK\5\6")  # as zipfile finds it, so that both see one directory
    if place < 0 or len(tail) < place + 22:
        return 0
    declared, length, _ = struct.unpack_from("<HII", tail, place + 10)
    end = start + place
    if place >= 20 and tail[place - 20 : place - 16] == b"PK\6\7":
        file.seek(max(0, end - 76))
        record = file.read(56)
        if record[:4] == b"PK\6\6":
            declared, length = struct.unpack_from("<QQ", record, 32)
            end -= 76
    return max(declared, _headers(file, end - length, end)) if length <= end else declared


def _headers(file: BinaryIO, place: int, end: int) -> int:
    """Headers of a directory between two places of a file; at most one more than the limit."""
    count = 0
    file.seek(place)
    while place < end and count <= MOST_FILES:
        head = file.read(46)
        if len(head) < 46 or head[:4] != b"PK\1\2":
            break
        more = sum(struct.unpack_from("<HHH", head, 28))
        place = file.seek(more, 1)
        count += 1
    return count
