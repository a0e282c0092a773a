"""Steps that a long job writes change by change: each is in its file when the next begins, and all are one entry of the history."""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from studio.projects import journal
from studio.projects.facts import Change
from studio.projects.steps import aimed, planned

if TYPE_CHECKING:
    from studio.projects.project import Project


class Stream:
    """An open step; other edits may come between its changes."""

    def __init__(self, project: "Project", edit: int) -> None:
        self.project = project
        self.edit = edit
        self.count = 0

    def add(self, changes: Sequence[Change]) -> int:
        """Apply changes, all or none, durably; returns how many really changed something. Raises Conflict when a `before` is no longer true, the step stays open."""
        for change in changes:
            self.project.picture(change.item)
        with journal.alone(self.project):
            rows = planned(self.project.folder, aimed(self.project.folder, changes), journal.choices(self.project))
            if rows:
                journal.move(self.project, rows, "after", self._act(rows))
                self.count += len(rows)
        return len(rows)

    def _act(self, rows: list[journal.Row]) -> journal.Act:
        """What adding does in the journal."""
        place = self.count

        def finish(db: sqlite3.Connection) -> None:
            journal.put_choices(db, rows, "after")
            db.execute("UPDATE edits SET applied = ? WHERE id = ?", (place + len(rows), self.edit))

        return journal.Act(
            lambda db: journal.add(db, (self.edit, "", "", ""), rows, place),
            lambda db: db.execute("DELETE FROM changes WHERE edit = ? AND place >= ?", (self.edit, place)),
            finish,
        )


@contextmanager
def edit_stream(project: "Project", name: str) -> Iterator[Stream]:
    """An open step, marked done when the block ends, also by an exception; without changes it leaves no trace."""
    with ExitStack() as held:
        with journal.alone(project):
            edit = journal.next_id(project)
            held.enter_context(project.sidecar.alone(0.0, journal.stream_lock(edit)))
            with project.sidecar.connect(write=True) as db:
                journal.add(db, (edit, name, "", "open"), [])
        stream = Stream(project, edit)
        try:
            yield stream
        finally:
            _close(project, stream)


def _close(project: "Project", stream: Stream) -> None:
    """Mark the step done, or strike it out when nothing was added."""
    with journal.alone(project), project.sidecar.connect(write=True) as db:
        if stream.count:
            journal.close(db, stream.edit, "done", ())
        else:
            journal.strike(db, stream.edit)
    project.sidecar.path.with_name(f"{journal.stream_lock(stream.edit)}.lock").unlink(missing_ok=True)
