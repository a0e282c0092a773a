"""Giving a data set away as other trainers read it: the original pictures byte for byte, with captions and masks, as a folder, kohya's tree or a zip."""

import codecs
import csv
import io
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Literal

from studio.errors import InputError, OutOfSpace, Unreadable
from studio.projects.archive import Refused
from studio.projects.captions import is_file
from studio.projects.facts import Item
from studio.projects.names import Names, clean, stem_of
from studio.projects.project import Project
from studio.projects.targets import Target, opened
from studio.shelves import MASK_SUFFIX

EXPORTS = "exports"
"""Folder inside a data set where exports of it may lie."""
VALIDATION = "validation"
"""Folder of an export with the pictures that are held out; trainers read the folder above, or those with a number."""
_PIECE = 2**20
Layout = Literal["plain", "kohya"]
OnStep = Callable[[int, int, str], None]
Stop = Callable[[], bool]


@dataclass(frozen=True)
class ExportOptions:
    """What an export holds."""

    tokens: str = ""
    """What kohya's folders are called after the repeats; the data set's name when empty."""
    masks: bool = True
    captions: Literal["txt", "jsonl", "csv"] = "txt"
    """A .txt beside each picture, or one metadata file with file_name and text."""
    only: tuple[str, ...] = ()
    """Names of the pictures; empty = all."""


@dataclass(frozen=True)
class Exported:
    """What was written, and where it is."""

    destination: Path
    pictures: int = 0
    captions: int = 0
    masks: int = 0
    left_out: int = 0
    skipped: tuple[Refused, ...] = ()
    notes: tuple[str, ...] = ()
    stopped: bool = False


def export(project: Project, destination: Path, layout: Layout = "plain", options: ExportOptions | None = None, on_step: OnStep | None = None, stop: Stop | None = None) -> Exported:
    """Write a data set to a folder, or to a zip when the name ends so; raises InputError, NotFound, Conflict, OutOfSpace.

    A folder that is not there yet, and a zip, appear when they are whole. In a folder that is there, files get names that are free.
    """
    options = options or ExportOptions()
    _check(project, destination)
    items = _chosen(project, options.only)
    kept = [item for item in items if not item.choices.left_out]
    if not kept:
        raise InputError(f"There is no picture to export in {project.name}.", "Add pictures, or take back that they are left out.")
    left_out = len(items) - len(kept)
    with opened(destination) as (target, final):
        work = _Export(project, target, layout, options)
        stopped = work.run(kept, on_step or (lambda done, total, name: None), stop or (lambda: False))
        target.discarded = stopped and target.whole
        left_out = len(items) - len(kept)
        if target.discarded:
            return Exported(final, left_out=left_out, stopped=True)
        return Exported(final, work.pictures, work.captions, work.masks, left_out, tuple(work.skipped), tuple(work.notes), stopped)


def _check(project: Project, destination: Path) -> None:
    """Refuse a destination among the data set's own pictures and notes; raises InputError."""
    try:
        resolved = destination.resolve()
    except (OSError, ValueError, RuntimeError) as error:
        raise InputError(f"{str(destination)!r} is no path of a folder ({error}).", "Choose another folder.") from error
    if resolved == project.folder or (project.folder in resolved.parents and resolved.relative_to(project.folder).parts[0] != EXPORTS):
        raise InputError(f"{str(destination)!r} lies inside the data set.", f"Choose another folder, or one in its folder {EXPORTS!r}.")


def _chosen(project: Project, only: Sequence[str]) -> list[Item]:
    """The pictures that are wanted; raises NotFound for a name that is none of the data set's."""
    for name in only:
        project.picture(name)
    wanted = set(only)
    return [item for item in project.items() if not wanted or item.name in wanted]


@dataclass
class _Export:
    """One export under way."""

    project: Project
    target: Target
    layout: Layout
    options: ExportOptions
    pictures: int = 0
    captions: int = 0
    masks: int = 0
    skipped: list[Refused] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    rows: list[tuple[str, str]] = field(default_factory=list)
    """Path in the export and caption, for a metadata file."""

    def __post_init__(self) -> None:
        words = clean(f"{self.options.tokens or self.project.name}.folder")[0]
        self._tokens = words if len(words.encode()) <= 200 else words.encode()[:200].decode(errors="ignore").rstrip()
        self._names: dict[PurePosixPath, Names] = {}

    def run(self, items: Sequence[Item], on_step: OnStep, stop: Stop) -> bool:
        """Write picture by picture; True when somebody stopped it."""
        for done, item in enumerate(items):
            if stop():
                break
            on_step(done, len(items), item.name)
            self._guarded(item, len(items))
        else:
            done = len(items)
            on_step(done, done, "")
        if self.options.captions != "txt":
            self._metadata()
        held = sum(item.choices.held_out for item in items)
        if held:
            self.notes.append(f"{held} pictures that are kept for validation lie in the folder {VALIDATION!r}.")
        return done < len(items)

    def _guarded(self, item: Item, total: int) -> None:
        """Write one picture, or tell why not."""
        try:
            self._put(item)
        except Unreadable as error:
            self.skipped.append(Refused(item.name, str(error)))
        except FileExistsError:
            self.skipped.append(Refused(item.name, f"{item.name}: another program took its name at the same moment; export it again."))
        except OutOfSpace as error:
            if self.target.whole:
                raise
            raise OutOfSpace(f"{error.message} {self.pictures} of {total} pictures were written and stay.", "Free some space and export the rest.") from error

    def _put(self, item: Item) -> None:
        """Write a picture, then its caption and its mask."""
        folder = self._folder(item)
        if folder not in self._names:
            self._names[folder] = Names(self.target.taken(folder))
        name = self._names[folder].give(item.name)
        path, source = folder / name, self.project.folder / item.name
        self.target.put(path, _pieces(source), _time(item))
        self.pictures += 1
        if item.captioned:
            self.captions += 1
            self.rows.append((str(path), item.caption))
            if self.options.captions == "txt":
                self.target.put(path.with_suffix(".txt"), [_words(self.project.folder / item.caption_name, item)])
        if self.options.masks and item.mask_name:
            self.target.put(self._mask(path), _pieces(self.project.folder / item.mask_name))
            self.masks += 1

    def _folder(self, item: Item) -> PurePosixPath:
        """Where a picture goes."""
        if item.choices.held_out:
            return PurePosixPath(VALIDATION)
        return PurePosixPath(f"{item.choices.repeats}_{self._tokens}" if self.layout == "kohya" else ".")

    def _mask(self, path: PurePosixPath) -> PurePosixPath:
        """Where a mask goes: beside its picture, or, as kohya's trainer takes every picture of a folder for one to learn, in a folder of its own."""
        if self.layout == "kohya":
            return PurePosixPath("masks") / path.parent / f"{stem_of(path.name)}.png"
        return path.with_name(stem_of(path.name) + MASK_SUFFIX)

    def _metadata(self) -> None:
        """Write all captions into one file."""
        if self.options.captions == "jsonl":
            text = "".join(json.dumps({"file_name": path, "text": words}, ensure_ascii=False) + "\n" for path, words in self.rows)
        else:
            table = io.StringIO()
            csv.writer(table, lineterminator="\n").writerows([("file_name", "text"), *self.rows])
            text = table.getvalue()
        name = Names(self.target.taken(PurePosixPath("."))).give(f"metadata.{self.options.captions}")
        self.target.put(PurePosixPath(name), [text.encode("utf-8", errors="replace")])
        self.notes.append(f"The captions are in {name}.")


def _pieces(file: Path) -> Iterator[bytes]:
    """The bytes of a file; raises Unreadable."""
    try:
        with file.open("rb") as source:
            while piece := source.read(_PIECE):
                yield piece
    except OSError as error:
        raise Unreadable(f"{file.name} cannot be read ({error.strerror}).") from error


def _time(item: Item) -> float:
    """When a picture changed, in seconds since 1970."""
    return item.changed / 1e9


def _words(file: Path, item: Item) -> bytes:
    """A caption as every trainer reads it: its own bytes where they are plain UTF-8 that says what the studio reads, else its words in UTF-8."""
    if not is_file(file):  # a metadata file says it
        return item.caption.encode("utf-8", errors="replace")
    data = b"".join(_pieces(file))
    try:
        plain = data.decode("utf-8").strip().startswith(item.caption)
    except UnicodeDecodeError:
        plain = False
    return data if plain and not data.startswith(codecs.BOM_UTF8) and b"\0" not in data else item.caption.encode("utf-8", errors="replace")
