"""Folders of runs as services use them: found by name, with their weights by step, and room for what is made of them."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from studio.errors import InputError, NotFound
from studio.runs.reading import FIRST
from studio.runs.tails import read_object
from studio.runs.weights import copies as weights_of
from studio.settings import Paths

__all__ = ["chosen", "config_of", "method_of", "numbered", "run_folder", "spread", "weights_of"]


def run_folder(paths: Paths, name: str) -> Path:
    """The folder of a run; raises NotFound for a name that is none of a run."""
    folder = paths.runs / name
    if folder.parent != paths.runs or not name.strip(".") or not os.path.isdir(folder):  # also for a name that no disk can keep
        raise NotFound(f"Run: there is no {name[:120]!r} in {paths.runs.name}.", "It may have been renamed or deleted; refresh the list.")
    return folder


def config_of(folder: Path) -> dict[str, Any]:
    """What a run was asked for, by knob; empty when it was not noted."""
    config = read_object(folder / "config.json").get("config")
    return config if isinstance(config, dict) else {}


def method_of(folder: Path) -> str:
    """The method of a run; an older one says none and was textual inversion."""
    return str(read_object(folder / "config.json").get("method", FIRST))


def chosen(weights: dict[int, Path], steps: Sequence[int]) -> dict[int, Path]:
    """The weights of some steps; raises InputError naming those that are not there."""
    missing = [str(step) for step in dict.fromkeys(steps) if step not in weights]
    if missing:
        there = ", ".join(map(str, weights)) or "none"
        raise InputError(f"Steps: there are no weights of step {', '.join(missing)} in this run (there are {there}).", "Choose among those that are there.")
    return {step: weights[step] for step in sorted(set(steps))}


def spread(items: Sequence[Any], most: int) -> list[Any]:
    """At most so many of some items, evenly chosen, the first and the last among them."""
    if len(items) <= most:
        return list(items)
    if most < 2:
        return list(items[-1:])
    return [items[round(i * (len(items) - 1) / (most - 1))] for i in range(most)]


def numbered(folder: Path, stem: str, suffix: str = "") -> Path:
    """The next free path <stem>-<number><suffix> of a folder, which is made."""
    folder.mkdir(parents=True, exist_ok=True)
    taken = [int(tail) for file in folder.glob(f"{stem}-*") if (tail := file.stem.removeprefix(f"{stem}-")).isdecimal()]
    return folder / f"{stem}-{1 + max(taken, default=0)}{suffix}"
