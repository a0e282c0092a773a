"""What lies in a source of pictures: dropped files, a folder, a zip, a tree of kohya's or its TOML, as one flat list; nothing is written."""

import os
import posixpath
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

from studio.errors import InputError, StudioError, Unreadable
from studio.projects import kohya
from studio.projects.archive import Archive, Member, Refused
from studio.projects.captions import METADATA_NAMES
from studio.projects.kohya import Subset
from studio.projects.names import Names
from studio.shelves import IMAGE_SUFFIXES, MASK_SUFFIX

MOST_FILES = 200_000
"""A source with more files is taken for a mistake, such as a whole disk."""
_PIECE = 2**20
_ROOT = PurePosixPath(".")


@dataclass(frozen=True)
class Entry:
    """One file of a source. `path` is how it is called there, `pieces` gives its bytes and raises Unreadable."""

    path: PurePosixPath
    pieces: Callable[[], Iterator[bytes]]
    file: Path | None = None
    """None for a file in a zip."""
    size: int = 0
    """Bytes, of a file in a zip."""
    subset: Subset | None = None

    @property
    def name(self) -> str:
        """Its bare name without the spaces and dots at the end that Windows drops."""
        return self.path.name.rstrip(" .")

    @property
    def picture(self) -> bool:
        """Whether its name is a picture's."""
        return is_picture(self.path.name)

    def status(self) -> tuple[int, float | None]:
        """Bytes, and the time of the last change in seconds since 1970 where it is known; raises Unreadable."""
        if self.file is None:
            return self.size, None
        try:
            status = self.file.stat()
        except OSError as error:
            raise Unreadable(f"{self.path.name} cannot be read ({error.strerror}).") from error
        return status.st_size, status.st_mtime

    def bytes(self, most: int) -> bytes:
        """All of a small file; raises Unreadable when it has more than `most` bytes."""
        data = bytearray()
        for piece in self.pieces():
            data += piece
            if len(data) > most:
                raise Unreadable(f"{self.path.name} has more than {most} bytes.", "It was not taken.")
        return bytes(data)


@dataclass
class Gathered:
    """What was found, what was refused already, and how the source was understood."""

    entries: list[Entry] = field(default_factory=list)
    refused: list[Refused] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


RENAMED = {".jfif": ".jpg", ".jif": ".jpg", ".jpe": ".jpg", ".apng": ".png", ".dib": ".bmp"}
"""Other suffixes of pictures, and what they become."""

METADATA = frozenset(METADATA_NAMES)


def is_picture(name: str) -> bool:
    """Whether a file is called like a picture."""
    return PurePosixPath(name.rstrip(" .")).suffix.lower() in IMAGE_SUFFIXES | RENAMED.keys()


def gather(source: Path | Sequence[Path], recursive: bool, avoid: Path, stack: ExitStack) -> Gathered:
    """All files of a source; zips stay open as long as `stack`. `avoid` is the data set itself. A .toml in a list (dropped files) may name only what lies beside it. Raises InputError, Unreadable."""
    if isinstance(source, Path):
        return _one(source, recursive, avoid, stack)
    found, labels = Gathered(), _labels(source)
    for path in source:
        try:
            part = _toml(path, confined=True) if _is_toml(path) else _one(path, recursive, avoid, stack)
        except StudioError as error:
            found.refused.append(Refused(path.name, str(error)))
            continue
        single = len(part.entries) == 1 and part.entries[0].file == path
        place = labels[path.parent] if single else PurePosixPath(path.name if path.is_dir() else path.stem)
        found.entries += [replace(entry, path=place / entry.path) for entry in part.entries]
        found.refused += part.refused
        found.notes += part.notes
    return found


def _labels(files: Sequence[Path]) -> dict[Path, PurePosixPath]:
    """Where dropped files count as lying: all in one place, unless two have one name; then in places for their folders."""
    if len({path.name for path in files}) == len(set(files)):
        return {path.parent: _ROOT for path in files}
    names = Names()
    return {folder: PurePosixPath(names.give(folder.name)) for folder in dict.fromkeys(path.parent for path in files)}


def _one(source: Path, recursive: bool, avoid: Path, stack: ExitStack) -> Gathered:
    """The files of one source; raises InputError, Unreadable."""
    if source.is_dir():
        return _folder(source, recursive, avoid)
    if not source.is_file():
        raise InputError(f"{str(source)!r} is neither a file nor a folder.", "Choose a folder of pictures, a .zip, or a .toml of kohya's.")
    if source.suffix.lower() == ".zip":
        return _zip(stack.enter_context(Archive(source)))
    if _is_toml(source):
        return _toml(source)
    return Gathered([_entry(source, PurePosixPath(source.name))])


def _is_toml(file: Path) -> bool:
    """Whether a file is called like a configuration of kohya's."""
    return file.suffix.lower() == ".toml" and file.is_file()


def _entry(file: Path, path: PurePosixPath, subset: Subset | None = None) -> Entry:
    """An entry for a file on disk."""
    return Entry(path, lambda: _pieces(file), file, subset=subset)


def _pieces(file: Path) -> Iterator[bytes]:
    """The bytes of a file; raises Unreadable."""
    try:
        with file.open("rb") as source:
            while piece := source.read(_PIECE):
                yield piece
    except OSError as error:
        raise Unreadable(f"{file.name} cannot be read ({error.strerror}).") from error


Listing = dict[PurePosixPath, list[str]]
"""File names by folder, relative to where the listing starts."""


def list_folder(root: Path, deeper: Callable[[PurePosixPath], bool], refused: list[Refused], avoid: Path | None = None) -> Listing:
    """Names of the files in a folder and in those below it that `deeper` says yes to; hidden ones and links to folders are left out. Asks nothing about single files. Raises InputError."""
    found: Listing = {}
    count, waiting = 0, [_ROOT]
    while waiting:
        here = waiting.pop()
        files = found.setdefault(here, [])
        try:
            with os.scandir(root / here) as entries:
                for entry in entries:
                    if entry.name.startswith("."):
                        continue
                    if entry.is_dir(follow_symlinks=False):
                        below = here / entry.name
                        waiting += [below] if deeper(below) and (avoid is None or Path(entry.path).resolve() != avoid) else []
                    elif entry.is_file():
                        files.append(entry.name)
                        count += 1
        except OSError as error:
            if here == _ROOT:
                raise InputError(f"{str(root)!r} cannot be read ({error.strerror}).", "Choose a folder that you may read.") from error
            refused.append(Refused(str(here), f"The folder {str(here)!r} cannot be read ({error.strerror})."))
        if count > MOST_FILES:
            raise InputError(f"{str(root)!r} holds more than {MOST_FILES} files.", "Choose a smaller folder.")
    return {here: sorted(files) for here, files in sorted(found.items())}


def _folder(root: Path, recursive: bool, avoid: Path) -> Gathered:
    """A tree of kohya's, or an ordinary folder; raises InputError."""
    if root.resolve() == avoid:
        raise InputError("The source is the data set itself.", "Choose another folder.")
    refused: list[Refused] = []
    listing = list_folder(root, lambda path: len(path.parts) <= 3 and kohya.may_hold_subsets(path.name), refused, avoid)
    subsets = [] if any(map(is_picture, listing[_ROOT])) else kohya.read_tree(_with_pictures(listing))
    if subsets:
        found = _subsets(subsets, listing, lambda path, subset: _entry(root / path, path, subset))
    else:
        refused.clear()
        listing = list_folder(root, lambda _: True, refused, avoid) if recursive else {_ROOT: listing[_ROOT]}
        found = Gathered([_entry(root / here / name, here / name) for here, names in listing.items() for name in names])
    found.refused += refused
    return found


def _with_pictures(listing: Listing) -> list[PurePosixPath]:
    """Folders that hold pictures."""
    return [here for here, names in listing.items() if any(map(is_picture, names))]


def _subsets(subsets: Sequence[Subset], listing: Listing, make: Callable[[PurePosixPath, Subset | None], Entry]) -> Gathered:
    """The files of some subsets, their masks, and what describes them."""
    found = Gathered(notes=[_note(subsets)])
    above: dict[PurePosixPath, None] = {}
    for subset in subsets:
        folder, masks = PurePosixPath(subset.folder), PurePosixPath(kohya.masks_of(subset))
        found.entries += [make(folder / name, subset) for name in listing[folder]]
        if subset.metadata:
            found.entries.append(replace(make(PurePosixPath(subset.metadata), subset), path=folder / PurePosixPath(subset.metadata).name))
        found.entries += [replace(make(masks / name, subset), path=folder / f"{PurePosixPath(name).stem}{MASK_SUFFIX}") for name in listing.get(masks, []) if name.lower().endswith(".png")]
        above.update(dict.fromkeys(folder.parents))
    found.entries += [make(here / name, None) for here in above for name in listing.get(here, []) if name.lower() in METADATA]
    return found


def _note(subsets: Sequence[Subset]) -> str:
    """What was understood."""
    names = [PurePosixPath(subset.folder.replace("\\", "/")).name for subset in subsets]
    parts = [f"{name} ({subset.repeats}x{', regularisation' if subset.is_reg else ''})" for name, subset in zip(names, subsets, strict=True)]
    return f"Read as a data set of kohya's: {', '.join(parts[:12])}{', ...' if len(parts) > 12 else ''}."


def _zip(archive: Archive) -> Gathered:
    """All files of a zip, read as a TOML or a tree of kohya's when it is one."""
    members = {member.path: member for member in archive.members}
    listing: Listing = {}
    for path in sorted(members):
        listing.setdefault(path.parent, []).append(path.name)

    def make(path: PurePosixPath, subset: Subset | None) -> Entry:
        member: Member = members[path]
        return Entry(path, lambda: archive.pieces(member), None, member.size, subset)

    subsets, refused = _described(listing, lambda path: make(path, None))
    subsets = subsets or kohya.read_tree(_with_pictures(listing))
    if not subsets:
        return Gathered([make(path, None) for path in sorted(members)], [*archive.refused, *refused])
    found = _subsets(subsets, listing, make)
    inside = {place for subset in subsets for place in (PurePosixPath(subset.folder), PurePosixPath(kohya.masks_of(subset)))}
    outside = [Refused(path.name, f"{path} lies outside the folders of the training, and was left out.") for path in sorted(members) if path.parent not in inside and is_picture(path.name)]
    found.refused = [*archive.refused, *refused, *outside]
    return found


def _described(listing: Listing, make: Callable[[PurePosixPath], Entry]) -> tuple[list[Subset], list[Refused]]:
    """Subsets that a TOML in a zip names and that are in the zip too."""
    refused = []
    for path in [here / name for here, names in listing.items() for name in names if name.lower().endswith(".toml")]:
        try:
            subsets = kohya.read_toml(make(path).bytes(2**20), path.name)
        except StudioError as error:
            refused.append(Refused(path.name, str(error)))
            continue
        known = [replace(subset, folder=str(place)) for subset in subsets if (place := _within(subset.folder, path.parent, listing)) is not None]
        if known:
            return [replace(subset, metadata=_inside(subset.metadata, path.parent, listing)) for subset in _once(known)], refused
    return [], refused


def _once(subsets: Sequence[Subset]) -> list[Subset]:
    """Each folder once, as it is named first."""
    found: dict[str, Subset] = {}
    for subset in subsets:
        found.setdefault(subset.folder, subset)
    return list(found.values())


def _inside(file: str, base: PurePosixPath, listing: Listing) -> str:
    """A file of a zip that a TOML means; empty when it is not there."""
    name = PurePosixPath(file.replace("\\", "/"))
    places = [place for place in (_within(str(name.parent), base, listing), base) if place is not None]
    return next((str(place / name.name) for place in places if name.name in listing.get(place, [])), "")


def _within(folder: str, base: PurePosixPath, listing: Listing) -> PurePosixPath | None:
    """A folder of a zip that a TOML means, whose own path may be that of another machine: the longest end of it that is there."""
    for end in _ends(folder):
        for start in (base, _ROOT):
            place = PurePosixPath(posixpath.normpath(start / end))
            if place in listing:
                return place
    return None


def _ends(folder: str) -> Iterator[str]:
    """`a/b/c`, then `b/c`, then `c`."""
    parts = [part for part in folder.replace("\\", "/").split("/") if part and not part.endswith(":")]
    return ("/".join(parts[start:]) for start in range(len(parts)))


def _toml(file: Path, confined: bool = False) -> Gathered:
    """The folders that a TOML names: as they are, or beside it; when `confined`, only those beside it. Raises InputError."""
    found = Gathered()
    subsets = _once(kohya.read_toml(_entry(file, PurePosixPath(file.name)).bytes(2**20), file.name))
    hint = " A .toml that names folders elsewhere has to be imported by its path." if confined else ""
    for subset in subsets:
        folder = _beside(subset.folder, file.parent, Path.is_dir, confined)
        if folder is None:
            found.refused.append(Refused(subset.folder, f"The folder {subset.folder!r} that {file.name} names is not {'among the dropped files' if confined else 'there'}.{hint}"))
            continue
        place = PurePosixPath(folder.name)
        found.entries += [_entry(folder / name, place / name, subset) for name in list_folder(folder, lambda _: False, found.refused)[_ROOT]]
        metadata = _beside(subset.metadata, file.parent, Path.is_file, confined) if subset.metadata else None
        found.entries += [_entry(metadata, place / metadata.name, subset)] if metadata else []
    if not found.entries:
        raise InputError(
            f"None of the folders that {file.name} names holds a file.",
            "Its image_dir paths have to lie beside it." + hint if confined else "Its image_dir paths have to exist on this machine, or lie beside it.",
        )
    found.notes.append(_note(subsets))
    return found


def _beside(path: str, base: Path, there: Callable[[Path], bool], confined: bool) -> Path | None:
    """A folder or file of this machine that a TOML means: its own path, or the end of it beside the TOML; when `confined`, nothing that lies outside the folder of the TOML."""
    own = [Path(path)] if Path(path).is_absolute() and not confined else []
    places = [*own, base / path.replace("\\", "/"), *(base / end for end in _ends(path))]
    return next((place for place in places if (not confined or _is_inside(place, base)) and there(place)), None)


def _is_inside(place: Path, base: Path) -> bool:
    """Whether a path, links in it followed, lies in a folder."""
    try:
        return place.resolve().is_relative_to(base.resolve())
    except (OSError, RuntimeError, ValueError):
        return False
