"""Samplers once more, straight from the papers and apart from the studio's, in double precision and mostly in other variables: what the studio's are measured against.

`see(x, sigma)` is the estimated picture in x = picture + sigma * noise; `draw(a, b)` is unit noise for going from level a to level b.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from scipy import integrate
from torch import Tensor

See = Callable[[Tensor, float], Tensor]
Draw = Callable[[float, float], Tensor]


def euler(see: See, x: Tensor, s: Sequence[float], draw: Draw) -> Tensor:
    """dx/dsigma = (x - D) / sigma by Euler (Karras et al. 2022, algorithm 1 without its second half)."""
    for a, b in pairwise(s):
        x = x + (b - a) * (x - see(x, a)) / a
    return x


def heun(see: See, x: Tensor, s: Sequence[float], draw: Draw) -> Tensor:
    """Karras et al. 2022, algorithm 1."""
    for a, b in pairwise(s):
        d = (x - see(x, a)) / a
        end = x + (b - a) * d
        if b != 0:
            end = x + (b - a) * (0.5 * d + 0.5 * (end - see(end, b)) / b)
        x = end
    return x


@dataclass(frozen=True)
class Churn:
    """Karras et al. 2022, algorithm 2, as k-diffusion runs it: noise is drawn at every step, and added inside the window only."""

    rule: Callable[[See, Tensor, Sequence[float], Draw], Tensor]
    """The step without noise, given two levels."""
    amount: float
    low: float = 0.0
    high: float = math.inf
    noise: float = 1.0

    def __call__(self, see: See, x: Tensor, s: Sequence[float], draw: Draw) -> Tensor:
        """All steps."""
        for a, b in pairwise(s):
            fresh, up = draw(a, b), a
            if self.low <= a <= self.high:
                up = a * (1 + min(self.amount / (len(s) - 1), math.sqrt(2) - 1))
                x = x + math.sqrt(up**2 - a**2) * self.noise * fresh
            x = self.rule(see, x, (up, b), draw)
        return x


def restart(see: See, x: Tensor, s: Sequence[float], draw: Draw) -> Tensor:
    """Restart (Xu et al. 2023) with A1111's choice of intervals: Heun's steps; near 0.1 back up to about 2, where noise is drawn; levels in single precision as there."""
    steps = len(s) - 1
    if steps < 20:
        return heun(see, x, s, draw)
    extra, times = (steps // 4, 2) if steps >= 36 else (9, 1)
    main = np.append(_karras_single(steps - extra * times, s[-2], s[0]), np.float32(0))
    low, high = (int(np.abs(main - np.float32(level)).argmin()) for level in (0.1, 2.0))
    loop = _karras_single(extra + 1, float(main[low]), float(main[high])) if high < low else main[:0]
    chains = [main[: low + 1], *[loop] * times, main[low:]]
    x = heun(see, x, chains[0].tolist(), draw)
    for before, chain in pairwise(chain for chain in chains if len(chain)):
        if chain[0] > before[-1]:
            x = x + math.sqrt(float(chain[0]) ** 2 - float(before[-1]) ** 2) * draw(float(before[-1]), float(chain[0]))
        x = heun(see, x, chain.tolist(), draw)
    return x


def _karras_single(n: int, low: float, high: float) -> np.ndarray:
    """Karras et al. 2022, equation 5, in torch's single precision: a comparison of two levels depends on the last digit."""
    ramp = torch.linspace(0, 1, n)
    return ((high ** (1 / 7) + ramp * (low ** (1 / 7) - high ** (1 / 7))) ** 7).numpy()


def _split(a: float, b: float) -> tuple[float, float]:
    """The variance of an ancestral step from a to b (the posterior of the forward process), as what is walked to and what is added."""
    variance = b**2 * (a**2 - b**2) / a**2
    return math.sqrt(b**2 - variance), math.sqrt(variance)


def euler_ancestral(see: See, x: Tensor, s: Sequence[float], draw: Draw) -> Tensor:
    """The posterior q(x_b | x_a, x0) of the forward process (Ho et al. 2020, equation 7, in sigma space)."""
    for a, b in pairwise(s):
        share = b**2 / a**2
        mean = share * x + (1 - share) * see(x, a)
        x = mean if b == 0 else mean + _split(a, b)[1] * draw(a, b)
    return x


def dpm2(see: See, x: Tensor, s: Sequence[float], draw: Draw) -> Tensor:
    """DPM-Solver-2 (Lu et al. 2022a, algorithm 1) with the plain midpoint's weights that k-diffusion gives it."""
    for a, b in pairwise(s):
        eps = (x - see(x, a)) / a
        if b == 0:
            x = x - a * eps
            continue
        m = math.exp((math.log(a) + math.log(b)) / 2)
        u = x + (m - a) * eps
        x = x + (b - a) * (u - see(u, m)) / m
    return x


def dpm2_ancestral(see: See, x: Tensor, s: Sequence[float], draw: Draw) -> Tensor:
    """DPM2 down to the ancestral level, then noise."""
    for a, b in pairwise(s):
        if b == 0:
            x = see(x, a)
            continue
        down, up = _split(a, b)
        x = dpm2(see, x, (a, down), draw) + up * draw(a, b)
    return x


def lms(see: See, x: Tensor, s: Sequence[float], draw: Draw) -> Tensor:
    """Linear multistep of order four, its coefficients by numerical quadrature."""
    past: list[Tensor] = []
    for i in range(len(s) - 1):
        past = [*past, (x - see(x, s[i])) / s[i]][-4:]
        nodes = s[i + 1 - len(past) : i + 1]
        for j, d in enumerate(past):

            def basis(tau: float, j: int = j, nodes: Sequence[float] = nodes) -> float:
                return math.prod((tau - nodes[k]) / (nodes[j] - nodes[k]) for k in range(len(nodes)) if k != j)

            x = x + integrate.quad(basis, s[i], s[i + 1], epsrel=1e-10)[0] * d
    return x


def _vp(s: float) -> tuple[float, float, float]:
    """alpha, sigma and lambda of the variance preserving process at a level."""
    alpha = 1 / math.sqrt(1 + s**2)
    return alpha, s * alpha, -math.log(s) if s else math.inf


def _in_vp(step: Callable[..., Tensor]) -> Callable[[See, Tensor, Sequence[float], Draw], Tensor]:
    """A multistep rule in variance preserving variables: `step(z, pictures, levels, a, b)`, newest first; its last value is scaled back."""

    def walk(see: See, x: Tensor, s: Sequence[float], draw: Draw) -> Tensor:
        z, pictures = x * _vp(s[0])[0], []
        for i, (a, b) in enumerate(pairwise(s)):
            pictures = [see(z / _vp(a)[0], a), *pictures]
            z = pictures[0] if b == 0 else step(z, pictures, [_vp(level)[2] for level in s[i::-1]], (a, b), draw)
        return z / _vp(s[-1])[0]

    return walk


@_in_vp
def dpmpp_2m(z: Tensor, pictures: list[Tensor], t: list[float], ends: tuple[float, float], draw: Draw) -> Tensor:
    """DPM-Solver++(2M), Lu et al. 2022b, algorithm 2."""
    (_, sigma, lam), (alpha2, sigma2, lam2) = map(_vp, ends)
    h = lam2 - lam
    d = pictures[0]
    if len(pictures) > 1:
        r = (t[0] - t[1]) / h
        d = (1 + 1 / (2 * r)) * pictures[0] - 1 / (2 * r) * pictures[1]
    return sigma2 / sigma * z - alpha2 * (math.exp(-h) - 1) * d


def _sde(heun: bool) -> Callable[[See, Tensor, Sequence[float], Draw], Tensor]:
    """SDE-DPM-Solver++(2M), Lu et al. 2022b, equation 19, by the midpoint or in Heun's form."""

    @_in_vp
    def step(z: Tensor, pictures: list[Tensor], t: list[float], ends: tuple[float, float], draw: Draw) -> Tensor:
        (_, sigma, lam), (alpha2, sigma2, lam2) = map(_vp, ends)
        h = lam2 - lam
        z = sigma2 / sigma * math.exp(-h) * z + alpha2 * (1 - math.exp(-2 * h)) * pictures[0]
        if len(pictures) > 1:
            d1 = (pictures[0] - pictures[1]) * h / (t[0] - t[1])
            z = z + alpha2 * (((1 - math.exp(-2 * h)) / (-2 * h) + 1) if heun else 0.5 * (1 - math.exp(-2 * h))) * d1
        return z + sigma2 * math.sqrt(1 - math.exp(-2 * h)) * draw(*ends)

    return step


dpmpp_2m_sde, dpmpp_2m_sde_heun = _sde(False), _sde(True)


@_in_vp
def dpmpp_3m_sde(z: Tensor, pictures: list[Tensor], t: list[float], ends: tuple[float, float], draw: Draw) -> Tensor:
    """The third order of the same, with divided differences over lambda."""
    (_, sigma, lam), (alpha2, sigma2, lam2) = map(_vp, ends)
    h = lam2 - lam
    big = 2 * h
    phi2 = (math.exp(-big) - 1) / big + 1
    z = sigma2 / sigma * math.exp(-h) * z + alpha2 * (1 - math.exp(-big)) * pictures[0]
    if len(pictures) == 2:
        z = z + alpha2 * phi2 * h * (pictures[0] - pictures[1]) / (t[0] - t[1])
    if len(pictures) > 2:
        f01 = (pictures[0] - pictures[1]) / (t[0] - t[1])
        f12 = (pictures[1] - pictures[2]) / (t[1] - t[2])
        f012 = (f01 - f12) / (t[0] - t[2])
        z = z + alpha2 * (phi2 * h * (f01 + (t[0] - t[1]) * f012) - (phi2 / big - 0.5) * h**2 * f012)
    return z + sigma2 * math.sqrt(1 - math.exp(-big)) * draw(*ends)


def dpmpp_2s_ancestral(see: See, x: Tensor, s: Sequence[float], draw: Draw) -> Tensor:
    """DPM-Solver++(2S), Lu et al. 2022b, algorithm 1 with r = 1/2, down to the ancestral level, then noise."""
    for a, b in pairwise(s):
        d = see(x, a)
        if b == 0:
            x = d
            continue
        down, up = _split(a, b)
        h = math.log(a) - math.log(down)
        m = a * math.exp(-h / 2)
        u = m / a * x - math.expm1(-h / 2) * d
        x = down / a * x - math.expm1(-h) * see(u, m) + up * draw(a, b)
    return x


def dpmpp_sde(see: See, x: Tensor, s: Sequence[float], draw: Draw) -> Tensor:
    """DPM-Solver++ for the SDE with r = 1/2: half a step with noise, then the whole step with what is seen there."""
    for a, b in pairwise(s):
        d = see(x, a)
        if b == 0:
            x = d
            continue
        m = math.exp((math.log(a) + math.log(b)) / 2)
        down, up = _split(a, m)
        u = down / a * x - math.expm1(math.log(down / a)) * d + up * draw(a, m)
        down, up = _split(a, b)
        x = down / a * x - math.expm1(math.log(down / a)) * see(u, m) + up * draw(a, b)
    return x


def ddim(see: See, x: Tensor, s: Sequence[float], draw: Draw) -> Tensor:
    """Song et al. 2021, equation 12 without noise, in variance preserving variables, in which its last latents are decoded."""
    z = x / math.sqrt(1 + s[0] ** 2)
    for a, b in pairwise(s):
        kept, after = 1 / (1 + a**2), 1 / (1 + b**2)
        picture = see(z / math.sqrt(kept), a)
        eps = (z - math.sqrt(kept) * picture) / math.sqrt(1 - kept)
        z = math.sqrt(after) * picture + math.sqrt(1 - after) * eps
    return z


def plms(see: See, x: Tensor, s: Sequence[float], draw: Draw) -> Tensor:
    """Pseudo linear multistep (Liu et al. 2022, equations 9 to 13), with DDIM as its transfer; it ends as DDIM does."""
    past: list[Tensor] = []
    for a, b in pairwise(s):
        eps = (x - see(x, a)) / a
        if not past:
            guess = x + (b - a) * eps
            best = (eps + (guess - see(guess, b)) / b) / 2
        elif len(past) == 1:
            best = 1.5 * eps - 0.5 * past[-1]
        elif len(past) == 2:
            best = (23 * eps - 16 * past[-1] + 5 * past[-2]) / 12
        else:
            best = (55 * eps - 59 * past[-1] + 37 * past[-2] - 9 * past[-3]) / 24
        past.append(eps)
        x = x + (b - a) * best
    return x / math.sqrt(1 + s[-1] ** 2)


def unipc(see: See, x: Tensor, s: Sequence[float], draw: Draw) -> Tensor:
    """UniPC of third order, variant B1, as the package diffusers has it, in variance preserving variables to the end."""
    from diffusers import UniPCMultistepScheduler

    walker = UniPCMultistepScheduler(solver_order=3, solver_type="bh1", prediction_type="sample", lower_order_final=True)
    walker.set_timesteps(len(s) - 1)
    walker.sigmas = torch.tensor(s, dtype=torch.float64)
    z = x / math.sqrt(1 + s[0] ** 2)
    for a, t in zip(s[:-1], walker.timesteps, strict=True):
        z = walker.step(see(z * math.sqrt(1 + a**2), a), t, z).prev_sample
    return z


def uniform(n: int, trained: np.ndarray) -> list[float]:
    """Levels at even training steps, by the logarithm between two, and nought."""
    return [*np.exp(np.interp(np.linspace(len(trained) - 1, 0, n), range(len(trained)), np.log(trained))).tolist(), 0.0]


def karras(n: int, trained: np.ndarray) -> list[float]:
    """Karras et al. 2022, equation 5 with rho = 7."""
    low, high = trained[0] ** (1 / 7), trained[-1] ** (1 / 7)
    return [*((high + i / max(n - 1, 1) * (low - high)) ** 7 for i in range(n)), 0.0]


def exponential(n: int, trained: np.ndarray) -> list[float]:
    """Even in the logarithm."""
    return [*np.geomspace(trained[-1], trained[0], n).tolist(), 0.0]
