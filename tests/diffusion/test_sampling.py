"""The denoising walk: every sampler of the table, seeds, guidance, stopping, and walks that begin in a picture."""

from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor

from studio.diffusion.conditioning import condition
from studio.diffusion.denoiser import Denoiser, Known
from studio.diffusion.model import Conditioning, Model
from studio.diffusion.samplers import SAMPLERS, find_sampler
from studio.diffusion.sampling import Guide, Options, Plan, Seeds, Start, sample
from studio.diffusion.schedules import Ladder
from studio.errors import InputError, StudioError
from tests.diffusion.linear import Linear, prompt

NAMES = [sampler.name for sampler in SAMPLERS]
FAST = [sampler.name for sampler in SAMPLERS if not sampler.alone]
SOME = ("Euler", "DPM++ 2M SDE", "DDIM", "DPM adaptive")
"""One of each kind."""
SIZE = (8, 8)


def plan(model: Model, sampler: str = "Euler a", seeds: tuple[int, ...] = (5,), text: str = "a red circle", against: str = "", **change: object) -> Plan:
    """A short walk."""
    positive, negative = (condition(model, [p], {}) for p in (text, against))
    guide = Guide(((positive, 1.0),), negative)
    scale = 4.0 / find_sampler(sampler).damping ** 0.5 if sampler in NAMES else 4.0
    return replace(Plan(lambda _look: guide, sampler, 3, scale, SIZE, Seeds(seeds)), **change)


def known(sampler: str = "Euler a", seeds: tuple[int, ...] = (5,), **change: object) -> Plan:
    """A short walk through the checkpoint whose answer is known."""
    guide = Guide(((prompt(0.5), 1.0),), prompt(-0.2))
    return replace(Plan(lambda _look: guide, sampler, 3, 2.0 / find_sampler(sampler).damping ** 0.5, SIZE, Seeds(seeds)), **change)


def start(strength: float = 1.0, content: Tensor | None = None, **change: object) -> Start:
    """A picture of which the left half is repainted."""
    latents = torch.randn(1, 4, *SIZE, generator=torch.Generator().manual_seed(99))
    mask = torch.zeros(1, 1, *SIZE)
    mask[..., : SIZE[1] // 2] = 1
    return replace(Start(latents, strength, mask, content), **change)


def halves(x: Tensor) -> tuple[Tensor, Tensor]:
    """The repainted and the kept half."""
    return x[..., : SIZE[1] // 2], x[..., SIZE[1] // 2 :]


@pytest.mark.parametrize("name", FAST)
def test_every_sampler_gives_each_picture_of_a_batch_what_its_seed_gives_alone_and_leaves_the_programs_own_random_numbers_be(tiny: Model, name: str) -> None:
    torch.manual_seed(123)
    before = torch.get_rng_state()
    batch = sample(tiny, plan(tiny, name, (41, 42), size=(8, 12)))
    assert batch.shape == (2, 4, 8, 12)
    assert torch.isfinite(batch).all()
    assert 1e-3 < batch.std() < 100
    assert not torch.allclose(batch[0], batch[1], atol=1e-2)
    assert torch.allclose(batch[1:], sample(tiny, plan(tiny, name, (42,), size=(8, 12))), atol=1e-3)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_sampler_with_strides_of_its_own_walks_picture_by_picture_and_counts_through() -> None:
    seen: list[tuple[int, int]] = []
    batch = sample(Linear(), known("DPM adaptive", (41, 42)), lambda step, total, _: seen.append((step, total)) is None)
    assert torch.equal(batch[1:], sample(Linear(), known("DPM adaptive", (42,))))
    assert [step for step, _ in seen] == list(range(1, len(seen) + 1))
    assert all(step <= total for step, total in seen)


@pytest.mark.parametrize("name", SOME)
def test_the_same_seed_gives_the_same_latents(name: str) -> None:
    assert torch.equal(*(sample(Linear(), known(name)) for _ in range(2)))


@pytest.mark.parametrize("name", FAST)
def test_a_callback_that_says_false_ends_the_walk_with_the_picture_seen_there(name: str) -> None:
    seen: list[tuple[int, int, Tensor]] = []

    def stop(step: int, total: int, picture: Tensor) -> bool:
        seen.append((step, total, picture.clone()))
        return step < 2

    x = sample(Linear(), known(name, steps=8), stop)
    assert [s[0] for s in seen] == [1, 2]
    assert seen[-1][1] >= 3
    assert torch.equal(x, seen[-1][2])
    assert not torch.allclose(x, sample(Linear(), known(name, steps=8)), atol=1e-3)


def test_what_a_callback_sees_is_the_picture_and_not_the_noise(tiny: Model) -> None:
    seen: list[float] = []
    sample(tiny, plan(tiny, "Euler", steps=6, cfg_scale=1.0), lambda _step, _total, picture: seen.append(picture.std().item()) is None)
    assert len(seen) == 6
    assert max(seen) < 3


@pytest.mark.parametrize("name", FAST)
def test_a_callback_sees_every_step_to_the_last_which_is_the_result(name: str) -> None:
    seen: list[tuple[int, int]] = []
    shown: list[Tensor] = []
    x = sample(Linear(), known(name, steps=5), lambda step, total, picture: (seen.append((step, total)), shown.append(picture)) is not None)
    total = seen[0][1]
    assert seen == [(i + 1, total) for i in range(total)]
    assert torch.equal(shown[-1], x)


@pytest.mark.parametrize("name", NAMES)
def test_one_step_is_enough_for_every_sampler(name: str) -> None:
    assert torch.isfinite(sample(Linear(), known(name, steps=1))).all()


def test_the_names_of_the_samplers_are_unique() -> None:
    assert len(set(NAMES)) == len(NAMES) == 20


def test_an_unknown_sampler_is_refused_with_the_names_of_the_others(tiny: Model) -> None:
    with pytest.raises(InputError) as caught:
        sample(tiny, plan(tiny, "Euler b"))
    assert "'Euler b'" in caught.value.message
    assert all(name in caught.value.hint for name in NAMES)


def test_an_unknown_schedule_type_is_refused_with_the_names_of_the_others(tiny: Model) -> None:
    with pytest.raises(InputError, match="'Caras'") as caught:
        sample(tiny, plan(tiny, scheduler="Caras"))
    assert "Automatic, Uniform, Karras" in caught.value.hint


@pytest.mark.parametrize("seed", [0, 2**31, 2**32 - 1, 2**53])
@pytest.mark.parametrize("sampler", ["Euler a", "DPM++ SDE"])
def test_large_seeds_are_usable(seed: int, sampler: str) -> None:
    assert torch.isfinite(sample(Linear(), known(sampler, (seed,), steps=2))).all()


def test_the_prompt_changes_the_picture(tiny: Model) -> None:
    assert not torch.allclose(sample(tiny, plan(tiny)), sample(tiny, plan(tiny, text="a blue square")), atol=1e-2)


def test_the_negative_prompt_counts_only_with_guidance(tiny: Model) -> None:
    other = "a blue square"
    assert torch.equal(sample(tiny, plan(tiny, cfg_scale=1.0)), sample(tiny, plan(tiny, against=other, cfg_scale=1.0)))
    assert not torch.allclose(sample(tiny, plan(tiny)), sample(tiny, plan(tiny, against=other)), atol=1e-2)


def test_guidance_towards_an_equal_negative_prompt_changes_nothing(tiny: Model) -> None:
    walk = plan(tiny, text="a red circle", against="a red circle")
    assert torch.allclose(sample(tiny, walk), sample(tiny, replace(walk, cfg_scale=1.0)), atol=1e-3)


def test_a_scale_of_nought_paints_the_negative_prompt(tiny: Model) -> None:
    walk = plan(tiny, text="a red circle", against="a blue square", cfg_scale=0.0)
    assert torch.allclose(sample(tiny, walk), sample(tiny, plan(tiny, text="a blue square", cfg_scale=1.0)), atol=1e-4)


@pytest.mark.parametrize(
    ("scale", "positive", "calls"),
    [
        (4.0, ((prompt(0.5), 1.0),), [4]),
        (1.0, ((prompt(0.5), 1.0),), [2]),
        (2.0, ((prompt(0.5), 0.25), (prompt(0.1), 0.25)), [4]),
        (4.0, ((prompt(0.5), 1.0), (prompt(0.1), -0.5)), [6]),
        (4.0, ((prompt(0.5, chunks=2), 1.0),), [2, 2]),
        (4.0, ((prompt(0.5, chunks=2), 1.0), (prompt(0.3), 0.0), (prompt(0.1), 1.0)), [2, 4]),
        (0.0, ((prompt(0.5), 1.0),), [2]),
    ],
)
def test_prompts_of_equal_length_share_one_call_and_those_without_a_share_have_none(scale: float, positive: tuple[tuple[Conditioning, float], ...], calls: list[int]) -> None:
    model, guide = Linear(), Guide(positive, prompt(-0.2))
    sample(model, known("Euler", (1, 2), guidance=lambda _look: guide, cfg_scale=scale, steps=1))
    assert [count for count, _ in model.heard] == calls


def test_prompts_joined_by_and_are_added_to_the_negative_one_by_their_weights(tiny: Model) -> None:
    red, blue, none = (condition(tiny, [t], {}) for t in ("a red circle", "a blue square", ""))
    x = Seeds((5,)).first(SIZE) * 2.0
    t = torch.tensor(500.0)
    one, two, base = (tiny.predict(x, t, part) for part in (red, blue, none))
    ladder = Ladder.of(tiny.alphas_cumprod)
    sigma = ladder.sigmas[500]
    look = Denoiser(tiny, ladder, lambda _look: Guide(((red, 1.0), (blue, -0.5)), none), 4.0)
    with torch.no_grad():
        found = look(x * (1 + sigma**2) ** 0.5, sigma)
    output = base + 4 * (one - base) - 2 * (two - base)
    assert tiny.prediction_type == "v_prediction"
    assert torch.allclose(found, (x - sigma * output) / (1 + sigma**2) ** 0.5, atol=1e-3)


@dataclass
class Epsilon:
    """The tiny world, which was taught velocity, as if it had been taught the noise itself: eps = sqrt(a) v + sqrt(1 - a) x."""

    inner: Model
    prediction_type: str = "epsilon"
    checkpoint: str = "epsilon"

    def predict(self, x: Tensor, t: Tensor, conditioning: Conditioning, extra: Tensor | None = None) -> Tensor:
        """The noise in x."""
        kept = self.inner.alphas_cumprod[int(t.round())]
        return kept.sqrt() * self.inner.predict(x, t, conditioning, extra) + (1 - kept).sqrt() * x


@pytest.mark.parametrize("time", [20, 400, 900])
def test_a_velocity_model_sees_what_the_epsilon_model_it_equals_sees(tiny: Model, time: int) -> None:
    ladder = Ladder.of(tiny.alphas_cumprod)
    sigma = ladder.sigmas[time]
    x = Seeds((5,)).first(SIZE) * (1 + sigma)
    with torch.no_grad():
        velocity, epsilon = (Denoiser(model, ladder, plan(tiny).guidance, 3.0)(x, sigma) for model in (tiny, Epsilon(tiny)))
    assert torch.allclose(velocity, epsilon, atol=1e-3)


@pytest.mark.parametrize(("name", "looks"), [("Euler", 3), ("Heun", 5), ("DPM++ SDE", 5), ("PLMS", 4), ("UniPC", 4)])
def test_the_guide_is_asked_for_at_every_look_from_nought_on(name: str, looks: int) -> None:
    walk, asked = known(name), []
    sample(Linear(), replace(walk, guidance=lambda look: (asked.append(look), walk.guidance(look))[1]))
    assert asked == list(range(looks))


def test_a_guide_that_changes_on_the_way_changes_the_picture_from_there(tiny: Model) -> None:
    red, blue = (plan(tiny, "Euler", text=t, steps=6) for t in ("a red circle", "a blue square"))
    switched = replace(red, guidance=lambda look: (red if look < 3 else blue).guidance(look))
    shown: dict[str, list[Tensor]] = {}
    for label, walk in (("red", red), ("switched", switched)):
        kept = shown[label] = []
        sample(tiny, walk, lambda _step, _total, picture, kept=kept: kept.append(picture) is None)
    equal = [torch.equal(a, b) for a, b in zip(shown["red"], shown["switched"], strict=True)]
    assert equal == [True] * 3 + [False] * 3


def test_numbers_that_are_not_finite_are_told_in_words(tiny: Model) -> None:
    bad = Conditioning(torch.full((1, 77, tiny.width), float("nan")))
    for name in SOME:
        with pytest.raises(StudioError, match="not finite at step 1") as caught:
            sample(tiny, plan(tiny, name, guidance=lambda _look: Guide(((bad, 1.0),), bad)))
        assert caught.value.hint


def test_numbers_that_go_bad_later_are_told_with_their_step(tiny: Model) -> None:
    bad = Conditioning(torch.full((1, 77, tiny.width), float("nan")))
    good = plan(tiny).guidance
    with pytest.raises(StudioError, match="not finite at step 3"):
        sample(tiny, plan(tiny, guidance=lambda look: Guide(((bad, 1.0),), bad) if look == 2 else good(look)))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("strength", [0.5, 1.0])
def test_what_is_not_masked_keeps_its_latents(name: str, strength: float) -> None:
    begin = start(strength)
    x = sample(Linear(), known(name, steps=4), start=begin)
    assert torch.equal(halves(x)[1], halves(begin.latents)[1])
    assert torch.isfinite(x).all()
    assert not torch.allclose(halves(x)[0], halves(begin.latents)[0], atol=1e-2)


def test_what_is_not_masked_is_put_back_into_every_estimate(tiny: Model) -> None:
    begin, seen = start(), []
    sample(tiny, plan(tiny, "Heun", steps=4), lambda _step, _total, picture: seen.append(picture) is None, begin)
    assert len(seen) == 4
    assert all(torch.allclose(halves(picture)[1], halves(begin.latents)[1], atol=1e-5) for picture in seen)


def test_a_soft_mask_mixes_by_its_share(tiny: Model) -> None:
    begin = start(mask=torch.full((1, 1, *SIZE), 0.25))
    ladder = Ladder.of(tiny.alphas_cumprod)
    free = Denoiser(tiny, ladder, plan(tiny).guidance, 3.0)
    held = Denoiser(tiny, ladder, plan(tiny).guidance, 3.0)
    held.known = Known(begin.latents, begin.mask)
    x = Seeds((5,)).first(SIZE) * 3
    with torch.no_grad():
        assert torch.allclose(held(x, 3.0), 0.25 * free(x, 3.0) + 0.75 * begin.latents, atol=1e-5)


def test_a_blending_of_ones_own_takes_the_masks_place_at_every_look_and_at_the_end(tiny: Model) -> None:
    levels: list[float] = []

    def blend(picture: Tensor, known: Tensor, mask: Tensor, sigma: float) -> Tensor:
        levels.append(sigma)
        assert mask.shape == (1, 1, *SIZE)
        return picture * 0.5 + known * 0.5

    begin = start(blend=blend)
    walk = plan(tiny, "Euler", steps=3)
    x = sample(tiny, walk, start=begin)
    assert levels == sorted(levels, reverse=True)
    assert levels[-1] == 0
    assert len(levels) == 4
    assert not torch.equal(x, sample(tiny, walk, start=replace(begin, blend=None)))


def test_extra_conditioning_reaches_the_unet_once_for_each_prompt(tiny: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[Tensor] = []

    def heard(self: Model, x: Tensor, t: Tensor, conditioning: Conditioning, extra: Tensor | None = None) -> Tensor:
        given.append(extra)
        return x

    monkeypatch.setattr(Model, "predict", heard)
    extra = torch.arange(2 * 5 * 64, dtype=torch.float32).reshape(2, 5, *SIZE)
    sample(tiny, plan(tiny, "Euler", (1, 2), steps=1), start=Start(extra=extra))
    assert torch.equal(given[0], torch.cat([extra, extra]))


@pytest.mark.parametrize("name", NAMES)
def test_a_strength_of_nought_gives_the_picture_back(name: str) -> None:
    begin = start(0.0)
    assert torch.equal(sample(Linear(), known(name), start=begin), begin.latents)


@pytest.mark.parametrize(("strength", "walked"), [(0.01, 1), (0.3, 4), (0.5, 6), (0.99, 10), (1.0, 10)])
def test_a_strength_decides_how_many_steps_are_walked(strength: float, walked: int) -> None:
    seen: list[tuple[int, int]] = []
    sample(Linear(), known("Euler", steps=10), lambda step, total, _x: seen.append((step, total)) is None, start(strength))
    assert seen == [(i + 1, walked) for i in range(walked)]


@pytest.mark.parametrize("strength", [0.3, 0.7, 1.0])
def test_an_exact_walk_takes_all_its_steps_whatever_the_strength(strength: float) -> None:
    model = Linear()
    sample(model, known("Euler", steps=6), start=start(strength, exact=True, mask=None))
    assert len(model.heard) == 6
    assert abs(model.heard[0][1] / 999 - strength) < 0.12


def test_a_lower_strength_changes_less() -> None:
    change = []
    for strength in (0.2, 0.6, 1.0):
        begin = start(strength, mask=None)
        change.append((sample(Linear(), known("Euler", steps=10), start=begin) - begin.latents).square().mean().item())
    assert change == sorted(change)


@pytest.mark.parametrize("name", ["DDIM", "Euler"])
def test_the_first_content_matters_the_less_the_greater_the_strength(name: str) -> None:
    other, differences = torch.ones(1, 4, *SIZE), []
    for strength in (0.5, 1.0):
        one, two = (sample(Linear(), known(name, steps=6), start=start(strength, content)) for content in (None, other))
        differences.append((one - two).square().mean().sqrt().item())
    assert differences[0] > 1.5 * differences[1]


def test_a_stopped_inpainting_still_keeps_what_is_not_masked() -> None:
    begin = start()
    x = sample(Linear(), known(), lambda *_: False, begin)
    assert torch.equal(halves(x)[1], halves(begin.latents)[1])


def test_inpainting_a_batch_gives_each_seed_its_own_picture(tiny: Model) -> None:
    begin = start()
    x = sample(tiny, plan(tiny, seeds=(8, 9)), start=begin)
    assert x.shape == (2, 4, *SIZE)
    assert torch.allclose(x[1], sample(tiny, plan(tiny, seeds=(9,)), start=begin)[0], atol=1e-3)


def test_each_picture_of_a_batch_may_begin_elsewhere() -> None:
    latents = torch.randn(2, 4, *SIZE, generator=torch.Generator().manual_seed(7))
    for name in ("Euler", "DPM adaptive"):
        x = sample(Linear(), known(name, (8, 9)), start=Start(latents, 0.5))
        assert torch.allclose(x[1], sample(Linear(), known(name, (9,)), start=Start(latents[1:], 0.5))[0], atol=1e-3)


@pytest.mark.parametrize("name", ["Euler", "Heun", "DPM2"])
def test_churn_puts_noise_back_and_needs_its_range(name: str) -> None:
    still, stirred, out_of_range = (sample(Linear(), known(name, steps=5, options=o)) for o in (Options(), Options(s_churn=2.0), Options(s_churn=2.0, s_tmin=9.9, s_tmax=9.9)))
    assert torch.equal(still, out_of_range)
    assert not torch.allclose(still, stirred, atol=1e-3)


@pytest.mark.parametrize("name", [s.name for s in SAMPLERS if s.ancestral and not s.alone])
def test_eta_decides_how_much_new_noise_there_is(name: str) -> None:
    own, none, half = (sample(Linear(), known(name, options=Options(eta=eta))) for eta in (None, 0.0, 0.5))
    moved = replace(known(name, options=Options(eta=0.0)), noise=Seeds((5,), ensd=1))
    assert torch.equal(none, sample(Linear(), moved))
    assert not torch.allclose(none, half, atol=1e-3)
    assert torch.equal(own, none) == find_sampler(name).strided


def test_decoded_latents_are_pictures_eight_times_as_large(tiny: Model) -> None:
    picture = tiny.decode(sample(tiny, plan(tiny)))
    assert picture.shape == (1, 3, 64, 64)
    assert picture.min() >= -1
    assert picture.max() <= 1
