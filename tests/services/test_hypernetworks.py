"""Hypernetworks as jobs: created, trained, gone on with bit for bit, used while they learn and after, and nothing of another's written over."""

import csv
from pathlib import Path

import pytest
import torch

from studio.diffusion.cache import ModelCache
from studio.diffusion.model import Model
from studio.errors import Conflict, InputError
from studio.formats.embedding_optim import optim_path
from studio.formats.hypernetwork import Hypernetwork, read_hypernetwork
from studio.jobs import SilentLane
from studio.requests.generate import GenerateRequest
from studio.requests.hypernetwork import CreateHypernetworkRequest
from studio.requests.train import TrainRequest
from studio.services import generation
from studio.services.desk import Desk
from studio.services.hypernetworks import run as create
from studio.services.training import run
from studio.services.wardrobe import dressed
from studio.settings import Paths
from studio.training.watch import Rhythm
from tests.services.trainings import Acting, Cut, Cutting, events
from tests.training.test_hypernetwork import answer

BUILD = {"activation": "swish", "dropout_structure": "0, 0.1, 0", "layer_structure": "1, 1.5, 1"}


@pytest.fixture
def desk(root: Paths, tiny_cache: ModelCache) -> Desk:
    return Desk(root, tiny_cache)


def request(pictures: Path, **more: object) -> TrainRequest:
    """A short training at 64 px."""
    quick = {
        "name": "net",
        "learn_rate": "0.003",
        "steps": 6,
        "batch_size": 2,
        "width": 64,
        "height": 64,
        "save_every": 0,
        "preview_every": 0,
        "probe_every": 0,
        "preview_steps": 1,
        "template": "none",
    }
    return TrainRequest(method="hypernetwork", config={**quick, **BUILD, "data": str(pictures), **more})


def shelf(desk: Desk, name: str = "net") -> Hypernetwork:
    """What lies on the shelf."""
    return read_hypernetwork(desk.paths.hypernetworks / f"{name}.pt")


def same(one: Hypernetwork, other: Hypernetwork) -> bool:
    """Whether all numbers are the same."""
    return all(torch.equal(a[key], b[key]) for width, pair in one.layers.items() for a, b in zip(pair, other.layers[width], strict=True) for key in a)


class Using(Acting):
    """A lane on which somebody paints with what is learned after its second step."""

    what = "paint"
    at = 2
    desk: Desk
    model: Model

    def breathe(self) -> None:
        """Look, once."""
        super().breathe()
        if self.at == 0:
            self.plain = answer(self.model)
            with dressed(self.model, "x <hypernet:net:0.7>", self.desk) as outfit:
                self.worn, self.notes = answer(self.model), outfit.notes


def test_it_is_created_trained_and_gone_on_with(desk: Desk, captioned: Path, tiny: Model, lane: SilentLane) -> None:
    made = create(CreateHypernetworkRequest(name="net", **BUILD), lane, desk)
    assert made["widths"] == [64, 128, 192] and "acts on 64, 128, 192" in events(lane, "warning")[0]["text"]
    begin, path = shelf(desk), desk.paths.hypernetworks / "net.pt"
    with pytest.raises(Conflict, match="taken"):
        create(CreateHypernetworkRequest(name="NET"), lane, desk)
    with pytest.raises(InputError, match="taken"):
        run(request(captioned), SilentLane("0"), desk)
    assert same(shelf(desk), begin)
    using, before = Using("1"), answer(tiny)
    using.desk, using.model = desk, tiny
    result = run(request(captioned, start_from="net", preview_every=4), using, desk)
    assert (result["steps"], result["path"], shelf(desk).step) == (6, str(path), 6) and not same(shelf(desk), begin)
    assert torch.equal(using.plain, before) and not torch.equal(using.worn, before) and using.notes == [], "others find the model as it was, and may wear what is learned"
    assert torch.equal(answer(tiny), before) and desk.live_hypernetworks == {}
    with dressed(tiny, "x <hypernet:net:1>", desk):
        assert not torch.equal(answer(tiny), before)
    side = torch.load(optim_path(path), weights_only=True)
    assert side["optimizer_name"] == "AdamW" and float(side["optimizer_state_dict"]["state"][0]["step"]) == 6
    (journal,) = (desk.paths.outputs / "textual_inversion").glob("*/net")
    with (journal / "hypernetwork_loss.csv").open() as file:
        assert [row["step"] for row in csv.DictReader(file)] == ["1", "2", "3", "4", "5", "6"]
    assert {p.name for p in (journal / "hypernetworks").iterdir()} == {"net.pt"} and (journal / "images" / "net-4.png").exists()
    lane = SilentLane("2")
    run(request(captioned, start_from="net", steps=7), lane, desk)
    assert any("goes on from net.pt.optim" in event["text"] for event in events(lane, "log")) and shelf(desk).step == 7
    assert float(torch.load(optim_path(path), weights_only=True)["optimizer_state_dict"]["state"][0]["step"]) == 7
    lane = SilentLane("3")
    run(request(captioned, name="twin", start_from="net", steps=8), lane, desk)
    assert any("goes on from net.pt.optim" in event["text"] for event in events(lane, "log")) and (shelf(desk).step, shelf(desk, "twin").step) == (7, 8)


def test_a_run_that_was_killed_goes_on_bit_for_bit(desk: Desk, captioned: Path) -> None:
    run(request(captioned), SilentLane("whole"), desk)
    whole = shelf(desk)
    (desk.paths.hypernetworks / "net.pt").unlink()
    lane = Cutting("cut")
    lane.left = 4
    with pytest.raises(Cut):
        run(request(captioned), lane, desk, Rhythm(3, 60))
    result = run(request(captioned), SilentLane("cut"), desk)
    assert result["steps"] == 6 and same(shelf(desk), whole)


def test_it_learns(desk: Desk, captioned: Path) -> None:
    result = run(request(captioned, steps=40, probe_every=40, learn_rate="0.002", dropout_structure=""), SilentLane("learn"), desk)
    with (Path(result["run"]) / "probe.csv").open() as file:
        *_, last = csv.DictReader(file)
    assert float(last["train"]) < -3 and float(last["high"]) < 0, last


def test_the_picture_is_painted_with_it(desk: Desk, captioned: Path, lane: SilentLane) -> None:
    run(request(captioned, steps=2, learn_rate="0.01"), SilentLane("paint"), desk)

    def painted(prompt: str) -> bytes:
        """A picture's bytes."""
        return Path(generation.run(GenerateRequest(prompt=prompt, steps=1, seed=3, width=64, height=64, preview_every=0), lane, desk)["images"][0]).read_bytes()

    assert painted("a monster <hypernet:net:0.7>") != painted("a monster <hypernet:net:0>")
