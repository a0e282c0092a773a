"""Brownian motion that depends on its seed alone, not on where and in which order it is asked: a tree of halvings (Li et al. 2020, virtual Brownian tree)."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from torch import Tensor

Draw = Callable[[int], Tensor]
"""Normal noise of a picture's shape for a 32-bit seed."""
_DIGITS = 6
_POOL = 24


@dataclass(frozen=True)
class _Node:
    """One interval of the tree: its ends, its place (number within its depth), and the motion up to its start and within it."""

    start: float
    end: float
    number: int
    depth: int
    before: Tensor
    within: Tensor

    @property
    def middle(self) -> float:
        """Where it is halved."""
        return round(0.5 * (self.end + self.start), _DIGITS)


class BrownianTree:
    """The motion of one picture between two times.

    Seeds, halving, and rounding of times are those of torchsde's `BrownianTree`, so both give the same motion for the same seed and noise.
    """

    def __init__(self, span: tuple[float, float], seed: int, draw: Draw) -> None:
        """A motion over the times of `span`, low first."""
        self._seed, self._draw = seed, draw
        low, high = span
        whole = draw(self._word(())) * math.sqrt(high - low)
        self._path = [_Node(round(low, _DIGITS), round(high, _DIGITS), 0, 0, whole * 0, whole)]

    def between(self, start: float, end: float) -> Tensor:
        """The increment from one time to another; negative in effect when the second is earlier. Times beyond the span count as its ends."""
        return self._at(end) - self._at(start)

    def _at(self, time: float) -> Tensor:
        """The motion up to a time. The path to the last time is kept: neighbouring times share its upper part."""
        top = self._path[0]
        time = min(max(round(time, _DIGITS), top.start), top.end)
        while not self._path[-1].start <= time <= self._path[-1].end:
            self._path.pop()
        while True:
            node = self._path[-1]
            if time == node.start:
                return node.before
            if time == node.end:
                return node.before + node.within
            self._path.append(self._half(node, time >= node.middle))

    def _half(self, node: _Node, right: bool) -> _Node:
        """One half of an interval, given what happens within the whole (a Brownian bridge)."""
        left_span, right_span, span = node.middle - node.start, node.end - node.middle, node.end - node.start
        noise = self._draw(self._word((node.number, node.depth)))
        first = node.within * (left_span / span) + noise * math.sqrt(left_span * right_span / span)
        if right:
            return _Node(node.middle, node.end, 2 * node.number + 1, node.depth + 1, node.before + first, node.within - first)
        return _Node(node.start, node.middle, 2 * node.number, node.depth + 1, node.before, first)

    def _word(self, place: tuple[int, ...]) -> int:
        """The seed of the noise at a place of the tree."""
        sequence = np.random.SeedSequence(self._seed, spawn_key=place, pool_size=_POOL)
        return int(sequence.generate_state(1)[0])
