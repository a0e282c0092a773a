"""What weights in a prompt do to the text encoder's output: A1111's "Original", "No norm" and "Ignore"."""

from collections.abc import Sequence

import torch
from torch import Tensor

from studio.errors import InputError

ROUNDING = 1e-7
"""Means of text encoders' outputs, which are about 1 wide, are sums of rounding errors below this."""


def weighed(hidden: Tensor, weights: Tensor, emphasis: str, widths: Sequence[int], times: Tensor | None = None) -> Tensor:
    """Chunks [p, c, 77, d] with each token's output scaled by its weight [p, c, 77]; raises InputError on weights beyond numbers.

    "Original" brings the mean of each chunk back to what it was, for each encoder (of `widths`) by itself: prompt by prompt, or,
    when `times` [p] says how often each prompt counts, over all of them together, which is what A1111 does with the texts of one schedule.
    """
    if emphasis == "Ignore" or not bool((weights != 1).any()):
        return hidden
    parts = hidden.float().split(list(widths) if sum(widths) == hidden.shape[-1] else hidden.shape[-1], -1)
    scaled = [part * weights[..., None] for part in parts]
    if emphasis == "Original":
        scaled = [after * _ratio(before, after, times)[..., None, None] for before, after in zip(parts, scaled, strict=True)]
    found = torch.cat(scaled, -1).to(hidden.dtype)
    if bool(torch.isfinite(hidden).all()) and not bool(torch.isfinite(found).all()):
        raise InputError(f"A weight in the prompt is too large ({float(weights.abs().max()):g}).", "Weights between 0.5 and 1.5 are usual; take some brackets out of the prompt.")
    return found


def _ratio(before: Tensor, after: Tensor, times: Tensor | None) -> Tensor:
    """What brings the mean of each chunk [p, c, 77, d] back, [p, c] or [1, c]; 1 where a mean is nothing but rounding, whose ratio would be chance."""
    means = [part.mean((2, 3)) for part in (before, after)]
    if times is not None:
        shares = (times / times.sum())[:, None]
        means = [(mean * shares).sum(0, keepdim=True) for mean in means]
    sound = (means[0].abs() > ROUNDING) & (means[1].abs() > ROUNDING)
    return torch.where(sound, means[0] / means[1], torch.ones_like(means[1]))
