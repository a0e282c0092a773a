"""The objective against the sampler's own arithmetic and the papers' formulas."""

import pytest
import torch
from diffusers import DDPMScheduler

from studio.training.objective import add_noise, target, weights

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
