"""Copying pictures with their captions and masks into a data set; the source is only read, and what is not taken is told with its reason."""

import hashlib
import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from studio.errors import OutOfSpace, StudioError, Unreadable
from studio.files import sha256
from studio.projects.archive import Refused
from studio.projects.captions import decode_caption
from studio.projects.copying import clear, settle, write_new
from studio.projects.facts import Change, Item
from studio.projects.initial import put_repeats
from studio.projects.names import Names, clean, key, stem_of
from studio.projects.pairing import Found, Pairs, pair
from studio.projects.project import Project
from studio.projects.signatures import HEAD, looks_like, picture_kind
from studio.projects.sources import RENAMED, Entry, gather
from studio.projects.text_encodings import detect_together
from studio.shelves import MASK_SUFFIX

MOST_CAPTION = 4 * 2**20
"""Bytes of a caption file; a longer one is no caption."""
MOST_MASK = 256 * 2**20
_BATCH = 50
"""Repeats are written down after so many pictures, so that a killed import loses few."""
OnStep = Callable[[int, int, str], None]
Stop = Callable[[], bool]


@dataclass(frozen=True)
class ImportOptions:
    """What is taken from a source."""

    recursive: bool = False
    """Pictures in folders inside the folder too."""
    regularisation: bool = False
    """Pictures that kohya's trees and files mark as regularisation too."""
    extension: str = ""
    """Suffix of caption files beside .txt, .caption and .cap."""


@dataclass(frozen=True)
class Imported:
    """What came of an import. `added` are names in the data set; `problem` says why it ended early, when it did."""

    added: tuple[str, ...] = ()
    captions: int = 0
    masks: int = 0
    changed: tuple[str, ...] = ()
    """Pictures that were there already and got a caption or a mask, as one step that can be undone."""
    skipped: tuple[Refused, ...] = ()
    notes: tuple[str, ...] = ()
    stopped: bool = False
    problem: str = ""


def import_into(folder: Path, source: Path | Sequence[Path], options: ImportOptions | None = None, on_step: OnStep | None = None, stop: Stop | None = None) -> Imported:
    """Copy everything of use from a source, or from many dropped files, into the data set in `folder`; raises InputError or Unreadable for no source, Conflict during another import.

    Repeats of kohya's folders are the first choices of new pictures and no step of the journal: taking pictures in is none either.
    """
    options = options or ImportOptions()
    project = Project(folder)
    with project.sidecar.alone(0.0, "import"), ExitStack() as stack:
        clear(project.folder)
        found = gather(source, options.recursive, project.folder, stack)
        entries = _wanted(found.entries, options, found.refused)
        pairs = pair(entries, options.extension, MOST_CAPTION)
        work = _Import(project, [*found.refused, *pairs.refused], [*found.notes, *pairs.notes])
        work.run(pairs, on_step or (lambda done, total, name: None), stop or (lambda: False))
        return work.result()


def _wanted(entries: Sequence[Entry], options: ImportOptions, refused: list[Refused]) -> list[Entry]:
    """Entries without regularisation pictures, which are told by folder."""
    if options.regularisation:
        return list(entries)
    for subset in {entry.subset: None for entry in entries if entry.subset and entry.subset.is_reg}:
        count = sum(entry.subset == subset and entry.picture for entry in entries)
        refused.append(Refused(subset.folder, f"{count} regularisation pictures in {PurePosixPath(subset.folder).name} were left out; ask for them to take them too."))
    return [entry for entry in entries if not (entry.subset and entry.subset.is_reg)]


@dataclass
class _Import:
    """One import under way."""

    project: Project
    skipped: list[Refused]
    notes: list[str]
    added: list[str] = field(default_factory=list)
    captions: int = 0
    masks: int = 0
    changed: list[str] = field(default_factory=list)
    stopped: bool = False
    problem: str = ""

    def __post_init__(self) -> None:
        items = self.project.items()
        self._items = {item.name: item for item in items}
        self._by_stem = {key(stem_of(item.name)): item for item in reversed(items)}
        self._names = Names(path.name for path in self.project.folder.iterdir())
        self._givers: dict[str, PurePosixPath] = {}
        self._sizes: dict[int, list[str]] = {}
        self._digests = {item.name: item.facts.digest for item in items if item.facts and item.facts.digest}
        self._repeats: dict[str, int] = {}
        self._changes: list[Change] = []
        self._made: list[Path] = []
        self._encoding = ""
        for item in items:
            self._sizes.setdefault(item.bytes, []).append(item.name)

    def run(self, pairs: Pairs, on_step: OnStep, stop: Stop) -> None:
        """Copy until all is there, a person stops it, or the disk is full; what was copied whole stays."""
        self._guarded(lambda: self._take_all(pairs, on_step, stop), len(pairs.found))
        self._guarded(self._keep_repeats, len(pairs.found))
        self._guarded(self._edit, len(pairs.found))
        settle(self._made)

    def _guarded(self, act: Callable[[], None], total: int) -> None:
        """Do one part; what ends it early is told with what is there by then."""
        try:
            act()
        except (StudioError, OSError) as error:
            what = f"The data set cannot be written to ({error.strerror})." if isinstance(error, OSError) else str(error)
            self.problem = self.problem or f"{what} {len(self.added)} of {total} pictures were copied whole and stay."

    def _take_all(self, pairs: Pairs, on_step: OnStep, stop: Stop) -> None:
        """Picture by picture, then what came without one."""
        total = len(pairs.found)
        self._encoding = detect_together(_captions_of(pairs))
        for done, found in enumerate(pairs.found):
            if stop():
                self.stopped = True
                return
            on_step(done, total, found.picture.name)
            self._take(found)
            if len(self._repeats) >= _BATCH:
                self._keep_repeats()
        self._alone(pairs)
        on_step(total, total, "")

    def result(self) -> Imported:
        """What came of it."""
        return Imported(tuple(self.added), self.captions, self.masks, tuple(self.changed), tuple(self.skipped), tuple(self.notes), self.stopped, self.problem)

    def _take(self, found: Found) -> None:
        """Copy one picture, or tell why not."""
        try:
            pieces = _picture(found.picture)
            twin = self._twin(found.picture)
            if twin:
                self.skipped.append(Refused(str(found.picture.path), f"{found.picture.name} is already there as {twin}."))
                self._belated(found, twin)
                return
            self._copy(found, pieces, self._name(found.picture.path))
        except OutOfSpace:
            raise
        except StudioError as error:
            self.skipped.append(Refused(str(found.picture.path), str(error)))
        except FileExistsError:
            self.skipped.append(Refused(str(found.picture.path), f"{found.picture.name}: another program took the name at the same moment; import it again."))

    def _copy(self, found: Found, pieces: Iterator[bytes], name: str) -> None:
        """Copy the picture, then its caption and mask; what ends this early takes all three away.

        Killed in between, the picture is there without them: the next import of the same source brings what it lacks.
        """
        picture = self.project.folder / name
        mask, caption = picture.with_name(picture.stem + MASK_SUFFIX), picture.with_suffix(".txt")
        made = [picture]
        digest = write_new(pieces, picture, found.picture.status()[1])
        try:
            if self._caption(found, caption):
                made.append(caption)
            if found.mask and self._helper(found.mask, mask, MOST_MASK):
                made.append(mask)
        except BaseException:
            for file in made:
                file.unlink(missing_ok=True)
            raise
        self._digests[name] = digest
        self._sizes.setdefault(picture.stat().st_size, []).append(name)
        self.added.append(name)
        self._made += made
        self.masks += mask in made
        self.captions += caption in made
        if found.picture.subset and found.picture.subset.repeats != 1:
            self._repeats[name] = found.picture.subset.repeats

    def _helper(self, entry: Entry, path: Path, most: int) -> bool:
        """Copy a caption or a mask as it is; one that cannot be used is told and left out."""
        try:
            data = entry.bytes(most)
            if path.name.endswith(MASK_SUFFIX) and picture_kind(data[:HEAD]) != "PNG":
                raise Unreadable(_no_picture(entry.name, data[:HEAD], "PNG mask"))
        except StudioError as error:
            self.skipped.append(Refused(str(entry.path), str(error)))
            return False
        write_new([data], path)
        return True

    def _caption(self, found: Found, path: Path) -> bool:
        """Write the caption of a picture: its file as it is, else what metadata or the folder's name say."""
        if found.caption and self._helper(found.caption, path, MOST_CAPTION):
            return True
        if found.words and not found.caption:
            write_new([found.words.encode()], path)
            return True
        return False

    def _twin(self, picture: Entry) -> str:
        """A picture of the data set with the same bytes; empty when there is none. Files are only read where the size is the same."""
        size, _ = picture.status()
        if size not in self._sizes:
            return ""
        digest = hashlib.sha256()
        for piece in picture.pieces():
            digest.update(piece)
        return next((name for name in self._sizes[size] if self._digest(name) == digest.hexdigest()), "")

    def _digest(self, name: str) -> str:
        """SHA-256 of a picture of the data set, taken once; empty when it is gone."""
        if name not in self._digests:
            try:
                self._digests[name] = sha256(self.project.folder / name)
            except OSError:
                return ""
        return self._digests[name]

    def _name(self, path: PurePosixPath) -> str:
        """A free name: the picture's own, with its folder's in front when another folder holds one of that name."""
        plain = PurePosixPath(path.name.rstrip(" ."))
        name = plain.stem + RENAMED.get(plain.suffix.lower(), plain.suffix)
        stem, suffix = clean(name)
        giver = self._givers.get(key(stem))
        if not self._names.free(stem + suffix) and giver != path.parent and path.parent.name:
            name = f"{path.parent.name}-{name}"
        given = self._names.give(name)
        self._givers[key(stem_of(given))] = path.parent
        return given

    def _belated(self, found: Found, twin: str) -> None:
        """Give a picture that is there already the caption and the mask that came with its twin, where it has none."""
        item = self._items.get(twin)
        if item is None:
            return
        if not item.captioned and (text := self._text(found)):
            self._changes.append(Change(twin, "caption", None, text))
        if found.mask and not item.mask_name:
            self._mask(found.mask, item)

    def _alone(self, pairs: Pairs) -> None:
        """Captions and masks that came without their picture replace those of the picture they are called like, as a step that can be undone; others are told."""
        for entry in pairs.captions:
            item = self._by_stem.get(key(stem_of(entry.name))) or self._items.get(PurePosixPath(entry.name).stem)
            if item is None:
                self.skipped.append(Refused(str(entry.path), f"{entry.name} is the caption of no picture, neither in the source nor in the data set."))
            elif text := self._text(Found(entry, entry)):
                self._changes.append(Change(item.name, "caption", item.caption if item.captioned else None, text))
        for entry in pairs.masks:
            item = self._by_stem.get(key(stem_of(entry.name)))
            if item is None:
                self.skipped.append(Refused(str(entry.path), f"{entry.name} is the mask of no picture, neither in the source nor in the data set."))
            else:
                self._mask(entry, item)

    def _text(self, found: Found) -> str:
        """The words of a caption; empty when they cannot be read, which is told."""
        if not found.caption:
            return found.words
        try:
            return decode_caption(found.caption.bytes(MOST_CAPTION), lambda: self._encoding)
        except StudioError as error:
            self.skipped.append(Refused(str(found.caption.path), str(error)))
            return ""

    def _mask(self, entry: Entry, item: Item) -> None:
        """Plan a mask for a picture that is there already."""
        try:
            self._changes.append(Change(item.name, "mask", self.project.mask_digest(item.name), self.project.keep_mask(entry.bytes(MOST_MASK))))
        except OutOfSpace:
            raise
        except StudioError as error:
            self.skipped.append(Refused(str(entry.path), str(error)))

    def _edit(self) -> None:
        """Apply what was planned for pictures that are there already."""
        planned = list({(change.item, change.field): change for change in self._changes}.values())
        if planned and self.project.edit("Import captions and masks", planned):
            real = [change for change in planned if change.before != change.after]
            self.captions += sum(change.field == "caption" for change in real)
            self.masks += sum(change.field == "mask" for change in real)
            self.changed = list(dict.fromkeys(change.item for change in real))

    def _keep_repeats(self) -> None:
        """Write down the repeats of pictures that are there by now."""
        if self._repeats:
            put_repeats(self.project, self._repeats)
            self._repeats = {}


def _captions_of(pairs: Pairs) -> Iterator[bytes]:
    """The bytes of all captions of a source; those that can't be read are told when they are taken."""
    for entry in (*(found.caption for found in pairs.found if found.caption), *pairs.captions):
        try:
            yield entry.bytes(MOST_CAPTION)
        except StudioError:
            continue


def _picture(entry: Entry) -> Iterator[bytes]:
    """The bytes of a picture; raises Unreadable when its first ones are no picture's."""
    pieces = entry.pieces()
    first = next(pieces, b"")
    if not picture_kind(first[:HEAD]):
        raise Unreadable(_no_picture(entry.name, first[:HEAD], "picture"))
    return itertools.chain([first], pieces)


def _no_picture(name: str, head: bytes, what: str) -> str:
    """What a file is instead."""
    return f"{name} is not a {what} ({f'it looks like {looks_like(head)}' if head else 'it is empty'})."
