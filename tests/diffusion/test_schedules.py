"""Noise levels: known answers, what every schedule type owes, and how much of it is walked at a strength."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy import stats

from studio.diffusion.schedules import SCHEDULES, Ladder, levels, portion, strided
from studio.errors import InputError
from studio.requests.generate import Schedule
from tests.diffusion import published
from tests.diffusion.linear import taught

LADDER = Ladder.of(taught())
TRAINED = ((1 - taught()) / taught()).sqrt().double().numpy()
NAMES = [name for name, _ in SCHEDULES]


def test_every_schedule_type_a_request_may_name_is_there_and_no_other() -> None:
    assert ["Automatic", *NAMES] == list(Schedule.__args__)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("n", [1, 2, 10, 20, 50, 150])
def test_levels_fall_from_the_highest_to_nought(name: str, n: int) -> None:
    found = levels(name, LADDER, n)
    assert len(found) == n + 1 or name == "DDIM"
    assert all(math.isfinite(level) for level in found)
    assert all(a > b for a, b in pairwise(found))
    assert found[-1] == (pytest.approx(LADDER.low, rel=1e-5) if name == "KL Optimal" else 0)
    if n > 1:
        assert 0.8 * LADDER.high < found[0] < 1.001 * LADDER.high or name == "DDIM"


def test_the_ends_are_those_of_stable_diffusion() -> None:
    assert (LADDER.low, LADDER.high) == (pytest.approx(0.0291675, abs=1e-6), pytest.approx(14.614642, abs=1e-5))


@pytest.mark.parametrize(
    ("name", "rule"), [("Uniform", published.uniform), ("Normal", published.uniform), ("Karras", published.karras), ("Exponential", published.exponential), ("Polyexponential", published.exponential)]
)
@pytest.mark.parametrize("n", [2, 7, 20, 33])
def test_levels_are_the_published_ones(name: str, rule: object, n: int) -> None:
    assert levels(name, LADDER, n) == pytest.approx(rule(n, TRAINED), rel=2e-6)


def test_sgm_uniform_is_uniform_of_one_more_step_without_its_last() -> None:
    assert levels("SGM Uniform", LADDER, 9)[:-1] == pytest.approx(levels("Uniform", LADDER, 10)[:-2])


def test_simple_and_ddim_and_turbo_stand_on_trained_levels() -> None:
    assert levels("Simple", LADDER, 4) == pytest.approx([*(TRAINED[t] for t in (999, 749, 499, 249)), 0])
    assert levels("DDIM", LADDER, 4) == pytest.approx([*(TRAINED[t] for t in (751, 501, 251, 1)), 0])
    assert levels("Turbo", LADDER, 4) == pytest.approx([*(TRAINED[t] for t in (999, 749, 499, 249)), 0])
    assert levels("Turbo", LADDER, 3) == pytest.approx([*(TRAINED[t] for t in (999, 666, 332)), 0])


def test_ddim_has_a_step_more_where_the_steps_do_not_divide_a_thousand() -> None:
    assert len(levels("DDIM", LADDER, 30)) - 1 == 31


def test_kl_optimal_is_even_in_the_angle() -> None:
    angles = np.arctan(levels("KL Optimal", LADDER, 8))
    assert np.diff(angles) == pytest.approx(np.full(8, np.diff(angles).mean()), rel=1e-3)


def test_beta_levels_are_its_quantiles() -> None:
    expected = [LADDER.low + stats.beta.ppf(1 - i / 8, 0.6, 0.6) * (LADDER.high - LADDER.low) for i in range(9)]
    assert levels("Beta", LADDER, 9)[:-1] == pytest.approx(expected, rel=1e-5)


def test_align_your_steps_has_a_list_for_each_family() -> None:
    rich = Ladder.of(taught(), rich=True)
    assert levels("Align Your Steps", LADDER, 11)[:4] == pytest.approx([14.615, 6.475, 3.861, 2.697])
    assert levels("Align Your Steps", rich, 11)[:4] == pytest.approx([14.615, 6.315, 3.771, 2.181])
    assert levels("Align Your Steps", LADDER, 21)[1] == pytest.approx(math.sqrt(14.615 * 6.475), rel=1e-5)


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(InputError, match="'karras'"):
        levels("karras", LADDER, 4)


@pytest.mark.parametrize("time", [0, 1, 250, 500.25, 998.5, 999])
def test_a_level_knows_its_training_step(time: float) -> None:
    assert LADDER.time(float(LADDER.at(torch.tensor([float(time)]))[0])) == pytest.approx(time, abs=2e-3)


@pytest.mark.parametrize(("sigma", "time"), [(0.0, 0), (1e-4, 0), (20.0, 999), (1e9, 999)])
def test_levels_beyond_the_trained_ones_count_as_the_nearest(sigma: float, time: int) -> None:
    assert LADDER.time(sigma) == time


def test_a_distilled_ladder_knows_its_own_steps_only() -> None:
    few = LADDER.every(20)
    assert (len(few.sigmas), few.times[0], few.times[-1]) == (50, 19.0, 999.0)
    assert few.time(LADDER.sigmas[519]) == 519
    assert few.time(LADDER.sigmas[521]) == 519
    assert few.time(LADDER.sigmas[532]) == 539
    assert few.at(torch.tensor([519.0]))[0] == pytest.approx(LADDER.sigmas[519])


def test_a_schedule_that_ends_in_pure_noise_has_finite_levels() -> None:
    kept = taught()
    kept[-1] = 0
    assert all(math.isfinite(level) for level in levels("Karras", Ladder.of(kept), 10))


@pytest.mark.parametrize(
    ("steps", "strength", "exact", "expected"),
    [
        (20, 0.75, False, (20, 15)),
        (20, 1.0, False, (20, 19)),
        (20, 0.01, False, (20, 0)),
        (1, 1.0, False, (1, 0)),
        (150, 1.0, False, (150, 149)),
        (10, 0.5, True, (20, 9)),
        (10, 1.0, True, (10, 9)),
        (7, 0.7, True, (10, 6)),
    ],
)
def test_a_strength_is_a_share_of_the_schedule(steps: int, strength: float, exact: bool, expected: tuple[int, int]) -> None:
    assert portion(steps, strength, exact) == expected


@pytest.mark.parametrize(("n", "times"), [(4, [1, 251, 501, 751]), (3, [1, 334, 667, 999]), (1, [1, 999]), (2, [1, 501])])
def test_ddim_stands_on_every_so_many_th_training_step(n: int, times: list[int]) -> None:
    assert strided(n) == times
