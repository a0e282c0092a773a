"""The denoising objective as pure functions: noise, target and weighting, for epsilon- and v-prediction."""

import torch
from torch import Tensor


def add_noise(latents: Tensor, noise: Tensor, signal: Tensor) -> Tensor:
    """Latents [b, 4, h, w] at the noise level of `signal` [b] = alphas_cumprod[t] (Ho et al. 2020, eq. 4)."""
    a = signal[:, None, None, None]
    return a.sqrt() * latents + (1 - a).sqrt() * noise


def offset(noise: Tensor, shifts: Tensor, amount: float) -> Tensor:
    """Noise [b, 4, h, w] whose channels are shifted as wholes by `amount` times `shifts` [b, 4] (crosslabs 2023), so that a picture's mean is learned too."""
    return noise + amount * shifts[:, :, None, None] if amount else noise


def squared_errors(answer: Tensor, wanted: Tensor, mask: Tensor | None = None) -> Tensor:
    """Mean squared error [b] of answers [b, 4, h, w], as `mask` [b, 1, h, w] weighs the places.

    A mask's own sum is divided out: one that is the same everywhere changes nothing, and one that is 0 everywhere teaches nothing.
    """
    errors = (answer - wanted).square()
    if mask is None:
        return errors.mean(dim=(1, 2, 3))
    total = mask.expand_as(errors).sum(dim=(1, 2, 3))
    return (errors * mask).sum(dim=(1, 2, 3)) / torch.where(total > 0, total, torch.ones_like(total))


def target(prediction_type: str, latents: Tensor, noise: Tensor, signal: Tensor) -> Tensor:
    """What the network should answer: the noise, or the velocity (Salimans & Ho 2022) for "v_prediction"."""
    if prediction_type != "v_prediction":
        return noise
    a = signal[:, None, None, None]
    return a.sqrt() * noise - (1 - a).sqrt() * latents


def weights(prediction_type: str, signal: Tensor, gamma: float) -> Tensor:
    """Weight [b] of each sample by min-SNR (Hang et al. 2023), 1 everywhere when `gamma` is 0."""
    if gamma <= 0:
        return torch.ones_like(signal)
    snr = signal / (1 - signal).clamp(min=1e-8)
    capped = snr.clamp(max=gamma)
    return capped / (snr + 1) if prediction_type == "v_prediction" else capped / snr.clamp(min=1e-8)
