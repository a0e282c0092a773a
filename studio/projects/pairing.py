"""Which caption and which mask belong to which picture of a source, by their names."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from studio.errors import StudioError
from studio.projects import kohya
from studio.projects.archive import Refused
from studio.projects.kohya import Subset
from studio.projects.names import key, stem_of
from studio.projects.sources import METADATA, Entry
from studio.projects.text_encodings import CAPTION_SUFFIXES
from studio.shelves import MASK_SUFFIX

MOST_METADATA = 256 * 2**20
_DESCRIPTIONS = frozenset({".toml", ".json", ".jsonl", ".csv", ".npz", ".md", ".log"})
"""What lies in data sets beside pictures and is passed over in silence."""
Place = tuple[PurePosixPath, Subset | None]
"""Files of one place belong together."""


@dataclass(frozen=True)
class Found:
    """A picture and what belongs to it; `words` is its caption when no file says it."""

    picture: Entry
    caption: Entry | None = None
    mask: Entry | None = None
    words: str = ""


@dataclass
class Pairs:
    """Pictures with what belongs to them, captions and masks that came without a picture, and what is neither."""

    found: list[Found] = field(default_factory=list)
    captions: list[Entry] = field(default_factory=list)
    masks: list[Entry] = field(default_factory=list)
    refused: list[Refused] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def pair(entries: Sequence[Entry], extension: str, most: int) -> Pairs:
    """Pair captions and masks with pictures; `extension` is a further suffix of captions. A caption of two pictures goes to both, which is noted."""
    extra = f".{extension.strip().lstrip('.')}".lower() if extension.strip(" .") else ""
    pairs, helpers, pictures, metadata = Pairs(), _Helpers(), [], _Metadata()
    for entry in entries:
        name, suffixes = entry.name.lower(), _suffixes(entry.subset, extra)
        if name.endswith(MASK_SUFFIX) or name.endswith(suffixes):
            helpers.add(entry)
        elif entry.picture:
            pictures.append(entry)
        elif name in METADATA or (entry.subset and name == PurePosixPath(entry.subset.metadata).name.lower()):
            pairs.refused += metadata.read(entry)
        elif PurePosixPath(name).suffix not in _DESCRIPTIONS:
            pairs.refused.append(Refused(str(entry.path), f"{entry.path.name} is not a picture, a caption or a mask."))
    for picture in pictures:
        pairs.found.append(_found(picture, helpers, metadata, extra))
    left = helpers.unused()
    pairs.masks = [entry for entry in left if entry.name.lower().endswith(MASK_SUFFIX)]
    pairs.captions = [entry for entry in left if entry not in pairs.masks]
    pairs.notes = _shared(pairs.found)
    return pairs


def _suffixes(subset: Subset | None, extra: str) -> tuple[str, ...]:
    """Suffixes of captions, the particular ones first."""
    return tuple(dict.fromkeys(suffix for suffix in (subset.extension.lower() if subset else "", extra, *CAPTION_SUFFIXES) if suffix))


class _Helpers:
    """Captions and masks by place and name; a name counts exactly, else in any case and composition of letters."""

    def __init__(self) -> None:
        self._exact: dict[tuple[Place, str], Entry] = {}
        self._alike: dict[tuple[Place, str], Entry] = {}
        self._used: set[int] = set()

    def add(self, entry: Entry) -> None:
        """Keep a file."""
        place = (entry.path.parent, entry.subset)
        self._exact.setdefault((place, entry.name), entry)
        self._alike.setdefault((place, key(entry.name)), entry)
        if self._exact[place, entry.name] is not entry:
            self._used.add(id(entry))

    def get(self, picture: Entry, names: Sequence[str]) -> Entry | None:
        """The first of some names beside a picture."""
        place = (picture.path.parent, picture.subset)
        found = next((entry for name in names if (entry := self._exact.get((place, name)) or self._alike.get((place, key(name))))), None)
        if found:
            self._used.add(id(found))
        return found

    def unused(self) -> list[Entry]:
        """Files that belong to no picture."""
        return [entry for entry in self._exact.values() if id(entry) not in self._used]


class _Metadata:
    """Captions from files that describe whole folders."""

    def __init__(self) -> None:
        self._read: dict[PurePosixPath, dict[str, str]] = {}

    def read(self, entry: Entry) -> list[Refused]:
        """Take in one file; what cannot be read is told."""
        try:
            found = kohya.read_metadata(entry.bytes(MOST_METADATA), entry.path.name)
        except StudioError as error:
            return [Refused(str(entry.path), str(error))]
        self._read.setdefault(entry.path.parent, {}).update(found)
        return []

    def words(self, picture: PurePosixPath) -> str:
        """What is said about a picture, by its path below the file, its name or its stem."""
        for folder in picture.parents:
            said = self._read.get(folder)
            if said is None:
                continue
            names = (str(picture.relative_to(folder)), *((picture.name, picture.stem) if picture.parent == folder else ()))
            words = next((said[name] for name in names if said.get(name)), "")
            if words:
                return words
        return ""


def _found(picture: Entry, helpers: _Helpers, metadata: _Metadata, extra: str) -> Found:
    """A picture with what belongs to it."""
    name, stem = picture.name, stem_of(picture.name)
    caption = helpers.get(picture, [f"{picture.path.name}.txt", f"{name}.txt", *(stem + suffix for suffix in _suffixes(picture.subset, extra))])
    mask = helpers.get(picture, [stem + MASK_SUFFIX])
    words = "" if caption else metadata.words(picture.path) or (picture.subset.tokens if picture.subset else "")
    return Found(picture, caption, mask, words)


def _shared(found: Sequence[Found]) -> list[str]:
    """Sentences about captions that two pictures share."""
    users: dict[int, list[str]] = {}
    names = {}
    for each in found:
        if each.caption:
            users.setdefault(id(each.caption), []).append(each.picture.name)
            names[id(each.caption)] = each.caption.name
    return [f"{names[file]} is the caption of {' and '.join(pictures)}; each has a copy of its own now." for file, pictures in users.items() if len(pictures) > 1]
