"""Saving one caption while a person types: no silent overwriting, and no step of its own for every pause."""

import sqlite3
import time
from typing import TYPE_CHECKING

from studio.projects import journal
from studio.projects.captions import clean_caption
from studio.projects.facts import Change, Edit
from studio.projects.steps import Row, aimed, caption_bytes, disagreement, encoded, printable, same, text_now

if TYPE_CHECKING:
    from studio.projects.project import Project

TOGETHER = 60.0
"""Seconds from the first save of a caption within which more of them belong to the same step."""


def write_caption(project: "Project", name: str, text: str, seen: str | None) -> Edit | None:
    """Save the caption of one picture; None when it says that already. Raises Changed when it says neither this nor what was `seen`."""
    project.picture(name)
    text = clean_caption(text)
    with journal.alone(project):
        aim = aimed(project.folder, [Change(name, "caption", None, text)])[0]
        original = caption_bytes(project.folder / aim.file)
        now = text_now(project.folder, aim, original)
        if (now or "").strip() == text.strip():
            return None
        if clean_caption(seen or "").strip() != (now or ""):
            raise disagreement("changed since you began to write", {name: (seen, now)})
        row = Row(name, "caption", now, text, aim.file, original, time.time())
        step = _open_step(project, row)
        if step is None:
            aim = aimed(project.folder, [Change(name, "caption", now, text)])[0]
            return journal.put(project, f"Caption of {printable(name)}", [aim], journal.AUTOSAVE)
        return _fold(project, step, row)


def _open_step(project: "Project", row: Row) -> int | None:
    """The newest step when it is a save of this caption a moment ago, on which this one follows."""
    with project.sidecar.connect() as db:
        edit = journal.newest(db, "done")
        step = db.execute("SELECT * FROM edits WHERE id = ? AND kind = ?", (edit, journal.AUTOSAVE)).fetchone()
        undone = db.execute("SELECT 1 FROM edits WHERE state = 'undone'").fetchone()
        if step is None or undone is not None or not 0 <= time.time() - step["at"] <= TOGETHER:
            return None
        before = journal.rows_of(db, step["id"])[-1]
    return step["id"] if before.file == row.file and same(before, before.after, row.before) else None


def _fold(project: "Project", edit: int, row: Row) -> Edit:
    """Write a save down as one more change of a step, which becomes one with it when it is in its file."""
    with project.sidecar.connect() as db:
        place = len(journal.rows_of(db, edit))
        rows = journal.rows_of(db, edit)

    def begin(db: sqlite3.Connection) -> None:
        journal.add(db, (edit, "", "", ""), [row], place)
        journal.mark(db, edit, "pending")

    def cancel(db: sqlite3.Connection) -> None:
        db.execute("DELETE FROM changes WHERE edit = ? AND place >= ?", (edit, place))
        journal.mark(db, edit, "done")

    act = journal.Act(begin, cancel, lambda db: journal.close(db, edit, "done", rows))
    journal.switch(project, {row.file: encoded(row.after)}, {row.file: row.original}, act)
    return journal.step(project, edit)
