"""Optimisers go on as if nothing had happened, let nothing decay, and gradients are capped."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from studio.errors import InputError
from studio.training.optim import OPTIMIZERS, build, clip, effective_rate, optimizer_tensors, restore_optimizer, set_rate
from studio.training.run import Checkpoint, Run

HERE = tuple(name for name, _ in OPTIMIZERS if name != "AdamW 8-bit")
"""Optimisers that run on every machine."""
RATES = {"Prodigy": 1.0}
GRADIENTS = torch.randn(9, 19, generator=torch.Generator().manual_seed(1))
"""Gradients of a matrix [3, 5] and a row [4], one after another."""


def fresh(name: str, rate: float) -> tuple[list[nn.Parameter], Optimizer]:
    """Two parameters at their start, and their optimiser."""
    parameters = [nn.Parameter(torch.linspace(-1, 1, 15).reshape(3, 5)), nn.Parameter(torch.ones(4))]
    return parameters, build(name, parameters, rate)


def steps(parameters: list[nn.Parameter], optimizer: Optimizer, of: range, rate: float) -> None:
    """Take steps with the same gradients and falling rates every time."""
    for i in of:
        set_rate(optimizer, rate / (i + 1))
        gradient = GRADIENTS[i]
        parameters[0].grad, parameters[1].grad = gradient[:15].reshape(3, 5).clone(), gradient[15:].clone()
        optimizer.step()


def plain(optimizer: Optimizer) -> list[object]:
    """Everything an optimiser holds, as something that can be compared: tensors by type, device and bits."""
    groups = [{k: v for k, v in group.items() if k != "params"} for group in optimizer.param_groups]
    states = [{k: (v.dtype, v.device, v.tolist()) if isinstance(v, Tensor) else (type(v), v) for k, v in state.items()} for state in optimizer.state.values()]
    return [groups, states]


@pytest.mark.parametrize("name", HERE)
@pytest.mark.parametrize("cut", [0, 1, 4])
def test_an_optimiser_goes_on_bit_for_bit_from_a_checkpoint_on_disk(name: str, cut: int, tmp_path: Path) -> None:
    rate = RATES.get(name, 0.1)
    whole, uninterrupted = fresh(name, rate)
    steps(whole, uninterrupted, range(9), rate)
    first, optimizer = fresh(name, rate)
    steps(first, optimizer, range(cut), rate)
    run = Run.open(tmp_path, "word", "job")
    run.save(Checkpoint(cut, {**{f"p{i}": p.detach() for i, p in enumerate(first)}, **optimizer_tensors(optimizer)}, {}))
    kept = run.latest()
    second, resumed = fresh(name, rate)
    for i, parameter in enumerate(second):
        parameter.data.copy_(kept.tensors[f"p{i}"])
    restore_optimizer(resumed, kept.tensors)
    assert plain(resumed) == plain(optimizer)
    steps(second, resumed, range(cut, 9), rate)
    assert all(torch.equal(a, b) for a, b in zip(whole, second, strict=True))
    assert plain(resumed) == plain(uninterrupted)


@pytest.mark.parametrize("name", HERE)
def test_a_step_moves_what_has_a_gradient_and_nothing_decays(name: str) -> None:
    parameters, optimizer = fresh(name, RATES.get(name, 0.1))
    before = [p.detach().clone() for p in parameters]
    parameters[0].grad, parameters[1].grad = torch.ones(3, 5), torch.zeros(4)
    optimizer.step()
    assert bool((parameters[0] < before[0]).all())
    assert torch.equal(parameters[1].detach(), before[1])


def test_eight_bits_where_they_cannot_be_had_and_unknown_names_are_refused_in_words() -> None:
    with pytest.raises(InputError, match=r"needs an NVIDIA card, and this training runs on cpu; choose AdamW"):
        fresh("AdamW 8-bit", 0.1)
    with pytest.raises(InputError, match="there is no 'SGD'; choose one of AdamW, AdamW 8-bit, Prodigy, Adafactor, Lion"):
        fresh("SGD", 0.1)


@pytest.mark.parametrize(("mode", "expected"), [("disabled", [3.0, -4.0, 0.5]), ("value", [1.0, -1.0, 0.5]), ("norm", [0.5970, -0.7960, 0.0995])])
def test_gradients_are_capped_one_by_one_or_all_together(mode: str, expected: list[float]) -> None:
    parameters = [nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1))]
    parameters[0].grad, parameters[1].grad = torch.tensor([3.0, -4.0]), torch.tensor([0.5])
    clip(parameters, mode, 1.0)
    assert torch.cat([parameters[0].grad, parameters[1].grad]).tolist() == pytest.approx(expected, abs=1e-4)
    assert parameters[2].grad is None


def test_the_rate_that_is_told_is_the_one_steps_are_taken_at() -> None:
    for name, rate in (("AdamW", 0.01), ("Prodigy", 1.0)):
        parameters, optimizer = fresh(name, rate)
        before = parameters[0].detach().clone()
        steps(parameters, optimizer, range(1), rate)
        moved = float((parameters[0].detach() - before).abs().max())
        assert moved == pytest.approx(effective_rate(optimizer), rel=0.05)
