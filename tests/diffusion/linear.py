"""A checkpoint whose answer is known: its pictures are normal with a mean that the prompt says, so that the best estimate is linear in the latents."""

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from studio.diffusion.model import Conditioning

SPREAD = 0.5
"""Standard deviation of the pictures."""


def taught() -> Tensor:
    """The noise schedule of Stable Diffusion [1000], in single precision as checkpoints hold it."""
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    return torch.cumprod(1 - betas, 0).float()


def prompt(mean: float, chunks: int = 1) -> Conditioning:
    """A prompt for pictures of a mean."""
    return Conditioning(torch.full((1, 77 * chunks, 4), mean))


@dataclass
class Linear:
    """As much of a model as a walk needs; `heard` lists each look as (pictures, training step)."""

    alphas_cumprod: Tensor = field(default_factory=taught)
    checkpoint: str = "linear"
    prediction_type: str = "epsilon"
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    text_encoders: tuple[None, ...] = (None,)
    heard: list[tuple[int, float]] = field(default_factory=list)

    def predict(self, x: Tensor, t: Tensor, conditioning: Conditioning, extra: Tensor | None = None) -> Tensor:
        """The noise in x = (picture + sigma * noise) / sqrt(1 + sigma^2)."""
        self.heard.append((len(x), float(t)))
        sigma = self.sigma(float(t))
        mean = conditioning.context.mean((1, 2))[:, None, None, None]
        noisy = x.double() * math.sqrt(1 + sigma**2)
        return ((noisy - mean) * (sigma / (SPREAD**2 + sigma**2))).to(x.dtype)

    def sigma(self, time: float) -> float:
        """The level of a training step, between two by the logarithm."""
        low = min(int(time), 998)
        logs = [0.5 * math.log((1 - a) / a) for a in self.alphas_cumprod[low : low + 2].tolist()]
        return math.exp(logs[0] + (time - low) * (logs[1] - logs[0]))


def landing(x: Tensor, sigma: float, mean: float) -> Tensor:
    """Where the noiseless walk from x at a level ends: the exact solution of its differential equation."""
    return mean + (x - mean) * (SPREAD / math.sqrt(SPREAD**2 + sigma**2))
