"""Diagnoses of runs that were trained before a diagnosis said its state: made anew from the curve that they left."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from studio.requests.train import check_schedule
from studio.runs.diagnosis import Progress, diagnose, sentence_of
from studio.runs.smoothing import Point
from studio.runs.tails import numbers, read_object

COLUMNS = ("step", "train", "low", "high", "held")
"""Columns of probe.csv that a diagnosis looks at."""


def current(folder: Path, said: Mapping[str, Any] | None, config: Mapping[str, Any]) -> dict[str, Any] | None:
    """What was last said of a run, with its English `sentence`; said anew where an earlier version said it. None when nothing was said."""
    if said is None:
        return None
    if "state" not in said:
        said = _anew(folder, said, config)
    return {**said, "sentence": sentence_of(said)}


def _anew(folder: Path, said: Mapping[str, Any], config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The diagnosis of the curve in a folder; what was said before where there is no curve to speak of."""
    points = measurements(folder / "probe.csv")
    if len(points) < 2:
        return {"state": "too_early", **said}
    rate, end = _rate(folder / "curve.csv"), int(config.get("steps") or 0)
    over = bool(read_object(folder / "result.json").get("state"))
    left = max(0.0, 1 - points[-1].step / end) if end and not over else 0.0 if over else 1.0
    progress = Progress(rate, max(rate, _written(config)), left, over, bool(read_object(folder / "best.json").get("path")))
    return {"step": points[-1].step, **diagnose(points, progress).facts}


def measurements(path: Path) -> list[Point]:
    """The measurements of a probe.csv; lines that are damaged are passed over."""
    found: list[Point] = []
    for line in _lines(path)[1:]:
        row = numbers(line, len(COLUMNS))
        if row is None or row[0] is None or row[1] is None:
            continue
        train = row[1]
        found.append(Point(int(row[0]), train, train if row[2] is None else row[2], train if row[3] is None else row[3], row[4]))
    return found


def _rate(curve: Path) -> float:
    """The learning rate of the newest step; 0 when it is not known."""
    for line in reversed(_lines(curve)):
        row = numbers(line, 4)
        if row is not None and row[3] is not None:
            return row[3]
    return 0.0


def _written(config: Mapping[str, Any]) -> float:
    """The highest learning rate that the settings name; 0 when they cannot be read."""
    try:
        return max(rate for rate, _ in check_schedule(str(config.get("learn_rate") or "")))
    except ValueError:
        return 0.0


def _lines(path: Path) -> list[str]:
    """The lines of a file; none where it cannot be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
