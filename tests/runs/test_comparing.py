"""Comparing runs: only what differs, in the form's words, and pictures of one prompt side by side."""

from pathlib import Path

import pytest

from studio.errors import InputError
from studio.runs.comparing import comparison
from studio.runs.reading import view
from tests.runs.folders import full, lines


def test_runs_are_compared_by_what_differs(tmp_path: Path) -> None:
    one = view(full(tmp_path / "one"), None, {})
    second = full(tmp_path / "two", learn_rate="0.001", batch_size=2, embedding="other")
    for step in (0, 20):
        lines(second / "previews.jsonl", {"step": step, "path": f"samples/{step:06d}.png", "prompt": "an other", "column": 1, "seed": 7, "weights": None})
    (second / "previews.jsonl").write_text((second / "previews.jsonl").read_text().replace('"a hero"', '"a other"'))
    found = comparison([one, view(second, None, {})])
    assert [run["label"] for run in found["runs"]] == ["hero", "other"]
    assert [run["label"] for run in comparison([one, one])["runs"]] == ["hero · one", "hero · one"]
    assert [(d["label"], d["values"]) for d in found["settings"]] == [("Embedding Learning rate", ["0.005", "0.001"]), ("Batch size", [1, 2]), ("Embedding", ["hero", "other"])]
    assert [(p["prompt"], [[s["step"] for s in run] for run in p["runs"]]) for p in found["pictures"]] == [("a [name]", [[0, 20], [0, 20]])]
    assert [p[:2] for p in found["runs"][0]["probe"]] == [[0, 0.0], [20, -2.0], [40, -4.0]]


def test_runs_of_several_methods_are_compared_by_what_each_has(tmp_path: Path) -> None:
    word = view(full(tmp_path / "one"), None, {})
    lora = {**word, "method": "lora", "config": {"name": "hero", "data": "/nowhere/hero", "steps": 100, "rank": 4}, "embedding": "hero"}
    net = {**lora, "method": "hypernetwork", "config": {**lora["config"], "modules": ["768", "320"]}}
    found = {d["label"]: d["values"] for d in comparison([word, lora, net])["settings"]}
    assert (found["Method"], found["Learning rate"]) == (["Textual inversion", "LoRA", "Hypernetwork"], ["0.005", "1e-4", "0.00001"])
    assert (found["Embedding"], found["Rank"], found["Modules"]) == (["hero", None, None], [None, 4, None], [None, None, "768, 320"])
    assert "Max steps" not in found and "Dataset directory" not in found
    assert next(d["name"] for d in comparison([lora, {**lora, "method": "of another version"}])["settings"]) == "method"


@pytest.mark.parametrize("count", [0, 1, 7])
def test_two_to_six_runs_can_be_compared(tmp_path: Path, count: int) -> None:
    seen = view(full(tmp_path / "one"), None, {})
    with pytest.raises(InputError, match=f"{count} runs"):
        comparison([seen] * count)
