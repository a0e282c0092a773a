"""Update rules of samplers in sigma space (x = picture + sigma * noise): Euler's and Heun's kin, and linear multistep.

Each rule is a generator: given how the checkpoint looks at noise, the latents at the first level and the way to go, it yields after every
step the latents at the next level and the estimate of the finished picture. Sources: Karras et al. 2022 (Euler, Heun, churn), Lu et al.
2022 (DPM-Solver), Song et al. 2021 (DDIM), Liu et al. 2022 (PLMS), Xu et al. 2023 (Restart); ancestral steps as k-diffusion defines them.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import numpy as np
from torch import Tensor

from studio.diffusion.schedules import power


class Look(Protocol):
    """How a checkpoint sees the picture in latents x [b, 4, h, w] at a noise level."""

    bare: Tensor | None
    """What it saw last without the positive prompts."""

    def __call__(self, x: Tensor, sigma: float) -> Tensor:
        """The estimate of the finished picture [b, 4, h, w]."""
        ...


@dataclass(frozen=True)
class Options:
    """What a person may set: the share of new noise (None = the sampler's own), and churn, its range of levels (no upper bound at 0), and the strength of noise."""

    eta: float | None = None
    s_churn: float = 0.0
    s_tmin: float = 0.0
    s_tmax: float = 0.0
    s_noise: float = 1.0


PLAIN = Options()


@dataclass(frozen=True)
class Way:
    """The levels from high to low, where noise for going from one to another comes from, and how much of it."""

    levels: tuple[float, ...]
    draw: Callable[[float, float], Tensor]
    eta: float = 1.0
    options: Options = PLAIN

    def stirred(self, x: Tensor, sigma: float) -> tuple[Tensor, float]:
        """Latents with churn put back, and their level (Karras et al. 2022, algorithm 2)."""
        knobs = self.options
        if knobs.s_churn <= 0:
            return x, sigma
        within = knobs.s_tmin <= sigma <= (knobs.s_tmax or math.inf)
        level = sigma * (1 + min(knobs.s_churn / (len(self.levels) - 1), math.sqrt(2) - 1)) if within else sigma
        # k-diffusion draws noise outside the window too and doesn't use it, so every step takes the same place in the random sequence.
        noise = self.draw(sigma, level)
        return (x + noise * (knobs.s_noise * math.sqrt(level**2 - sigma**2)), level) if within else (x, sigma)

    def noised(self, x: Tensor, amount: float, levels: tuple[float, float]) -> Tensor:
        """Latents with an amount of new noise; none is drawn for nought."""
        return x + self.draw(*levels) * (amount * self.options.s_noise) if amount > 0 else x


Rule = Callable[[Look, Tensor, Way], Iterator[tuple[Tensor, Tensor]]]


def ancestral(sigma: float, following: float, eta: float) -> tuple[float, float]:
    """The level to walk down to, and the amount of new noise that leads from there up to the following level."""
    up = min(following, eta * math.sqrt(following**2 * max(sigma**2 - following**2, 0) / sigma**2))
    return math.sqrt(max(following**2 - up**2, 0)), up


def euler(look: Look, x: Tensor, way: Way) -> Iterator[tuple[Tensor, Tensor]]:
    """Straight along the slope."""
    for sigma, following in pairwise(way.levels):
        x, level = way.stirred(x, sigma)
        picture = look(x, level)
        x = x + (x - picture) * ((following - level) / level)
        yield x, picture


def euler_ancestral(look: Look, x: Tensor, way: Way) -> Iterator[tuple[Tensor, Tensor]]:
    """Euler with new noise at each step. In sigma space this is DDIM too, with DDIM's eta."""
    for sigma, following in pairwise(way.levels):
        picture = look(x, sigma)
        down, up = ancestral(sigma, following, way.eta)
        x = way.noised(x + (x - picture) * ((down - sigma) / sigma), up, (sigma, following))
        yield x, picture


def ddim_cfgpp(look: Look, x: Tensor, way: Way) -> Iterator[tuple[Tensor, Tensor]]:
    """DDIM that goes on from the guided picture along the unguided slope (Chung et al. 2024)."""
    for sigma, following in pairwise(way.levels):
        picture = look(x, sigma)
        down, up = ancestral(sigma, following, way.eta)
        bare = picture if look.bare is None else look.bare
        x = way.noised(picture + (x - bare) * (down / sigma), up, (sigma, following))
        yield x, picture


def heun(look: Look, x: Tensor, way: Way) -> Iterator[tuple[Tensor, Tensor]]:
    """The mean of the slopes at both ends of a step."""
    for sigma, following in pairwise(way.levels):
        x, level = way.stirred(x, sigma)
        x, picture = _heun(look, x, level, following)
        yield x, picture


def _heun(look: Look, x: Tensor, level: float, following: float) -> tuple[Tensor, Tensor]:
    """One step of Heun's; the step to nought is Euler's."""
    picture = look(x, level)
    slope = (x - picture) / level
    end = x + slope * (following - level)
    if following == 0:
        return end, picture
    return x + (slope + (end - look(end, following)) / following) * ((following - level) / 2), picture


def restart(look: Look, x: Tensor, way: Way) -> Iterator[tuple[Tensor, Tensor]]:
    """Heun's steps that go back up to a higher level by new noise, and down again, near the end; walks of less than 20 steps have no room for that."""
    last = math.inf  # the first step never rises, also where the highest level comes back from `power` a little higher
    for sigma, following in detour(way.levels):
        if sigma > last:
            x = way.noised(x, math.sqrt(sigma**2 - last**2), (sigma, following))
        x, picture = _heun(look, x, sigma, following)
        last = following
        yield x, picture


def detour(levels: tuple[float, ...]) -> list[tuple[float, float]]:
    """The steps of a Restart walk as many as `levels` has, each from one level to another: near 0.1 it goes back to 2, once from 20 steps on, twice from 36."""
    steps = len(levels) - 1
    if steps < 20:
        return list(pairwise(levels))
    back, times = (steps // 4, 2) if steps >= 36 else (9, 1)
    main = [*power(levels[-2], levels[0], steps - back * times).tolist(), 0.0]
    bottom, top = (int(np.abs(np.array(main) - level).argmin()) for level in (0.1, 2.0))
    course = list(pairwise(main))
    if top >= bottom:
        return course
    loop = list(pairwise(power(main[bottom], main[top], back + 1).tolist()))
    return course[:bottom] + loop * times + course[bottom:]


def dpm2(look: Look, x: Tensor, way: Way) -> Iterator[tuple[Tensor, Tensor]]:
    """The slope at the geometric middle of a step (DPM-Solver-2)."""
    for sigma, following in pairwise(way.levels):
        x, level = way.stirred(x, sigma)
        x, picture = _middle(look, x, level, following)
        yield x, picture


def dpm2_ancestral(look: Look, x: Tensor, way: Way) -> Iterator[tuple[Tensor, Tensor]]:
    """DPM2 with new noise at each step."""
    for sigma, following in pairwise(way.levels):
        down, up = ancestral(sigma, following, way.eta)
        x, picture = _middle(look, x, sigma, down)
        x = way.noised(x, up, (sigma, following))
        yield x, picture


def _middle(look: Look, x: Tensor, level: float, following: float) -> tuple[Tensor, Tensor]:
    """One step along the slope at its geometric middle; the step to nought is Euler's."""
    picture = look(x, level)
    slope = (x - picture) / level
    if following == 0:
        return x + slope * (following - level), picture
    middle = math.sqrt(level * following)
    half = x + slope * (middle - level)
    return x + (half - look(half, middle)) * ((following - level) / middle), picture


def lms(look: Look, x: Tensor, way: Way, order: int = 4) -> Iterator[tuple[Tensor, Tensor]]:
    """Linear multistep (Adams-Bashforth on uneven levels): the polynomial through the last slopes, integrated over the step."""
    slopes: list[Tensor] = []
    for i, (sigma, following) in enumerate(pairwise(way.levels)):
        picture = look(x, sigma)
        slopes = [(x - picture) / sigma, *slopes[: order - 1]]
        for slope, weight in zip(slopes, _adams(way.levels[max(i + 1 - order, 0) : i + 1][::-1], following), strict=True):
            x = x + slope * weight
        yield x, picture


def _adams(known: tuple[float, ...], end: float) -> list[float]:
    """Integrals from the first of `known` to `end` of the Lagrange polynomials through them."""
    weights = []
    for i, place in enumerate(known):
        others = [other for j, other in enumerate(known) if j != i]
        basis = np.polynomial.Polynomial.fromroots(others) if others else np.polynomial.Polynomial([1.0])
        whole = basis.integ()
        weights.append(float((whole(end) - whole(known[0])) / math.prod(place - other for other in others)))
    return weights


_BASHFORTH = ((1.0,), (3 / 2, -1 / 2), (23 / 12, -16 / 12, 5 / 12), (55 / 24, -59 / 24, 37 / 24, -9 / 24))


def plms(look: Look, x: Tensor, way: Way) -> Iterator[tuple[Tensor, Tensor]]:
    """Adams-Bashforth with the weights of even steps, whose first step is Heun's."""
    slopes: list[Tensor] = []
    for sigma, following in pairwise(way.levels):
        slope = (x - look(x, sigma)) / sigma
        slopes = [slope, *slopes[:3]]
        if len(slopes) == 1 and following > 0:
            end = x + slope * (following - sigma)
            slope = (slope + (end - look(end, following)) / following) / 2
        else:
            slope = sum((s * w for s, w in zip(slopes[1:], _BASHFORTH[len(slopes) - 1][1:], strict=True)), slope * _BASHFORTH[len(slopes) - 1][0])
        picture = x - slope * sigma
        x = x + slope * (following - sigma)
        yield x, picture


def lcm(look: Look, x: Tensor, way: Way) -> Iterator[tuple[Tensor, Tensor]]:
    """A latent consistency model's walk: the picture it sees, noised anew (Luo et al. 2023). The boundary terms, below 1e-5 at every taught level, are left out."""
    for sigma, following in pairwise(way.levels):
        picture = look(x, sigma)
        x = way.noised(picture, following, (sigma, following))
        yield x, picture
