"""What a Write made in a folder: which files are its own, of which picture, and whether they are still as they were written."""

import hashlib
import json
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from studio.errors import Conflict
from studio.files import atomic_write, sha256

NAME = ".studio-export.json"
EVERY = 2.0
"""Seconds between two times the manifest is kept while files are written."""
SHOWN = 5
Mark = tuple[int, int, str]
"""Bytes, time of change in nanoseconds and SHA-256 of a file."""


@dataclass
class Entry:
    """What was made of one picture: a digest of all it was made from, and its files with their marks."""

    key: str
    files: dict[str, Mark] = field(default_factory=dict)


class Manifest:
    """The list of a folder, kept in it; names are paths below the folder."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.file = folder, folder / NAME
        self._kept = time.monotonic()
        values = _read(self.file)
        self.entries = {name: _entry(entry) for name, entry in values["items"].items()}
        self.claims: set[str] = set(values["claims"])
        """Files that a Write was making when it was killed."""
        self._before: dict[str, list[Mark]] = {}
        for entry in self.entries.values():
            for name, mark in entry.files.items():
                self._before.setdefault(name, []).append(mark)

    def begin(self, names: Iterable[str]) -> None:
        """Claim files before any is written, so that after a crash they are known as ours; raises Conflict for files that somebody else made or changed."""
        names = sorted(names)
        wrong = [name for name in names if (self.folder / name).exists() and not self._ours(name)]
        if wrong:
            more = f" and {len(wrong) - SHOWN} more" if len(wrong) > SHOWN else ""
            raise Conflict(f"{self.folder} holds files that were not written from this data set, or were changed since: {', '.join(wrong[:SHOWN])}{more}.", "Move them away, or choose another folder.")
        self.claims |= set(names)
        self.keep(now=True)

    def _ours(self, name: str) -> bool:
        """Whether a file that is there was written here and not changed since."""
        return name in self.claims or any(self.intact(name, mark) for mark in self._before.get(name, ()))

    def intact(self, name: str, mark: Mark) -> bool:
        """Whether a file is as it was written; one that was only copied or touched is."""
        try:
            status = (self.folder / name).stat()
        except OSError:
            return False
        return status.st_size == mark[0] and (status.st_mtime_ns == mark[1] or sha256(self.folder / name) == mark[2])

    def current(self, item: str, key: str, pictures: Iterable[str]) -> bool:
        """Whether the pictures of an item were made from just this and are still there."""
        entry = self.entries.get(item)
        return entry is not None and entry.key == key and all(name in entry.files and self.intact(name, entry.files[name]) for name in pictures)

    def keep(self, now: bool = False) -> None:
        """Keep the list, at most every few seconds unless it must be now."""
        if not now and time.monotonic() - self._kept < EVERY:
            return
        self._kept = time.monotonic()
        items = {name: {"key": entry.key, "files": entry.files} for name, entry in sorted(self.entries.items())}
        with atomic_write(self.file) as temporary:
            temporary.write_text(json.dumps({"version": 1, "claims": sorted(self.claims), "items": items}, ensure_ascii=False, indent=0), encoding="utf-8")

    def end(self) -> tuple[int, list[str]]:
        """Take away files that were written earlier and belong to nothing any more, and keep the list; returns how many went, and which stay because they were changed."""
        wanted = {name for entry in self.entries.values() for name in entry.files}
        removed, changed = 0, []
        for name in sorted((self._before.keys() | self.claims) - wanted):
            path = self.folder / name
            if not path.is_file():
                continue
            if self._ours(name):
                path.unlink()
                removed += 1
            else:
                changed.append(name)
        self.claims = set()
        self.keep(now=True)
        return removed, changed


def _read(file: Path) -> dict[str, Any]:
    """The values of a manifest; of one that is missing or damaged nothing is known."""
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        values = {}
    known = isinstance(values, dict) and isinstance(values.get("items"), dict) and isinstance(values.get("claims"), list)
    return values if known else {"items": {}, "claims": []}


def _entry(values: Any) -> Entry:
    """An entry from its JSON; one of another form counts as nothing."""
    if not isinstance(values, dict) or not isinstance(values.get("files"), dict):
        return Entry("")
    return Entry(str(values.get("key", "")), {name: (int(m[0]), int(m[1]), str(m[2])) for name, m in values["files"].items() if isinstance(m, list) and len(m) == 3})


def digest(*parts: Any) -> str:
    """One word for everything that something was made from."""
    return hashlib.sha256(json.dumps(parts, ensure_ascii=True, default=list, sort_keys=True).encode()).hexdigest()
