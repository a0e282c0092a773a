"""SCHEDULES: A1111's schedule types as noise levels of a walk, from the checkpoint's own noise schedule."""

import math
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from studio.errors import InputError

Levels = NDArray[np.float64]
"""Noise levels from high to low."""


@dataclass(frozen=True)
class Ladder:
    """The noise levels a checkpoint was trained on, sigma = sqrt((1 - a) / a), from the lowest up, with their training steps.

    Between two levels the training step is interpolated over the logarithm of sigma, as k-diffusion does; a ladder that `snaps` knows its own steps only.
    `rich` says whether the checkpoint is of the SDXL kind.
    """

    sigmas: tuple[float, ...]
    times: tuple[float, ...]
    rich: bool = False
    snaps: bool = False

    @classmethod
    def of(cls, alphas_cumprod: Tensor, rich: bool = False) -> "Ladder":
        """The levels of a noise schedule [n]. A schedule that ends in pure noise, where sigma has no bound, ends a little before."""
        kept = alphas_cumprod.detach().cpu().double().clamp(min=4.9e-8).numpy()
        return cls(tuple(np.sqrt((1 - kept) / kept).tolist()), tuple(map(float, range(len(kept)))), rich)

    def every(self, stride: int) -> "Ladder":
        """Each so many-th level alone, the highest among them: what a checkpoint distilled to few steps was taught."""
        return replace(self, sigmas=self.sigmas[::-1][::stride][::-1], times=self.times[::-1][::stride][::-1], snaps=True)

    @cached_property
    def logs(self) -> tuple[float, ...]:
        """The logarithms of the levels."""
        return tuple(np.log(self.sigmas).tolist())

    @property
    def low(self) -> float:
        """The lowest level."""
        return self.sigmas[0]

    @property
    def high(self) -> float:
        """The highest level."""
        return self.sigmas[-1]

    def time(self, sigma: float) -> float:
        """The (fractional) training step of a level; levels beyond the trained ones count as the nearest."""
        level = math.log(max(sigma, 1e-10))
        above = min(max(bisect_left(self.logs, level), 1), len(self.logs) - 1)
        share = min(max((level - self.logs[above - 1]) / (self.logs[above] - self.logs[above - 1]), 0.0), 1.0)
        share = float(share > 0.5) if self.snaps else share
        return self.times[above - 1] + share * (self.times[above] - self.times[above - 1])

    def at(self, times: Sequence[float] | Levels) -> Levels:
        """The levels at training steps."""
        return np.exp(np.interp(times, self.times, self.logs))

    def even(self, n: int, top: float | None = None) -> Levels:
        """The levels at `n` evenly spaced training steps, from `top` (or the last) to the first."""
        return self.at(np.linspace(self.times[-1] if top is None else top, self.times[0], n))


def _finished(levels: Levels) -> Levels:
    """Levels with the picture, level nought, at their end."""
    return np.append(levels, 0.0)


def uniform(ladder: Ladder, n: int) -> Levels:
    """Even in training steps, from the last to the first: the levels of k-diffusion's model wrapper, A1111's default."""
    return _finished(ladder.even(n))


def karras(ladder: Ladder, n: int, rho: float = 7.0) -> Levels:
    """Even in sigma^(1/rho) (Karras et al. 2022, equation 5)."""
    return _finished(power(ladder.low, ladder.high, n, rho))


def power(low: float, high: float, n: int, rho: float = 7.0) -> Levels:
    """`n` levels from high to low that are even in sigma^(1/rho)."""
    return (high ** (1 / rho) + np.linspace(0, 1, n) * (low ** (1 / rho) - high ** (1 / rho))) ** rho


def exponential(ladder: Ladder, n: int) -> Levels:
    """Even in the logarithm of sigma."""
    return polyexponential(ladder, n)


def polyexponential(ladder: Ladder, n: int, rho: float = 1.0) -> Levels:
    """Polynomial in the logarithm of sigma; with A1111's rho of 1 even in it."""
    return _finished(np.exp(np.linspace(1, 0, n) ** rho * np.log(ladder.high / ladder.low) + np.log(ladder.low)))


def sgm_uniform(ladder: Ladder, n: int) -> Levels:
    """Even in training steps, without the first: as Stability's generative models walk."""
    return _finished(ladder.even(n + 1)[:-1])


def kl_optimal(ladder: Ladder, n: int) -> Levels:
    """Even in the angle whose tangent is sigma (Sabour et al. 2024, appendix); it ends at the lowest level, not at nought."""
    return np.tan(np.linspace(np.arctan(ladder.high), np.arctan(ladder.low), n + 1))


_TUNED = (14.615, 6.475, 3.861, 2.697, 1.886, 1.396, 0.963, 0.652, 0.399, 0.152, 0.029)
_TUNED_RICH = (14.615, 6.315, 3.771, 2.181, 1.342, 0.862, 0.555, 0.380, 0.234, 0.113, 0.029)


def align_your_steps(ladder: Ladder, n: int) -> Levels:
    """The ten steps found best for SD 1.5 or SDXL (Sabour et al. 2024), interpolated in the logarithm for other counts."""
    tuned = _TUNED_RICH if ladder.rich else _TUNED
    return _finished(np.exp(np.interp(np.linspace(0, 1, n), np.linspace(0, 1, len(tuned)), np.log(tuned))))


def simple(ladder: Ladder, n: int) -> Levels:
    """Every so many trained levels, from the highest."""
    stride = len(ladder.sigmas) / n
    return _finished(np.array([ladder.sigmas[-(1 + int(i * stride))] for i in range(n)]))


def ddim(ladder: Ladder, n: int) -> Levels:
    """Every (1000 // n)th trained level from the second on (Song et al. 2021); the remainder adds steps when n does not divide 1000."""
    return _finished(np.array(ladder.sigmas[1 :: max(len(ladder.sigmas) // n, 1)][::-1]))


def beta(ladder: Ladder, n: int) -> Levels:
    """Denser at both ends, by the quantiles of a Beta(0.6, 0.6) distribution (Lee et al. 2024)."""
    from scipy.special import betaincinv

    return _finished(ladder.low + betaincinv(0.6, 0.6, 1 - np.linspace(0, 1, n)) * (ladder.high - ladder.low))


def turbo(ladder: Ladder, n: int) -> Levels:
    """Whole training steps at even distances, each at the end of its share: what checkpoints distilled to few steps were taught."""
    count = len(ladder.sigmas)
    return _finished(np.array(ladder.sigmas)[np.clip(np.round(np.arange(n, 0, -1) * (count / n) - 1).astype(int), 0, count - 1)])


AUTOMATIC = "Automatic"
SCHEDULES: tuple[tuple[str, Callable[[Ladder, int], Levels]], ...] = (
    ("Uniform", uniform),
    ("Karras", karras),
    ("Exponential", exponential),
    ("Polyexponential", polyexponential),
    ("SGM Uniform", sgm_uniform),
    ("KL Optimal", kl_optimal),
    ("Align Your Steps", align_your_steps),
    ("Simple", simple),
    ("Normal", uniform),
    ("DDIM", ddim),
    ("Beta", beta),
    ("Turbo", turbo),
)
"""Name and function; beside them "Automatic", which is the sampler's own."""


def levels(name: str, ladder: Ladder, n: int) -> tuple[float, ...]:
    """The n + 1 levels of a schedule, in single precision as other programs hold them; raises InputError on an unknown name."""
    for known, function in SCHEDULES:
        if known == name:
            return single(function(ladder, n))
    raise InputError(f"There is no schedule type {name!r}.", f"Choose one of {', '.join((AUTOMATIC, *(s[0] for s in SCHEDULES)))}.")


def single(values: Levels) -> tuple[float, ...]:
    """Levels rounded to single precision."""
    return tuple(values.astype(np.float32).tolist())


def strided(n: int, count: int = 1000) -> list[int]:
    """The training steps, from low to high, that DDIM and its kin stand on in A1111: each (1000 // n)th from 1 on; two at least."""
    times = [min(time + 1, count - 1) for time in range(0, count, max(count // n, 1))]
    return times if len(times) > 1 else [*times, count - 1]


def portion(steps: int, strength: float, exact: bool = False) -> tuple[int, int]:
    """How much of a schedule is walked at a denoising strength: the steps of the whole schedule, and the number of the step from its end to begin at (A1111's t_enc).

    `exact` walks all `steps` and lengthens the schedule instead: the second pass of hires.
    """
    share = min(strength, 0.999)
    return (max(int(steps / share), steps), steps - 1) if exact else (steps, int(share * steps))
