"""A run's folder as what a page, the command line and other programs show: read without torch, again and again while it grows."""

import threading
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from studio.jobs import Job
from studio.requests.train import CONFIGS, subject_of
from studio.runs.older import current
from studio.runs.smoothing import following
from studio.runs.tails import Line, Tail, numbers, objects, read_object
from studio.runs.using import usage
from studio.runs.weights import AVERAGED, best_copy, copies, whole

LOG = 200
"""Newest lines of the log that are shown."""
READERS = 64
"""Runs whose place in their files is remembered."""
CURVE = ("step", "loss", "smoothed", "learn_rate", "norm", "distance")
PROBE = ("step", "train", "low", "high", "held", "composition", "shape", "detail", "drift")
"""Columns of probe.csv that are shown, in this order; smoothed values of train and held come after them."""

FIRST = "textual_inversion"
"""The method of runs that do not say theirs."""

Cache = dict[str, "Reader"]


class Reader:
    """What was read of one run so far; `look` reads on."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._tails = {name: Tail(folder / name) for name in ("curve.csv", "probe.csv", "verdicts.jsonl", "previews.jsonl", "journal.jsonl", "log.jsonl")}
        self._lock = threading.Lock()
        self._columns = PROBE
        self.curve, self.probe = Line(), Line()
        self._before: dict[str, float] = {}
        self.row: dict[str, Any] = {}
        self.verdict: dict[str, Any] | None = None
        self.previews: list[dict[str, Any]] = []
        self.changes: list[dict[str, Any]] = []
        self.log: list[dict[str, Any]] = []

    def look(self) -> dict[str, Any]:
        """Read what came since the last look, and give all that grows as it is now."""
        with self._lock:
            self._curve(*self._new("curve.csv"))
            self._probe(*self._new("probe.csv"))
            fresh, said = self._new("verdicts.jsonl")
            self.verdict = next(reversed([v for v in objects(said) if "state" in v or "kind" in v]), None if fresh else self.verdict)
            self.previews = self._grown("previews.jsonl", self.previews)
            self.changes = self._grown("journal.jsonl", self.changes)
            self.log = self._grown("log.jsonl", self.log)[-LOG:]
            lines = {"curve": self.curve.points(), "probe": self.probe.points(), "metric": self.row, "verdict": self.verdict}
            return {**lines, "previews": self.previews, "changes": self.changes, "log": self.log}

    def _new(self, name: str) -> tuple[bool, list[str]]:
        """Whether a file was begun anew, and its new lines."""
        lines = self._tails[name].lines()
        return self._tails[name].fresh, lines

    def _grown(self, name: str, before: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """The objects of a file, those known before and the new ones."""
        fresh, lines = self._new(name)
        return [*([] if fresh else before), *objects(lines)]

    def _curve(self, fresh: bool, lines: Sequence[str]) -> None:
        """Take lines of the loss."""
        if fresh:
            self.curve, self.row = Line(), {}
        for line in lines:
            row = numbers(line, len(CURVE))
            if row is None or row[0] is None:
                continue
            self.row = dict(zip(CURVE, (int(row[0]), *row[1:]), strict=True))
            if row[1] is not None:
                self.curve.add([int(row[0]), row[1], row[2]])

    def _probe(self, fresh: bool, lines: Sequence[str]) -> None:
        """Take measurements."""
        if fresh:
            self.probe, self._before = Line(), {}
        for line in lines:
            if line.startswith("step,"):
                self._columns = tuple(line.strip().split(","))
                continue
            row = numbers(line, len(self._columns))
            if row is None or row[0] is None:
                continue
            found = dict(zip(self._columns, row, strict=True))
            if found.get("train") is not None:
                self.probe.add([int(row[0]), *(found.get(name) for name in PROBE[1:]), *(self._smoothed(name, found.get(name)) for name in ("train", "held"))])

    def _smoothed(self, name: str, value: float | None) -> float | None:
        """The smoothed value of a line with its newest one."""
        if value is None or not self.probe.newest:
            return value
        self._before[name] = value if name not in self._before else following(self._before[name], value)
        return self._before[name]


def view(folder: Path, job: Job | None, cache: Cache, live: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """All that is known of a run, fit for JSON; `cache` is kept by the caller between looks, `live` is the newest metric of its job. What is damaged is left out."""
    reader = cache.get(str(folder))
    if reader is None:
        while len(cache) >= READERS:
            cache.pop(next(iter(cache)), None)
        reader = cache.setdefault(str(folder), Reader(folder))
    grown, head = reader.look(), heading(folder, job)
    now, metric = _live(live, job), grown["metric"]
    return {
        **head,
        **grown,
        "verdict": current(folder, grown["verdict"], head["config"]),
        "step": metric.get("step", head["step"]),
        "end": now.get("total") or settled(head["config"], grown["changes"]).get("steps", 0),
        "best": best_copy(folder) or None,
        "previews": grown["previews"] or old_previews(folder, head["config"]),
        "saved": _saved(folder),
        "usage": usage(folder, head["method"], head["config"]),
        "made": made_of(folder),
        **{name: metric.get(name) for name in ("learn_rate", "norm", "distance")},
        "speed": now.get("rate"),
        "eta": now.get("eta"),
        "prompt": now.get("prompt", ""),
    }


def _live(live: Mapping[str, Any] | None, job: Job | None) -> Mapping[str, Any]:
    """The newest figures of a job, while it is not over."""
    return live if live and job is not None and not job.state.over else {}


def heading(folder: Path, job: Job | None) -> dict[str, Any]:
    """What a run is, without what grows: its name, settings, state, times and how it ended."""
    asked, said, result = read_object(folder / "config.json"), read_object(folder / "run.json"), read_object(folder / "result.json")
    if not asked and job is not None:
        asked = job.request
    config, facts = _object(asked.get("config")), _object(asked.get("facts"))
    embedding, title, method = subject_of(config), str(said.get("title") or ""), str(asked.get("method", FIRST))
    started = _moment(facts.get("started")) or (job.started if job else None)
    return {
        "id": folder.name,
        "name": title or embedding or folder.name,
        "embedding": embedding,
        "title": title,
        "note": str(said.get("note") or ""),
        "method": method,
        "method_title": next((cls.title for cls in CONFIGS if cls.method == method), method),
        "whole": whole(folder),
        "averages": method in AVERAGED,
        "state": state_of(result, job),
        "job": job.id if job else None,
        "started": started,
        "seconds": _seconds(result, facts, job),
        "step": result.get("steps", facts.get("first_step", 0)),
        "end": config.get("steps", 0),
        "reason": result.get("reason"),
        "error": result.get("error") or (job.error if job else None),
        "config": config,
        "facts": facts,
    }


def state_of(result: Mapping[str, Any], job: Job | None) -> str:
    """Where a run is: what its job says while that lives, else how it ended, else that it was interrupted."""
    if job is not None and not job.state.over:
        return str(job.state)
    if result.get("state"):
        return str(result["state"])
    return str(job.state) if job is not None else "interrupted"


def _seconds(result: Mapping[str, Any], facts: Mapping[str, Any], job: Job | None) -> float | None:
    """How long a run took so far."""
    if job is not None and not job.state.over:
        return facts.get("seconds")
    if result.get("seconds") is not None:
        return result["seconds"]
    if facts.get("seconds") is not None:
        return facts["seconds"]
    return job.ended - job.started if job is not None and job.started and job.ended else None


def settled(config: Mapping[str, Any], changes: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The settings of a run after everything that was changed while it went on."""
    said = dict(config)
    for change in changes:
        if change.get("ask") == "change":
            said.update(_object(change.get("data")))
    return said


def _object(value: Any) -> dict[str, Any]:
    """A JSON object, or an empty one."""
    return value if isinstance(value, dict) else {}


def _moment(text: Any) -> float | None:
    """Seconds since 1970 of a time in ISO 8601; None when it is none."""
    try:
        return datetime.fromisoformat(str(text)).timestamp()
    except ValueError:
        return None


def _saved(folder: Path) -> list[dict[str, Any]]:
    """Copies of the weights in a run, by step."""
    return [{"step": step, "path": f"embeddings/{file.name}"} for step, file in copies(folder).items()]


def made_of(folder: Path) -> list[str]:
    """Sheets, films and grids that were made of a run, newest first."""
    try:
        files = [(file.stat().st_mtime, file.name) for file in (folder / "exports").iterdir() if file.suffix in (".png", ".gif", ".webp")]
    except OSError:
        return []
    return [f"exports/{name}" for _, name in sorted(files, reverse=True)]


def old_previews(folder: Path, config: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Previews of a run that kept no list of them: samples/<step>.png, with the copy of that step where there is one."""
    kept = {copy["step"]: copy["path"] for copy in _saved(folder)}
    prompt = str(config.get("preview_prompt") or "a photo of [name]").replace("[name]", subject_of(config))
    pictures = sorted(file for file in (folder / "samples").glob("*.png") if file.stem.isdigit())
    return [{"step": int(f.stem), "path": f"samples/{f.name}", "prompt": prompt, "column": 0, "seed": config.get("preview_seed"), "weights": kept.get(int(f.stem))} for f in pictures]


def job_of(name: str, jobs: Sequence[Job]) -> Job | None:
    """The job that works in a run's folder, else the newest that worked there; jobs come newest first."""
    return finder(jobs)(name)


def folder_of(runs: Path, job: Job) -> Path | None:
    """Where a job works or worked; None before it began."""
    named = str(job.request.get("run") or "")
    found = runs / named if named and (runs / named).parent == runs else next(iter(sorted(runs.glob(f"*-{job.id}"))), None)
    return found if found is not None and found.is_dir() and job_of(found.name, [job]) is not None else None


def finder(jobs: Sequence[Job]) -> Callable[[str], Job | None]:
    """What finds the job of a run by the name of its folder, quickly also among many."""
    known: dict[str, list[Job]] = {}
    for job in jobs:
        known.setdefault(str(job.request.get("run") or "") or f"-{job.id}", []).append(job)

    def find(name: str) -> Job | None:
        mine = [*known.get(name, ()), *known.get(f"-{name.rpartition('-')[2]}", ())]
        return next((job for job in mine if not job.state.over), mine[0] if mine else None)

    return find
