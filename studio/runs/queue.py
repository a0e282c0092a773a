"""The order of what waits: a job keeps the place of its asking until a person gives it another."""

import math
import sqlite3
from typing import Literal

from studio.errors import Conflict, InputError, NotFound

Where = Literal["first", "last", "before", "after"]
ORDER = "CASE state WHEN 'queued' THEN 2 WHEN 'interrupted' THEN 1 ELSE 0 END, coalesce(place, created), rowid"
"""What runs, then what is taken up again, then what waits."""


def move(db: sqlite3.Connection, name: str, where: Where, other: str = "") -> None:
    """Give a waiting job another place in an open transaction; raises NotFound, Conflict when it does not wait any more, InputError for another place than there is."""
    rows = db.execute(f"SELECT id, coalesce(place, created) FROM jobs WHERE state = 'queued' ORDER BY {ORDER}").fetchall()
    order, places = [row[0] for row in rows], [float(row[1]) for row in rows]
    _known(db, name, order)
    order.remove(name)
    if where in ("before", "after"):
        if other == name:
            return
        _known(db, other, order)
        at = order.index(other) + (where == "after")
    elif where in ("first", "last"):
        at = 0 if where == "first" else len(order)
    else:
        raise InputError(f"There is no place {where!r} in the queue.", "Choose first, last, before or after.")
    order.insert(at, name)
    before = -math.inf
    for each, place in zip(order, places, strict=True):
        before = place if place > before else math.nextafter(before, math.inf)
        db.execute("UPDATE jobs SET place = ? WHERE id = ?", (before, each))


def _known(db: sqlite3.Connection, name: str, waiting: list[str]) -> None:
    """Refuse a job that is not there, or does not wait."""
    if name in waiting:
        return
    row = db.execute("SELECT state FROM jobs WHERE id = ?", (name,)).fetchone()
    if row is None:
        raise NotFound(f"There is no job {name!r}.")
    raise Conflict(f"Job {name} is {row[0]}.", "Only what waits has a place in the queue.")
