"""Runs beside each other: their curves, what was set differently, and pictures of the same prompt by step."""

from collections.abc import Mapping, Sequence
from typing import Any

from studio.config import Control, controls
from studio.errors import InputError
from studio.requests.train import CONFIGS, TrainConfig
from studio.runs.reading import settled

MOST = 6
"""Runs that can be told apart in one chart."""
FACTS = {"checkpoint_hash": "Checkpoint hash", "device": "Device", "dtype": "Precision", "versions": "Versions", "fingerprint": "Pictures and captions"}
"""Facts of runs that are compared beside their settings, with the word for each."""


def comparison(views: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Two to six runs, as `reading.view` gives them: {runs, settings, pictures}; raises InputError for another number."""
    if not 2 <= len(views) <= MOST:
        raise InputError(f"{len(views)} runs are chosen.", f"Choose two to {MOST} to compare.")
    runs = [{name: v[name] for name in ("id", "name", "state", "step", "end", "seconds", "verdict", "best", "curve", "probe")} for v in views]
    names = [run["name"] for run in runs]
    runs = [{**run, "label": run["name"] if names.count(run["name"]) == 1 else f"{run['name']} · {run['id']}"} for run in runs]
    return {"runs": runs, "settings": differences(views), "pictures": pictures(views)}


def differences(views: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What is set differently: label, name and one value for each run; a run that does not say has the default of its method, and None where its method has no such knob."""
    found, asked = [], [settled(v["config"], v["changes"]) for v in views]
    methods = {cls.method: cls for cls in CONFIGS}
    titles = [methods[v["method"]].title if v["method"] in methods else v["method"] for v in views]
    if len(set(titles)) > 1:
        found.append({"name": "method", "label": "Method", "values": titles})
    knobs = [{knob.name: knob for knob in controls(methods.get(v["method"], TrainConfig))} for v in views]
    for name, label in _labels(knobs).items():
        values = [_plain(config.get(name, mine[name].default) if name in mine else None) for config, mine in zip(asked, knobs, strict=True)]
        if any(value != values[0] for value in values[1:]):
            found.append({"name": name, "label": label, "values": values})
    for name, label in FACTS.items():
        values = [v["facts"].get(name) for v in views]
        if any(value != values[0] for value in values[1:]):
            found.append({"name": name, "label": label, "values": [_plain(value) for value in values]})
    return found


def _labels(knobs: Sequence[Mapping[str, Control]]) -> dict[str, str]:
    """Every knob that one of them has, in the order of the form, with its label; one that methods call differently is called as all trainings call it."""
    common = {knob.name: knob.label for knob in controls(TrainConfig)}
    labels: dict[str, str] = {}
    for name in dict.fromkeys(name for mine in knobs for name in mine):
        said = [mine[name].label for mine in knobs if name in mine]
        labels[name] = said[0] if len(set(said)) == 1 else common.get(name, said[0])
    return labels


def _plain(value: Any) -> Any:
    """A value as one line."""
    if isinstance(value, dict):
        return ", ".join(f"{name} {each}" for name, each in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else value


def pictures(views: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Pictures by prompt (with each run's own word as [name]) and seed: [{prompt, seed, runs: [[{step, path}], ...]}]; what only one run has is left out."""
    rows: dict[tuple[str, Any], list[list[dict[str, Any]]]] = {}
    for place, seen in enumerate(views):
        for preview in seen["previews"]:
            key = (_prompt(preview, seen["embedding"]), preview.get("seed"))
            row = rows.setdefault(key, [[] for _ in views])
            if isinstance(preview.get("step"), int) and isinstance(preview.get("path"), str):
                row[place].append({"step": preview["step"], "path": preview["path"]})
    shared = [(key, row) for key, row in rows.items() if sum(map(bool, row)) > 1]
    return [{"prompt": prompt, "seed": seed, "runs": row} for (prompt, seed), row in shared]


def _prompt(preview: Mapping[str, Any], name: str) -> str:
    """A preview's prompt with the word of its run as [name], so that runs of differently named embeddings meet."""
    text = str(preview.get("prompt") or "")
    return text.replace(name, "[name]") if name else text
