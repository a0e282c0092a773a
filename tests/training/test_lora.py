"""LoRA and LyCORIS as methods: what learns at which rate, files and going on, resuming to the bit, and the same in portions."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from studio.diffusion.adapters import Wear, worn
from studio.diffusion.families import SDXL
from studio.diffusion.model import Model
from studio.errors import InputError
from studio.formats.adapter import read_adapter
from studio.formats.provenance import Provenance
from studio.requests.train import LoraConfig, LycorisConfig
from studio.settings import Paths
from studio.training.loop import train
from studio.training.methods import method_of
from studio.training.methods.lora import LORA, Lora
from studio.training.methods.lycoris import LYCORIS
from studio.training.optim import build, optimizer_tensors, restore_optimizer
from studio.training.passes import Passes, drawn
from studio.training.preparation import prepared
from tests.diffusion.small import made, predicted, weights
from tests.training.test_loop import Quiet, plan

GAPS = {"dropout": 0.2, "rank_dropout": 0.2, "module_dropout": 0.1}


@pytest.fixture(scope="module")
def model() -> Model:
    return made()


def config(method: str = "lora", **knobs: Any) -> LoraConfig | LycorisConfig:
    """Few knobs that differ from their defaults."""
    cls = LoraConfig if method == "lora" else LycorisConfig
    return cls(**{"name": "thing", "data": "pictures", "learn_rate": "1e-3:10, 1e-4", "text_encoder_rate": 5e-4, "rank": 4, **knobs})


def attached(model: Model, start: Path | None = None, **knobs: Any) -> Lora:
    """A learner with these knobs."""
    made_with = config(**knobs)
    learner = method_of(made_with.method).attach(model, start, made_with)
    assert isinstance(learner, Lora)
    return learner


def learn(model: Model, learner: Lora, steps: int, begin: int = 0, optimizer: torch.optim.Optimizer | None = None) -> torch.optim.Optimizer:
    """Take steps through the real loop."""
    optimizer = optimizer or build("AdamW", [list(group.parameters) for group in learner.groups()], 1e-3)
    with learner.attached(), prepared(model) as network:
        train(network, learner, optimizer, plan(), Quiet(end=steps, step=begin))
    return optimizer


def rates(learner: Lora) -> dict[str, float]:
    """The share of every tensor by its name."""
    shares = {id(p): group.share(0) for group in learner.groups() for p in group.parameters}
    return {name: shares[id(p)] for name, p in learner.grown.tensors().items() if id(p) in shares}


def test_each_part_learns_at_its_rate(model: Model) -> None:
    found = rates(attached(model, plus_ratio=16.0, block_rates="0.5,1,1,1,0,1,1,1,1,1,1,1,1,1,1,1,1"))
    block = {"BASE": 0.25, "IN01": 1.0}
    assert found["lora_te_text_model_encoder_layers_0_mlp_fc1.lora_down"] == pytest.approx(block["BASE"])
    assert found["lora_te_text_model_encoder_layers_0_mlp_fc1.lora_up"] == pytest.approx(16 * block["BASE"])
    assert found["lora_unet_down_blocks_0_attentions_0_proj_in.lora_down"] == block["IN01"]
    assert not any("down_blocks_1_attentions_1" in name for name in found), "a block that does not learn gets nothing"
    assert not any("lora_te" in name for name in rates(attached(model, text_encoder_rate=0)))
    assert {g.name for g in attached(model).groups()} == {"UNet", "text encoder, rate times 0.5"}


def test_rates_that_do_not_fit_are_said(model: Model) -> None:
    with pytest.raises(InputError, match="Rank of each block: 12 block weights"):
        attached(model, block_ranks=",".join(["1"] * 12))
    with pytest.raises(InputError, match="below 0"):
        attached(model, block_rates=",".join(["-1"] * 17))


@pytest.mark.parametrize("knobs", [{}, {"dora": True, "conv_rank": 2}, *({"method": "lycoris", "algorithm": a, "tucker": True, "layers": "full"} for a in ("LoCon", "LoHa", "LoKr", "(IA)3"))], ids=str)
def test_it_learns_and_its_file_is_what_was_learned(model: Model, tmp_path: Path, knobs: dict[str, Any]) -> None:
    plain, before = predicted(model), weights(model)
    learner = attached(model, **{"save_precision": "fp32", **knobs})
    assert learner.figures()["distance"] == 0
    learn(model, learner, 2)
    assert torch.equal(predicted(model), plain)
    assert weights(model) == before
    assert learner.figures()["norm"] > 0
    assert learner.figures()["distance"] > 0
    learner.provenance = Provenance("thing", "SD1", step=2)
    learner.shelve(tmp_path / "thing.safetensors", 2)
    with learner.attached(), learner.shown():
        live = predicted(model)
        with learner.off():
            assert torch.equal(predicted(model), plain)
    adapter = read_adapter(tmp_path / "thing.safetensors")
    assert not torch.equal(live, plain)
    with worn(model, [Wear(adapter)]):
        torch.testing.assert_close(predicted(model), live, atol=1e-5, rtol=1e-4)
    again = attached(model, tmp_path / "thing.safetensors", **knobs)
    with again.attached():
        torch.testing.assert_close(predicted(model), live, atol=1e-6, rtol=1e-5)
    alone = "diffusers does not read it"
    expected = {"(IA)3": "Forge, ComfyUI and diffusers do not read it", "LoHa": alone, "LoKr": alone, "LoCon": "Tucker"}.get(knobs.get("algorithm"), "DoRA")
    assert [expected in text for text in learner.warnings()] == ([True] if knobs else [])


@pytest.mark.parametrize("method", ["lora", "lycoris"])
def test_a_run_that_goes_on_ends_with_the_same_bits(model: Model, method: str) -> None:
    whole, first, second = (attached(model, method=method, **GAPS) for _ in range(3))
    learn(model, whole, 4)
    optimizer = learn(model, first, 2)
    second.restore(first.state())
    resumed = build("AdamW", [list(group.parameters) for group in second.groups()], 1e-3)
    restore_optimizer(resumed, optimizer_tensors(optimizer))
    learn(model, second, 4, 2, resumed)
    assert all(torch.equal(value, second.state()[name]) for name, value in whole.state().items())
    assert whole.figures() == second.figures()


def test_portions_checkpointing_and_parts_learn_the_same(model: Model) -> None:
    """With dropout too, which is why it knows the step and not the picture."""

    def gradients(at_once: int, checkpointing: bool) -> list[torch.Tensor]:
        learner, course = attached(model, method="lycoris", algorithm="LoCon", layers="full", **GAPS), replace(plan(), checkpointing=checkpointing)
        learner.restore({name: value + 0.01 for name, value in learner.state().items()})
        passes = Passes(model, learner, course, lambda _kind, _text: None, at_once)
        learner.before_step(3)
        with learner.attached(), prepared(model, checkpointing) as network:
            passes.model = network
            for batch in drawn(course, 3):
                passes.add(batch, 1.0)
        return [torch.zeros(()) if p.grad is None else p.grad for p in learner.parameters()]

    plain = gradients(0, False)
    for other in (gradients(1, False), gradients(0, True)):
        for a, b in zip(plain, other, strict=True):
            torch.testing.assert_close(a, b, atol=1e-6 * float(a.abs().max()) + 1e-9, rtol=1e-3)


def test_the_norm_is_that_of_the_change(model: Model) -> None:
    learner = attached(model, conv_rank=3, layers="full")
    learner.restore({name: value + 0.01 for name, value in learner.state().items()})
    norms = [float(growth.delta.change(growth.layer.module.weight)[0].detach().norm()) for growth in learner.grown.learning]
    assert learner.figures()["norm"] == pytest.approx(sum(norms) / len(norms), rel=1e-4)


def test_sdxl_learns_in_both_text_encoders() -> None:
    learner = attached(made(SDXL, 40))
    found = rates(learner)
    for prefix, share in (("lora_te1_", 0.5), ("lora_te2_", 0.5), ("lora_unet_", 1.0)):
        assert {value for name, value in found.items() if name.startswith(prefix)} == {share}


def test_files_are_not_overwritten_by_accident(root: Paths, model: Model) -> None:
    for method, name in ((LORA, "lora"), (LYCORIS, "lycoris")):
        knobs = config(name)
        shelf = method.shelves(root, knobs)[".safetensors"]
        assert shelf == root.lora / "thing.safetensors"
        shelf.unlink(missing_ok=True)
        assert method.mistakes(root, knobs) == []
        attached(model, method=name).shelve(shelf, 0)
        assert "taken" in method.mistakes(root, knobs)[0]
        assert method.mistakes(root, config(name, overwrite=True)) == []
        assert method.start(root, config(name, start_from="thing")) == shelf
        with pytest.raises(InputError, match="there is no"):
            method.start(root, config(name, start_from="other"))
