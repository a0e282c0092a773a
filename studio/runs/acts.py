"""What a person does to a run that is kept: name it, note something, move it to the trash and back, clone its settings."""

import json
import re
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from studio.errors import Conflict, InputError, NotFound
from studio.files import atomic_write
from studio.jobs import Job
from studio.requests.train import config_class
from studio.runs.reading import FIRST, job_of, settled, view
from studio.runs.tails import Tail, objects, read_object
from studio.settings import Paths
from studio.trash import free, move, of, told

LONGEST_TITLE, LONGEST_NOTE = 120, 20_000


def run_folder(paths: Paths, name: str) -> Path:
    """The folder of a run; raises NotFound, also for a name that points elsewhere."""
    folder = paths.runs / name
    if not name or name.startswith(".") or Path(name).name != name or "\\" in name or "\0" in name or not folder.is_dir() or folder.is_symlink():
        raise NotFound(f"There is no run {name[:120]!r}.", "It may have been moved to the trash; the table shows those that are there.")
    return folder


def rename(folder: Path, title: str) -> dict[str, Any]:
    """Give a run a title; its folder stays. Empty takes the title away. Raises InputError."""
    clean = " ".join(title.split())
    if len(clean) > LONGEST_TITLE:
        raise InputError(f"The name has {len(clean)} letters.", f"Use at most {LONGEST_TITLE}.")
    return _say(folder, title=clean)


def note(folder: Path, text: str) -> dict[str, Any]:
    """Keep a note beside a run; raises InputError when it is too long."""
    if len(text) > LONGEST_NOTE:
        raise InputError(f"The note has {len(text)} letters.", f"Use at most {LONGEST_NOTE}.")
    return _say(folder, note=text)


def _say(folder: Path, **values: Any) -> dict[str, Any]:
    """Change some facts that a person gave a run."""
    said = {**read_object(folder / "run.json"), **values}
    with told(f"{folder.name} was not changed"), atomic_write(folder / "run.json") as temporary:
        temporary.write_text(json.dumps(said, indent=2, ensure_ascii=False), encoding="utf-8")
    return said


def clone(folder: Path) -> dict[str, Any]:
    """The settings of a run as they were in the end, as the form of its method takes them; settings of other versions that are unknown here are left out. Raises NotFound."""
    noted = read_object(folder / "config.json")
    config = noted.get("config")
    if not isinstance(config, dict) or not config:
        raise NotFound(f"The settings of {folder.name} cannot be read.")
    changes = list(objects(Tail(folder / "journal.jsonl").lines()))
    known = knobs_of(str(noted.get("method", FIRST)))
    return {name: value for name, value in settled(config, changes).items() if name in known}


def knobs_of(method: str) -> Collection[str]:
    """Names of the knobs of a method; raises NotFound for one of another version."""
    try:
        return config_class(method).model_fields
    except ValueError as error:
        raise NotFound(f"Method: {error}", "A newer studio may know it.") from error


def going_on(paths: Paths, name: str, jobs: Sequence[Job], steps: int = 0) -> dict[str, Any]:
    """The values of the TrainRequest that goes on with a run, to its end or a later one; raises Conflict while it runs, InputError when nothing is left to do."""
    folder = run_folder(paths, name)
    job = job_of(name, jobs)
    if job is not None and not job.state.over:
        raise Conflict(f"{name} is {job.state}.", "It goes on by itself; watch it in Train.")
    known = view(folder, job, {})
    done, end = int(known["step"] or 0), int(steps or known["end"] or 0)
    if end <= done:
        raise InputError(f"Steps: this run has taken {done}; {end} leaves nothing to do.", "Extend it to a later step.")
    return {"method": known["method"], "config": {**clone(folder), "steps": end}, "run": name}


def trash(paths: Paths, name: str, jobs: Sequence[Job]) -> dict[str, str]:
    """Move a run to outputs/trash/runs, where `restore` finds it; raises Conflict while it runs or waits."""
    folder = run_folder(paths, name)
    job = job_of(name, jobs)
    if job is not None and not job.state.over:
        raise Conflict(f"{name} is {job.state}.", "Stop it first; then it can be moved to the trash.")
    place = of(paths, "runs")
    target = free(place / name)
    with told(f"{name} was not moved"):
        place.mkdir(parents=True, exist_ok=True)
        move([(folder, target)])
    return {"id": name, "trashed": target.name}


def restore(paths: Paths, trashed: str) -> dict[str, str]:
    """Bring a run back from the trash; raises NotFound, and Conflict when its place is taken."""
    source = of(paths, "runs") / trashed
    if not trashed or Path(trashed).name != trashed or trashed.startswith(".") or not source.is_dir():
        raise NotFound(f"There is no run {trashed[:120]!r} in the trash.")
    name = re.sub(r"~\d+$", "", trashed)
    if (paths.runs / name).exists():
        raise Conflict(f"There is a run {name} already.", "Move that one to the trash first.")
    with told(f"{name} was not brought back"):
        move([(source, paths.runs / name)])
    return {"id": name}


def trashed(paths: Paths) -> list[str]:
    """Runs in the trash, newest first."""
    place = of(paths, "runs")
    found = [folder for folder in place.iterdir() if folder.is_dir()] if place.is_dir() else []
    return [folder.name for folder in sorted(found, key=lambda f: f.stat().st_mtime, reverse=True)]
