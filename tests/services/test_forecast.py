"""The forecast: counts are right, nothing is changed by it, and what speaks against a training is said before it begins."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from studio.dataset.folder import Item, read_folder
from studio.diffusion.cache import ModelCache
from studio.diffusion.model import Model
from studio.formats.embedding import Embedding, write_embedding
from studio.jobs import SilentLane
from studio.requests import forecast as say
from studio.requests.forecast import FIXES, SEVERITIES, ForecastRequest
from studio.requests.train import CreateEmbeddingRequest, TextualInversionConfig
from studio.services.desk import Desk
from studio.services.dry_steps import extrapolated
from studio.services.forecast import run
from studio.services.forecast_problems import Material, problem, problems
from studio.services.library import create_embedding
from studio.settings import Paths
from studio.training.preparation import prepared
from studio.ui.catalogue_forecast import PROBLEMS
from studio.worker import SERVICES, SHORT

KNOBS = {"embedding": "gnarl", "steps": 50, "batch_size": 2, "save_every": 0, "preview_every": 0, "preview_steps": 1, "probe_every": 0}


@pytest.fixture
def desk(root: Paths, tiny_cache: ModelCache, tiny: Model) -> Desk:
    """A desk with the embedding gnarl, of two vectors, trained for ten steps."""
    desk = Desk(root, tiny_cache)
    path = Path(create_embedding(CreateEmbeddingRequest(name="gnarl", initialization_text="monster", vectors=2), desk)["path"])
    write_embedding(path, Embedding("gnarl", torch.ones(2, tiny.width) / 20, 10))
    return desk


@pytest.fixture
def told(desk: Desk, captioned: Path, lane: SilentLane) -> Callable[..., dict[str, Any]]:
    """The forecast of a training with some knobs."""
    return lambda **knobs: run(ForecastRequest(config={**KNOBS, "data": str(captioned), **knobs}), lane, desk)


def files(folder: Path) -> dict[Path, tuple[int, int]]:
    """Every file below a folder, by size and time."""
    return {p: (p.stat().st_size, p.stat().st_mtime_ns) for p in folder.rglob("*") if p.is_file()}


def test_a_forecast_counts_what_the_training_does_and_changes_nothing(told: Callable[..., dict[str, Any]], desk: Desk, captioned: Path, lane: SilentLane) -> None:
    before = {**files(desk.paths.outputs), **files(desk.paths.embeddings), **files(captioned)}
    result = told(preview_every=20, probe_every=25, gradient_accumulation=3, template="subject_filewords")
    assert {**files(desk.paths.outputs), **files(desk.paths.embeddings), **files(captioned)} == before
    assert (result["steps"], result["pictures"], result["epochs"]) == (40, 3, 40 * 6 / 3)
    parts = result["parts"]
    assert result["seconds"] == pytest.approx(sum(parts.values()), abs=0.01)
    assert parts["steps"] == pytest.approx(40 * result["seconds_per_step"], abs=1e-3)
    assert all(parts[name] > 0 for name in ("steps", "previews", "probe", "encoding"))
    assert result["preview_share"] == pytest.approx(parts["previews"] / result["seconds"], abs=1e-3)
    assert 0 < result["memory_added"] < result["memory"] < result["memory_total"]
    assert len(result["prompts"]) == 5
    assert "gnarl" in result["prompts"][0]["prompt"]
    assert "red, round, on white" in result["prompts"][0]["prompt"]
    assert [data for kind, data in lane.events if kind == "forecast"] == [result]
    assert desk.live == {}
    assert result["problems"] == [problem(say.FEW, pictures=3, batch=6)]


def test_a_lora_that_keeps_its_class_is_forecast_and_comes_off_without_a_trace(desk: Desk, captioned: Path, lane: SilentLane, tiny: Model) -> None:
    before = {name: weight.clone() for name, weight in tiny.unet.state_dict().items()}
    knobs = {name: value for name, value in KNOBS.items() if name != "embedding"}
    config = {**knobs, "name": "hero", "data": str(captioned), "rank": 2, "class_word": "monster", "prior": "prediction", "probe_every": 25}
    result = run(ForecastRequest.check({"method": "lora", "config": config}), lane, desk)
    assert (result["steps"], result["seconds"] > 0, desk.live_adapters) == (50, True, {})
    assert not list(desk.paths.lora.glob("*"))
    assert all(torch.equal(weight, before[name]) for name, weight in tiny.unet.state_dict().items())


def test_a_forecast_between_two_steps_of_a_training_leaves_its_network_as_it_was(told: Callable[..., dict[str, Any]], tiny: Model) -> None:
    with prepared(tiny, checkpointing=True):
        assert told(gradient_checkpointing=True)["seconds"] > 0
        assert tiny.unet.is_gradient_checkpointing
    assert not tiny.unet.is_gradient_checkpointing


def test_a_training_that_cannot_start_is_not_measured_and_all_of_it_is_said(told: Callable[..., dict[str, Any]]) -> None:
    result = told(embedding="nobody", data="nowhere", template="none such", optimizer="AdamW 8-bit", stop_rule="flat")
    mistakes = [one["values"]["mistake"] for one in result["problems"]]
    assert {one["severity"] for one in result["problems"]} == {"problem"}
    for words in ("'nobody'", "'nowhere' is not a folder", "there is no 'none such'", "needs an NVIDIA card", "no rule can stop the training"):
        assert sum(words in mistake for mistake in mistakes) == 1
    assert (result["seconds"], result["seconds_per_step"]) == (None, 0.0)


LINES = {"bare": ("a photo, [filewords]",), "half": ("a photo of [name]", "a photo"), "long": ("[name], " + "very " * 90,)}


@pytest.mark.parametrize(
    ("knobs", "changed", "sentence"),
    [
        ({}, {"lines": LINES["bare"]}, say.UNNAMED),
        ({}, {"lines": LINES["half"]}, say.HALF_NAMED),
        ({}, {"lines": LINES["long"]}, say.LONG),
        ({}, {"lines": ("[name], [filewords]",), "captions": False}, say.UNCAPTIONED),
        ({}, {"unread": ("9.png is not a picture.",)}, say.UNREAD),
        ({}, {"vectors": 7}, say.MANY_VECTORS),
        ({}, {"vectors": 25}, say.FULL_PROMPT),
        ({"batch_size": 4}, {}, say.FEW),
        ({"optimizer": "Prodigy", "learn_rate": "0.005"}, {}, say.PRODIGY_LOW),
        ({"learn_rate": "1e-4:5, 1"}, {}, say.RATE_HIGH),
        ({"optimizer": "Lion"}, {}, say.LION_HIGH),
        ({"learn_rate": "1e-6"}, {}, say.RATE_LOW),
        ({"warmup": 40}, {}, say.WARMING),
        ({"use_masks": True}, {}, say.NO_MASKS),
        ({"compile": True}, {}, say.COMPILE),
        ({"optimizer": "Prodigy", "learn_rate": "1"}, {}, None),
        ({"batch_size": 3, "warmup": 39, "learn_rate": "1e-5", "template": "none"}, {"vectors": 6, "captions": False}, None),
    ],
)
def test_what_speaks_against_a_training_is_said_and_nothing_else(captioned: Path, knobs: dict[str, Any], changed: dict[str, Any], sentence: str | None) -> None:
    config = TextualInversionConfig(**{**KNOBS, "data": str(captioned), **knobs})
    items = read_folder(captioned)[0]
    if not changed.get("captions", True):
        items = [Item(item.image, "") for item in items]
    material = Material("gnarl", changed.get("vectors", 2), items, changed.get("unread", ()), changed.get("lines", ("a photo of [name]",)), 40)
    found = problems(config, material, "cpu")
    assert [one["text"] for one in found] == ([sentence] if sentence else [])
    for one in found:
        assert one["text"].format(**one["values"])
        assert (one["fix"], one["severity"]) == (FIXES[one["text"]], SEVERITIES.get(one["text"], "warning"))


def test_vectors_of_another_width_are_said(told: Callable[..., dict[str, Any]], desk: Desk) -> None:
    write_embedding(desk.paths.embeddings / "gnarl.pt", Embedding("gnarl", torch.ones(2, 768)))
    assert "has vectors of width 768" in told()["problems"][0]["values"]["mistake"]


def test_long_rows_are_told_from_a_few_sampling_steps_and_short_ones_painted_whole() -> None:
    for slope, painted in ((1.0, [2, 2, 4]), (0.01, [2, 20])):
        asked: list[int] = []

        def cost(steps: int, slope: float = slope, asked: list[int] = asked) -> float:
            asked.append(steps)
            return 5 * slope + slope * steps

        assert extrapolated(cost, 20) == pytest.approx(25 * slope)
        assert asked == painted


def test_every_problem_and_what_mends_it_are_said_in_chinese_too() -> None:
    assert {text for pair in FIXES.items() for text in pair if text} - set(PROBLEMS) == set()


def test_a_forecast_may_be_asked_while_a_training_runs() -> None:
    assert "forecast" in SHORT
    assert ("forecast", "studio.services.forecast") in SERVICES
