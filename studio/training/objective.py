"""The denoising objective as pure functions: noise, target and weighting, for epsilon- and v-prediction."""

import torch
from torch import Tensor


def add_noise(latents: Tensor, noise: Tensor, signal: Tensor) -> Tensor:
    """Latents [b, 4, h, w] at the noise level of `signal` [b] = alphas_cumprod[t] (Ho et al. 2020, eq. 4)."""
    a = signal[:, None, None, None]
    return a.sqrt() * latents + (1 - a).sqrt() * noise


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
