"""SCHEDULES: A1111's schedule types as noise levels of a walk, from the checkpoint's own noise schedule.

Levels are computed in single precision, as other programs do: Brownian noise depends on their last digits.
"""

import math
from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from studio.errors import InputError


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
        """The levels of a noise schedule [n]. One that ends in pure noise, where sigma has no bound, ends a little before."""
        kept = alphas_cumprod.detach().cpu().float().clamp(min=4.9e-8)
        sigmas = ((1 - kept) / kept).sqrt().tolist()
        return cls(tuple(sigmas), tuple(map(float, range(len(sigmas)))), rich)

    def every(self, stride: int) -> "Ladder":
        """Each so many-th level alone, the highest among them: what a checkpoint distilled to few steps was taught."""
        return replace(self, sigmas=self.sigmas[::-1][::stride][::-1], times=self.times[::-1][::stride][::-1], snaps=True)

    @cached_property
    def logs(self) -> tuple[float, ...]:
        """The logarithms of the levels."""
        return tuple(torch.tensor(self.sigmas).log().tolist())

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

    def at(self, times: Tensor) -> Tensor:
        """The levels at training steps [n]."""
        places = (times.clamp(self.times[0], self.times[-1]) - self.times[0]) / (self.times[1] - self.times[0])
        logs = torch.tensor(self.logs)
        share = places.frac()
        return ((1 - share) * logs[places.floor().long()] + share * logs[places.ceil().long()]).exp()

    def even(self, n: int, top: float | None = None) -> Tensor:
        """The levels at `n` evenly spaced training steps, from `top` (or the last) to the first."""
        return self.at(torch.linspace(self.times[-1] if top is None else top, self.times[0], n))


def _finished(levels: Tensor) -> Tensor:
    """Levels with the picture, level nought, at their end."""
    return torch.cat([levels, levels.new_zeros(1)])


def uniform(ladder: Ladder, n: int) -> Tensor:
    """Even in training steps, from the last to the first: the levels of k-diffusion's model wrapper, A1111's default."""
    return _finished(ladder.even(n))


def karras(ladder: Ladder, n: int) -> Tensor:
    """Even in sigma^(1/7) (Karras et al. 2022, equation 5)."""
    return _finished(power(ladder.low, ladder.high, n))


def power(low: float, high: float, n: int, rho: float = 7.0) -> Tensor:
    """`n` levels from high to low that are even in sigma^(1/rho)."""
    first, last = high ** (1 / rho), low ** (1 / rho)
    return (first + torch.linspace(0, 1, n) * (last - first)) ** rho


def exponential(ladder: Ladder, n: int) -> Tensor:
    """Even in the logarithm of sigma."""
    return _finished(torch.linspace(math.log(ladder.high), math.log(ladder.low), n).exp())


def polyexponential(ladder: Ladder, n: int, rho: float = 1.0) -> Tensor:
    """Polynomial in the logarithm of sigma; with A1111's rho of 1 even in it."""
    low, high = math.log(ladder.low), math.log(ladder.high)
    return _finished((torch.linspace(1, 0, n) ** rho * (high - low) + low).exp())


def sgm_uniform(ladder: Ladder, n: int) -> Tensor:
    """Even in training steps, without the first: as Stability's generative models walk."""
    return _finished(ladder.even(n + 1)[:-1])


def kl_optimal(ladder: Ladder, n: int) -> Tensor:
    """Even in the angle whose tangent is sigma (Sabour et al. 2024, appendix); it ends at the lowest level, not at nought."""
    share = torch.arange(n + 1) / n
    return torch.tan(share * math.atan(ladder.low) + (1 - share) * math.atan(ladder.high))


_TUNED = (14.615, 6.475, 3.861, 2.697, 1.886, 1.396, 0.963, 0.652, 0.399, 0.152, 0.029)
_TUNED_RICH = (14.615, 6.315, 3.771, 2.181, 1.342, 0.862, 0.555, 0.380, 0.234, 0.113, 0.029)


def align_your_steps(ladder: Ladder, n: int) -> Tensor:
    """The ten steps found best for SD 1.5 or SDXL (Sabour et al. 2024), interpolated in the logarithm for other counts."""
    logs = torch.tensor(_TUNED_RICH if ladder.rich else _TUNED, dtype=torch.float64).log()
    places = torch.linspace(0, len(logs) - 1, n, dtype=torch.float64)
    share = places.frac()
    return _finished(((1 - share) * logs[places.floor().long()] + share * logs[places.ceil().long()]).exp().float())


def simple(ladder: Ladder, n: int) -> Tensor:
    """Every so many trained levels, from the highest."""
    stride = len(ladder.sigmas) / n
    return _finished(torch.tensor([ladder.sigmas[-(1 + int(i * stride))] for i in range(n)]))


def ddim(ladder: Ladder, n: int) -> Tensor:
    """Every (1000 // n)th trained level from the second on (Song et al. 2021); the remainder adds steps when n does not divide 1000."""
    return _finished(torch.tensor(ladder.sigmas[1 :: max(len(ladder.sigmas) // n, 1)][::-1]))


def beta(ladder: Ladder, n: int) -> Tensor:
    """Denser at both ends, by the quantiles of a Beta(0.6, 0.6) distribution (Lee et al. 2024)."""
    from scipy.special import betaincinv

    shares = torch.from_numpy(betaincinv(0.6, 0.6, 1 - torch.linspace(0, 1, n, dtype=torch.float64).numpy()))
    return _finished((ladder.low + shares * (ladder.high - ladder.low)).float())


def turbo(ladder: Ladder, n: int) -> Tensor:
    """Whole training steps at even distances, each at the end of its share: what checkpoints distilled to few steps were taught."""
    count = len(ladder.sigmas)
    times = (torch.arange(n, 0, -1) * (count / n) - 1).round().long().clamp(0, count - 1)
    return _finished(torch.tensor(ladder.sigmas)[times])


AUTOMATIC = "Automatic"
SCHEDULES: tuple[tuple[str, Callable[[Ladder, int], Tensor]], ...] = (
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
    """The n + 1 levels of a schedule; raises InputError on an unknown name."""
    for known, function in SCHEDULES:
        if known == name:
            return tuple(function(ladder, n).tolist())
    raise InputError(f"There is no schedule type {name!r}.", f"Choose one of {', '.join((AUTOMATIC, *(s[0] for s in SCHEDULES)))}.")


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
