"""The probe: a loss whose noise and timesteps never change, so that two states of a word can be compared."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from studio.dataset.batches import NOISE, TIME, dice, normal
from studio.diffusion.conditioning import condition
from studio.diffusion.model import Model
from studio.training.objective import add_noise, target


@dataclass(frozen=True)
class FixedLoss:
    """Mean squared error over all noise levels, and over the noisier half where shapes are decided."""

    all: float
    high: float


@torch.no_grad()
def fixed_loss(model: Model, words: Mapping[str, Tensor], latents: Tensor, prompts: Sequence[str], repeats: int = 8, seed: int = 3) -> FixedLoss:
    """The loss of `words` on latents [k, 4, h, w] with their prompts, each at `repeats` fixed noises and evenly spread timesteps (common random numbers)."""
    count = len(prompts) * repeats
    places = [i // repeats for i in range(count)]
    times = torch.tensor([int((dice(seed, TIME, 0, i // repeats).random() + i % repeats) / repeats * 960) + 20 for i in range(count)])
    errors = []
    for at in range(0, count, 32):
        chunk = places[at : at + 32]
        x = latents[chunk].to(model.device)
        noise = torch.stack([normal(latents.shape[1:], dice(seed, NOISE, 0, at + i)) for i in range(len(chunk))]).to(model.device)
        t = times[at : at + 32].to(model.device)
        signal = model.alphas_cumprod[t]
        guide = condition(model, [prompts[p] for p in chunk], words)
        answer = model.predict(add_noise(x, noise, signal), t, guide).float()
        errors.append((answer - target(model.prediction_type, x, noise, signal)).square().mean(dim=(1, 2, 3)).cpu())
    error = torch.cat(errors)
    return FixedLoss(float(error.mean()), float(error[times > 500].mean()))
