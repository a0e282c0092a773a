"""What captions said at earlier times: the versions of one picture's, and all of them as of a time as a new step."""

import sqlite3
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from studio.projects import journal
from studio.projects.captions import decode_caption, own_caption_name
from studio.projects.facts import Change, Edit
from studio.projects.sidecar import key
from studio.projects.steps import Aim, Row, caption_bytes
from studio.projects.text_encodings import guess_for

if TYPE_CHECKING:
    from studio.projects.project import Project

_EVENTS = """
SELECT changes.*, edits.name AS edit_name, turns.way AS way, turns.at AS turned, turns.seq AS seq, (SELECT min(seq) FROM turns AS first WHERE first.edit = edits.id) AS first
FROM turns JOIN edits ON edits.id = turns.edit JOIN changes ON changes.edit = edits.id
WHERE changes.field IN ('caption', 'own_caption') AND (:item = '' OR changes.item = :item)
ORDER BY turns.seq, CASE turns.way WHEN 'after' THEN place ELSE -place END
"""


@dataclass(frozen=True)
class _Event:
    """One moment at which a caption file came to say something; `was` is what it had said."""

    at: float
    name: str
    row: Row
    text: str | None
    was: str | None


def _events(db: sqlite3.Connection, item: str = "") -> list[_Event]:
    """All such moments in order, of one picture or of all."""
    found = []
    for line in db.execute(_EVENTS, {"item": key(item) if item else ""}):
        row, again = Row.of(line), line["seq"] != line["first"]
        forward = line["way"] == "after"
        name = f"Redo: {line['edit_name']}" if forward and again else line["edit_name"] if forward else f"Undo: {line['edit_name']}"
        text, was = (row.after, row.before) if forward else (row.before, row.after)
        found.append(_Event(line["turned"] if again else row.at, name, row, text, was))
    return found


def revisions(project: "Project", name: str) -> list[tuple[float, str, str | None]]:
    """When a picture's caption was changed, by which step, and what it said then (None: no file), newest first; the last entry, at 0 and without a name, is from before all steps."""
    project.picture(name)
    with project.sidecar.connect() as db:
        events = _events(db, name)
    first = [(0.0, "", events[0].was)] if events else []
    return [*((event.at, event.name, event.text) for event in reversed(events)), *first]


def restore(project: "Project", at: float) -> Edit | None:
    """Bring captions to what they said at a time (seconds since 1970), as one new step; None when they say that. What was changed from outside since is brought back too."""
    day = "" if time.strftime("%x", time.localtime(at)) == time.strftime("%x") else "%Y-%m-%d "
    name = f"Captions as of {time.strftime(f'{day}%H:%M', time.localtime(at))}"
    with journal.alone(project):
        with project.sidecar.connect() as db:
            events = _events(db)
        files: dict[str, list[_Event]] = {}
        for event in events:
            files.setdefault(event.row.file, []).append(event)
        aims = [aim for file, moments in files.items() if (aim := _aim(project, file, moments, at)) is not None]
        return journal.put(project, name, aims)


def _aim(project: "Project", file: str, moments: list[_Event], at: float) -> Aim | None:
    """The change that brings one file to what it said; None when it says that, belongs to no picture any more, or when nothing is known to have happened since."""
    item = moments[0].row.item
    path = project.folder / file
    earlier = [event for event in moments if event.at <= at]
    text = earlier[-1].text if earlier else moments[0].was
    data = caption_bytes(path)
    now = None if data is None else decode_caption(data, guess_for(project.folder))
    untouched = len(earlier) == len(moments) and (data is None or path.stat().st_mtime <= at)
    if now == (text if text is None else text.strip()) or untouched or not (project.folder / item).is_file():
        return None
    return Aim(Change(item, "own_caption" if file == own_caption_name(item) else "caption", now, text), file)
