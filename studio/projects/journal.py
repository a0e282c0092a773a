"""The journal of a data set: named steps, written down before they are applied, so that a killed one is completed at the next start."""

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from studio.errors import Conflict
from studio.files import atomic_write
from studio.projects.captions import caption_file, existing_caption
from studio.projects.facts import Change, Choices, Crop, Edit

if TYPE_CHECKING:
    from studio.projects.project import Project


def apply(project: "Project", name: str, changes: Sequence[Change]) -> Edit | None:
    """Write the step down, apply it, mark it done; what had been undone can no longer be redone."""
    real = [change for change in changes if change.before != change.after]
    if not real:
        return None
    with project.sidecar.connect(write=True) as db:
        db.execute("UPDATE edits SET state = 'dropped' WHERE state = 'undone'")
        edit = db.execute("INSERT INTO edits (name, at, state) VALUES (?, ?, 'pending')", (name, time.time())).lastrowid
        rows = [(edit, place, c.item, c.field, _json(c.before), _json(c.after), _original(project, c)) for place, c in enumerate(real)]
        db.executemany("INSERT INTO changes VALUES (?, ?, ?, ?, ?, ?, ?)", rows)
    _put(project, [(c.item, c.field, c.after) for c in real])
    return _close(project, int(edit or 0), "done")


def undo(project: "Project") -> Edit | None:
    """Take the newest done step back."""
    return _turn(project, "SELECT max(id) FROM edits WHERE state = 'done'", "after", "before", "undone")


def redo(project: "Project") -> Edit | None:
    """Do the oldest undone step again."""
    return _turn(project, "SELECT min(id) FROM edits WHERE state = 'undone'", "before", "after", "done")


def _turn(project: "Project", query: str, now: str, then: str, state: str) -> Edit | None:
    """Move one step from its `now` values to its `then` values."""
    with project.sidecar.connect() as db:
        edit = db.execute(query).fetchone()[0]
        rows = db.execute("SELECT * FROM changes WHERE edit = ? ORDER BY place", (edit,)).fetchall()
    if edit is None:
        return None
    for row in rows:
        if row["field"] == "caption" and _caption(project, row["item"]) != json.loads(row[now]):
            raise Conflict(f"The caption of {row['item']} was changed outside the studio since.", "Look at it first; nothing was changed.")
    _put(project, [(row["item"], row["field"], json.loads(row[then])) for row in rows])
    return _close(project, edit, state)


def recover(project: "Project") -> list[Edit]:
    """Complete the steps that a crash left half done; returns them."""
    with project.sidecar.connect() as db:
        pending = [row["id"] for row in db.execute("SELECT id FROM edits WHERE state = 'pending' ORDER BY id")]
    found = []
    for edit in pending:
        with project.sidecar.connect() as db:
            rows = db.execute("SELECT * FROM changes WHERE edit = ? ORDER BY place", (edit,)).fetchall()
        _put(project, [(row["item"], row["field"], json.loads(row["after"])) for row in rows])
        found.append(_close(project, edit, "done"))
    return found


def history(project: "Project", limit: int) -> list[Edit]:
    """Steps, newest first."""
    with project.sidecar.connect() as db:
        rows = db.execute("SELECT edits.*, (SELECT count(*) FROM changes WHERE edit = edits.id) AS count FROM edits WHERE state != 'dropped' ORDER BY id DESC LIMIT ?", (limit,)).fetchall()
    return [Edit(row["id"], row["name"], row["at"], row["count"], row["state"]) for row in rows]


def _close(project: "Project", edit: int, state: str) -> Edit:
    """Mark a step and return it."""
    with project.sidecar.connect(write=True) as db:
        db.execute("UPDATE edits SET state = ? WHERE id = ?", (state, edit))
    return next(found for found in history(project, 1_000_000) if found.id == edit)


def _put(project: "Project", values: Sequence[tuple[str, str, Any]]) -> None:
    """Bring fields of pictures to these values."""
    for item, field, value in values:
        if field == "caption":
            _put_caption(project.folder / item, value)
        else:
            _put_choice(project, item, field, value)


def _put_caption(image: Path, text: str | None) -> None:
    """Write or remove a caption file."""
    file = caption_file(image)
    if text is None:
        file.unlink(missing_ok=True)
        return
    with atomic_write(file) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _put_choice(project: "Project", item: str, field: str, value: Any) -> None:
    """Keep one decision."""
    with project.sidecar.connect(write=True) as db:
        row = db.execute("SELECT choices FROM choices WHERE item = ?", (item,)).fetchone()
        values = json.loads(row["choices"]) if row else Choices().as_json()
        values[field] = value
        db.execute("INSERT OR REPLACE INTO choices VALUES (?, ?)", (item, json.dumps(values)))


def _caption(project: "Project", item: str) -> str | None:
    """What a caption file says; None without one."""
    image = project.folder / item
    return existing_caption(image) if caption_file(image).is_file() else None


def _original(project: "Project", change: Change) -> bytes | None:
    """The bytes of the caption file before the first edit touched it."""
    file = caption_file(project.folder / change.item)
    return file.read_bytes() if change.field == "caption" and file.is_file() else None


def _json(value: Any) -> str:
    """A value as the journal keeps it."""
    return json.dumps({"x": value.x, "y": value.y, "zoom": value.zoom} if isinstance(value, Crop) else value, ensure_ascii=False)
