"""Copies of what a run learned, as they lie in its folder: by step, the best one, and what belongs together."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from studio.errors import InputError, NotFound
from studio.runs.tails import read_object
from studio.shelves import EMBEDDING_SUFFIXES

WEIGHTS = EMBEDDING_SUFFIXES
"""Endings of files that hold what was learned."""


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


def noted_shelves(folder: Path) -> dict[str, str]:
    """Where the results of a run lie, as it noted: by the ending of each copy, the one that counts first, a path from the studio's root; empty for an older run."""
    facts = read_object(folder / "config.json").get("facts")
    said = facts.get("shelves") if isinstance(facts, Mapping) else None
    return {str(end): str(path) for end, path in said.items()} if isinstance(said, Mapping) else {}


def copies(folder: Path) -> dict[int, Path]:
    """The copies of a run by step, in their order: embeddings/<name>-<step><ending>; of several of one step the one that counts."""
    try:
        files = sorted((folder / "embeddings").iterdir())
    except OSError:
        return {}
    ends = list(noted_shelves(folder))
    found: dict[int, tuple[int, Path]] = {}
    for file in files:
        end = _end(file, ends)
        tail = file.name.removesuffix(end).rpartition("-")[2]
        place = ends.index(end) if end in ends else len(ends)
        if file.suffix.lower() in WEIGHTS and tail.isdecimal() and place < found.get(int(tail), (len(ends) + 1, file))[0]:
            found[int(tail)] = (place, file)
    return {step: file for step, (_, file) in sorted(found.items())}


def _end(file: Path, ends: Iterable[str]) -> str:
    """Which of some endings a file has, the longest; its suffix where it has none."""
    return max((end for end in ends if file.name.endswith(end)), key=len, default=file.suffix)


def best_copy(folder: Path) -> dict[str, Any]:
    """The best measurement of a run: step, value and path, which is empty when no copy of it was kept; empty when nothing was measured."""
    best = read_object(folder / "best.json")
    path = best.get("path")
    return {**best, "path": path if isinstance(path, str) and path and (folder / path).is_file() else ""} if best else {}


def weights_of(folder: Path, which: str | int) -> Path:
    """The file of a run's weights: "best", "last", a step, or a path in the folder; raises NotFound naming the steps there are, InputError."""
    there = copies(folder)
    if which == "last":
        if not there:
            raise _none(folder, there, "of its last step")
        which = max(there)
    if isinstance(which, int) or str(which).isdecimal():
        if int(which) not in there:
            raise _none(folder, there, f"of step {which}")
        return inside(folder, f"embeddings/{there[int(which)].name}")
    if which == "best":
        best = best_copy(folder)
        if not best:
            raise NotFound(f"{folder.name} has no best measurement yet.", "Choose a step instead.")
        if not best["path"]:
            raise _none(folder, there, f"of its best step, {best.get('step')}")
        return inside(folder, best["path"])
    file = inside(folder, str(which))
    if file.suffix.lower() not in WEIGHTS or file.parent != (folder / "embeddings").resolve():
        raise InputError(f"{file.name} holds no weights of this run.", "Choose a file of the folder embeddings.")
    return file


def default_of(folder: Path) -> str:
    """What is used of a run where nobody chose: its best weights, or the last ones where none were measured to be better than the start."""
    return "best" if best_copy(folder).get("path") else "last"


def step_of(folder: Path, file: Path) -> tuple[int | None, bool]:
    """The step whose weights a file of a run holds, None where it is of no single step, and whether it is the best one."""
    best = best_copy(folder)
    step = best.get("step") if best.get("path") and file == (folder / best["path"]).resolve() else next((s for s, copy in copies(folder).items() if copy.resolve() == file), None)
    return step, step is not None and step == best.get("step")


def _none(folder: Path, there: Mapping[int, Path], what: str) -> NotFound:
    """What to say of weights that are not there."""
    if not there and whole(folder):
        return NotFound(f"{folder.name} kept no weights {what}: each would be a whole checkpoint.", "Its newest state is the checkpoint it saved; go on with the run to change that one.")
    return NotFound(f"{folder.name} kept no weights {what}.", f"There are: {', '.join(map(str, there)) or 'none'}.")


AVERAGED = ("textual_inversion", "hypernetwork")
"""Methods whose weights have an average number by number; the change of a LoRA is a product of matrices, and has none."""


def whole(folder: Path) -> bool:
    """Whether what a run learns is a whole checkpoint, of which it keeps no copies."""
    return any(path.startswith("models/Stable-diffusion/") for path in noted_shelves(folder).values())


def parts_of(folder: Path, file: Path) -> dict[str, Path]:
    """What was kept together with a copy, itself first, by ending."""
    ends = list(noted_shelves(folder))
    mine = _end(file, ends)
    stem = file.name.removesuffix(mine)
    beside = {end: file.with_name(f"{stem}{end}") for end in ends if end != mine}
    return {mine: file, **{end: other for end, other in beside.items() if other.is_file()}}
