"""Which weights of a run its plain name stands for now: told by the files themselves, so that it is right whoever put them there."""

from collections.abc import Mapping
from functools import lru_cache
from hashlib import blake2b
from pathlib import Path
from typing import Any

from studio.runs.weights import best_copy, copies, noted_shelves, whole

BLOCK, BLOCKS = 65536, 8
"""Bytes of a file that are compared at a time, and at how many places of a large file."""
LAST, BEST, BOTH, STEP, OTHER, NONE = (
    "In prompts, {name} now means step {step} (last).",
    "In prompts, {name} now means step {step} (best).",
    "In prompts, {name} now means step {step} (best and last).",
    "In prompts, {name} now means step {step}.",
    "In prompts, {name} now means a file that is not from this run.",
    "The file of {name} is no longer there.",
)
SAID = (LAST, BEST, BOTH, STEP, OTHER, NONE)
"""What is said of the plain name of a run; the page has each in its other languages."""


def in_use(root: Path, folder: Path, last: int, usage: Mapping[str, Any]) -> dict[str, Any] | None:
    """Which step lies where prompts find it: {which, step, text, values}; None for a run that noted no place or keeps no copies.

    `which` is "best", "last", "both", "step", "other" or "none"; `last` is the newest step of the run.
    """
    shelf = next(iter(noted_shelves(folder).values()), "")
    if not shelf or whole(folder):
        return None
    name = usage["values"]["copy"]
    there = _print(root / shelf)
    if there is None:
        return {"which": "none", "step": None, "text": NONE, "values": {"name": name}}
    best = best_copy(folder)
    at = best.get("step") if best.get("path") else None
    step = at if at is not None and _print(folder / best["path"]) == there else next((s for s, file in copies(folder).items() if _print(file) == there), None)
    if step is None:
        return {"which": "other", "step": None, "text": OTHER, "values": {"name": name}}
    which, text = ("both", BOTH) if step == at == last else ("best", BEST) if step == at else ("last", LAST) if step == last else ("step", STEP)
    return {"which": which, "step": step, "text": text, "values": {"name": name, "step": step}}


def _print(file: Path) -> str | None:
    """What tells a file from another; None when it is not there."""
    try:
        facts = file.stat()
        return _looked(file, facts.st_size, facts.st_mtime_ns)
    except OSError:
        return None


@lru_cache(maxsize=4096)
def _looked(file: Path, size: int, _changed: int) -> str:
    """The hash of a small file, or of blocks spread over a large one: two steps of one training differ everywhere."""
    found = blake2b(str(size).encode())
    with file.open("rb") as data:
        for place in range(BLOCKS) if size > BLOCK * BLOCKS else (0,):
            data.seek((size - BLOCK) * place // (BLOCKS - 1) if size > BLOCK * BLOCKS else 0)
            found.update(data.read(BLOCK if size > BLOCK * BLOCKS else size))
    return found.hexdigest()
