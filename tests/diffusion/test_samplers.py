"""Update rules: the published ones, their order of accuracy, the distribution they end in, and the course each takes."""

import math
from collections.abc import Callable, Iterator
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from studio.diffusion.dpm import thirds
from studio.diffusion.samplers import SAMPLERS, Sampler, course, find_sampler
from studio.diffusion.sampling import Guide, Options, Plan, Seeds, sample
from studio.diffusion.schedules import Ladder, power, strided
from studio.diffusion.solvers import Way, ancestral, detour, euler, euler_ancestral
from studio.requests.generate import Sampler as Names
from studio.requests.generate import Schedule
from tests.bench.samplers import BARS, CASES, Case, expected, linear_see, ours
from tests.diffusion import published
from tests.diffusion.linear import SPREAD, Linear, landing, prompt, taught

LADDER = Ladder.of(taught())
MEAN = 0.5


def one_prompt(sampler: str, steps: int, size: tuple[int, int] = (8, 8), scheduler: str = "Automatic", **options: float) -> Plan:
    """A walk to pictures of mean 0.5."""
    return Plan(lambda _look: Guide(((prompt(MEAN), 1.0),), prompt(0.0)), sampler, steps, 1.0 / find_sampler(sampler).damping, size, Seeds((5,)), scheduler, Options(**options))


def test_every_sampler_a_request_may_name_is_there_and_no_other() -> None:
    assert [sampler.name for sampler in SAMPLERS] == list(Names.__args__)


@pytest.mark.parametrize("case", [case for case in CASES if case.sampler != "UniPC"], ids=lambda case: f"{case.sampler} {case.scheduler}")
@pytest.mark.parametrize("steps", [2, 9])
def test_a_walk_ends_where_the_published_rule_ends(case: Case, steps: int) -> None:
    guide = Guide(((prompt(0.5), 1.0),), prompt(-0.2))
    assert (ours(case, Linear(), guide, (steps, 11)) - expected(case, linear_see, steps, 11)).abs().max() < BARS["linear"]


WINDOW = {"s_churn": 8.0, "s_tmin": 0.5, "s_tmax": 5.0, "s_noise": 1.01}


@pytest.mark.parametrize(("name", "rule", "schedule"), [("Euler", published.euler, "Uniform"), ("Heun", published.heun, "Uniform"), ("DPM2", published.dpm2, "Karras")])
@pytest.mark.parametrize("options", [WINDOW, {"s_churn": 8.0}], ids=["window", "whole"])
def test_churn_draws_noise_at_each_step_and_adds_it_inside_its_window(name: str, rule: Callable[..., Tensor], schedule: str, options: dict[str, float]) -> None:
    """What is drawn outside the window is not used, and moves all noise that comes after it: k-diffusion's way."""
    churn = published.Churn(rule, options["s_churn"], options.get("s_tmin", 0.0), options.get("s_tmax") or math.inf, options.get("s_noise", 1.0))
    assert (sample(Linear(), one_prompt(name, 12, **options)) - reference(churn, name, schedule, 12)).abs().max() < 2e-5


def reference(rule: Callable[..., Tensor], name: str, schedule: str, steps: int) -> Tensor:
    """Where a published rule ends on the levels of a schedule type, with the noise of seed 5 as torch draws it; the model knows its trained levels only."""
    levels = course(find_sampler(name), LADDER, schedule, steps).levels
    generator = torch.Generator().manual_seed(5)

    def draw(_a: float, _b: float) -> Tensor:
        return torch.randn(1, 4, 8, 8, generator=generator).double()

    def see(x: Tensor, sigma: float) -> Tensor:
        known = min(max(sigma, LADDER.low), LADDER.high)
        noisy = x * math.hypot(1, known) / math.hypot(1, sigma)
        return x - sigma * (noisy - MEAN) * known / (SPREAD**2 + known**2)

    return rule(see, draw(0, 0) * levels[0], levels, draw)


@pytest.mark.parametrize("schedule", [name for name in Schedule.__args__ if name not in ("Automatic", "DDIM")])
@pytest.mark.parametrize("steps", [19, 20, 36, 50])
def test_restart_draws_where_it_rises_and_nowhere_else(schedule: str, steps: int) -> None:
    """Its highest level comes back from the seventh root a last digit higher on some schedule types, which is no rise."""
    assert (sample(Linear(), one_prompt("Restart", steps, scheduler=schedule)) - reference(published.restart, "Restart", schedule, steps)).abs().max() < 5e-5


@pytest.mark.parametrize("name", ["DDIM", "DDIM CFG++", "PLMS", "UniPC"])
def test_what_ends_above_nought_ends_in_the_latents_the_checkpoint_knows(name: str) -> None:
    """The last latents are sqrt(a) * picture + sqrt(1 - a) * noise: where all pictures are one, sqrt(a) times that one but for the noise."""
    sampler = find_sampler(name)
    route = course(sampler, LADDER, "Automatic", 10)
    kept = taught()[0 if name == "UniPC" else 1].item()
    assert route.exit == pytest.approx(math.sqrt(kept), rel=1e-6)
    shown = []
    x = sample(Linear(), one_prompt(name, 10), lambda _step, _total, picture: shown.append(picture) is None)
    assert torch.equal(shown[-1], x)


def error(rule: Callable[..., Iterator[tuple[Tensor, Tensor]]], levels: tuple[float, ...]) -> float:
    """How far a rule without noise ends from the exact solution, at the lowest level."""

    class Look:
        """The linear denoiser, in double precision."""

        bare = None

        def __call__(self, x: Tensor, sigma: float) -> Tensor:
            """The best estimate."""
            return MEAN + (x - MEAN) * (SPREAD**2 / (SPREAD**2 + sigma**2))

    x = torch.tensor([[-3.0, 4.0]], dtype=torch.float64)
    end = MEAN + (x - MEAN) * math.sqrt((SPREAD**2 + levels[-1] ** 2) / (SPREAD**2 + levels[0] ** 2))
    way = Way(levels, lambda _a, _b: torch.zeros_like(x), 0.0)
    *_, (last, _) = rule(Look(), x, way)
    return float((last - end).abs().max())


@pytest.mark.parametrize(
    ("name", "order"),
    [
        ("Euler", 1),
        ("Euler a", 1),
        ("DPM++ 2M", 2),
        ("DPM++ 2S a", 2),
        ("DPM++ SDE", 2),
        ("DPM++ 2M SDE", 2),
        ("DPM++ 2M SDE Heun", 2),
        ("Heun", 2),
        ("DPM2", 2),
        ("DPM2 a", 2),
        ("LMS", 3),
        ("UniPC", 2),
    ],
)
def test_an_error_falls_with_the_rule_s_order(name: str, order: int) -> None:
    """Even steps in the logarithm, from level 4 to 0.1: half the step must divide the error by 2 to the order at least (a little less is allowed)."""
    rule = find_sampler(name).rule
    coarse, fine = (error(rule, tuple(torch.logspace(math.log10(4), -1, n + 1, dtype=torch.float64).tolist())) for n in (24, 48))
    assert fine < 0.02
    assert coarse / fine > 2 ** (order - 0.35)


@pytest.mark.parametrize(("name", "bound"), [("DPM fast", 2e-3), ("DPM adaptive", 2e-2), ("PLMS", 2e-2), ("DPM++ 3M SDE", 1e-2), ("DDIM", 5e-2)])
def test_the_others_come_near_the_exact_end_without_noise(name: str, bound: float) -> None:
    model, plan = Linear(), one_prompt(name, 30, eta=0.0, s_noise=0.0)
    route = course(find_sampler(name), LADDER, "Automatic", 30)
    begin = Seeds((5,)).first((8, 8)) * route.top
    assert (sample(model, plan) - landing(begin, route.levels[0], MEAN)).abs().max() < bound + 2 * LADDER.low


SPREADING = [(sampler, eta) for sampler in SAMPLERS if sampler.name not in ("LCM", "DDIM CFG++") for eta in ((None, 0.5, 1.0) if sampler.ancestral else (None,))]


@pytest.mark.parametrize(("sampler", "eta"), SPREADING, ids=lambda value: getattr(value, "name", str(value)))
def test_pictures_are_spread_as_they_should_be_however_much_noise_is_put_in(sampler: Sampler, eta: float | None) -> None:
    x = sample(Linear(), one_prompt(sampler.name, 40, (32, 32), eta=eta))
    assert abs(x.mean().item() - MEAN) < 0.04
    assert abs(x.std().item() / SPREAD - 1) < (0.15 if sampler.rule in (euler, euler_ancestral) else 0.06)


def test_an_ancestral_step_keeps_the_variance() -> None:
    for eta in (0.0, 0.3, 1.0):
        down, up = ancestral(3.0, 2.0, eta)
        assert down**2 + up**2 == pytest.approx(4.0)
    assert ancestral(3.0, 2.0, 0.0) == (2.0, 0.0)
    assert ancestral(3.0, 0.0, 1.0) == (0.0, 0.0)


@pytest.mark.parametrize(("looks", "orders"), [(1, [1]), (2, [2]), (3, [2, 1]), (4, [3, 1]), (5, [3, 2]), (6, [3, 2, 1]), (20, [3, 3, 3, 3, 3, 3, 2])])
def test_the_strides_of_dpm_fast_use_the_looks_they_are_given(looks: int, orders: list[int]) -> None:
    assert thirds(looks) == orders
    assert sum(orders) == looks
    model = Linear()
    sample(model, one_prompt("DPM fast", looks))
    assert len(model.heard) == looks


@pytest.mark.parametrize(("steps", "rises"), [(10, 0), (19, 0), (20, 1), (35, 1), (36, 2), (50, 2)])
def test_restart_goes_back_from_near_a_tenth_to_near_two_and_takes_no_step_more(steps: int, rises: int) -> None:
    levels = (*power(LADDER.low, LADDER.high, steps).tolist(), 0.0)
    walked = detour(levels)
    assert len(walked) == steps
    assert (walked[0][0], walked[-1][1]) == (levels[0], 0.0)
    jumps = [(before[1], after[0]) for before, after in pairwise(walked) if after[0] != pytest.approx(before[1])]
    assert len(jumps) == rises
    assert all(0.05 < low < 0.2 and 1.2 < high < 3 for low, high in jumps)


@pytest.mark.parametrize("sampler", SAMPLERS, ids=lambda s: s.name)
@pytest.mark.parametrize("steps", [1, 2, 20, 33])
def test_a_course_has_as_many_steps_as_asked_for(sampler: Sampler, steps: int) -> None:
    route = course(sampler, LADDER if sampler.taught == 1 else LADDER.every(sampler.taught), "Automatic", steps)
    count = len(strided(steps)) - 1 + (sampler.name == "UniPC") if sampler.strided else steps
    assert len(route.levels) - 1 == count
    assert all(a > b for a, b in pairwise(route.levels))
    assert route.top == pytest.approx(route.levels[0] if not sampler.strided else math.hypot(1, route.levels[0]))


@pytest.mark.parametrize(
    ("name", "schedule"),
    [
        ("DPM++ 2M", "Karras"),
        ("DPM++ SDE", "Karras"),
        ("DPM++ 2S a", "Karras"),
        ("DPM++ 2M SDE", "Exponential"),
        ("Euler a", "Uniform"),
        ("LMS", "Uniform"),
        ("Heun", "Uniform"),
        ("Restart", "Karras"),
    ],
)
def test_automatic_is_the_sampler_s_own_schedule(name: str, schedule: str) -> None:
    sampler = find_sampler(name)
    assert course(sampler, LADDER, "Automatic", 12) == course(sampler, LADDER, schedule, 12)
    assert course(sampler, LADDER, "SGM Uniform", 12) != course(sampler, LADDER, schedule, 12)


def test_the_level_before_the_last_is_left_out_where_a1111_leaves_it_out() -> None:
    assert {s.name for s in SAMPLERS if s.discards} == {"DPM2", "DPM2 a", "DPM++ 3M SDE"}
    found = course(find_sampler("DPM2"), LADDER, "Karras", 9).levels
    assert found == (*power(LADDER.low, LADDER.high, 10).tolist()[:-1], 0.0)


@pytest.mark.parametrize("name", ["DDIM", "PLMS", "UniPC", "DDIM CFG++", "DPM fast", "DPM adaptive"])
def test_samplers_with_levels_of_their_own_take_no_schedule_type(name: str) -> None:
    sampler = find_sampler(name)
    assert not sampler.free
    assert course(sampler, LADDER, "Karras", 12) == course(sampler, LADDER, "Automatic", 12)


def test_a_picture_is_noised_one_level_above_the_first_look_by_samplers_that_stand_on_ddim_s_steps() -> None:
    route = course(find_sampler("DDIM"), LADDER, "Automatic", 20, (0.5, False))
    times = strided(20)
    assert route.levels[0] == pytest.approx(LADDER.sigmas[times[9]])
    assert route.entry == pytest.approx(LADDER.sigmas[times[10]])
    assert route.factor == pytest.approx(math.hypot(1, route.levels[0]) / math.hypot(1, route.entry))
    assert len(route.levels) == 10


def test_guidance_at_a_scale_of_twelve_and_a_half_makes_cfgpp_plain_ddim() -> None:
    """Damped to 1, with both prompts alike, the guided and the unguided slope are one."""
    guide = Guide(((prompt(MEAN), 1.0),), prompt(MEAN))
    found, plain = (sample(Linear(), Plan(lambda _look: guide, name, 10, 12.5, (8, 8), Seeds((5,)))) for name in ("DDIM CFG++", "DDIM"))
    assert torch.allclose(found, plain, atol=1e-5)


def test_cfgpp_goes_on_along_the_unguided_slope() -> None:
    model, guide = Linear(), Guide(((prompt(1.0), 1.0),), prompt(0.0))
    found = sample(model, Plan(lambda _look: guide, "DDIM CFG++", 2, 6.25, (8, 8), Seeds((5,))))
    high, low = (LADDER.sigmas[t] for t in (501, 1))
    x = Seeds((5,)).first((8, 8)) * math.hypot(1, high)
    share = SPREAD**2 / (SPREAD**2 + high**2)
    bare, guided = x * share, 0.5 + (x - 0.5) * share
    assert torch.allclose(found, (guided + (x - bare) * (low / high)) / math.hypot(1, low), atol=1e-4)


def test_lcm_looks_at_taught_steps_and_noises_anew() -> None:
    model = Linear()
    x = sample(model, one_prompt("LCM", 4))
    assert all(abs((time + 1) / 20 - round((time + 1) / 20)) < 1e-6 for _, time in model.heard)
    assert (model.heard[0][1], len(model.heard)) == (999.0, 4)
    assert abs(x.mean().item() - MEAN) < 0.1


def test_a_stride_of_dpm_adaptive_ends_even_where_no_step_is_short_enough() -> None:
    class Wild:
        """Sees something else at every look."""

        bare = None

        def __init__(self) -> None:
            self.looks = 0

        def __call__(self, x: Tensor, sigma: float) -> Tensor:
            """Far away, now here, now there."""
            self.looks += 1
            return torch.full_like(x, 1e3 * (-1) ** self.looks)

    look = Wild()
    walked = list(find_sampler("DPM adaptive").rule(look, torch.ones(1, 4, 2, 2), Way((14.6, 0.03, 0.0), lambda _a, _b: torch.zeros(1, 4, 2, 2), 0.0)))
    assert 0 < len(walked) < 1500
