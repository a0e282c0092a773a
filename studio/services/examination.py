"""Examine: every picture of a data set is measured once, on all cores, and what was found is kept beside the pictures."""

import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from studio.dataset.examine import examine
from studio.dataset.faces import yunet_file
from studio.errors import StudioError
from studio.jobs import Lane
from studio.projects.facts import Facts
from studio.projects.project import Project
from studio.requests.examine import ExamineRequest
from studio.services.desk import Desk
from studio.services.preprocess import crew_for

BATCH = 64
"""Pictures whose facts are kept together."""
PAUSE = 0.5
"""Seconds after which what was found is kept and told, however little it is."""


def run(request: ExamineRequest, lane: Lane, desk: Desk) -> dict[str, Any]:
    """Measure the pictures that have no facts, or all again; returns how many were measured and which cannot be used, with reasons."""
    project = Project(Path(request.folder))
    names = [item.name for item in project.items() if request.again or item.facts is None]
    examined, stopped = measure_all(project, names, lane, yunet=yunet_file(desk.paths.opencv))
    problems = [{"source": item.name, "reason": item.facts.problem} for item in project.items() if item.facts is not None and item.facts.problem]
    result: dict[str, Any] = {"examined": examined, "problems": problems}
    return {**result, "stopped": True} if stopped else result


def measure_all(project: Project, names: list[str], lane: Lane, total: int | None = None, yunet: Path | None = None) -> tuple[int, bool]:
    """Measure these pictures and keep the facts as they come; returns how many were measured, and whether a stop was asked. `total` counts what comes after it too."""
    total = len(names) if total is None else total
    begun = told = time.monotonic()
    count, waiting, stopped = 0, list[tuple[str, Facts]](), False

    def tasks() -> Iterator[Path]:
        nonlocal stopped
        for name in names:
            stopped = stopped or lane.stopping()
            if stopped:
                return
            yield project.folder / name

    lane.emit("progress", step=0, total=total, text=names[0] if names else "")
    with crew_for([path for name in names if (path := project.folder / name).is_file()]) as crew:
        for index, found in crew.run(partial(examine, yunet=yunet), tasks()):
            waiting.append((names[index], Facts(problem=str(found)) if isinstance(found, StudioError) else found))
            count += 1
            if len(waiting) >= BATCH or time.monotonic() - told > PAUSE:
                told = time.monotonic()
                _keep(project, waiting)
                lane.emit("progress", step=count, total=total, text=names[index], rate=round(count / max(1e-6, told - begun), 2))
                lane.breathe()
    _keep(project, waiting)
    lane.emit("progress", step=count, total=total, text="", rate=round(count / max(1e-6, time.monotonic() - begun), 2))
    return count, stopped


def _keep(project: Project, waiting: list[tuple[str, Facts]]) -> None:
    """Keep what was found, but for pictures that were taken away meanwhile."""
    there = [(name, facts) for name, facts in waiting if (project.folder / name).is_file()]
    if there:
        project.put_facts(there)
    waiting.clear()
