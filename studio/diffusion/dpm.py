"""Update rules of DPM-Solver (Lu et al. 2022a) and DPM-Solver++ (Lu et al. 2022b) with their SDE kin, in t = -log(sigma); rules as in `solvers`.

A step to level nought ends in the estimated picture itself, which is the limit of every formula here.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from torch import Tensor

from studio.diffusion.solvers import Look, Way, ancestral


def dpmpp_2m(look: Look, x: Tensor, way: Way) -> Iterator[tuple[Tensor, Tensor]]:
    """DPM-Solver++ of second order from the last two pictures."""
    before, last = None, 0.0
    for sigma, following in pairwise(way.levels):
        picture = look(x, sigma)
        if following == 0:
            x = picture
        else:
            h = math.log(sigma / following)
            aim = picture if before is None else picture + (picture - before) * (h / (2 * last))
            x = x * (following / sigma) - aim * math.expm1(-h)
            before, last = picture, h
        yield x, picture


def dpmpp_2s_ancestral(look: Look, x: Tensor, way: Way) -> Iterator[tuple[Tensor, Tensor]]:
    """DPM-Solver++ of second order within one step, with new noise."""
    for sigma, following in pairwise(way.levels):
        picture = look(x, sigma)
        down, up = ancestral(sigma, following, way.eta)
        if down == 0:
            x = picture
        else:
            middle = math.sqrt(sigma * down)
            half = _towards(x, picture, sigma, middle)
            x = _towards(x, look(half, middle), sigma, down)
        x = way.noised(x, up, (sigma, following))
        yield x, picture


def dpmpp_sde(look: Look, x: Tensor, way: Way) -> Iterator[tuple[Tensor, Tensor]]:
    """DPM-Solver++ for the SDE, looking twice in a step."""
    for sigma, following in pairwise(way.levels):
        picture = look(x, sigma)
        if following == 0:
            x = picture
        else:
            middle = math.sqrt(sigma * following)
            down, up = ancestral(sigma, middle, way.eta)
            half = way.noised(_towards(x, picture, sigma, down), up, (sigma, middle))
            down, up = ancestral(sigma, following, way.eta)
            x = way.noised(_towards(x, look(half, middle), sigma, down), up, (sigma, following))
        yield x, picture


def _towards(x: Tensor, picture: Tensor, sigma: float, following: float) -> Tensor:
    """From one level to another as if the picture stayed what it is."""
    return x * (following / sigma) + picture * (1 - following / sigma)


def dpmpp_2m_sde(look: Look, x: Tensor, way: Way) -> Iterator[tuple[Tensor, Tensor]]:
    """DPM-Solver++ for the SDE from the last two pictures; second term by the midpoint."""
    return _multistep_sde(look, x, way, False)


def dpmpp_2m_sde_heun(look: Look, x: Tensor, way: Way) -> Iterator[tuple[Tensor, Tensor]]:
    """DPM-Solver++ for the SDE from the last two pictures; second term in Heun's form."""
    return _multistep_sde(look, x, way, True)


def _multistep_sde(look: Look, x: Tensor, way: Way, heun: bool) -> Iterator[tuple[Tensor, Tensor]]:
    """Both kinds of DPM++ 2M SDE."""
    before, last = None, 0.0
    for sigma, following in pairwise(way.levels):
        picture = look(x, sigma)
        if following == 0:
            x = picture
        else:
            h = math.log(sigma / following)
            reach = h * (1 + way.eta)
            gone = -math.expm1(-reach)
            weight = 1 - gone / reach if heun else gone / 2
            x = x * (1 - gone) + picture * gone
            if before is not None:
                x = x + (picture - before) * (weight * h / last)
            x = way.noised(x, _fresh(h, following, way.eta), (sigma, following))
            before, last = picture, h
        yield x, picture


def dpmpp_3m_sde(look: Look, x: Tensor, way: Way) -> Iterator[tuple[Tensor, Tensor]]:
    """DPM-Solver++ for the SDE from the last three pictures."""
    pictures: list[Tensor] = []
    reaches: list[float] = []
    for sigma, following in pairwise(way.levels):
        picture = look(x, sigma)
        if following == 0:
            x = picture
        else:
            h = math.log(sigma / following)
            reach = h * (1 + way.eta)
            gone = -math.expm1(-reach)
            x = x * (1 - gone) + picture * gone + _bend([picture, *pictures], [h, *reaches], reach)
            x = way.noised(x, _fresh(h, following, way.eta), (sigma, following))
            pictures, reaches = [picture, *pictures[:1]], [h, *reaches[:1]]
        yield x, picture


def _bend(pictures: list[Tensor], h: list[float], reach: float) -> Tensor | float:
    """What the change of the last two or three pictures, newest first, adds to a step."""
    second = math.expm1(-reach) / reach + 1
    if len(pictures) == 1:
        return 0.0
    slope = (pictures[0] - pictures[1]) * (h[0] / h[1])
    if len(pictures) == 2:
        return slope * second
    r, s = h[1] / h[0], h[2] / h[0]
    change = slope - (pictures[1] - pictures[2]) / s
    return (slope + change * (r / (r + s))) * second - change * ((second / reach - 0.5) / (r + s))


def _fresh(h: float, following: float, eta: float) -> float:
    """The amount of noise an SDE step of length h puts in."""
    return following * math.sqrt(-math.expm1(-2 * eta * h)) if eta else 0.0


@dataclass(frozen=True)
class _Stride:
    """One step of DPM-Solver, in epsilon form, from latents x at time t with their noise known."""

    look: Look
    x: Tensor
    t: float
    noise: Tensor

    def first(self, end: float) -> Tensor:
        """First order."""
        return self.x - self.noise * (math.exp(-end) * math.expm1(end - self.t))

    def change(self, x: Tensor, share: float, end: float) -> Tensor:
        """How the noise at x, a share of the way, differs from the noise at the start."""
        sigma = math.exp(-(self.t + share * (end - self.t)))
        return (x - self.look(x, sigma)) / sigma - self.noise

    def second(self, end: float, share: float = 1 / 2) -> tuple[Tensor, Tensor]:
        """Second order, and the change of noise seen on the way."""
        change = self.change(self.first(self.t + share * (end - self.t)), share, end)
        return self.first(end) - change * (math.exp(-end) * math.expm1(end - self.t) / (2 * share)), change

    def third(self, end: float, change: Tensor | None = None) -> Tensor:
        """Third order; `change` is what second order saw a third of the way."""
        h = end - self.t
        if change is None:
            change = self.change(self.first(self.t + h / 3), 1 / 3, end)
        far = self.t + 2 * h / 3
        x = self.first(far) - change * (2 * math.exp(-far) * (math.expm1(2 * h / 3) / (2 * h / 3) - 1))
        return self.first(end) - self.change(x, 2 / 3, end) * (1.5 * math.exp(-end) * (math.expm1(h) / h - 1))


def thirds(steps: int) -> list[int]:
    """The orders of the strides of DPM fast for so many looks: threes, and the rest at the end."""
    whole, rest = divmod(steps, 3)
    return [3] * (whole - 1) + [2, 1] if rest == 0 else [3] * whole + [rest]


def dpm_fast(look: Look, x: Tensor, way: Way) -> Iterator[tuple[Tensor, Tensor]]:
    """DPM-Solver-fast: strides of third order, even in t, between the highest and the lowest level."""
    orders = thirds(len(way.levels) - 1)
    start, end = _span(way)
    for i, order in enumerate(orders):
        t, following = (start + (end - start) * (i + k) / len(orders) for k in (0, 1))
        aim, up = _aim(t, following, end, way.eta)
        sigma = math.exp(-t)
        picture = look(x, sigma)
        stride = _Stride(look, x, t, (x - picture) / sigma)
        x = stride.first(aim) if order == 1 else stride.second(aim)[0] if order == 2 else stride.third(aim)
        x = way.noised(x, up, (sigma, math.exp(-following)))
        yield x, picture


def _span(way: Way) -> tuple[float, float]:
    """The times of the highest and of the lowest level above nought."""
    return -math.log(way.levels[0]), -math.log(min(level for level in way.levels if level > 0))


def _aim(t: float, following: float, end: float, eta: float) -> tuple[float, float]:
    """Where a stride with new noise walks to, and how much noise is added there."""
    if not eta:
        return following, 0.0
    down, _ = ancestral(math.exp(-t), math.exp(-following), eta)
    aim = min(end, -math.log(down)) if down > 0 else end
    return aim, math.sqrt(max(math.exp(-2 * following) - math.exp(-2 * aim), 0))


_ABSOLUTE, _RELATIVE, _SAFETY, _SHORTEST = 0.0078, 0.05, 0.81, 0.005
"""How far second and third order may differ, in latents and as a share of them, how near to that a stride may come, and the stride that is taken whatever they say."""


def dpm_adaptive(look: Look, x: Tensor, way: Way) -> Iterator[tuple[Tensor, Tensor]]:
    """DPM-Solver-12/23 with strides as long as the difference of second and third order allows; the number of levels does not matter. One picture at a time."""
    t, end = _span(way)
    h, before = 0.05, x
    order = 1.5 if way.eta else 3.0
    picture = None
    while t < end - 1e-5:
        following = min(end, t + h)
        aim, up = _aim(t, following, end, way.eta)
        sigma = math.exp(-t)
        picture = look(x, sigma) if picture is None else picture
        stride = _Stride(look, x, t, (x - picture) / sigma)
        low, change = stride.second(aim, 1 / 3)
        high = stride.third(aim, change)
        bound = (low.abs().maximum(before.abs()) * _RELATIVE).clamp(min=_ABSOLUTE)
        error = float(((low - high) / bound).square().mean().sqrt())
        factor = 1 + math.atan((1 / (error + 1e-8)) ** (1 / order) - 1)
        if factor >= _SAFETY or h <= _SHORTEST:
            before, x, t = low, way.noised(high, up, (sigma, math.exp(-following))), following
            yield x, picture
            picture = None
        h = max(h * factor, _SHORTEST)
