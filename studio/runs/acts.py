"""What a person does to a run that is kept: name it, note something, use its weights, move it to the trash and back, clone its settings."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from studio.embedding_shelf import check_idle
from studio.errors import Conflict, InputError, NotFound
from studio.files import atomic_write, sha256
from studio.jobs import Job
from studio.requests.train import TextualInversionConfig, check_name
from studio.runs.reading import job_of, settled, view
from studio.runs.tails import Tail, objects, read_object
from studio.settings import Paths
from studio.trash import copy, free, move, of, stamped, told

LONGEST_TITLE, LONGEST_NOTE = 120, 20_000
WEIGHTS = (".pt", ".safetensors")
"""Files that can be put on the shelf."""
STAMPED = re.compile(r"(?P<name>.+)~\d{8}-\d{6}(~\d+)?\.(pt|safetensors)")
"""Names of embeddings in the trash."""


def run_folder(paths: Paths, name: str) -> Path:
    """The folder of a run; raises NotFound, also for a name that points elsewhere."""
    folder = paths.runs / name
    if not name or name.startswith(".") or Path(name).name != name or "\\" in name or "\0" in name or not folder.is_dir() or folder.is_symlink():
        raise NotFound(f"There is no run {name[:120]!r}.", "It may have been moved to the trash; the table shows those that are there.")
    return folder


def inside(folder: Path, path: str) -> Path:
    """A file of a run by its path in the folder; raises NotFound, also for a path that leads out of it."""
    try:
        file = (folder / path).resolve()
        ok = file.is_relative_to(folder.resolve()) and file.is_file()
    except (OSError, ValueError):
        ok = False
    if not ok:
        raise NotFound(f"There is no file {path[:120]!r} in {folder.name}.")
    return file


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
    """The settings of a run as they were in the end, as the form takes them; settings of other versions that are unknown here are left out. Raises NotFound."""
    config = read_object(folder / "config.json").get("config")
    if not isinstance(config, dict) or not config:
        raise NotFound(f"The settings of {folder.name} cannot be read.")
    changes = list(objects(Tail(folder / "journal.jsonl").lines()))
    return {name: value for name, value in settled(config, changes).items() if name in TextualInversionConfig.model_fields}


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


def weights_of(folder: Path, which: str | int) -> Path:
    """The file of a run's weights: "best", a step, or a path in the folder; raises NotFound naming the steps there are."""
    if isinstance(which, int) or str(which).isdigit():
        copies = {int(f.stem.rpartition("-")[2]): f for f in (folder / "embeddings").glob("*") if f.suffix in WEIGHTS and f.stem.rpartition("-")[2].isdigit()}
        if int(which) not in copies:
            raise NotFound(f"{folder.name} kept no weights of step {which}.", f"There are: {', '.join(map(str, sorted(copies))) or 'none'}.")
        return inside(folder, f"embeddings/{copies[int(which)].name}")
    if which == "best":
        best = read_object(folder / "best.json").get("path")
        if not isinstance(best, str):
            raise NotFound(f"{folder.name} has no best measurement yet.", "Choose a step instead.")
        return inside(folder, best)
    file = inside(folder, str(which))
    if file.suffix not in WEIGHTS:
        raise InputError(f"{file.name} holds no embedding.", "Choose a file of the folder embeddings.")
    return file


def use(paths: Paths, name: str, which: str | int, new_name: str = "") -> dict[str, str]:
    """Put a run's weights on the shelf under its embedding's name, or a new one; what lay there goes to the trash. Returns what `undo_use` takes. Raises NotFound, InputError, Conflict."""
    folder = run_folder(paths, name)
    source = weights_of(folder, which)
    word = _word(new_name or str(clone(folder).get("embedding", "")))
    check_idle(paths, word, "replaced")
    there = [file for suffix in WEIGHTS if (file := paths.embeddings / f"{word}{suffix}").exists()]
    if new_name and there:
        raise Conflict(f"There is an embedding {word!r} already.", "Choose another name.")
    with told(f"{word} was not changed"):
        target = paths.embeddings / f"{word}{source.suffix}"
        replaced = sha256(there[0])[:10] if there else ""
        kept = _kept(paths, there[0]) if there else ""
        copy(source, target)
        for other in there:
            if other != target:
                other.unlink()
    return {"name": word, "path": str(target), "hash": sha256(target)[:10], "replaced": replaced, "kept": kept}


def undo_use(paths: Paths, kept: str) -> dict[str, str]:
    """Put back the embedding that `use` kept in the trash; what lies in its place goes to the trash in turn. Raises NotFound."""
    source, said = _old(paths) / kept, STAMPED.fullmatch(kept)
    if said is None or Path(kept).name != kept or not source.is_file():
        raise NotFound(f"The embedding {kept[:120]!r} is not in the trash.")
    word = _word(said["name"])
    there = next((file for suffix in WEIGHTS if (file := paths.embeddings / f"{word}{suffix}").exists()), None)
    with told(f"{word} was not changed"):
        now = _kept(paths, there) if there else ""
        target = copy(source, paths.embeddings / f"{word}{source.suffix}")
        if there is not None and there != target:
            there.unlink()
    return {"name": word, "path": str(target), "hash": sha256(target)[:10], "kept": now}


def _word(name: str) -> str:
    """A name that can be a file; raises InputError."""
    try:
        return check_name(name)
    except ValueError as error:
        raise InputError(f"Name: {error}") from error


def _old(paths: Paths) -> Path:
    """Where replaced embeddings lie."""
    return of(paths, "embeddings")


def _kept(paths: Paths, file: Path) -> str:
    """Copy an embedding into the trash, under its name with the time; returns that."""
    return copy(file, free(_old(paths) / f"{stamped(file.stem)}{file.suffix}", file.suffix)).name
