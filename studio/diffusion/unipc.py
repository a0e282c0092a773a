"""UniPC (Zhao et al. 2023): a predictor and a corrector of one order from the last pictures; a rule as in `solvers`."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from torch import Tensor

from studio.diffusion.solvers import Look, Way

_ORDER = 3


@dataclass(frozen=True)
class _Known:
    """A picture seen, and the time t = -log(sigma) at which it was."""

    picture: Tensor
    t: float


def unipc(look: Look, x: Tensor, way: Way) -> Iterator[tuple[Tensor, Tensor]]:
    """Third order in the variant B1(h), lower at both ends of the walk; the last step is not corrected, so each step looks once."""
    steps = len(way.levels) - 1
    known = [_Known(look(x, way.levels[0]), -math.log(way.levels[0]))]
    for i, (sigma, following) in enumerate(pairwise(way.levels)):
        picture = known[0].picture
        if following == 0:
            yield picture, picture
            return
        order = min(i + 1, _ORDER, steps - i)
        end = -math.log(following)
        base = x * (following / sigma) - picture * math.expm1(known[0].t - end)
        x = base + _moved(known[:order], end, _weights(known[:order], end, order - 1), None)
        if i + 1 < steps:
            seen = look(x, following)
            x = base + _moved(known[:order], end, _weights(known[:order], end, order), seen)
            known = [_Known(seen, end), *known[: _ORDER - 1]]
        yield x, picture


def _weights(known: list[_Known], end: float, count: int) -> list[float]:
    """Weights of the first `count` differences from the newest picture (the last of the step's order is the one yet to be seen): equation 5 of the paper."""
    h = end - known[0].t
    if count == 1 and len(known) <= 2:
        return [0.5]
    shares = np.array([(one.t - known[0].t) / h for one in known[1:]] + [1.0])[:count]
    phi, factorial, right = math.expm1(-h) / -h - 1, 1, []
    for k in range(count):
        right.append(phi * factorial / -h)
        factorial *= k + 2
        phi = phi / -h - 1 / factorial
    return list(np.linalg.solve(np.vander(shares, count, increasing=True).T, right)) if count else []


def _moved(known: list[_Known], end: float, weights: list[float], seen: Tensor | None) -> Tensor | float:
    """What the differences of the known pictures, and of the one seen at the step's end, add to it."""
    h = end - known[0].t
    changes = [(one.picture - known[0].picture) * (h / (one.t - known[0].t)) for one in known[1:]]
    if seen is not None:
        changes.append(seen - known[0].picture)
    return sum((change * (weight * h) for change, weight in zip(changes, weights, strict=True)), 0.0)
