"""Files that grow while a run goes on, read from where the last look ended, and lines of points kept few."""

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

MOST = 600
"""Points that are kept of a line; more cannot be seen."""

Point = list[Any]


class Tail:
    """A text file that grows: `lines` gives what is new and whole since the last look; `fresh` says that the file was begun anew."""

    def __init__(self, path: Path) -> None:
        self.path, self.fresh = path, True
        self._offset, self._file = 0, (0, 0)

    def lines(self) -> list[str]:
        """Whole lines that were not given yet; a file that was cut back or replaced is given from its start."""
        self.fresh = False
        try:
            with self.path.open("rb") as file:
                self._place(file.fileno())
                file.seek(self._offset)
                data = file.read()
        except OSError:
            self.fresh, self._offset, self._file = True, 0, (0, 0)
            return []
        whole = data[: data.rfind(b"\n") + 1]
        self._offset += len(whole)
        return whole.decode("utf-8", errors="replace").splitlines()

    def _place(self, handle: int) -> None:
        """Go back to the start when this is another file, or one that became shorter."""
        now = os.fstat(handle)
        if self._file != (now.st_dev, now.st_ino) or now.st_size < self._offset:
            self.fresh, self._offset = True, 0
            self._file = (now.st_dev, now.st_ino)


class Line:
    """Points of a line, at most MOST: of each stretch the lowest and the highest stay, so that spikes are not hidden."""

    def __init__(self, most: int = MOST) -> None:
        self.most, self.newest = most, None
        self._size, self._groups, self._kept = 1, [], 0
        self._in_last = 0

    _groups: list[list[Point]]
    newest: Point | None

    def add(self, point: Point) -> None:
        """Take one point (step, value, more); costs the same however many there are."""
        self.newest = point
        if not self._groups or self._in_last >= self._size:
            self._groups.append([])
            self._in_last = 0
        before = len(self._groups[-1])
        self._groups[-1] = _outer([*self._groups[-1], point])
        self._in_last += 1
        self._kept += len(self._groups[-1]) - before
        if self._kept >= self.most:
            self._merge()

    def _merge(self) -> None:
        """Make stretches twice as long."""
        pairs = [self._groups[at : at + 2] for at in range(0, len(self._groups), 2)]
        if len(pairs[-1]) == 2:
            self._in_last += self._size
        self._size *= 2
        self._groups = [_outer([point for group in pair for point in group]) for pair in pairs]
        self._kept = sum(len(group) for group in self._groups)

    def points(self) -> list[Point]:
        """What is kept, by step; the newest point always."""
        kept = [point for group in self._groups for point in group]
        return kept if not kept or self.newest is None or kept[-1] is self.newest else [*kept, self.newest]


def _outer(points: Sequence[Point]) -> list[Point]:
    """The lowest and the highest of some points, in their order."""
    if len(points) < 2:
        return list(points)
    order = range(len(points))
    ends = {min(order, key=lambda i: points[i][1]), max(order, key=lambda i: points[i][1])}
    return [points[i] for i in sorted(ends)]


def objects(lines: Sequence[str]) -> Iterator[dict[str, Any]]:
    """The JSON objects of lines; what is damaged is passed over."""
    for line in lines:
        try:
            value = json.loads(line)
        except ValueError:
            continue
        if isinstance(value, dict):
            yield value


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object of a file; empty when there is none, or it is damaged."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def numbers(line: str, count: int) -> list[float | None] | None:
    """The numbers of a line of a CSV, `count` of them, None for what is empty or not finite; None when the line is damaged or its heading."""
    cells = line.split(",")
    if len(cells) < count or not cells[0].isdigit():
        return None
    try:
        found = [float(cell) if cell else None for cell in cells[:count]]
    except ValueError:
        return None
    return [None if value is None or value - value != 0 else value for value in found]
