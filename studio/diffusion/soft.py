"""Soft inpainting: latents blended at every step by a mask that yields as the noise falls, and pixels mixed at the end by how much they changed.

The scheme is that of A1111's "Soft inpainting" accordion (webui 1.8), written from the description of its knobs.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from PIL import Image, ImageFilter
from torch import Tensor

from studio.requests.generate import Repaint

Blend = Callable[[Tensor, Tensor, Tensor, float], Tensor]
"""Mixes what the model predicts, x0 [b, c, h, w], with the known latents by a mask [1 or b, 1, h, w] (1 = repaint) at a noise level sigma."""


@dataclass(frozen=True)
class Softness:
    """The six knobs of soft inpainting, named as in a request."""

    schedule_bias: float = 1.0
    preservation: float = 0.5
    contrast: float = 4.0
    mask_influence: float = 0.0
    difference_threshold: float = 0.5
    difference_contrast: float = 2.0

    @classmethod
    def of(cls, request: Repaint) -> "Softness":
        """The knobs as a request sets them."""
        return cls(
            request.soft_schedule_bias,
            request.soft_preservation,
            request.soft_contrast,
            request.soft_mask_influence,
            request.soft_difference_threshold,
            request.soft_difference_contrast,
        )


def blender(softness: Softness) -> Blend:
    """The blend of one walk, to be called on every prediction of the model."""

    def blend(x0: Tensor, known: Tensor, mask: Tensor, sigma: float) -> Tensor:
        return mixed(known, x0, step_mask(mask, sigma, softness), softness.contrast)

    return blend


def step_mask(mask: Tensor, sigma: float, softness: Softness) -> Tensor:
    """How much of the new picture shows at a noise level: mask ** (sigma ** bias * preservation), so that partly masked content is held while the noise is high.

    Nought stays nought and one stays one at every noise level; bias and preservation are the knobs of those names.
    """
    power = float(sigma) ** softness.schedule_bias * softness.preservation
    mask = mask.clamp(0, 1)
    return torch.where(mask > 0, mask.float() ** power, 0.0).to(mask.dtype)


def mixed(a: Tensor, b: Tensor, share: Tensor, contrast: float) -> Tensor:
    """Latents between a (share 0) and b (share 1), [b, c, h, w] each: directions mixed straight, lengths by their power mean of order `contrast`.

    A straight mixture of two unlike latents is shorter than both, which looks washed out; the higher the order, the nearer the length is to the longer one's.
    """
    share = share.float()
    straight = a.float() * (1 - share) + b.float() * share
    longer = torch.maximum(_length(a), _length(b)).clamp(min=1e-30)
    mean = ((_length(a) / longer) ** contrast * (1 - share) + (_length(b) / longer) ** contrast * share) ** (1 / contrast) * longer
    blended = (straight * (mean / _length(straight).clamp(min=1e-5))).to(b.dtype)
    return torch.where(share <= 0, a.to(b.dtype), torch.where(share >= 1, b, blended))


def _length(x: Tensor) -> Tensor:
    """Euclidean length over the channels, [b, 1, h, w]."""
    return x.float().norm(dim=1, keepdim=True)


def change_mask(known: Tensor, painted: Tensor, mask: Tensor, softness: Softness) -> Tensor:
    """How much of each cell to take from the new picture, [b, 1, h, w] in 0..1, by how far its latents [b, c, h, w] moved from the known ones.

    Half of it is taken where the distance reaches the difference threshold, and the difference contrast says how sharply it goes from none to all;
    mask influence lets the mask move that threshold.
    """
    distance = _length(painted - known).float()
    distance = _quantile_mean(_quantile_mean(distance, 0.9, 1.0), 0.25, 0.75)
    held = 1 - mask.clamp(0, 1).float() ** (softness.preservation / 2)
    held = 0.5 * (1 - softness.mask_influence) + held * softness.mask_influence
    half = (softness.difference_threshold * held / (1.00001 - held)).clamp(min=1e-12)
    keep = 1 / (1 + (distance / half) ** softness.difference_contrast)
    return 1 - keep**3 * (keep * (6 * keep - 15) + 10)


def _quantile_mean(x: Tensor, low: float, high: float) -> Tensor:
    """The mean of what lies between two quantiles of each cell's 5x5 neighbours [b, 1, h, w], which count less the farther they are."""
    steps = torch.arange(-2, 3, device=x.device, dtype=x.dtype)
    near = torch.exp(-(steps[:, None] ** 2 + steps[None] ** 2) / 1.5**2).reshape(1, 25, 1)
    values = torch.nn.functional.unfold(x, 5, padding=2)
    weights = near * torch.nn.functional.unfold(torch.ones_like(x), 5, padding=2)
    values, order = values.sort(dim=1)
    weights = weights.expand_as(values).gather(1, order)
    weights = weights / weights.sum(1, keepdim=True)
    upper = weights.cumsum(1)
    inside = (upper.clamp(max=high) - (upper - weights).clamp(min=low)).clamp(min=0)
    return ((values * inside).sum(1) / inside.sum(1)).reshape(x.shape)


def overlay_masks(change: Tensor, size: tuple[int, int]) -> list[Image.Image]:
    """Change masks [b, 1, h, w] as greys of (width, height), smoothed so that no latent cell shows; for putting a painted picture back."""
    greys = change[:, 0].clamp(0, 1).mul(255).round().byte().cpu().numpy()
    return [Image.fromarray(g).resize(size, Image.Resampling.LANCZOS).filter(ImageFilter.GaussianBlur(4)) for g in greys]
