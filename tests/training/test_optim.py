"""Rates as A1111 writes them, and an optimiser that goes on."""

import pytest
import torch

from studio.errors import InputError
from studio.training.optim import Schedule, adamw, optimizer_tensors, restore_optimizer, set_rate

THREE = "0.005:100, 1e-3:1000, 1e-5"


@pytest.mark.parametrize(
    ("text", "max_steps", "start", "segments"),
    [
        ("0.005", 1000, 0, ((0.005, 1000),)),
        (THREE, 5000, 0, ((0.005, 100), (0.001, 1000), (1e-5, 5000))),
        (THREE, 5000, 500, ((0.001, 1000), (1e-5, 5000))),
        ("0.005:100, 1e-3:1000", 5000, 0, ((0.005, 100), (0.001, 1000))),
        ("0.005:100,1e-3:-1", 500, 0, ((0.005, 100), (0.001, 500))),
        ("1e-3,1e-4:100", 1000, 0, ((0.001, 1000),)),
        ("0.005:2000", 500, 0, ((0.005, 500),)),
        (", 0.005 ,,", 10, 0, ((0.005, 10),)),
        ("0.1:100, 0.2:200", 100, 0, ((0.1, 100),)),
    ],
)
def test_a_schedule_means_what_it_means_in_a1111(text: str, max_steps: int, start: int, segments: tuple) -> None:
    schedule = Schedule.parse(text, max_steps, start)
    assert schedule.segments == segments
    assert schedule.end == segments[-1][1]


@pytest.mark.parametrize("text", ["", "abc", "0.005:10.5", "-1", "0", "nan", "inf", "0.1:5:5", "0.1:200, 0.2:100"])
def test_a_schedule_that_cannot_be_read_is_refused_in_words(text: str) -> None:
    with pytest.raises(InputError) as refusal:
        Schedule.parse(text, 1000)
    assert "Learn rate" in str(refusal.value)


def test_a_schedule_that_is_over_before_it_begins_names_both_steps() -> None:
    with pytest.raises(InputError, match="ends at step 100, and the training begins at step 200"):
        Schedule.parse("0.005:100", 1000, 200)


def test_the_rate_changes_after_the_step_that_is_named() -> None:
    schedule = Schedule.parse("0.5:2, 0.25:4", 100)
    assert [schedule.at(done) for done in range(5)] == [0.5, 0.5, 0.25, 0.25, 0.25]


def test_an_optimiser_goes_on_bit_for_bit() -> None:
    gradients = torch.randn(6, 3, generator=torch.Generator().manual_seed(1))

    def steps(parameter: torch.nn.Parameter, optimizer: torch.optim.Optimizer, of: range) -> None:
        for i in of:
            set_rate(optimizer, 0.1 / (i + 1))
            parameter.grad = gradients[i].clone()
            optimizer.step()

    whole = torch.nn.Parameter(torch.ones(3))
    steps(whole, adamw([whole], 0.1), range(6))
    first = torch.nn.Parameter(torch.ones(3))
    optimizer = adamw([first], 0.1)
    steps(first, optimizer, range(3))
    second = torch.nn.Parameter(first.detach().clone())
    resumed = adamw([second], 0.1)
    restore_optimizer(resumed, optimizer_tensors(optimizer))
    steps(second, resumed, range(3, 6))
    assert torch.equal(whole, second)


def test_nothing_decays() -> None:
    parameter = torch.nn.Parameter(torch.ones(3))
    optimizer = adamw([parameter], 0.1)
    parameter.grad = torch.zeros(3)
    optimizer.step()
    assert torch.equal(parameter.detach(), torch.ones(3))
