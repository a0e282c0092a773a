"""Soft inpainting: what the mask lets through at each noise level, lengths kept in the mixture, and pixels mixed by how much they changed."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from studio.diffusion.soft import Softness, blender, change_mask, mixed, overlay_masks, step_mask
from studio.requests.generate import GenerateRequest


def latents(seed: int, size: tuple[int, int] = (6, 5), count: int = 2) -> Tensor:
    """Random latents."""
    return torch.randn(count, 4, *size, generator=torch.Generator().manual_seed(seed))


KNOBS = st.builds(Softness, st.floats(0, 8), st.floats(0, 8), st.floats(1, 32), st.floats(0, 1), st.floats(0, 8), st.floats(0, 8))


def test_the_knobs_are_the_requests_and_so_are_their_defaults() -> None:
    assert Softness.of(GenerateRequest()) == Softness()
    request = GenerateRequest(soft_schedule_bias=2, soft_preservation=3, soft_contrast=5, soft_mask_influence=0.25, soft_difference_threshold=6, soft_difference_contrast=7)
    assert Softness.of(request) == Softness(2, 3, 5, 0.25, 6, 7)


@given(KNOBS, st.floats(0.001, 200), st.integers(0, 999))
@settings(deadline=None, max_examples=60)
def test_any_setting_at_any_noise_level_keeps_the_unmasked_and_gives_the_masked_wholly(knobs: Softness, sigma: float, seed: int) -> None:
    x0, known = latents(seed), latents(seed + 1, count=1).expand(2, -1, -1, -1)
    mask = torch.rand(1, 1, 6, 5, generator=torch.Generator().manual_seed(seed))
    mask[..., :2, :], mask[..., 2:4, :] = 0, 1
    found = blender(knobs)(x0, known, mask, sigma)
    assert found.dtype == x0.dtype
    assert torch.equal(found[..., :2, :], known[..., :2, :])
    assert torch.equal(found[..., 2:4, :], x0[..., 2:4, :])
    assert torch.isfinite(found).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_the_predictions_own_precision_is_kept(dtype: torch.dtype) -> None:
    assert blender(Softness())(latents(1).to(dtype), latents(2), torch.full((2, 1, 6, 5), 0.5), 3.0).dtype == dtype


def test_the_mask_at_a_noise_level_is_its_power() -> None:
    mask = torch.tensor([0.0, 0.25, 0.5, 1.0]).reshape(1, 1, 1, 4)
    found = step_mask(mask, 2.0, Softness(schedule_bias=3.0, preservation=0.5)).flatten().tolist()
    assert found == pytest.approx([0, 0.25**4, 0.5**4, 1])


@given(st.floats(0.01, 0.99), st.floats(0.1, 8), st.floats(0.1, 8))
@settings(deadline=None)
def test_partly_masked_content_is_held_while_noise_is_high_and_let_go_as_it_falls(value: float, bias: float, preservation: float) -> None:
    mask = torch.full((1, 1, 1, 1), value, dtype=torch.float64)
    shown = [float(step_mask(mask, sigma, Softness(bias, preservation))) for sigma in (14.6, 5.0, 1.0, 0.2, 0.03, 0.0)]
    assert shown == sorted(shown)
    assert shown[-1] == 1
    assert float(step_mask(mask, 1.0, Softness(bias, preservation + 1))) < float(step_mask(mask, 1.0, Softness(bias, preservation)))


def test_a_higher_bias_holds_more_at_high_noise_and_less_at_low() -> None:
    mask = torch.full((1, 1, 1, 1), 0.5)
    early, late = Softness(schedule_bias=0.5), Softness(schedule_bias=2)
    assert step_mask(mask, 10.0, late) < step_mask(mask, 10.0, early)
    assert step_mask(mask, 0.1, late) > step_mask(mask, 0.1, early)


@given(st.floats(0.01, 0.99), st.floats(1, 32), st.integers(0, 999))
@settings(deadline=None, max_examples=60)
def test_lengths_are_mixed_by_their_power_mean_and_directions_straight(share: float, contrast: float, seed: int) -> None:
    a, b = latents(seed).double(), latents(seed + 1).double() * 3
    found = mixed(a, b, torch.full((1, 1, 6, 5), share), contrast)
    share = float(torch.tensor(share))
    length_a, length_b = a.norm(dim=1), b.norm(dim=1)
    wanted = (length_a**contrast * (1 - share) + length_b**contrast * share) ** (1 / contrast)
    assert torch.allclose(found.norm(dim=1), wanted, rtol=1e-4)
    straight = a * (1 - share) + b * share
    assert torch.allclose(torch.nn.functional.cosine_similarity(found, straight, dim=1), torch.ones(2, 6, 5, dtype=torch.float64), atol=1e-6)
    assert (found.norm(dim=1) >= straight.norm(dim=1) - 1e-6).all()


def test_more_contrast_gives_longer_latents() -> None:
    a, b, share = latents(1), latents(2) * 2, torch.full((1, 1, 6, 5), 0.5)
    lengths = [mixed(a, b, share, c).norm(dim=1) for c in (1, 4, 32)]
    assert (lengths[0] < lengths[1]).all()
    assert (lengths[1] < lengths[2]).all()


def test_latents_of_no_length_and_huge_ones_do_not_break_the_mixture() -> None:
    share = torch.full((1, 1, 6, 5), 0.5)
    assert not mixed(torch.zeros(1, 4, 6, 5), torch.zeros(1, 4, 6, 5), share, 32).any()
    assert torch.isfinite(mixed(latents(1) * 1e15, latents(2) * 1e-15, share, 32)).all()
    opposite = latents(3)
    assert torch.isfinite(mixed(opposite, -opposite, share, 4)).all()


def test_numbers_that_are_not_finite_stay_visible() -> None:
    x0 = latents(1)
    x0[0, 0, 0, 0] = math.nan
    assert torch.isnan(blender(Softness())(x0, latents(2), torch.full((1, 1, 6, 5), 0.5), 1.0)).any()


def test_where_nothing_changed_the_old_picture_is_kept_and_where_much_did_the_new_is_taken() -> None:
    known = latents(1, (16, 16), 1)
    painted = known.clone()
    painted[..., :8] += 20
    change = change_mask(known, painted, torch.ones(1, 1, 16, 16), Softness())[0, 0]
    assert (change[:, :4] > 0.99).all()
    assert (change[:, 12:] < 1e-3).all()


def test_half_is_taken_where_the_distance_reaches_the_threshold() -> None:
    known = torch.zeros(1, 4, 9, 9)
    painted = torch.zeros(1, 4, 9, 9)
    painted[:, 0] = 0.5
    for contrast in (1, 2, 8):
        change = change_mask(known, painted, torch.full((1, 1, 9, 9), 0.5), Softness(difference_contrast=contrast))
        assert torch.allclose(change, torch.full_like(change, 0.5), atol=1e-3)


@given(KNOBS, st.floats(0, 30), st.integers(0, 99), st.tuples(st.integers(1, 20), st.integers(1, 20)))
@settings(deadline=None, max_examples=60)
def test_the_share_taken_is_a_share_at_any_setting(knobs: Softness, scale: float, seed: int, size: tuple[int, int]) -> None:
    mask = torch.rand(1, 1, *size, generator=torch.Generator().manual_seed(seed)).round(decimals=1)
    change = change_mask(latents(seed, size), latents(seed + 1, size) * scale, mask, knobs)
    assert change.shape == (2, 1, *size)
    assert ((change >= -1e-5) & (change <= 1 + 1e-5)).all()


def test_more_change_never_takes_less_of_the_new_picture() -> None:
    known, direction, mask = latents(1), latents(2), torch.full((1, 1, 6, 5), 0.7)
    shares = [change_mask(known, known + direction * d, mask, Softness(mask_influence=0.5)) for d in (0, 0.1, 0.5, 2, 10)]
    assert all((b >= a - 1e-6).all() for a, b in itertools.pairwise(shares))


def test_with_full_influence_the_mask_alone_decides_at_its_ends() -> None:
    known, painted = latents(1, (8, 8)), latents(2, (8, 8))
    mask = torch.zeros(1, 1, 8, 8)
    mask[..., :4] = 1
    change = change_mask(known, painted, mask, Softness(mask_influence=1, difference_threshold=1))
    assert (change[..., :4] > 0.99).all()
    assert (change[..., 4:] < 0.01).all()


@pytest.mark.parametrize("size", [(64, 48), (8, 8), (131, 77)])
def test_overlay_masks_have_the_size_of_the_working_picture_and_no_hard_steps(size: tuple[int, int]) -> None:
    change = torch.zeros(2, 1, 6, 8)
    change[0, ..., 4:] = 1
    first, second = overlay_masks(change, size)
    assert (first.size, first.mode, second.size) == (size, "L", size)
    assert not np.asarray(second).any()
    assert np.abs(np.diff(np.asarray(first).astype(int), axis=1)).max() < 60
