"""Facts of files kept on the disk, so that a server that was just started reads only the headers that are new to it."""

import contextlib
import json
from collections.abc import Iterable
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from studio.errors import StudioError
from studio.files import atomic_write
from studio.networks.facts import Facts, facts_of

_FIELDS = {field.name for field in fields(Facts)}


class Book:
    """What files of one kind said when they were last looked at, by their path, time and size; a damaged book counts as empty, since all of it can be read again."""

    def __init__(self, file: Path) -> None:
        self.file = file
        try:
            said = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            said = {}
        self._known: dict[str, Any] = said if isinstance(said, dict) else {}
        self._new = False

    def facts(self, path: Path) -> Facts:
        """What a file says, from the book while the file is the same."""
        try:
            status = path.stat()
        except OSError:
            return facts_of(path)
        stamp, entry = [status.st_mtime_ns, status.st_size], self._known.get(str(path))
        if isinstance(entry, list) and entry[:2] == stamp and len(entry) == 3 and isinstance(entry[2], dict) and set(entry[2]) == _FIELDS:
            return Facts(**entry[2])
        found = facts_of(path)
        if not found.problem:
            self._known[str(path)], self._new = [*stamp, asdict(found)], True
        return found

    def keep(self, paths: Iterable[Path]) -> None:
        """Write down what is new about these files and forget all others; a disk that refuses costs only time later."""
        if self._new:
            there = {str(path) for path in paths}
            with contextlib.suppress(OSError, StudioError), atomic_write(self.file) as temporary:
                temporary.write_text(json.dumps({path: entry for path, entry in self._known.items() if path in there}, ensure_ascii=False), encoding="utf-8")
            self._new = False
