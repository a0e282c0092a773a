"""What is in a data set's folder now, told fast: one walk over the folder, and only what changed since the last one is read again."""

import hashlib
import json
import os
import threading
import time
from pathlib import Path
from typing import Any

from studio import shelves
from studio.errors import NotFound
from studio.projects.captions import METADATA_NAMES, caption_names, described
from studio.projects.facts import Choices, Facts, Item
from studio.projects.sidecar import Sidecar, unkey
from studio.projects.steps import shown_text
from studio.projects.text_encodings import CAPTION_SUFFIXES, folder_encoding

Stamp = tuple[int, int, int, int]
"""When a file was changed, its size, when its entry was changed, and its number: alike means unchanged."""
_FRESH = 100_000_000
"""A file changed less than so many nanoseconds ago may change again without its stamp telling: file systems count in steps."""
_LONG = 2**16
"""Captions of more characters are not kept in memory between two calls."""
_MINE = shelves.IMAGE_SUFFIXES | frozenset(CAPTION_SUFFIXES)


class Listing:
    """The pictures of one folder with what is known about them; may be asked from several threads."""

    def __init__(self, folder: Path, sidecar: Sidecar) -> None:
        self.folder = folder
        self.sidecar = sidecar
        self._root = os.path.join(folder, "")
        self._lock = threading.Lock()
        self._seen, self._born = -1, 0
        self._facts: dict[str, tuple[int, int, Facts, int]] = {}
        self._choices: dict[str, tuple[Choices, int]] = {}
        self._items: dict[str, tuple[tuple[Any, ...], Item]] = {}
        self._troubles: dict[str, str] = {}
        self._order: tuple[frozenset[str], list[str]] = (frozenset(), [])

    def items(self) -> list[Item]:
        """All pictures in natural order. Raises NotFound when the folder is gone."""
        with self._lock:
            files = self._files()
            self._refresh()
            pictures = [name for name in files if is_picture(name)]
            items = [self._item(name, files) for name in self._sorted(pictures)]
            if len(self._items) > len(pictures):
                self._items = {name: kept for name, kept in self._items.items() if name in files}
            return items

    def troubles(self) -> dict[str, str]:
        """Pictures whose caption files are hard to read, with codes of captions.TROUBLES."""
        names = [item.name for item in self.items()]
        with self._lock:
            return {name: self._troubles[name] for name in names if name in self._troubles}

    def item(self, name: str) -> Item | None:
        """One picture; None when there is none of that name."""
        with self._lock:
            names = (name, *caption_names(name), *METADATA_NAMES, Path(name).stem + shelves.MASK_SUFFIX)
            files = {found: stamp for found in names if (stamp := _stamp(self.folder / found)) is not None}
            self._refresh()
            return self._item(name, files) if name in files and is_picture(name) else None

    def revision(self) -> str:
        """Changes with everything that changes in the folder or the database, by whatever program."""
        digest = hashlib.blake2b(digest_size=12)
        for name, stamp in sorted(self._files().items()):
            digest.update(os.fsencode(name) + b"/%d/%d/%d/%d\n" % stamp)
        return f"{self.sidecar.revision()}-{digest.hexdigest()}"

    def _files(self) -> dict[str, Stamp]:
        """Pictures, masks and texts directly in the folder, with their stamps."""
        found: dict[str, Stamp] = {}
        try:
            with os.scandir(self.folder) as entries:
                for entry in entries:
                    name = entry.name
                    if name[0] != "." and (name[name.rfind(".") :].lower() in _MINE or name in METADATA_NAMES) and (stamp := _stamp(entry)) is not None:
                        found[name] = stamp
        except OSError as error:
            raise NotFound(f"The folder of {self.folder.name} cannot be read any more ({error.strerror}).", "It may have been moved or deleted.") from error
        return found

    def _refresh(self) -> None:
        """Take what is new in the database."""
        with self.sidecar.connect() as db:
            db.execute("BEGIN")
            now, born = db.execute("SELECT revision, born FROM counter").fetchone()
            if born != self._born:
                self._facts, self._choices, self._items, self._seen, self._born = {}, {}, {}, -1, born
            if now != self._seen:
                for row in db.execute("SELECT * FROM facts WHERE revision > ?", (self._seen,)):
                    facts = _parsed(Facts, row["facts"])
                    if facts is not None:
                        self._facts[unkey(row["item"])] = (row["changed"], row["bytes"], facts, row["revision"])
                for row in db.execute("SELECT * FROM choices WHERE revision > ?", (self._seen,)):
                    self._choices[unkey(row["item"])] = (_parsed(Choices, row["choices"]) or Choices(), row["revision"])
                self._seen = now
            db.execute("ROLLBACK")

    def _sorted(self, pictures: list[str]) -> list[str]:
        """Names in natural order, sorted anew only when there are others."""
        names = frozenset(pictures)
        if names != self._order[0]:
            self._order = (names, sorted(pictures, key=lambda name: shelves.natural_key(Path(name))))
        return self._order[1]

    def _item(self, name: str, files: dict[str, Stamp]) -> Item:
        """One picture, the same object as last time when nothing about it changed."""
        stem, stamp = name[: name.rfind(".")], files[name]
        mask = stem + shelves.MASK_SUFFIX
        caption = next((file for file in caption_names(name) if file in files), f"{stem}.txt")
        mask = mask if mask in files else ""
        changed, size, facts, counted = self._facts.get(name, (0, 0, None, 0))
        choices, chosen = self._choices.get(name, (_NOTHING, 0))
        captioned = caption in files
        describing = () if captioned else tuple(files.get(file) for file in METADATA_NAMES)
        state = (stamp, caption, files.get(caption), files.get(mask), counted, chosen, describing, self._guess() if name in self._troubles else "")
        kept = self._items.get(name)
        if kept is not None and kept[0] == state:
            return kept[1]
        text, trouble = shown_text(self._root + caption, self._guess) if captioned else (described(self.folder / name), "")
        known = facts if (changed, size) == stamp[:2] else None
        item = Item(
            name,
            caption=text,
            captioned=captioned or bool(text),
            caption_name=caption,
            mask_name=mask,
            mask_changed=files[mask][0] if mask else 0,
            bytes=stamp[1],
            changed=stamp[0],
            facts=known,
            choices=choices,
        )
        settled = not captioned or not 0 <= time.time_ns() - files[caption][0] < _FRESH
        self._items.pop(name, None)
        self._troubles.pop(name, None)
        if trouble:
            self._troubles[name] = trouble
        if settled and len(text) <= _LONG:
            self._items[name] = ((*state[:-1], self._guess() if trouble else ""), item)
        return item

    def _guess(self) -> str:
        """The encoding of captions that aren't Unicode."""
        return folder_encoding(self.folder)


_NOTHING = Choices()


def is_picture(name: str) -> bool:
    """Whether a file of that name counts as a picture of a data set."""
    return name[name.rfind(".") :].lower() in shelves.IMAGE_SUFFIXES and not name.startswith(".") and not name.endswith(shelves.MASK_SUFFIX)


def _stamp(entry: Path | os.DirEntry[str]) -> Stamp | None:
    """A file's stamp; None for what is no file or vanished just now."""
    try:
        if not entry.is_file():
            return None
        status = entry.stat()
    except (OSError, ValueError):
        return None
    return status.st_mtime_ns, status.st_size, status.st_ctime_ns, status.st_ino


def _parsed(kind: type[Any], text: str) -> Any:
    """A row of the database; None for one that was damaged by hand."""
    try:
        return kind.from_json(json.loads(text))
    except (ValueError, TypeError, AttributeError):
        return None
