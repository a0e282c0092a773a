"""Project: a folder of pictures with captions and decisions; every change is a named step that can be taken back, also after a restart."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from studio import shelves
from studio.errors import InputError, NotFound
from studio.projects import journal
from studio.projects.captions import caption_file, existing_caption
from studio.projects.facts import Change, Choices, Edit, Facts, Item
from studio.projects.sidecar import Sidecar


class Project:
    """One data set. Pictures are only read; captions, masks and decisions change through `edit` alone."""

    def __init__(self, folder: Path) -> None:
        if not folder.is_dir():
            raise InputError(f"{str(folder)!r} is not a folder.", "Type the path of a folder with pictures, or make a new data set.")
        self.folder = folder.resolve()
        self.sidecar = Sidecar(self.folder)
        self.recovered = journal.recover(self)

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.folder.name

    def items(self) -> list[Item]:
        """All pictures in natural order, as the folder and the database are now."""
        with self.sidecar.connect() as db:
            facts = {row["item"]: row for row in db.execute("SELECT * FROM facts")}
            choices = {row["item"]: Choices.from_json(json.loads(row["choices"])) for row in db.execute("SELECT * FROM choices")}
        return [self._item(path, facts.get(path.name), choices.get(path.name)) for path in sorted(shelves.images(self.folder), key=shelves.natural_key)]

    def _item(self, path: Path, row: Any, choices: Choices | None) -> Item:
        """One picture."""
        status, file = path.stat(), caption_file(path)
        known = row is not None and (row["changed"], row["bytes"]) == (status.st_mtime_ns, status.st_size)
        mask = path.with_name(path.stem + shelves.MASK_SUFFIX)
        return Item(
            name=path.name,
            caption=existing_caption(path),
            captioned=file.is_file(),
            caption_name=file.name,
            mask_name=mask.name if mask.is_file() else "",
            bytes=status.st_size,
            changed=status.st_mtime_ns,
            facts=Facts.from_json(json.loads(row["facts"])) if known else None,
            choices=choices or Choices(),
        )

    def item(self, name: str) -> Item:
        """One picture; raises NotFound."""
        found = next((item for item in self.items() if item.name == name), None)
        if found is None:
            raise NotFound(f"There is no picture {name!r} in {self.name}.", "It may have been moved or deleted.")
        return found

    def picture(self, name: str) -> Path:
        """The file of a picture; raises NotFound for anything that is not a picture directly in the folder."""
        path = self.folder / name
        if Path(name).name != name or path.suffix.lower() not in shelves.IMAGE_SUFFIXES or not path.is_file():
            raise NotFound(f"There is no picture {name!r} in {self.name}.", "It may have been moved or deleted.")
        return path

    def put_facts(self, found: Sequence[tuple[str, Facts]]) -> None:
        """Keep what was measured, for the files as they are now."""
        rows = []
        for name, facts in found:
            status = (self.folder / name).stat()
            rows.append((name, status.st_mtime_ns, status.st_size, json.dumps(facts.as_json())))
        with self.sidecar.connect(write=True) as db:
            db.executemany("INSERT OR REPLACE INTO facts VALUES (?, ?, ?, ?)", rows)

    def setting(self, key: str, default: Any = None) -> Any:
        """A setting of this data set (JSON)."""
        with self.sidecar.connect() as db:
            row = db.execute("SELECT value FROM settings WHERE key = ?", (key,)).fetchone()
        return default if row is None else json.loads(row["value"])

    def put_setting(self, key: str, value: Any) -> None:
        """Keep a setting."""
        with self.sidecar.connect(write=True) as db:
            db.execute("INSERT OR REPLACE INTO settings VALUES (?, ?)", (key, json.dumps(value, ensure_ascii=False)))

    def edit(self, name: str, changes: Sequence[Change]) -> Edit | None:
        """Apply changes as one named step: all of them or, after a crash, none or all; None when nothing changes. Raises Conflict when `before` is no longer true."""
        return journal.apply(self, name, changes)

    def undo(self) -> Edit | None:
        """Take the newest step back; None when there is none. Raises Conflict when something was changed from outside since."""
        return journal.undo(self)

    def redo(self) -> Edit | None:
        """Do the oldest step that was taken back again; None when there is none."""
        return journal.redo(self)

    def history(self, limit: int = 100) -> list[Edit]:
        """Steps of the journal, newest first."""
        return journal.history(self, limit)
