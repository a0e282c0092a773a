"""Hypernetworks learn on the tiny world: off and on without a trace, the same at every resumption, and as A1111 writes them."""

from pathlib import Path
from typing import get_args

import pytest
import torch
from torch import Tensor, nn

from studio.diffusion.hypernetworks import ACTIVATIONS, INITIALIZATIONS, Blend, Chance, begun, blended, build, live
from studio.diffusion.model import Conditioning, Model
from studio.errors import InputError
from studio.formats.embedding_optim import optim_path
from studio.formats.hypernetwork import Hypernetwork, read_hypernetwork
from studio.requests.hypernetwork_build import Activation, Initialization
from studio.requests.train import HypernetworkConfig
from studio.training.loop import Plan, train
from studio.training.methods.hypernetwork import HYPERNETWORK, LiveHypernetwork, planted
from studio.training.optim import build as optimizer_of
from studio.training.optim import optimizer_tensors, restore_optimizer
from studio.training.passes import Passes, draw
from studio.training.passes import losses as losses_of
from studio.training.preparation import prepared
from tests.diffusion.small import made
from tests.training.test_loop import Quiet, plan

WILD = {"dropout_structure": "0, 0.3, 0", "activation": "rrelu", "layer_norm": True}
"""Everything that is random in training, and a norm."""


def knobs(**more: object) -> HypernetworkConfig:
    """The knobs of one for the tiny world."""
    return HypernetworkConfig(name="net", data="x", **more)


def learner(model: Model, start: Path | None = None, **more: object) -> LiveHypernetwork:
    """One that learns."""
    return HYPERNETWORK.attach(model, start, knobs(**more))


def answer(model: Model) -> Tensor:
    """What the UNet says to one fixed question."""
    dice = torch.Generator().manual_seed(3)
    with torch.no_grad():
        return model.predict(torch.randn(1, 4, 16, 16, generator=dice), torch.tensor(500), Conditioning(torch.randn(1, 77, model.unet.config.cross_attention_dim, generator=dice)))


@pytest.fixture(scope="module")
def small() -> Model:
    """A small random model."""
    return made()


def steps(net: LiveHypernetwork, optimizer: torch.optim.Optimizer, first: int, end: int) -> list[float]:
    """Take steps; their losses."""
    watch = Quiet(end=end, step=first)
    watch.rate = lambda: 0.01
    with net.attached():
        train(net.model, net, optimizer, plan(size=2, parts=1, edge=8), watch)
    return [step.loss for step in watch.heard]


def error(net: LiveHypernetwork) -> float:
    """How far it is off in some passes, as a person will use it."""
    knob = plan(size=2, parts=1, edge=8)
    with torch.no_grad(), net.attached(), net.shown():
        return sum(float(losses_of(net.model, net, knob, draw(knob, step, 0))[0].mean()) for step in range(4))


def test_it_learns_the_same_after_a_resumption_and_the_file_gives_the_same_picture(small: Model, tmp_path: Path) -> None:
    whole = learner(small, **WILD)
    begin = whole.now()
    optimizer = optimizer_of("AdamW", whole.parameters(), 0.01)
    losses = steps(whole, optimizer, 0, 4)
    kept = {**whole.state(), **optimizer_tensors(optimizer)}
    losses += steps(whole, optimizer, 4, 40)
    again = learner(small, **WILD)
    other = optimizer_of("AdamW", again.parameters(), 0.01)
    again.restore(kept)
    restore_optimizer(other, kept)
    assert steps(again, other, 4, 8) == losses[4:8]
    assert error(whole) < 0.96 * error(learner(small, **WILD))
    assert whole.figures()["distance"] > again.figures()["distance"] > 0
    whole.shelve(tmp_path / "net.pt", 40)
    file = read_hypernetwork(tmp_path / "net.pt")
    assert (file.step, file.checkpoint_name, file.checkpoint_hash, file.structure, file.dropout, file.activation) == (40, "small", small.hash[:10], (1, 2, 1), (0, 0.3, 0), "rrelu")
    assert file.facts["name"] == "net" and file.activate_output is False and set(file.layers) == set(begin.layers)
    with whole.attached(), whole.shown():
        seen = answer(small)
    with blended(small, [Blend(file)]):
        assert torch.equal(answer(small), seen)


def test_others_find_the_model_bit_for_bit_as_it_was(small: Model) -> None:
    plain, net = answer(small), learner(small, weight_init="XavierNormal", **WILD)
    with net.attached(), net.shown():
        changed = answer(small)
        with net.off():
            assert torch.equal(answer(small), plain)
            with blended(small, [Blend(net.live_hypernetworks("net")["net"](), 0.7)]):
                assert not torch.equal(answer(small), plain)
        assert torch.equal(answer(small), changed) and not torch.equal(changed, plain)
    assert torch.equal(answer(small), plain) and not any(module._forward_pre_hooks for module in small.unet.modules())
    assert all(net.training for net in net.nets)


def test_what_is_left_out_depends_on_seed_step_and_place_alone(small: Model) -> None:
    def said(step: int, **more: object) -> Tensor:
        """What the network on the model says in training."""
        net = learner(small, weight_init="XavierNormal", **{**WILD, **more})
        net.before_step(step)
        with net.attached():
            torch.rand(step + 1)
            return answer(small)

    assert torch.equal(said(3), said(3)) and not torch.equal(said(3), said(4))
    assert not torch.equal(said(3, dropout_structure=""), said(3)), "dropout does something"
    network = learner(small, weight_init="XavierNormal", **WILD).now()
    chance = Chance(1, 2, "here")
    net = live(32, network, network.layers[32][0], chance)
    x = torch.randn(2, 5, 32)
    both = net(x)
    assert torch.equal(both[1:], net(x[1:])), "a picture alone is told what it is told in a batch"
    chance.place = "there"
    assert not torch.equal(net(x), both)
    gaps = live(32, Hypernetwork("x", {}, dropout=(0, 0.25, 0)), begun(32, Hypernetwork("x", {}), 0, 0), chance)[1]
    passed = gaps(torch.ones(1, 400, 64))
    assert set(passed.unique().tolist()) == {0.0, torch.tensor(4 / 3).item()} and 0.2 < float((passed == 0).float().mean()) < 0.3


def test_what_saves_memory_gives_the_same_gradients(small: Model) -> None:
    def gradients(checkpointing: bool, at_once: int) -> Tensor:
        """Of one step."""
        net = learner(small, weight_init="KaimingUniform", **WILD)
        knob: Plan = plan(size=2, parts=1, edge=8, checkpointing=checkpointing)
        with net.attached(), prepared(small, checkpointing) as seen:
            Passes(seen, net, knob, lambda _kind, _text: None, at_once).add(draw(knob, 0, 0), 1.0)
        return torch.cat([p.grad.flatten() for p in net.parameters()])

    usual = gradients(False, 0)
    assert torch.equal(gradients(True, 0), usual)
    torch.testing.assert_close(gradients(False, 1), usual, rtol=0, atol=5e-6 * float(usual.abs().max()))


@pytest.mark.parametrize("how", INITIALIZATIONS)
@pytest.mark.parametrize("activation", ["relu", "leakyrelu"])
def test_numbers_begin_as_widely_as_a1111_has_it(how: str, activation: str) -> None:
    network = Hypernetwork("x", {}, activation=activation, activate_output=False, initialization=how, layer_norm=True)
    state = begun(200, network, 7, 0)
    first = state["linear.0.weight"]
    wanted = {"Normal": 0.01, "XavierUniform": (2 / 600) ** 0.5, "XavierNormal": (2 / 600) ** 0.5, "KaimingUniform": 0.1, "KaimingNormal": 0.1}[how]
    assert float(first.std()) == pytest.approx(wanted, rel=0.03)
    assert (float(first.abs().max()) < 1.8 * wanted) == how.endswith("Uniform")
    assert all(not tensor.any() for name, tensor in state.items() if name.endswith("bias"))
    assert float(state["linear.2.weight"].std()) == pytest.approx(0.01, rel=0.2), "norms begin as A1111's do"
    assert torch.equal(begun(200, network, 7, 0)["linear.0.weight"], first) and not torch.equal(begun(200, network, 7, 1)["linear.0.weight"], first)
    plain = build(200, network, state)
    assert [type(layer) for layer in plain][:3] == [nn.Linear, ACTIVATIONS[activation], nn.LayerNorm]


def test_the_knobs_are_those_that_can_be_built() -> None:
    assert {*get_args(Activation), "hardswish"} == set(ACTIVATIONS)
    assert get_args(Initialization) == tuple(INITIALIZATIONS)
    structures = [{"layer_structure": text} for text in ("1, 2", "1, much, 1", "1, 2, 99, 1")]
    rates = [{"dropout_structure": text} for text in ("0, 0.3", "0.1, 0, 0", "0, 1, 0", "0, nan, 0")]
    for wrong in (*structures, *rates, {"modules": []}):
        with pytest.raises(InputError, match=r"structure|Modules"):
            HypernetworkConfig.check({"name": "x", "data": "x", **wrong})


def test_widths_that_are_not_there_are_left_out_and_told(small: Model, tmp_path: Path) -> None:
    assert learner(made(context=768), modules=["768", "320"]).network.widths == (768,)
    _, told = planted(small, "x", knobs().model_copy(update={"modules": ("64",)}), 0)
    assert [text for text in told if "prompts at width 32, which is not among the modules" in text] == list(told) != []
    net = learner(small)
    assert net.network.widths == (32, 64) and "no context of width 768, 1024" in net.warnings()[0] and "acts on 32, 64" in net.warnings()[0]
    both = Hypernetwork("old", {w: tuple(begun(w, Hypernetwork("old", {}), 0, side) for side in (0, 1)) for w in (16, 32)})
    mixed = LiveHypernetwork(small, both)
    optimizer = optimizer_of("AdamW", mixed.parameters(), 0.01)
    steps(mixed, optimizer, 0, 2)
    mixed.shelve(tmp_path / "old.pt", 2)
    mixed.remember(tmp_path / "old.pt", optimizer)
    file = read_hypernetwork(tmp_path / "old.pt")
    assert torch.equal(file.layers[16][1]["linear.0.weight"], both.layers[16][1]["linear.0.weight"]) and not torch.equal(file.layers[32][1]["linear.0.weight"], both.layers[32][1]["linear.0.weight"])
    side = torch.load(optim_path(tmp_path / "old.pt"), weights_only=True)
    assert side["optimizer_name"] == "AdamW" and len(side["hash"]) == 10 and list(side["optimizer_state_dict"]["state"]) == list(range(8, 16))
    assert side["optimizer_state_dict"]["param_groups"][0]["params"] == list(range(16))
    further = learner(small, tmp_path / "old.pt", activation="relu")
    tensors, reason = further.recalled(optim_path(tmp_path / "old.pt"), tmp_path / "old.pt")
    assert reason == "" and all(torch.equal(tensors[k], v) for k, v in optimizer_tensors(optimizer).items() if k.startswith("optimizer.") and "group" not in k and "number" not in k)
    assert any("keeps the activation function" in text and "linear" in text for text in further.warnings()) and "width 16; that part of 'old' stays" in further.warnings()[-1]
    further.shelve(tmp_path / "new.pt", 3)
    tensors, reason = further.recalled(optim_path(tmp_path / "old.pt"), tmp_path / "new.pt")
    assert tensors is None and "belongs to another file" in reason
    with pytest.raises(InputError, match="width 16"):
        LiveHypernetwork(small, Hypernetwork("old", {16: both.layers[16]}))
