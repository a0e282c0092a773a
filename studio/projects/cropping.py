"""Where a picture is cut: windows that never leave it, the place that keeps the subject, tiles, sizes and buckets. Pure arithmetic on facts."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from operator import add, mul, sub

from studio.errors import InputError
from studio.projects.facts import BINS, Box, Crop, Facts, Size

CENTRING = 0.6
"""How much less the rim of a window counts than its middle: what is kept is also brought to the middle."""
CALM = 0.3
"""Pull to the picture's own middle, in shares of all mass: it decides between windows that keep much the same."""
FACE_PULL = 2.0
"""A face counts so many times its weight, because a cut face spoils a picture more than a cut shoulder."""
HEADROOM = (0.15, 0.35, 0.15, 0.15)
"""How far a head reaches beyond the box of its face to the left, top, right and bottom, in shares of the box."""
EYES = 0.4
"""Height of the eyes in the box of a face, as a share of it."""
THIRD = 1 / 3
"""Height of the eyes in a window, as a share of it."""
PLACES = tuple(range(BINS))
SQUARES = tuple(i * i for i in PLACES)


@dataclass(frozen=True)
class Weights:
    """Pull of each kind of focal point, 0 to 1."""

    face: float = 0.9
    entropy: float = 0.15
    edges: float = 0.5


@dataclass(frozen=True)
class AutoSize:
    """Which sizes an auto-sized crop may have: limits of a side and of the area in pixels, what is best, and how far the shape may be off (0 to 1)."""

    smallest: int = 384
    largest: int = 768
    least_area: int = 64 * 64
    most_area: int = 640 * 640
    objective: str = "Maximize area"
    """Or "Minimize error"."""
    threshold: float = 0.1


@dataclass(frozen=True)
class Split:
    """When a picture is too long for one crop, and how much neighbouring tiles share (both 0 to 1)."""

    threshold: float = 0.5
    overlap: float = 0.2


def crop_size(size: Size, target: Size, zoom: float = 1.0) -> Size:
    """The largest window of the target's shape that fits into a picture, or the zoom-th part of its side; at least one pixel each way."""
    width, height = size
    scale = min(width / target[0], height / target[1])
    sides = target[0] * scale, target[1] * scale
    if zoom > 1:
        shrink = min(zoom, max(1.0, min(sides)))
        sides = sides[0] / shrink, sides[1] / shrink
    long = max(1, round(max(sides)))
    short = max(1, round(long * min(target) / max(target)))
    across, down = (long, short) if target[0] >= target[1] else (short, long)
    return min(width, across), min(height, down)


def window(size: Size, target: Size, focus: tuple[float, float]) -> Box:
    """The largest crop of the target's shape around a focus in pixels, pushed inside the picture."""
    return _placed(size, crop_size(size, target), focus)


def box_of(size: Size, target: Size, crop: Crop) -> Box:
    """The pixels that a crop keeps: always inside the picture, never empty, of the target's shape as near as whole pixels allow."""
    zoom = crop.zoom if crop.zoom >= 1 else 1.0  # also what is not a number
    focus = _share(crop.x) * size[0], _share(crop.y) * size[1]
    return _placed(size, crop_size(size, target, zoom), focus)


def center(size: Size) -> tuple[float, float]:
    """The middle of a picture."""
    return size[0] / 2, size[1] / 2


def _share(value: float) -> float:
    """A place inside the picture; the middle for what is not a number."""
    return min(1.0, max(0.0, value)) if value == value else 0.5


def _placed(size: Size, sides: Size, focus: tuple[float, float]) -> Box:
    """A window of these sides around a focus, pushed inside."""
    left = min(max(0, round(focus[0] - sides[0] / 2)), size[0] - sides[0])
    top = min(max(0, round(focus[1] - sides[1] / 2)), size[1] - sides[1])
    return left, top, left + sides[0], top + sides[1]


def suggest(facts: Facts, target: Size, weights: Weights) -> Crop:
    """The largest window of the target's shape that keeps most of what was found, in its middle; the picture's middle when nothing was."""
    if facts.width < 1 or facts.height < 1:
        return Crop()
    sides = crop_size(facts.size, target)
    shares = sides[0] / facts.width, sides[1] / facts.height
    axis = 0 if shares[0] < shares[1] else 1
    if shares[axis] >= 1:
        return Crop()
    profile = _profile(facts, axis, weights)
    heads = _heads(facts, axis, shares[axis], weights.face * FACE_PULL) if weights.face > 0 else []
    if profile is None and not heads:
        return Crop()
    middle = _best(profile, heads, shares[axis])
    return Crop(middle, 0.5) if axis == 0 else Crop(0.5, middle)


def _profile(facts: Facts, axis: int, weights: Weights) -> list[float] | None:
    """Weighted detail and edges over the axis above their lowest bin, each of mass 1 before its weight; None without any."""
    detail, edges = (facts.detail_x, facts.edges_x) if axis == 0 else (facts.detail_y, facts.edges_y)
    by_detail, by_edges = _scale(detail, weights.entropy), _scale(edges, weights.edges)
    if by_detail and by_edges:
        low = min(detail) * by_detail + min(edges) * by_edges
        return [a * by_detail + b * by_edges - low for a, b in zip(detail, edges, strict=True)]
    if by_detail or by_edges:
        bins, scale = (detail, by_detail) if by_detail else (edges, by_edges)
        low = min(bins)
        return [(b - low) * scale for b in bins]
    return None


def _scale(bins: Sequence[int], weight: float) -> float:
    """What brings a profile's mass above its lowest bin to `weight`; 0 when there is none, or no weight."""
    if weight <= 0 or len(bins) != BINS:
        return 0.0
    mass = sum(bins) - BINS * min(bins)
    return weight / mass if mass else 0.0


def _heads(facts: Facts, axis: int, share: float, weight: float) -> list[tuple[float, float, float, float]]:
    """Each head along one axis: where it starts and ends, where a window's middle shows it best, and its part of the weight (by area)."""
    areas = [max(1e-9, (face[2] - face[0]) * (face[3] - face[1])) for face in facts.faces]
    heads = []
    for face, area in zip(facts.faces, areas, strict=True):
        low, high = face[axis], face[axis + 2]
        side = max(1e-6, high - low)
        start, end = max(0.0, low - HEADROOM[axis] * side), min(1.0, high + HEADROOM[axis + 2] * side)
        wanted = (low + high) / 2 if axis == 0 else low + EYES * side + (0.5 - THIRD) * share
        heads.append((start, max(end, start + 1e-6), wanted, weight * area / sum(areas)))
    return heads


def _shown(head: tuple[float, float, float, float], middles: Sequence[float], share: float) -> list[float]:
    """How well a window around each of `middles` shows a head: whole first, then as much as fits, then well placed."""
    start, end, wanted, weight = head
    half, long, pull = share / 2, end - start, weight / 4 / share
    found = []
    for middle in middles:
        low, high = middle - half, middle + half
        kept = ((end if end < high else high) - (start if start > low else low)) / long
        shown = 0.0 if kept <= 0 else weight if kept > 0.999 else weight / 2 * kept
        found.append(shown - pull * abs(wanted - middle))
    return found


def _best(profile: Sequence[float] | None, heads: Sequence[tuple[float, float, float, float]], share: float) -> float:
    """The middle (0 to 1) of the best window; `share` is the window's part of the axis.

    A window's score is the mass inside, each bin weighed by 1 - CENTRING * (2 d)^2 with its distance d from the middle in window sides:
    a quadratic kernel, so three running sums (of mass, mass x place, mass x place squared) give every window's score at once.
    """
    count, stride = _stripes(share)
    middles, squares, off = _places(count, stride)
    if profile is None:
        scores = [-1e-6 * away for away in off]
    else:
        bend, calm = CENTRING * 4 / (count * count), CALM * sum(profile)
        sums = [list(accumulate(line, initial=0.0)) for line in (profile, map(mul, profile, PLACES), map(mul, profile, SQUARES))]
        flat, first, second = (list(map(sub, line[count::stride], line[::stride])) for line in sums)
        scores = [
            mass - bend * (twice - (2 * BINS * middle - 1) * once + square * mass) - calm * away
            for mass, once, twice, middle, square, away in zip(flat, first, second, middles, squares, off, strict=True)
        ]
    for head in heads:
        scores = list(map(add, scores, _shown(head, middles, share)))
    best = max(range(len(scores)), key=scores.__getitem__)
    return min(1 - share / 2, max(share / 2, middles[best] + _between(scores, best) * stride / BINS))


def _stripes(share: float) -> tuple[int, int]:
    """How many bins a window has, and how many it is moved at a time: two for a wide one, which still starts and ends with the picture."""
    count = max(1, round(share * BINS))
    return (count, 1) if count < 8 else (min(BINS - 2, 2 * round(share * BINS / 2)), 2)


@lru_cache(maxsize=BINS)
def _places(count: int, stride: int) -> tuple[tuple[float, ...], tuple[float, ...], tuple[float, ...]]:
    """Of each window of `count` bins: its middle (0 to 1), the square of its middle in bins, and its distance from the picture's middle."""
    middles = tuple((start + count / 2) / BINS for start in range(0, BINS - count + 1, stride))
    return middles, tuple((middle * BINS - 0.5) ** 2 for middle in middles), tuple(abs(middle - 0.5) for middle in middles)


def _between(scores: Sequence[float], best: int) -> float:
    """Where between bins the peak lies, by the parabola through it and its neighbours; -0.5 to 0.5."""
    if not 0 < best < len(scores) - 1:
        return 0.0
    before, at, after = scores[best - 1 : best + 2]
    bend = before - 2 * at + after
    return max(-0.5, min(0.5, 0.5 * (before - after) / bend)) if bend < 0 else 0.0


def auto_size(size: Size, auto: AutoSize) -> Size | None:
    """The best size in multiples of 64 for a picture, as A1111's auto-sized crop chooses it, of equal ones the narrowest; None when none is allowed. Raises InputError."""
    if auto.objective not in ("Maximize area", "Minimize error"):
        raise InputError(f"There is no objective {auto.objective!r}.", 'Choose "Maximize area" or "Minimize error".')
    sides = range(max(64, -(-auto.smallest // 64) * 64), auto.largest + 1, 64)
    allowed = []
    for width in sides:
        for height in sides:
            error = shape_error(size, (width, height))
            if auto.least_area <= width * height <= auto.most_area and error <= auto.threshold:
                allowed.append((width * height, -error, (width, height)))
    order = (0, 1) if auto.objective == "Maximize area" else (1, 0)
    return max(allowed, key=lambda found: (found[order[0]], found[order[1]]))[2] if allowed else None


def shape_error(size: Size, target: Size) -> float:
    """How much of the longer way is lost when a picture is cut to another shape: 0 for the same shape, towards 1."""
    across, down = size[0] * target[1], size[1] * target[0]
    return 1 - min(across, down) / max(across, down)


def split_boxes(size: Size, target: Size, split: Split) -> list[Box]:
    """Tiles of the target's shape along the long way of an oversized picture; empty when one crop keeps more than the threshold.

    N = ceil((L - t o) / (t (1 - o))) tiles of length t cover the length L with an overlap of at least o (A1111), spread evenly.
    """
    sides = crop_size(size, target)
    axis = 0 if sides[0] * size[1] < sides[1] * size[0] else 1
    length, tile = size[axis], sides[axis]
    if tile >= length or 1 - shape_error(size, target) > split.threshold:
        return []
    overlap = min(0.9, max(0.0, split.overlap))
    count = min(length - tile + 1, max(2, math.ceil((length - tile * overlap) / (tile * (1 - overlap)) - 1e-9)))
    starts = [round(i * (length - tile) / (count - 1)) for i in range(count)]
    across = (size[1 - axis] - sides[1 - axis]) // 2
    if axis == 0:
        return [(start, across, start + tile, across + sides[1]) for start in starts]
    return [(across, start, across + sides[0], start + tile) for start in starts]


def buckets(resolution: Size, step: int = 64, smallest: int = 256, largest: int = 1024) -> list[Size]:
    """Sizes in multiples of `step` whose area stays within the resolution's and whose sides within the limits, as kohya's trainer makes them; sorted by shape.

    Raises InputError when none fits.
    """
    if step < 1 or smallest < 1 or largest < smallest:
        raise InputError(f"Buckets from {smallest} to {largest} in steps of {step} cannot be made.", "The smallest side is at most the largest, and the step is at least 1.")
    area = resolution[0] * resolution[1]
    found = set()
    for width in range(-(-smallest // step) * step, largest + 1, step):
        height = min(largest // step * step, area // width // step * step)
        if height >= smallest:
            found |= {(width, height), (height, width)}
    side = math.isqrt(area) // step * step
    if smallest <= side <= largest:
        found.add((side, side))
    if not found:
        raise InputError(f"No bucket between {smallest} and {largest} pixels fits into {resolution[0]}x{resolution[1]}.", "Choose a smaller smallest side or a larger resolution.")
    return sorted(found, key=lambda size: (size[0] / size[1], size))


def nearest_bucket(size: Size, buckets: Sequence[Size]) -> Size:
    """The bucket whose shape is nearest to a picture's; of equal ones the larger."""
    shape = math.log(size[0] / size[1])
    return min(buckets, key=lambda bucket: (round(abs(math.log(bucket[0] / bucket[1]) - shape), 9), -bucket[0] * bucket[1]))
