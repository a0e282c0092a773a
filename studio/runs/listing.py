"""The table of runs: one light row for each folder, read again only when something in it changed."""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from studio.jobs import Job
from studio.runs.older import current
from studio.runs.reading import CURVE, finder, heading, old_previews, settled
from studio.runs.tails import numbers, objects, read_object

WATCHED = ("config.json", "run.json", "result.json", "best.json", "curve.csv", "verdicts.jsonl", "previews.jsonl", "journal.jsonl", "samples")
"""What a row is made of."""
SETTINGS = ("learn_rate", "batch_size", "gradient_accumulation", "optimizer", "template", "data", "checkpoint", "seed")
"""Settings that a row shows."""
END = 8192
"""Bytes at the end of a file in which its newest line is looked for."""

Rows = dict[str, tuple[Any, dict[str, Any]]]


def listing(runs_folder: Path, jobs: Sequence[Job] = (), cache: Rows | None = None) -> list[dict[str, Any]]:
    """Every run, newest first, with its state, newest verdict, best measurement and newest preview; `jobs` come newest first, `cache` is kept by the caller."""
    known: Rows = {} if cache is None else cache
    rows, job_of = [], finder(jobs)
    for folder in _folders(runs_folder):
        job = job_of(folder.name)
        print_ = (_print(folder), job.state if job else None)
        if known.get(folder.name, (None,))[0] != print_:
            known[folder.name] = (print_, row(folder, job))
        rows.append(known[folder.name][1])
    return sorted(rows, key=lambda r: (r["started"] or 0.0, r["id"]), reverse=True)


def _folders(runs_folder: Path) -> list[Path]:
    """Folders of runs; what begins with a dot is none."""
    try:
        return [Path(entry.path) for entry in os.scandir(runs_folder) if entry.is_dir(follow_symlinks=False) and not entry.name.startswith(".")]
    except OSError:
        return []


def _print(folder: Path) -> tuple[Any, ...]:
    """What changes when a row may have: time and size of its files."""
    found: list[Any] = []
    for name in WATCHED:
        try:
            facts = (folder / name).stat()
            found.append((facts.st_mtime_ns, facts.st_size))
        except OSError:
            found.append(None)
    return tuple(found)


def row(folder: Path, job: Job | None) -> dict[str, Any]:
    """One run in short."""
    head = heading(folder, job)
    facts, config = head.pop("facts"), settled(head.pop("config"), list(objects(_end(folder / "journal.jsonl"))))
    newest = next((found for line in reversed(_end(folder / "curve.csv")) if (found := numbers(line, len(CURVE)))), None)
    step = int(newest[0]) if newest and newest[0] is not None else head["step"]
    best = read_object(folder / "best.json")
    return {
        **head,
        "step": step,
        "end": config.get("steps", 0),
        "loss": newest[2] if newest else None,
        "verdict": current(folder, next((v for v in reversed(list(objects(_end(folder / "verdicts.jsonl")))) if "state" in v or "kind" in v), None), config),
        "best": best or None,
        "thumbnail": _thumbnail(folder, config),
        "checkpoint": facts.get("checkpoint", ""),
        "settings": {name: config[name] for name in SETTINGS if config.get(name) not in (None, "")},
        "digest": digest(config),
    }


def _thumbnail(folder: Path, config: Mapping[str, Any]) -> dict[str, Any] | None:
    """The newest preview whose file is there: its path in the folder, and its step."""
    listed = list(objects(_end(folder / "previews.jsonl"))) or old_previews(folder, config)
    for preview in reversed(listed):
        path = preview.get("path")
        if isinstance(path, str) and (folder / path).is_file():
            return {"path": path, "step": preview.get("step")}
    return None


def digest(config: Mapping[str, Any]) -> str:
    """A short word that is the same for the same settings."""
    return hashlib.sha256(json.dumps(config, sort_keys=True, ensure_ascii=False).encode()).hexdigest()[:8]


def _end(path: Path) -> list[str]:
    """The last whole lines of a file."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - END))
            data = file.read()
    except OSError:
        return []
    lines = data[: data.rfind(b"\n") + 1].decode("utf-8", errors="replace").splitlines()
    return lines[1:] if size > END else lines
