"""Project: a folder of pictures with captions and decisions; every change is a named step that can be taken back, also after a restart."""

import json
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from studio import shelves
from studio.errors import InputError, NotFound, StudioError
from studio.projects import autosave, journal, past, streams
from studio.projects.captions import is_file, own_caption_name
from studio.projects.facts import Change, Edit, Facts, Item
from studio.projects.kept_masks import keep_found, keep_mask
from studio.projects.listing import Listing, is_picture
from studio.projects.sidecar import Sidecar, key


class Project:
    """One data set, for any number of threads. Pictures are only read; captions, masks and decisions change through steps alone."""

    def __init__(self, folder: Path) -> None:
        if not folder.is_dir():
            raise InputError(f"{str(folder)!r} is not a folder.", "Type the path of a folder with pictures, or make a new data set.")
        self.folder = folder.resolve()
        self.sidecar = Sidecar(self.folder)
        self.trouble = self.sidecar.trouble
        """What is wrong with the data set's notes, in words; empty when nothing is."""
        self.recovered: list[journal.Recovered] = []
        """Steps that a crash had cut short and that were completed since this was opened."""
        self._listing = Listing(self.folder, self.sidecar)
        try:
            journal.recover(self)
        except StudioError as error:
            self.trouble = f"{self.trouble} A step that was cut short could not be completed. {error}".strip()

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.folder.name

    def items(self) -> list[Item]:
        """All pictures in natural order, as the folder and the database are now; cheap enough to be called for every answer."""
        return self._listing.items()

    def item(self, name: str) -> Item:
        """One picture; raises NotFound."""
        self.picture(name)
        found = self._listing.item(name)
        if found is None:
            raise self._missing(name)
        return found

    def caption_trouble(self) -> dict[str, str]:
        """Pictures whose caption files are hard to read, each with a code of captions.TROUBLES."""
        return self._listing.troubles()

    def revision(self) -> str:
        """A text that changes whenever anything did: through this studio, another process, or any program that writes into the folder."""
        return self._listing.revision()

    def picture(self, name: str) -> Path:
        """The file of a picture; raises NotFound for anything that is not a picture directly in the folder."""
        path = self.folder / name
        if Path(name).name != name or not is_picture(name) or not is_file(path):
            raise self._missing(name)
        return path

    def _missing(self, name: str) -> NotFound:
        """There is no such picture."""
        return NotFound(f"There is no picture {name!r} in {self.name}.", "It may have been moved or deleted.")

    def put_facts(self, found: Sequence[tuple[str, Facts]]) -> None:
        """Keep what was measured, for the files as they are now; files that are gone by now are passed over."""
        rows = []
        for name, facts in found:
            if is_file(self.folder / name):
                status = (self.folder / name).stat()
                rows.append((key(name), status.st_mtime_ns, status.st_size, json.dumps(facts.as_json())))
        with self.sidecar.connect(write=True) as db:
            db.executemany("INSERT OR REPLACE INTO facts (item, changed, bytes, facts, revision) VALUES (?, ?, ?, ?, (SELECT revision + 1 FROM counter))", rows)

    def setting(self, key: str, default: Any = None) -> Any:
        """A setting of this data set (JSON)."""
        with self.sidecar.connect() as db:
            row = db.execute("SELECT value FROM settings WHERE key = ?", (key,)).fetchone()
        return default if row is None else json.loads(row["value"])

    def put_setting(self, key: str, value: Any) -> None:
        """Keep a setting."""
        with self.sidecar.connect(write=True) as db:
            db.execute("INSERT OR REPLACE INTO settings VALUES (?, ?)", (key, json.dumps(value)))

    def edit(self, name: str, changes: Sequence[Change]) -> Edit | None:
        """Apply changes as one named step: all of them or, after a crash, none or all; None when nothing changes. Raises Conflict when `before` is no longer true."""
        return journal.apply(self, name, changes)

    def edit_stream(self, name: str) -> AbstractContextManager[streams.Stream]:
        """A step that a long job appends changes to one by one (`stream.add([change])`); what it had done when it was killed stays as a done step."""
        return streams.edit_stream(self, name)

    def write_caption(self, name: str, text: str, seen: str | None) -> Edit | None:
        """Save one caption while a person types; `seen` is what it said when she began (None or empty: nothing). Raises Conflict with what it says now, when that is something else."""
        return autosave.write_caption(self, name, text, seen)

    def own_captions(self, names: Iterable[str], title: str = "A caption file for each picture") -> Edit | None:
        """Give pictures that share a caption file (see `captions.sharing`) one each with the same words, as one step; None when nothing was shared."""
        items = [item for item in self.items() if item.name in set(names)]
        return self.edit(title, [Change(item.name, "own_caption", None, item.caption) for item in items if item.captioned and item.caption_name != own_caption_name(item.name)])

    def keep_mask(self, data: bytes) -> str:
        """Keep a mask (PNG) and return its digest, which a change of the field "mask" names; raises InputError for what is no PNG."""
        return keep_mask(self.folder, data)

    def mask_digest(self, name: str) -> str | None:
        """Digest of the mask that lies beside a picture, also of one from outside, which is kept then; None without one."""
        path = self.picture(name)
        return keep_found(self.folder, path.with_name(path.stem + shelves.MASK_SUFFIX))

    def undo(self, force: bool = False) -> Edit | None:
        """Take the newest step back; None when there is none. Raises Conflict when something was changed from outside since, unless `force`."""
        return journal.undo(self, force)

    def redo(self, force: bool = False) -> Edit | None:
        """Do the step that was taken back last again; None when there is none. Raises Conflict as `undo` does."""
        return journal.redo(self, force)

    def history(self, limit: int = 100) -> list[Edit]:
        """Steps of the journal, newest first."""
        return journal.history(self, limit)

    def revisions(self, name: str) -> list[tuple[float, str, str | None]]:
        """When a picture's caption was changed, by which step, and what it said then, newest first; the last entry (0, "") is from before all steps."""
        return past.revisions(self, name)

    def restore(self, at: float) -> Edit | None:
        """Bring all captions to what they said at a time (seconds since 1970), as one new step; None when they say that already."""
        return past.restore(self, at)
