"""Averages of a run's weights: exact, beside the old ones, refused in words."""

import json
from pathlib import Path

import pytest
import torch

from studio.diffusion.cache import ModelCache
from studio.errors import Conflict, InputError, NotFound
from studio.formats.embedding import Embedding, read_embedding, write_embedding
from studio.formats.hypernetwork import Hypernetwork, read_hypernetwork, write_hypernetwork
from studio.jobs import SilentLane
from studio.requests.average import AverageRequest
from studio.services.averaging import run
from studio.services.desk import Desk
from studio.settings import Paths

RUN = "2026-01-01-gnarl-job"


@pytest.fixture
def desk(root: Paths, tiny_cache: ModelCache) -> Desk:
    """A run with weights of four steps and a best one."""
    folder = root.runs / RUN
    (folder / "embeddings").mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"config": {"embedding": "gnarl"}}))
    for step, value in ((0, 100.0), (9, 1.0), (20, 2.0), (100, 6.0)):
        keep(folder, step, torch.full((2, 4), value))
    write_embedding(folder / "embeddings" / "gnarl-best.pt", Embedding("gnarl-best", torch.full((2, 4), 50.0), 20))
    return Desk(root, tiny_cache)


def keep(folder: Path, step: int, vectors: torch.Tensor) -> None:
    """Weights of a step, as a run keeps them."""
    write_embedding(folder / "embeddings" / f"gnarl-{step}.pt", Embedding("gnarl", vectors, step, "abc", "tiny"))


def test_the_newest_weights_are_averaged_into_a_new_embedding(desk: Desk, lane: SilentLane) -> None:
    result = run(AverageRequest(run=RUN, count=2), lane, desk)
    made = read_embedding(Path(result["path"]))
    assert Path(result["path"]) == desk.paths.embeddings / "gnarl-avg2.pt"
    assert torch.equal(made.vectors, torch.full((2, 4), 4.0))
    assert (made.step, made.checkpoint_hash, made.checkpoint_name) == (100, "abc", "tiny")
    assert result["steps"] == [20, 100]
    assert lane.events == [("saved", {"path": result["path"], "step": 100})]


def test_fewer_than_wanted_are_told_and_the_untouched_word_is_left_out(desk: Desk, lane: SilentLane) -> None:
    result = run(AverageRequest(run=RUN), lane, desk)
    assert (result["name"], result["steps"]) == ("gnarl-avg3", [9, 20, 100])
    assert lane.events[0] == ("warning", {"text": "The run has the weights of 3 steps, so those are averaged in the place of 5."})


def test_steps_and_a_name_can_be_chosen(desk: Desk, lane: SilentLane) -> None:
    result = run(AverageRequest(run=RUN, steps=(100, 0), name="mellow"), lane, desk)
    assert torch.equal(read_embedding(desk.paths.embeddings / "mellow.pt").vectors, torch.full((2, 4), 53.0))
    assert result["steps"] == [0, 100]


def test_nothing_is_overwritten_unasked(desk: Desk, lane: SilentLane) -> None:
    path = Path(run(AverageRequest(run=RUN, count=2), lane, desk)["path"])
    before = path.read_bytes()
    keep(desk.paths.runs / RUN, 200, torch.full((2, 4), 8.0))
    with pytest.raises(Conflict, match="'gnarl-avg2' is taken"):
        run(AverageRequest(run=RUN, count=2), lane, desk)
    assert path.read_bytes() == before
    run(AverageRequest(run=RUN, count=2, overwrite=True), lane, desk)
    assert torch.equal(read_embedding(path).vectors, torch.full((2, 4), 7.0))


def test_what_cannot_be_averaged_is_said(desk: Desk, lane: SilentLane) -> None:
    folder = desk.paths.runs / RUN
    with pytest.raises(InputError, match=r"no weights of step 7, 8 in this run \(there are 0, 9, 20, 100\)"):
        run(AverageRequest(run=RUN, steps=(7, 8, 9)), lane, desk)
    with pytest.raises(InputError, match="at least two steps; 1 of this run"):
        run(AverageRequest(run=RUN, steps=(9, 9)), lane, desk)
    keep(folder, 100, torch.zeros(3, 4))
    with pytest.raises(InputError, match=r"different shapes \(2 x 4 and 3 x 4\)"):
        run(AverageRequest(run=RUN), lane, desk)
    for name in ("nowhere", "..", f"../runs/{RUN}"):
        with pytest.raises(NotFound, match="Run: there is no"):
            run(AverageRequest(run=name), lane, desk)
    assert not list(desk.paths.embeddings.iterdir())


def test_hypernetworks_are_averaged_number_by_number(desk: Desk, lane: SilentLane) -> None:
    folder = as_method(desk, "hypernetwork", {".pt": "models/hypernetworks/gnarl.pt"})
    for step, value in ((9, 1.0), (20, 2.0), (100, 6.0)):
        state = {"linear.0.weight": torch.full((8, 4), value), "linear.0.bias": torch.full((8,), -value), "linear.1.weight": torch.ones(4, 8), "linear.1.bias": torch.zeros(4)}
        write_hypernetwork(folder / "embeddings" / f"gnarl-{step}.pt", Hypernetwork("gnarl", {4: (state, state)}, step=step))
    result = run(AverageRequest(run=RUN, count=2), lane, desk)
    made = read_hypernetwork(desk.paths.hypernetworks / "gnarl-avg2.pt")
    keys = made.layers[4][0]
    assert (Path(result["path"]).name, made.step, float(keys["linear.0.weight"].mean()), float(keys["linear.0.bias"].mean())) == ("gnarl-avg2.pt", 100, 4.0, -4.0)
    with pytest.raises(Conflict, match="'gnarl-avg2' is taken"):
        run(AverageRequest(run=RUN, count=2), lane, desk)
    write_hypernetwork(folder / "embeddings" / "gnarl-20.pt", Hypernetwork("gnarl", {4: ({**state, "linear.0.bias": torch.ones(1)}, state)}))
    with pytest.raises(InputError, match="different shapes"):
        run(AverageRequest(run=RUN, count=2, name="other"), lane, desk)


def test_what_has_no_average_says_why(desk: Desk, lane: SilentLane) -> None:
    as_method(desk, "lora", {".safetensors": "models/Lora/gnarl.safetensors"})
    with pytest.raises(InputError, match="LoRA: each change is a product"):
        run(AverageRequest(run=RUN), lane, desk)
    as_method(desk, "fine_tune", {".safetensors": "models/Stable-diffusion/gnarl.safetensors"})
    with pytest.raises(InputError, match="keeps no copies of its steps"):
        run(AverageRequest(run=RUN), lane, desk)


def as_method(desk: Desk, method: str, places: dict[str, str]) -> Path:
    """The run as one of another method, without copies."""
    folder = desk.paths.runs / RUN
    (folder / "config.json").write_text(json.dumps({"method": method, "config": {"name": "gnarl"}, "facts": {"shelves": places}}))
    for file in (folder / "embeddings").iterdir():
        file.unlink()
    return folder
