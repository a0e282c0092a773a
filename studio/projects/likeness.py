"""Which pictures are the same or look alike, from hashes and feature vectors alone; quick enough for thousands."""

import base64
import struct
from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import combinations
from math import sqrt
from operator import mul

from studio.projects.facts import Facts

BITS = 64
NEAR = 6
"""Bits of 64 in which perceptual hashes of one picture, saved or cut a little differently, may differ."""
SURE = 4
"""Up to so many bits the hash alone decides; over it the profiles must agree too, for a hash does not see what is drawn on a plain ground."""
AGREEING = 12
"""Mean difference (of 255) of the profiles of one picture, saved or cut a little differently."""
MIRROR = 0x5555_5555_5555_5555
"""A mirrored picture has the opposite sign in the odd horizontal frequencies, which are every second bit of the hash."""
_SIDE = 1 << 62
"""The lowest horizontal frequency, by whose sign a picture and its mirror image are told apart."""
COSINE = 0.96
"""CLIP vectors that are at least so parallel show the same picture."""
_BANDS = 7
"""Two hashes that differ in at most 6 bits agree in at least one of 7 stripes of bits."""
_EXACT = 250
"""Up to so many vectors every pair is compared; of more, those that agree in most signs."""
_SIGNS = 0.3
"""Share of signs in which vectors worth comparing may differ."""


class Groups:
    """Things joined into groups, step by step (union-find with path halving)."""

    def __init__(self, count: int) -> None:
        self.above = list(range(count))

    def top(self, i: int) -> int:
        """The thing that stands for the group of `i`."""
        while self.above[i] != i:
            self.above[i] = self.above[self.above[i]]
            i = self.above[i]
        return i

    def join(self, i: int, j: int) -> None:
        """Make one group of two."""
        self.above[max(self.top(i), self.top(j))] = min(self.top(i), self.top(j))

    def groups(self) -> list[list[int]]:
        """Groups of at least two, in order of their first members."""
        found: dict[int, list[int]] = defaultdict(list)
        for i in range(len(self.above)):
            found[self.top(i)].append(i)
        return [group for group in found.values() if len(group) > 1]


def same(marks: Iterable[tuple[str, Hashable]]) -> list[list[str]]:
    """Names in groups of those with the same mark; empty marks say nothing."""
    found: dict[Hashable, list[str]] = defaultdict(list)
    for name, mark in marks:
        if mark:
            found[mark].append(name)
    return [names for names in found.values() if len(names) > 1]


@lru_cache(maxsize=2)
def alike(pictures: tuple[tuple[str, Facts], ...]) -> tuple[tuple[str, ...], ...]:
    """Names in groups of pictures that look the same: by digest, by perceptual hash (mirror images too), and by CLIP where it was measured; remembered until a picture changes."""
    groups = Groups(len(pictures))
    first: dict[str, int] = {}
    for i, (_, facts) in enumerate(pictures):
        if facts.digest:
            groups.join(first.setdefault(facts.digest, i), i)
    hashes = [(i, int(facts.perceptual, 16)) for i, (_, facts) in enumerate(pictures) if facts.perceptual]
    for i, j, distance in near(hashes):
        if groups.top(i) != groups.top(j) and (distance <= SURE or _agree(pictures[i][1], pictures[j][1], mirrored=False)):
            groups.join(i, j)
    sides = {i: bool(value & _SIDE) for i, value in hashes}
    for i, j, distance in near([(i, value ^ MIRROR if sides[i] else value) for i, value in hashes]):
        if sides[i] != sides[j] and groups.top(i) != groups.top(j) and (distance <= SURE or _agree(pictures[i][1], pictures[j][1], mirrored=True)):
            groups.join(i, j)
    join_parallel(groups, [(i, unpacked(facts.clip)) for i, (_, facts) in enumerate(pictures) if facts.clip and groups.top(i) == i])
    return tuple(tuple(pictures[i][0] for i in group) for group in groups.groups())


def _agree(one: Facts, other: Facts, mirrored: bool) -> bool:
    """Whether detail and edges lie in the same places; true when they were not measured."""
    lines = ((one.detail_x, other.detail_x), (one.edges_x, other.edges_x), (one.detail_y, other.detail_y), (one.edges_y, other.edges_y))
    found = [(a, b[::-1] if mirrored and place < 2 else b) for place, (a, b) in enumerate(lines) if a and b]
    return sum(abs(x - y) for a, b in found for x, y in zip(a, b, strict=False)) <= AGREEING * sum(len(a) for a, _ in found)


def near(hashes: Sequence[tuple[int, int]], distance: int = NEAR) -> Iterator[tuple[int, int, int]]:
    """Pairs of places whose 64-bit hashes differ in at most `distance` (up to 6) bits, and in how many; of equal hashes only pairs with the first."""
    places: dict[int, int] = {}
    for place, value in hashes:
        if places.setdefault(value, place) != place:
            yield places[value], place, 0
    for a, b in _close(list(places), distance):
        yield places[a], places[b], (a ^ b).bit_count()


def _close(values: Sequence[int], distance: int) -> Iterator[tuple[int, int]]:
    """Pairs of different values within a Hamming distance: only those are compared that agree in a stripe of bits, unless that would be more work than all."""
    stripes: dict[tuple[int, int], list[int]] = defaultdict(list)
    width = -(-BITS // _BANDS)
    for value in values:
        for band in range(_BANDS):
            stripes[band, value >> band * width & (1 << width) - 1].append(value)
    candidates = [some for some in stripes.values() if len(some) > 1]
    if sum(len(some) ** 2 for some in candidates) > len(values) ** 2:
        candidates = [list(values)]
    for some in candidates:
        for i, a in enumerate(some):
            yield from ((a, b) for b in some[i + 1 :] if (a ^ b).bit_count() <= distance)


def unpacked(clip: str) -> tuple[float, ...]:
    """A feature vector of length 1 from base64 of fp16; empty when it is none."""
    data = base64.b64decode(clip)
    vector = struct.unpack(f"<{len(data) // 2}e", data)
    length = sqrt(sum(map(mul, vector, vector)))
    return tuple(x / length for x in vector) if length else ()


def join_parallel(groups: Groups, vectors: Sequence[tuple[int, Sequence[float]]], cosine: float = COSINE) -> None:
    """Join places whose vectors (of length 1) have at least this cosine; of many, only those are compared that lie on the same side of the mean in most coordinates."""
    width = max((len(vector) for _, vector in vectors), default=0)
    whole = [(place, vector) for place, vector in vectors if width and len(vector) == width]
    for i, j in combinations(range(len(whole)), 2) if len(whole) <= _EXACT else _same_side([vector for _, vector in whole], width):
        (a, one), (b, other) = whole[i], whole[j]
        if groups.top(a) != groups.top(b) and sum(map(mul, one, other)) >= cosine:
            groups.join(a, b)


def _same_side(vectors: Sequence[Sequence[float]], width: int) -> Iterator[tuple[int, int]]:
    """Pairs of places whose signs about the mean differ in few coordinates (random hyperplanes of Charikar 2002, here the axes)."""
    mean = [sum(column) / len(vectors) for column in zip(*vectors, strict=True)]
    signs = [int("".join("1" if x > m else "0" for x, m in zip(vector, mean, strict=True)), 2) for vector in vectors]
    limit = int(width * _SIGNS)
    for i, one in enumerate(signs):
        yield from ((i, j) for j, other in enumerate(signs[:i]) if (one ^ other).bit_count() <= limit)
