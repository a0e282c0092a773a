"""The denoising walk: every sampler of the table, seeds, guidance, stopping, and walks that begin in a picture."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from studio.diffusion.conditioning import condition
from studio.diffusion.model import Conditioning, Model
from studio.diffusion.samplers import SAMPLERS, make_sampler
from studio.diffusion.sampling import Guide, Plan, Start, noise_for, sample
from studio.errors import InputError, StudioError

NAMES = [name for name, _, _ in SAMPLERS]
SIZE = (8, 8)


def plan(model: Model, sampler: str = "Euler a", seeds: tuple[int, ...] = (5,), text: str = "a red circle", against: str = "", **change: object) -> Plan:
    """A short walk."""
    positive, negative = (condition(model, [p], {}) for p in (text, against))
    guide = Guide(((positive, 1.0),), negative)
    return replace(Plan(lambda _step: guide, sampler, 3, 4.0, seeds, SIZE), **change)


def start(model: Model, strength: float = 1.0, content: Tensor | None = None) -> Start:
    """A picture of which the left half is repainted."""
    latents = torch.randn(1, 4, *SIZE, generator=torch.Generator().manual_seed(99))
    mask = torch.zeros(1, 1, *SIZE)
    mask[..., : SIZE[1] // 2] = 1
    return Start(latents, mask, strength, latents if content is None else content)


@pytest.mark.parametrize("name", NAMES)
def test_every_sampler_gives_finite_latents_of_the_size_asked_for(tiny: Model, name: str) -> None:
    x = sample(tiny, plan(tiny, name, (1, 2), size=(8, 12)))
    assert x.shape == (2, 4, 8, 12)
    assert torch.isfinite(x).all()
    assert 1e-3 < x.std() < 100
    assert not torch.allclose(x[0], x[1], atol=1e-2)


@pytest.mark.parametrize("name", NAMES)
def test_picture_i_of_a_batch_is_the_single_picture_of_its_own_seed(tiny: Model, name: str) -> None:
    batch = sample(tiny, plan(tiny, name, (41, 42, 43)))
    for i, seed in enumerate((41, 42, 43)):
        assert torch.allclose(batch[i], sample(tiny, plan(tiny, name, (seed,)))[0], atol=1e-3)


@pytest.mark.parametrize("name", NAMES)
def test_the_same_seed_gives_the_same_latents_and_leaves_the_programs_own_random_numbers_alone(tiny: Model, name: str) -> None:
    one = sample(tiny, plan(tiny, name))
    torch.manual_seed(123)
    before = torch.get_rng_state()
    assert torch.equal(sample(tiny, plan(tiny, name)), one)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("name", NAMES)
def test_a_callback_that_says_false_ends_the_walk_there(tiny: Model, name: str) -> None:
    seen: list[tuple[int, int, Tensor]] = []

    def stop(step: int, total: int, latents: Tensor) -> bool:
        seen.append((step, total, latents.clone()))
        return step < 2

    x = sample(tiny, plan(tiny, name), stop)
    assert [s[0] for s in seen] == [1, 2]
    assert seen[-1][1] >= 3
    assert torch.equal(x, seen[-1][2])
    assert not torch.allclose(x, sample(tiny, plan(tiny, name)), atol=1e-3)


@pytest.mark.parametrize("name", NAMES)
def test_a_callback_sees_every_step_to_the_last(tiny: Model, name: str) -> None:
    seen: list[tuple[int, int]] = []
    sample(tiny, plan(tiny, name), lambda step, total, _: seen.append((step, total)) is None)
    total = seen[0][1]
    assert seen == [(i + 1, total) for i in range(total)]


@pytest.mark.parametrize("name", NAMES)
def test_one_step_is_enough_for_every_sampler(tiny: Model, name: str) -> None:
    assert torch.isfinite(sample(tiny, plan(tiny, name, steps=1))).all()


@pytest.mark.parametrize("name", NAMES)
def test_every_sampler_has_the_checkpoints_own_noise_schedule(tiny: Model, name: str) -> None:
    solver = make_sampler(name, tiny.schedule)
    assert torch.allclose(solver.alphas_cumprod.float(), tiny.alphas_cumprod.cpu(), atol=1e-5)
    assert solver.config.prediction_type == tiny.prediction_type
    assert make_sampler(name, {**tiny.schedule, "prediction_type": "v_prediction"}).config.prediction_type == "v_prediction"


@pytest.fixture(scope="module")
def destination(tiny: Model) -> Tensor:
    """Where a fine walk without noise ends."""
    return sample(tiny, plan(tiny, "Euler", steps=20, cfg_scale=1.0))


@pytest.mark.parametrize("name", [n for n in NAMES if n not in ("Euler a", "Euler")])
def test_samplers_without_noise_of_their_own_agree_in_the_end(tiny: Model, destination: Tensor, name: str) -> None:
    found = sample(tiny, plan(tiny, name, steps=10, cfg_scale=1.0))
    assert (found - destination).square().mean().sqrt() < 0.35 * destination.std()


def test_the_names_of_the_samplers_are_unique() -> None:
    assert len(set(NAMES)) == len(NAMES) >= 8


def test_an_unknown_sampler_is_refused_with_the_names_of_the_others(tiny: Model) -> None:
    with pytest.raises(InputError) as caught:
        sample(tiny, plan(tiny, "Euler b"))
    assert "'Euler b'" in caught.value.message
    assert all(name in caught.value.hint for name in NAMES)


def test_noise_depends_on_the_seed_alone_and_not_on_its_place() -> None:
    noise = noise_for((1, 2, 3), (4, 6))
    assert noise.shape == (3, 4, 4, 6)
    assert torch.equal(noise_for((3,), (4, 6))[0], noise[2])
    assert not torch.equal(noise[0], noise[1])


@pytest.mark.parametrize("seed", [0, 2**31, 2**32 - 1, 2**53])
def test_large_seeds_are_usable(tiny: Model, seed: int) -> None:
    assert torch.isfinite(sample(tiny, plan(tiny, seeds=(seed,), steps=1))).all()


def test_the_prompt_changes_the_picture(tiny: Model) -> None:
    assert not torch.allclose(sample(tiny, plan(tiny)), sample(tiny, plan(tiny, text="a blue square")), atol=1e-2)


def test_the_negative_prompt_counts_only_with_guidance(tiny: Model) -> None:
    other = "a blue square"
    assert torch.equal(sample(tiny, plan(tiny, cfg_scale=1.0)), sample(tiny, plan(tiny, against=other, cfg_scale=1.0)))
    assert not torch.allclose(sample(tiny, plan(tiny)), sample(tiny, plan(tiny, against=other)), atol=1e-2)


def test_guidance_towards_an_equal_negative_prompt_changes_nothing(tiny: Model) -> None:
    walk = plan(tiny, text="a red circle", against="a red circle")
    assert torch.allclose(sample(tiny, walk), sample(tiny, replace(walk, cfg_scale=1.0)), atol=1e-3)


def test_numbers_that_are_not_finite_are_told_in_words(tiny: Model) -> None:
    with pytest.raises(StudioError, match="not finite at step 1") as caught:
        bad = Conditioning(torch.full((1, 77, tiny.width), float("nan")))
        sample(tiny, plan(tiny, guidance=lambda _step: Guide(((bad, 1.0),), bad)))
    assert caught.value.hint


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("strength", [0.5, 1.0])
def test_what_is_not_masked_keeps_its_latents(tiny: Model, name: str, strength: float) -> None:
    begin = start(tiny, strength)
    x = sample(tiny, plan(tiny, name, steps=4), start=begin)
    half = SIZE[1] // 2
    assert torch.equal(x[..., half:], begin.latents[..., half:])
    assert torch.isfinite(x).all()
    assert not torch.allclose(x[..., :half], begin.latents[..., :half], atol=1e-2)


@pytest.mark.parametrize("name", NAMES)
def test_a_strength_of_nought_gives_the_picture_back(tiny: Model, name: str) -> None:
    begin = start(tiny, 0.0)
    assert torch.equal(sample(tiny, plan(tiny, name), start=begin), begin.latents)


def test_a_lower_strength_walks_fewer_steps_and_changes_less(tiny: Model) -> None:
    begin, steps, change = start(tiny), [], []
    for strength in (0.3, 1.0):
        totals: list[int] = []
        x = sample(tiny, plan(tiny, "Euler", steps=10), lambda _step, total, _x, seen=totals: seen.append(total) is None, replace(begin, strength=strength))
        steps.append(len(totals))
        change.append((x - begin.latents).square().mean().item())
        assert totals == [len(totals)] * len(totals)
    assert steps == [3, 10]
    assert change[0] < change[1]


def test_full_strength_forgets_the_first_content_and_half_does_not(tiny: Model) -> None:
    other = torch.ones(1, 4, *SIZE)
    full, half = ([sample(tiny, plan(tiny, "DDIM", steps=4), start=start(tiny, strength, content)) for content in (None, other)] for strength in (1.0, 0.5))
    assert torch.equal(*full)
    assert not torch.allclose(*half, atol=1e-2)


def test_a_stopped_inpainting_still_keeps_what_is_not_masked(tiny: Model) -> None:
    begin = start(tiny)
    x = sample(tiny, plan(tiny), lambda *_: False, begin)
    assert torch.equal(x[..., SIZE[1] // 2 :], begin.latents[..., SIZE[1] // 2 :])


def test_inpainting_a_batch_gives_each_seed_its_own_picture(tiny: Model) -> None:
    begin = start(tiny)
    x = sample(tiny, plan(tiny, seeds=(8, 9)), start=begin)
    assert x.shape == (2, 4, *SIZE)
    assert torch.allclose(x[1], sample(tiny, plan(tiny, seeds=(9,)), start=begin)[0], atol=1e-3)


def test_decoded_latents_are_pictures_eight_times_as_large(tiny: Model) -> None:
    picture = tiny.decode(sample(tiny, plan(tiny)))
    assert picture.shape == (1, 3, 64, 64)
    assert picture.min() >= -1
    assert picture.max() <= 1
