"""What a person does to a run that is kept: name it, note something, use its weights, move it to the trash and back, clone its settings."""

import json
import os
import re
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from studio.embedding_shelf import check_idle
from studio.errors import Conflict, InputError, NotFound, OutOfSpace, StudioError
from studio.files import atomic_write, sha256
from studio.jobs import Job
from studio.requests.train import TextualInversionConfig, check_name
from studio.runs.reading import job_of, settled, view
from studio.runs.tails import Tail, objects, read_object
from studio.settings import Paths

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
    with _told(folder.name), atomic_write(folder / "run.json") as temporary:
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
    place = paths.outputs / "trash" / "runs"
    return {"id": name, "trashed": _move(folder, _free(place / name)).name}


def restore(paths: Paths, trashed: str) -> dict[str, str]:
    """Bring a run back from the trash; raises NotFound, and Conflict when its place is taken."""
    source = paths.outputs / "trash" / "runs" / trashed
    if not trashed or Path(trashed).name != trashed or trashed.startswith(".") or not source.is_dir():
        raise NotFound(f"There is no run {trashed[:120]!r} in the trash.")
    name = re.sub(r"~\d+$", "", trashed)
    if (paths.runs / name).exists():
        raise Conflict(f"There is a run {name} already.", "Move that one to the trash first.")
    return {"id": _move(source, paths.runs / name).name}


def trashed(paths: Paths) -> list[str]:
    """Runs in the trash, newest first."""
    place = paths.outputs / "trash" / "runs"
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
    with _told(word):
        target = paths.embeddings / f"{word}{source.suffix}"
        replaced = sha256(there[0])[:10] if there else ""
        kept = _copy(there[0], _free(_old(paths) / _stamped(there[0]))).name if there else ""
        _copy(source, target)
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
    with _told(word):
        now = _copy(there, _free(_old(paths) / _stamped(there))).name if there else ""
        target = _copy(source, paths.embeddings / f"{word}{source.suffix}")
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
    return paths.outputs / "trash" / "embeddings"


def _stamped(file: Path) -> str:
    """A file's name with the time."""
    return f"{file.stem}~{time.strftime('%Y%m%d-%H%M%S')}{file.suffix}"


def _free(path: Path) -> Path:
    """The path, or one with a number when it is taken."""
    path.parent.mkdir(parents=True, exist_ok=True)
    number, tried = 2, path
    while tried.exists():
        tried = path.with_name(f"{path.stem}~{number}{path.suffix}") if path.suffix in WEIGHTS else path.with_name(f"{path.name}~{number}")
        number += 1
    return tried


def _copy(source: Path, target: Path) -> Path:
    """Copy a file whole or not at all."""
    with atomic_write(target) as temporary:
        shutil.copyfile(source, temporary)
    return target


def _move(source: Path, target: Path) -> Path:
    """Move a folder on its disk; raises StudioError in words."""
    with _told(source.name):
        os.replace(source, target)
    return target


@contextmanager
def _told(name: str) -> Iterator[None]:
    """Say in words what the disk refused."""
    try:
        yield
    except OSError as error:
        if error.errno == 28:
            raise OutOfSpace(f"The disk is full: {name} was not changed.", "Free some space and try again.") from error
        raise StudioError(f"{name} could not be changed ({error.strerror}).", "Is the disk read-only, or the file open in another program?") from error
