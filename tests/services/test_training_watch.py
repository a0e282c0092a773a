"""A training that goes wrong, is paused, changed, given up, killed or extended: it rests, comes back, and is bit for bit what it would have been."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from studio.diffusion.cache import ModelCache
from studio.errors import InputError, NotFound
from studio.formats.embedding import read_embedding, write_embedding
from studio.jobs import SilentLane
from studio.requests.train import CreateEmbeddingRequest, TrainRequest
from studio.services.desk import Desk
from studio.services.library import create_embedding
from studio.services.training import run
from studio.settings import Paths
from studio.training.watch import Rhythm
from tests.services.trainings import Acting, Cut, Cutting, curve, events, request, shelf


@pytest.fixture
def desk(root: Paths, tiny_cache: ModelCache) -> Desk:
    """A desk with the embedding gnarl, of two vectors."""
    desk = Desk(root, tiny_cache)
    create_embedding(CreateEmbeddingRequest(name="gnarl", initialization_text="monster", vectors=2), desk)
    return desk


@pytest.fixture
def data(captioned: Path) -> Path:
    """Three pictures with captions."""
    return captioned


class Resting(SilentLane):
    """A lane on which a person answers when the run rests: `answers` are asks, in turn; after the last one a stop."""

    answers: tuple[Any, ...] = ()

    def resting(self, paused: bool) -> None:
        """Answer."""
        self.paused = paused
        if paused and self.answers:
            self.asks.append(self.answers[0])
            self.answers = self.answers[1:]
        elif paused:
            self.stop = True


def test_numbers_that_are_not_finite_halve_the_rate_three_times_then_the_run_rests_on_its_last_good_state(desk: Desk, data: Path) -> None:
    run(request(data, steps=1), SilentLane("first"), desk)
    for path in desk.paths.latents.rglob("*.safetensors"):
        save_file({"mean": torch.full((4, 16, 16), float("inf")), "std": torch.ones(4, 16, 16)}, path)
    before, lane = shelf(desk).vectors, Resting()
    result = run(request(data, steps=50, probe_every=0), lane, desk)
    assert (result["steps"], result["stopped"]) == (1, True)
    assert [e["step"] for e in events(lane, "warning")] == [2, 3, 4, 5]
    assert [row["learn_rate"] for row in curve(result)] == ["0.005", "0.0025", "0.00125", "0.000625"]
    assert "It is again as it was at step 1. Resume goes on from there with a tenth" in events(lane, "paused")[0]["reason"]
    assert torch.equal(shelf(desk).vectors, before)


def test_a_run_that_diverges_rests_within_twenty_steps_and_goes_on_with_a_tenth_of_the_rate(desk: Desk, data: Path) -> None:
    class Answering(Resting):
        """Goes on after the first alarm; after the second, only with another rate."""

        def resting(self, paused: bool) -> None:
            """Answer."""
            if paused and self.answers:
                self.asks += [self.answers[0], "resume"]
                self.answers = self.answers[1:]

    lane = Answering()
    lane.answers = (("change", {"preview_every": 0}), ("change", {"learn_rate": "0.005", "steps": 5}))
    result = run(request(data, steps=60, learn_rate="1000"), lane, desk)
    first, second = events(lane, "paused")
    assert first["reason"].startswith("Diverging: the vectors are")
    assert [v["state"] for v in events(lane, "verdict")].count("diverging") == 2
    assert second["step"] == first["step"] == 0
    assert [e["data"]["factor"] for e in journal(result) if e["ask"] == "rollback"] == [0.1, 1.0]
    assert result["steps"] == 5
    assert [row["learn_rate"] for row in curve(result)] == ["0.005"] * 5
    assert torch.isfinite(shelf(desk).vectors).all()


def test_vectors_that_were_spoilt_are_those_of_the_last_good_checkpoint_again(desk: Desk, data: Path) -> None:
    good: list[torch.Tensor] = []

    class Spoiling(Resting):
        """Spoils the live vectors after the third step."""

        def breathe(self) -> None:
            """Keep the vectors of each step; write NaN into those of the third."""
            good.append(desk.live["gnarl"].detach().clone())
            if len(good) == 3:
                desk.live["gnarl"].data[0, 0] = float("nan")

    result = run(request(data, steps=50), Spoiling(), desk, Rhythm(2))
    assert result["steps"] == 2
    assert torch.equal(shelf(desk).vectors, good[1])
    assert torch.equal(read_embedding(Path(result["run"]) / "embeddings" / "gnarl-2.pt").vectors, good[1])


def journal(result: dict[str, Any]) -> list[dict[str, Any]]:
    """What a person did to a run."""
    return [json.loads(line) for line in (Path(result["run"]) / "journal.jsonl").read_text().splitlines()]


def test_a_pause_lets_the_run_go_on_exactly_and_a_change_is_done_again_after_a_kill(desk: Desk, data: Path) -> None:
    start = shelf(desk)

    class Changing(SilentLane):
        """Changes the rate and pauses after the third step, goes on after a few breaths; dies after step `last`."""

        breaths, last = 0, 99

        def breathe(self) -> None:
            """Ask, or die."""
            self.breaths += 1
            if self.breaths == 2:
                self.asks += [("change", {"learn_rate": "0.05", "steps": 7}), "pause"]
            if self.breaths == 5:
                assert self.paused
                self.asks.append("resume")
            if self.breaths == self.last:
                raise Cut

    whole = Changing("whole")
    first = run(request(data, steps=6, preview_every=2), whole, desk, Rhythm(99, 99.0))
    wanted = shelf(desk)
    assert (first["steps"], events(whole, "resumed")) == (7, [{}])
    assert [row["learn_rate"] for row in curve(first)] == ["0.005"] * 3 + ["0.05"] * 4
    write_embedding(desk.paths.embeddings / "gnarl.pt", start)
    killed = Changing("killed")
    killed.last = 7
    with pytest.raises(Cut):
        run(request(data, steps=6, preview_every=2), killed, desk, Rhythm(99, 99.0))
    (folder,) = desk.paths.runs.glob("*-killed")
    (folder / "checkpoints" / "00000003.safetensors").write_bytes(b"lost in a power cut")
    lane = SilentLane("killed")
    again = run(request(data, steps=6, preview_every=2), lane, desk)
    assert events(lane, "warning")[0]["text"].startswith("The checkpoint of step 3 was damaged")
    assert torch.equal(shelf(desk).vectors, wanted.vectors)
    for name in ("curve.csv", "probe.csv", "previews.jsonl", "verdicts.jsonl"):
        assert (Path(again["run"]) / name).read_bytes() == (Path(first["run"]) / name).read_bytes()


def test_what_was_given_up_does_not_reach_the_shelf(desk: Desk, data: Path) -> None:
    before, lane = (desk.paths.embeddings / "gnarl.pt").read_bytes(), Acting()
    lane.asks.append("discard")
    lane.at = 2
    result = run(request(data, steps=9), lane, desk)
    assert (desk.paths.embeddings / "gnarl.pt").read_bytes() == before
    assert json.loads((Path(result["run"]) / "result.json").read_text())["state"] == "stopped"


def test_a_finished_run_is_extended_by_another_job_as_if_it_had_never_ended(desk: Desk, data: Path) -> None:
    start = shelf(desk)
    first = run(request(data, steps=4, probe_every=2), SilentLane("one"), desk)
    (desk.paths.embeddings / "gnarl.pt").unlink()
    more = TrainRequest(config={**request(data, steps=6, probe_every=2).config.model_dump()}, run=Path(first["run"]).name)
    extended = run(more, SilentLane("two"), desk)
    got = shelf(desk)
    assert extended["run"] == first["run"]
    assert run(more, SilentLane("two"), desk) == extended
    write_embedding(desk.paths.embeddings / "gnarl.pt", start)
    whole = run(request(data, steps=6, probe_every=2), SilentLane("whole"), desk)
    assert torch.equal(shelf(desk).vectors, got.vectors)
    assert (Path(whole["run"]) / "curve.csv").read_bytes() == (Path(extended["run"]) / "curve.csv").read_bytes()


def test_a_run_to_go_on_with_must_be_there_and_be_this_embeddings(desk: Desk, data: Path) -> None:
    config = request(data).config
    for name in ("nowhere", "../runs", ".."):
        with pytest.raises(NotFound, match="Run: there is no"):
            run(TrainRequest(config=config, run=name), SilentLane("one"), desk)
    first = run(request(data, steps=1), SilentLane("one"), desk)
    create_embedding(CreateEmbeddingRequest(name="other", vectors=1), desk)
    with pytest.raises(InputError, match="taught 'gnarl', and the form names 'other'"):
        run(TrainRequest(config=config.model_copy(update={"embedding": "other"}), run=Path(first["run"]).name), SilentLane("two"), desk)


def test_a_run_that_failed_says_so_in_its_folder(desk: Desk, data: Path) -> None:
    lane = Cutting("failed")
    lane.left = 2
    with pytest.raises(Cut):
        run(request(data), lane, desk)
    (folder,) = desk.paths.runs.iterdir()
    said = json.loads((folder / "result.json").read_text())
    assert (said["state"], said["error"], said["steps"]) == ("failed", "Cut", 0)
