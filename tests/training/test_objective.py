"""The objective against the sampler's own arithmetic and the papers' formulas."""

import pytest
import torch
from diffusers import DDPMScheduler

from studio.training.objective import add_noise, offset, squared_errors, target, weights

SCHEDULER = DDPMScheduler(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012)
TIMES = torch.tensor([0, 10, 400, 999])


def draws() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(5)
    return torch.randn(4, 4, 2, 2, generator=generator), torch.randn(4, 4, 2, 2, generator=generator)


def test_noise_is_added_as_diffusers_adds_it() -> None:
    latents, noise = draws()
    ours = add_noise(latents, noise, SCHEDULER.alphas_cumprod[TIMES])
    torch.testing.assert_close(ours, SCHEDULER.add_noise(latents, noise, TIMES))


def test_the_velocity_is_what_diffusers_calls_it() -> None:
    latents, noise = draws()
    ours = target("v_prediction", latents, noise, SCHEDULER.alphas_cumprod[TIMES])
    torch.testing.assert_close(ours, SCHEDULER.get_velocity(latents, noise, TIMES))
    assert target("epsilon", latents, noise, SCHEDULER.alphas_cumprod[TIMES]) is noise


def test_min_snr_caps_what_little_noise_weighs() -> None:
    signal = torch.tensor([0.99, 0.5, 0.01])  # SNR 99, 1, 0.0101
    assert weights("epsilon", signal, 5).tolist() == pytest.approx([5 / 99, 1, 1], rel=1e-3)
    assert weights("v_prediction", signal, 5).tolist() == pytest.approx([5 / 100, 0.5, 0.01], rel=1e-3)
    assert weights("epsilon", signal, 0).tolist() == [1, 1, 1]


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
def test_pure_noise_and_pure_signal_weigh_finite(kind: str) -> None:
    assert torch.isfinite(weights(kind, torch.tensor([0.0, 1.0]), 5)).all()


def test_a_mask_that_is_the_same_everywhere_changes_nothing() -> None:
    answer, wanted = draws()
    plain = squared_errors(answer, wanted)
    torch.testing.assert_close(squared_errors(answer, wanted, torch.full((4, 1, 2, 2), 0.3)), plain)
    torch.testing.assert_close(plain, torch.stack([(a - w).square().mean() for a, w in zip(answer, wanted, strict=True)]))


def test_a_mask_counts_only_where_it_is_light_and_black_counts_nothing() -> None:
    answer, wanted = draws()
    mask = torch.zeros(4, 1, 2, 2)
    mask[:3, :, 0, 1] = 0.5
    expected = (answer - wanted).square()[:, :, 0, 1].mean(dim=1)
    expected[3] = 0
    torch.testing.assert_close(squared_errors(answer, wanted, mask), expected)


def test_noise_offset_adds_one_number_to_a_channel() -> None:
    noise, shifts = draws()[0], torch.arange(16.0).reshape(4, 4)
    torch.testing.assert_close((offset(noise, shifts, 0.05) - noise).mean(dim=(2, 3)), 0.05 * shifts)
    assert offset(noise, shifts, 0) is noise
