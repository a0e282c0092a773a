"""The journal of a data set: named steps, written down before any file is touched, so that one a crash cut short is completed at the next start."""

import json
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from studio.errors import Conflict, StudioError
from studio.projects.facts import Change, Choices, Edit
from studio.projects.sidecar import key, unkey
from studio.projects.staging import Content, HalfDone, Staging
from studio.projects.steps import FILES, Aim, Row, aimed, caption_bytes, choice_of, disagreement, kept_mask, planned, printable, same, says, written

if TYPE_CHECKING:
    from studio.projects.project import Project

AUTOSAVE = "autosave"
"""Kind of the steps that typing makes; those of one picture within a short time are one step."""
_UNFINISHED = ("pending", "undoing", "redoing", "open")
_LEFT = "SELECT id, state, applied FROM edits WHERE state IN ('pending', 'undoing', 'redoing', 'open') ORDER BY id"
_SELECT = "SELECT edits.*, (SELECT count(*) FROM changes WHERE edit = edits.id) AS count FROM edits"


@dataclass(frozen=True)
class Recovered(Edit):
    """A step that a crash had cut short and that is complete now; `kept` names pictures whose files somebody else had changed since, which were left as they are."""

    kept: tuple[str, ...] = ()


@dataclass(frozen=True)
class Act:
    """What moves one step: the transaction that writes it down, the one that strikes it out again when the disk refuses, and the one that closes it."""

    begin: Callable[[sqlite3.Connection], None]
    cancel: Callable[[sqlite3.Connection], None]
    finish: Callable[[sqlite3.Connection], None]


def apply(project: "Project", name: str, changes: Sequence[Change]) -> Edit | None:
    """Write the step down, apply it, mark it done; what had been undone can no longer be redone."""
    for change in changes:
        project.picture(change.item)
    with alone(project):
        return put(project, name, aimed(project.folder, changes))


def put(project: "Project", name: str, aims: Sequence[Aim], kind: str = "") -> Edit | None:
    """Apply changes that are aimed already as one new step; the caller holds the lock."""
    rows = planned(project.folder, aims, choices(project))
    if not rows:
        return None
    edit = next_id(project)
    act = Act(
        lambda db: add(db, (edit, name, kind, "pending"), rows),
        lambda db: strike(db, edit),
        lambda db: close(db, edit, "done", rows),
    )
    move(project, rows, "after", act)
    return step(project, edit)


def next_id(project: "Project") -> int:
    """The number of the next step; the caller holds the lock."""
    with project.sidecar.connect() as db:
        return int(db.execute("SELECT coalesce(max(seq), 0) + 1 FROM sqlite_sequence WHERE name = 'edits'").fetchone()[0])


def move(project: "Project", rows: Sequence[Row], way: str, act: Act) -> None:
    """Bring the files of rows to what they hold after ("after") or before ("before") them: staged, written down, switched, closed."""
    ends = list(file_ends(rows).values())
    targets = {last.file: written(project.folder, last if way == "after" else first, way) for first, last in ends}
    switch(project, targets, {first.file: _was(project, first) for first, _ in ends}, act)


def switch(project: "Project", targets: Mapping[str, Content], was: Mapping[str, Content], act: Act) -> None:
    """Write contents, with a transaction before and after; when the disk refuses everything is as before and StudioError says why."""
    staging = Staging(project.folder)
    staging.prepare({file: content for file, content in targets.items() if content != was[file]})
    try:
        with project.sidecar.connect(write=True) as db:
            act.begin(db)
    except BaseException:
        staging.clear()
        raise
    try:
        staging.switch(was)
    except HalfDone:
        raise
    except StudioError:
        with project.sidecar.connect(write=True) as db:
            act.cancel(db)
        raise
    with project.sidecar.connect(write=True) as db:
        act.finish(db)


def file_ends(rows: Iterable[Row]) -> dict[str, tuple[Row, Row]]:
    """First and last row of every file that rows write."""
    ends: dict[str, tuple[Row, Row]] = {}
    for row in rows:
        if row.field in FILES:
            ends[row.file] = (ends.get(row.file, (row, row))[0], row)
    return ends


def _was(project: "Project", row: Row) -> Content:
    """What a file holds at this moment, to put back when the disk refuses."""
    if row.field == "mask":
        digest = says(project.folder, row)
        return None if digest is None else kept_mask(project.folder, digest)
    return caption_bytes(project.folder / row.file)


def add(db: sqlite3.Connection, edit: tuple[int, str, str, str], rows: Sequence[Row], place: int = 0) -> None:
    """Write a step (id, name, kind, state) and its rows down; a step that is there gets more rows."""
    number, name, kind, state = edit
    db.execute("INSERT OR IGNORE INTO edits (id, name, at, state, kind) VALUES (?, ?, ?, ?, ?)", (number, printable(name), time.time(), state, kind))
    db.executemany("INSERT INTO changes (edit, place, item, field, before, after, original, file, at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", [r.values(number, place + n) for n, r in enumerate(rows)])


def strike(db: sqlite3.Connection, edit: int) -> None:
    """Take a step out of the journal that never happened."""
    db.execute("DELETE FROM changes WHERE edit = ?", (edit,))
    db.execute("DELETE FROM edits WHERE id = ?", (edit,))


def close(db: sqlite3.Connection, edit: int, state: str, rows: Iterable[Row]) -> None:
    """Keep the step's choices and mark it done or undone; doing something new drops what was undone."""
    way = "before" if state == "undone" else "after"
    put_choices(db, rows, way)
    previous = db.execute("SELECT state FROM edits WHERE id = ?", (edit,)).fetchone()[0]
    if previous in ("pending", "open"):
        db.execute("UPDATE edits SET state = 'dropped' WHERE state = 'undone'")
    mark(db, edit, state)
    fold(db, edit)
    last = db.execute("SELECT way FROM turns WHERE edit = ? ORDER BY seq DESC LIMIT 1", (edit,)).fetchone()
    if last is None or last[0] != way:
        db.execute("INSERT INTO turns (edit, at, way) VALUES (?, ?, ?)", (edit, time.time(), way))


def fold(db: sqlite3.Connection, edit: int) -> None:
    """Make one change of the many that autosaving wrote down: from before the first to after the last."""
    last = db.execute("SELECT changes.* FROM changes JOIN edits ON edits.id = edit WHERE edit = ? AND kind = ? ORDER BY place DESC LIMIT 1", (edit, AUTOSAVE)).fetchone()
    if last is not None and last["place"]:
        db.execute("UPDATE changes SET after = ?, at = ? WHERE edit = ? AND place = 0", (last["after"], last["at"], edit))
        db.execute("DELETE FROM changes WHERE edit = ? AND place > 0", (edit,))


def put_choices(db: sqlite3.Connection, rows: Iterable[Row], way: str) -> None:
    """Bring the choices among rows to their values after or before them."""
    for (item, field), value in _choice_values(rows, way).items():
        kept = db.execute("SELECT choices FROM choices WHERE item = ?", (key(item),)).fetchone()
        values = {**Choices().as_json(), **(json.loads(kept["choices"]) if kept else {}), field: value}
        db.execute("INSERT OR REPLACE INTO choices (item, choices, revision) VALUES (?, ?, (SELECT revision + 1 FROM counter))", (key(item), json.dumps(values)))


def _choice_values(rows: Iterable[Row], way: str) -> dict[tuple[str, str], Any]:
    """Choices by picture and field after or before rows."""
    values: dict[tuple[str, str], Any] = {}
    for row in rows:
        if row.field not in FILES:
            values[row.item, row.field] = row.after if way == "after" else values.get((row.item, row.field), row.before)
    return values


def undo(project: "Project", force: bool = False) -> Edit | None:
    """Take the newest done step back; `force` does it also over what was changed from outside."""
    return _turn(project, ("done", "undoing", "undone"), force)


def redo(project: "Project", force: bool = False) -> Edit | None:
    """Do the step that was taken back last again."""
    return _turn(project, ("undone", "redoing", "done"), force)


def _turn(project: "Project", states: tuple[str, str, str], force: bool) -> Edit | None:
    """Move the step that came last into the first state through the second into the third."""
    old, through, new = states
    with alone(project):
        with project.sidecar.connect() as db:
            edit = newest(db, old)
            if edit is None:
                return None
            rows = rows_of(db, edit)
            name = db.execute("SELECT name FROM edits WHERE id = ?", (edit,)).fetchone()[0]
        way = "before" if new == "undone" else "after"
        foreign = _foreign(project, rows, way)
        if foreign and not force:
            raise disagreement(f"changed outside of the studio or by a later step since “{name}”", {row.item: (row.before, row.after) for row in foreign})
        outside = next_id(project)

        def finish(db: sqlite3.Connection) -> None:
            _note(db, outside, foreign)
            close(db, edit, new, rows)

        move(project, rows, way, Act(lambda db: mark(db, edit, through), lambda db: mark(db, edit, old), finish))
        return step(project, edit)


def _note(db: sqlite3.Connection, edit: int, rows: Sequence[Row]) -> None:
    """Keep what was written from outside and is about to go, among the earlier texts of its pictures; it is no step that can be undone."""
    texts = [row for row in rows if row.file]
    if texts:
        add(db, (edit, "Changed outside of the studio", "", "dropped"), texts)
        db.execute("INSERT INTO turns (edit, at, way) VALUES (?, ?, 'after')", (edit, time.time()))


def newest(db: sqlite3.Connection, state: str) -> int | None:
    """The step that came last into a state; None without one."""
    row = db.execute("SELECT edits.id FROM edits JOIN turns ON turns.edit = edits.id WHERE edits.state = ? ORDER BY turns.seq DESC LIMIT 1", (state,)).fetchone()
    return None if row is None else int(row[0])


def mark(db: sqlite3.Connection, edit: int, state: str) -> None:
    """Put a step into a state."""
    db.execute("UPDATE edits SET state = ? WHERE id = ?", (state, edit))


def _foreign(project: "Project", rows: Sequence[Row], way: str) -> list[Row]:
    """What is neither as the step left it nor as it shall become: from what the step left to what is there now."""
    found = []
    for first, last in file_ends(rows).values():
        now, left, wanted = says(project.folder, last), *((last.after, first.before) if way == "before" else (first.before, last.after))
        if not same(last, now, left) and not same(last, now, wanted):
            found.append(replace(last, before=left, after=now, original=None, at=time.time()))
    known, back = choices(project), _choice_values(rows, way)
    for (item, field), left in _choice_values(rows, "after" if way == "before" else "before").items():
        now = choice_of(known.get(item), field)
        if now not in (left, back[item, field]):
            found.append(Row(item, field, left, now))
    return found


@contextmanager
def alone(project: "Project", wait: float | None = None) -> Iterator[None]:
    """Hold the data set for one edit, after completing what a dead process left. Raises Conflict when somebody else holds it for too long."""
    with project.sidecar.alone(wait):
        project.recovered.extend(_complete(project))
        yield


def recover(project: "Project") -> None:
    """Complete the steps that a crash left half done, into `project.recovered`; those of a living process are left to it."""
    with project.sidecar.connect() as db:
        if db.execute(_LEFT).fetchone() is None:
            return
    try:
        with alone(project, 0.0):
            return
    except Conflict:
        return


def _complete(project: "Project") -> list[Recovered]:
    """Complete every step that nobody is working at; the caller holds the lock, so whoever began it is dead."""
    with project.sidecar.connect() as db:
        left = db.execute(_LEFT).fetchall()
    found = []
    for edit, state, applied in left:
        if state != "open":
            found.append(_finish(project, edit, "before" if state == "undoing" else "after", 0))
            continue
        try:
            with project.sidecar.alone(0.0, stream_lock(edit)):
                found.append(_finish(project, edit, "after", applied))
            project.sidecar.path.with_name(f"{stream_lock(edit)}.lock").unlink(missing_ok=True)
        except Conflict:
            continue  # the job that writes it lives
    return [done for done in found if done is not None]


def stream_lock(edit: int) -> str:
    """Name of the lock that says that the writer of an open step lives."""
    return f"stream-{edit}"


def _finish(project: "Project", edit: int, way: str, skip: int) -> Recovered | None:
    """Complete one step, all but its first changes; files that hold something else than the step knows of are left as they are. None when it was empty."""
    with project.sidecar.connect() as db:
        rows = rows_of(db, edit)
    if not rows:
        with project.sidecar.connect(write=True) as db:
            strike(db, edit)
        return None
    targets, was, kept = {}, {}, []
    for first, last in file_ends(rows[skip:]).values():
        wanted, now = last.after if way == "after" else first.before, says(project.folder, last)
        known = [value for row in rows[skip:] if row.file == last.file for value in (row.before, row.after)]
        if any(same(last, now, value) for value in known):
            targets[last.file], was[last.file] = written(project.folder, last if way == "after" else first, way), _was(project, last)
        elif not same(last, now, wanted):
            kept.append(last.item)
    act = Act(lambda db: None, lambda db: None, lambda db: close(db, edit, "done" if way == "after" else "undone", rows[skip:]))
    switch(project, targets, was, act)
    return Recovered(**asdict(step(project, edit)), kept=tuple(kept))


def choices(project: "Project") -> dict[str, Choices]:
    """What was decided about each picture."""
    with project.sidecar.connect() as db:
        return {unkey(row["item"]): Choices.from_json(json.loads(row["choices"])) for row in db.execute("SELECT item, choices FROM choices")}


def rows_of(db: sqlite3.Connection, edit: int) -> list[Row]:
    """The changes of a step in order."""
    return [Row.of(row) for row in db.execute("SELECT * FROM changes WHERE edit = ? ORDER BY place", (edit,))]


def history(project: "Project", limit: int) -> list[Edit]:
    """Steps, newest first."""
    with project.sidecar.connect() as db:
        rows = db.execute(f"{_SELECT} WHERE state != 'dropped' ORDER BY coalesce((SELECT min(seq) FROM turns WHERE edit = edits.id), 9e18) DESC, id DESC LIMIT ?", (limit,)).fetchall()
    return [_as_edit(row) for row in rows]


def step(project: "Project", edit: int) -> Edit:
    """One step."""
    with project.sidecar.connect() as db:
        return _as_edit(db.execute(f"{_SELECT} WHERE id = ?", (edit,)).fetchone())


def _as_edit(row: sqlite3.Row) -> Edit:
    """A step as it is shown: whatever moves it, it is being applied."""
    return Edit(row["id"], row["name"], row["at"], row["count"], "pending" if row["state"] in _UNFINISHED else row["state"])
