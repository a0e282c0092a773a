"""The subject of a picture cut out without any model, and set on a colour or into an alpha channel. Deterministic."""

from dataclasses import dataclass

import cv2
import numpy as np
from PIL import Image

from studio.dataset.masks import filled, fitted
from studio.projects.facts import Choices, Facts

WORK = 512 * 512
"""Pixels of the copy on which a subject is looked for."""
COARSE = 224 * 224
"""Pixels of the first, coarse cut."""
SURE = 4.0
"""Rim pixels that differ less from the smooth background, in units of the rim's own spread, are certainly background."""
ROUNDS = 5
"""How often GrabCut learns colours and cuts again."""
LEAST, MOST = 0.002, 0.97
"""Shares of a picture; a cut outside them is told as a problem."""
Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Seed:
    """What is known about where the subject is; places are shares (0 to 1) of the upright picture, strokes are white where painted, of any size."""

    point: tuple[float, float] | None = None
    """Somewhere on or near the subject."""
    box: Box | None = None
    """Left, top, right, bottom of what holds the whole subject."""
    faces: tuple[Box, ...] = ()
    subject: Image.Image | None = None
    """Strokes that are certainly on the subject."""
    background: Image.Image | None = None
    """Strokes that are certainly beside it."""
    words: str = ""
    """What the subject is, for models that look for words."""


@dataclass(frozen=True)
class Cut:
    """A mask (greys, white is the subject, of the picture's size), how well its edge follows the picture's (0 to 1), and what is wrong with it in a sentence."""

    mask: Image.Image
    confidence: float
    problem: str = ""


def seed_of(facts: Facts | None, choices: Choices | None = None) -> Seed:
    """What was measured and decided about a picture as a seed: its faces, and the middle of the crop that a person has set."""
    crop = choices.crop if choices else None
    return Seed(point=(crop.x, crop.y) if crop else None, faces=facts.faces if facts else ())


def checked(mask: Image.Image, confidence: float, seed: Seed | None = None) -> Cut:
    """A mask as a Cut, with the problem that it is nearly empty, nearly everything, or beside the strokes; confidence is 0 then."""
    greys = np.asarray(mask)
    share = float((greys >= 128).mean())
    if share < LEAST:
        return Cut(mask, 0.0, "No subject was found. Paint over a part of it and try again.")
    if share > MOST:
        return Cut(mask, 0.0, "The subject and its background could not be told apart. Paint over a part of each and try again.")
    painted = stroke(seed.subject, mask.size) if seed else None
    if painted is not None and not (greys[painted] >= 128).any():
        return Cut(mask, 0.0, "What was painted as the subject is not in the mask. Paint more of it and try again.")
    return Cut(mask, round(min(1.0, max(0.0, confidence)), 4))


def cut_out(image: Image.Image, seed: Seed | None = None) -> Cut:
    """The subject of an RGB picture by GrabCut (Rother et al. 2004), started from strokes, faces, a box or what differs from the picture's rim.

    It is cut on a copy of at most WORK pixels and brought back along the picture's own edges. Nearly empty and nearly full masks carry a problem.
    """
    seed, image = seed or Seed(), image.convert("RGB")
    pixels = np.asarray(image)
    if min(image.size) < 8 or int(np.ptp(pixels.reshape(-1, 3), axis=0).max()) < 4:
        reason = "too small" if min(image.size) < 8 else "one colour"
        return Cut(Image.new("L", image.size, 0), 0.0, f"The picture is {reason}, so no subject can be cut out.")
    factor = min(1.0, (WORK / (image.width * image.height)) ** 0.5)
    size = max(8, round(image.width * factor)), max(8, round(image.height * factor))
    small = pixels if factor == 1 else cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    hard = _subject(small, seed)
    greys = along_edges(pixels, hard)
    for strokes, value in ((seed.subject, 255), (seed.background, 0)):
        painted = stroke(strokes, image.size)
        if painted is not None:
            greys = np.where(painted, np.uint8(value), greys)
    return checked(Image.fromarray(greys), _trust(small, hard), seed)


def _subject(small: np.ndarray, seed: Seed) -> np.ndarray:
    """Where the subject is in a small RGB picture, as booleans [h, w]: found coarsely, then cut again in a band along that edge."""
    height, width = small.shape[:2]
    factor = min(1.0, (COARSE / (height * width)) ** 0.5)
    size = max(8, round(width * factor)), max(8, round(height * factor))
    coarse = small if factor == 1 else cv2.resize(small, size, interpolation=cv2.INTER_AREA)
    flat, rest = _flattened(coarse)
    found = _to_the_rim(flat, _cut(flat, _start(flat, rest, seed), ROUNDS), seed)
    if factor < 1:
        found = _sharper(_flattened(small)[0], found, seed)
    return _whole(found, seed)


def _to_the_rim(flat: np.ndarray, found: np.ndarray, seed: Seed) -> np.ndarray:
    """A cut whose rim was taken for background, cut again where the subject comes up to the rim."""
    height, width = found.shape
    band = int(_rim(height, width)[height // 2].argmin())
    solid = cv2.morphologyEx(_whole(found, seed).astype(np.uint8), cv2.MORPH_OPEN, np.ones((5, 5), np.uint8)) > 0
    reached = np.pad(solid[band:-band, band:-band], band, mode="edge")
    if not (reached & ~found).any():
        return found
    labels = np.where(found, cv2.GC_FGD, cv2.GC_BGD).astype(np.uint8)
    labels[_rim(height, width) & reached] = cv2.GC_PR_FGD
    return _cut(flat, _certain(labels, seed), 1)


def _sharper(flat: np.ndarray, found: np.ndarray, seed: Seed) -> np.ndarray:
    """A coarse cut at the size of a larger picture: what is far from its edge stays, the band along it is cut again."""
    size = flat.shape[1::-1]
    grown, shrunk = (
        cv2.resize(change(found.astype(np.uint8), np.ones((5, 5), np.uint8), borderType=cv2.BORDER_REPLICATE), size, interpolation=cv2.INTER_NEAREST) > 0 for change in (cv2.dilate, cv2.erode)
    )
    now = cv2.resize(found.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST)
    labels = np.where(shrunk, cv2.GC_FGD, np.where(grown, np.where(now > 0, cv2.GC_PR_FGD, cv2.GC_PR_BGD), cv2.GC_BGD)).astype(np.uint8)
    return _cut(flat, _certain(labels, seed), 1)


def _cut(flat: np.ndarray, labels: np.ndarray, rounds: int) -> np.ndarray:
    """GrabCut of a BGR picture from labels [h, w], the same every time, as booleans."""
    if (labels & 1).min() == (labels & 1).max():
        return labels & 1 == 1
    cv2.setRNGSeed(7)
    cv2.grabCut(flat, labels, None, np.zeros((1, 65)), np.zeros((1, 65)), rounds, cv2.GC_INIT_WITH_MASK)
    return labels & 1 == 1


def _flattened(small: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The picture with a smooth background taken away (BGR, 8 bits), and by how much each pixel differs from that background, in units of the rim's own spread [h, w].

    The background is a surface of the second degree over Lab colours, fitted to the rim; what does not fit (a subject that reaches the rim) is left out three times.
    Where none fits: the picture and zeros.
    """
    lab = cv2.cvtColor(small, cv2.COLOR_RGB2LAB).astype(np.float32)
    height, width = small.shape[:2]
    y, x = np.meshgrid(np.linspace(-1, 1, height, dtype=np.float32), np.linspace(-1, 1, width, dtype=np.float32), indexing="ij")
    basis = np.stack([np.ones_like(x), x, y, x * y, x * x, y * y], -1)
    rim = _rim(height, width)
    a, b = basis[rim], lab[rim]
    kept = np.ones(len(a), bool)
    for _ in range(4):
        surface = np.linalg.lstsq(a[kept], b[kept], rcond=None)[0]
        off = np.linalg.norm(b - a @ surface, axis=1)
        kept = off <= max(3.0, 2.5 * float(np.median(off)))
    spread = max(2.0, 1.4826 * float(np.median(off)))
    ground = basis @ surface
    rest = np.linalg.norm(lab - ground, axis=2)
    if spread > 16:
        return cv2.cvtColor(small, cv2.COLOR_RGB2BGR), np.zeros_like(rest)
    level = np.clip(lab - ground + np.float32([128, 128, 128]), 0, 255).astype(np.uint8)
    return level, rest / spread


def _start(flat: np.ndarray, rest: np.ndarray, seed: Seed) -> np.ndarray:
    """GrabCut's labels to start with [h, w]: what the seed says for certain, else what is rarer on the rim than inside counts as probably the subject."""
    height, width = rest.shape
    near = _nearness(seed, height, width)
    rim = _rim(height, width)
    free = rim & (near < 0.7)
    if seed.faces and 4 * free.sum() >= rim.sum():
        rim = free
    likely = _unlike(flat, rim) * near
    labels = np.where(likely > 0.5, cv2.GC_PR_FGD, cv2.GC_PR_BGD).astype(np.uint8)
    if (labels == cv2.GC_PR_FGD).mean() < 4 * LEAST:
        labels[near > 0.8] = cv2.GC_PR_FGD
    labels[rim & (likely < 0.5) & (rest < SURE)] = cv2.GC_BGD
    if seed.box is not None:
        outside = np.ones((height, width), bool)
        left, top, right, bottom = _pixels(seed.box, width, height)
        outside[top:bottom, left:right] = False
        labels[outside] = cv2.GC_BGD
    return _certain(labels, seed)


def _certain(labels: np.ndarray, seed: Seed) -> np.ndarray:
    """Labels with what is certain: the middle of faces, and what a person has painted."""
    for face in seed.faces:
        left, top, right, bottom = _pixels(_inner(face), labels.shape[1], labels.shape[0])
        labels[top:bottom, left:right] = cv2.GC_FGD
    for strokes, value in ((seed.subject, cv2.GC_FGD), (seed.background, cv2.GC_BGD)):
        painted = stroke(strokes, labels.shape[::-1])
        if painted is not None:
            labels[painted] = value
    return labels


def _unlike(flat: np.ndarray, rim: np.ndarray) -> np.ndarray:
    """How probably each pixel is no background [h, w]: the share of its colour that the rim does not explain, by smoothed histograms.

    A colour counts on the rim as on the second of its four sides that has most of it: a subject reaches one side, a background at least two.
    """
    index = _bins(flat)
    band = max(1, round(0.03 * min(rim.shape)))
    sides = (np.s_[:band], np.s_[-band:], np.s_[:, :band], np.s_[:, -band:])
    inner = _smooth(np.bincount(index[~rim], minlength=4096))
    outer = np.sort([_smooth(np.bincount(index[side][rim[side]], minlength=4096)) for side in sides if rim[side].any()], axis=0)
    ratio = outer[-2 if len(outer) > 1 else -1] / np.maximum(inner, 1e-9)
    return cv2.medianBlur(1 - np.clip(ratio, 0, 1)[index].astype(np.float32), 5)


def _bins(colours: np.ndarray) -> np.ndarray:
    """The number of the histogram's bin of each colour, 0 to 4095 [h, w]."""
    bins = (colours >> 4).astype(np.int32)
    return (bins[..., 0] << 8) | (bins[..., 1] << 4) | bins[..., 2]


def _smooth(counts: np.ndarray) -> np.ndarray:
    """A histogram of 16 x 16 x 16 colours as shares, spread over neighbouring colours."""
    cube = counts.reshape(16, 16, 16).astype(np.float64)
    for axis in range(3):
        padded = np.pad(cube, [(1, 1) if a == axis else (0, 0) for a in range(3)], mode="edge")
        cube = sum(weight * np.take(padded, range(k, k + 16), axis=axis) for k, weight in enumerate((0.15, 0.7, 0.15)))
    return (cube / cube.sum()).ravel()


def _rim(height: int, width: int) -> np.ndarray:
    """The outermost three in a hundred of a picture, as booleans."""
    rim = np.ones((height, width), bool)
    band = max(1, round(0.03 * min(height, width)))
    rim[band:-band, band:-band] = False
    return rim


def _nearness(seed: Seed, height: int, width: int) -> np.ndarray:
    """How near each pixel is to where the subject is thought to be, 0 to 1 [h, w]: around faces and below them, in the box, or around the point or the middle."""
    y, x = np.meshgrid((np.arange(height, dtype=np.float32) + 0.5) / height, (np.arange(width, dtype=np.float32) + 0.5) / width, indexing="ij")
    if seed.faces:
        return np.max([_body(face, x, y) for face in seed.faces], 0)
    if seed.box is not None:
        left, top, right, bottom = seed.box
        middle, half = ((left + right) / 2, (top + bottom) / 2), (max(right - left, 1e-3) / 2, max(bottom - top, 1e-3) / 2)
        reach = np.maximum(abs(x - middle[0]) / half[0], abs(y - middle[1]) / half[1])
        return np.clip(1.6 - reach, 0, 1)
    px, py = seed.point or (0.5, 0.5)
    reach = np.hypot((x - min(max(px, 0), 1)) / 0.5, (y - min(max(py, 0), 1)) / 0.5)
    return np.clip(1.45 - 0.5 * reach, 0, 1)


def _body(face: Box, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Where a person with this face is likely: the head around it and shoulders that widen below."""
    left, top, right, bottom = face
    width, height = max(right - left, 1e-3), max(bottom - top, 1e-3)
    across, down = abs(x - (left + right) / 2) / width, (y - top) / height
    half = np.where(down < 1, 0.9, np.minimum(0.9 + 1.2 * (down - 1), 2.2))
    return np.clip(1.5 - across / half * 0.75, 0, 1) * np.clip(1.5 + 2 * down + 0.4, 0, 1)


def _inner(face: Box) -> Box:
    """What is certainly the person with this face: the middle half of its box, and as much below it as a neck is long."""
    left, top, right, bottom = face
    dx, dy = (right - left) / 4, (bottom - top) / 4
    return left + dx, top + dy, right - dx, bottom + 2 * dy


def _pixels(box: Box, width: int, height: int) -> tuple[int, int, int, int]:
    """A box of shares in pixels, pushed inside a picture and at least one pixel large."""
    left, right = (min(max(0, round(v * width)), width) for v in (box[0], box[2]))
    top, bottom = (min(max(0, round(v * height)), height) for v in (box[1], box[3]))
    left, top = min(left, width - 1), min(top, height - 1)
    return left, top, max(left + 1, right), max(top + 1, bottom)


def stroke(strokes: Image.Image | None, size: tuple[int, int]) -> np.ndarray | None:
    """Strokes at a size as booleans; None when nothing is painted. A stroke too thin to survive the scaling keeps the pixels it falls on."""
    if strokes is None:
        return None
    painted = np.asarray(strokes.convert("L")) >= 128
    if not painted.any():
        return None
    rows, columns = np.nonzero(painted)
    scaled = np.asarray(fitted(Image.fromarray(painted.astype(np.uint8) * 255), size)) >= 128
    scaled = scaled.copy()
    scaled[rows * size[1] // painted.shape[0], columns * size[0] // painted.shape[1]] = True
    return scaled


def _whole(found: np.ndarray, seed: Seed) -> np.ndarray:
    """The parts of a cut that belong together: the one that holds the seed or is largest near it, all that are a tenth as large or hold a stroke; holes filled."""
    height, width = found.shape
    count, parts = cv2.connectedComponents(found.astype(np.uint8), connectivity=8)
    if count <= 1:
        return found
    near = _nearness(seed, height, width)
    weights = np.bincount(parts.ravel(), near.ravel(), minlength=count)
    weights[0] = 0
    keep = weights >= 0.1 * weights.max()
    painted = stroke(seed.subject, (width, height))
    if painted is not None:
        keep[np.unique(parts[painted])] = True
    keep[0] = False
    return filled(keep[parts].astype(np.uint8) * 255) > 0


def along_edges(pixels: np.ndarray, hard: np.ndarray) -> np.ndarray:
    """A cut of a small copy [h, w] as greys of the whole picture [H, W, 3]: along its edges by a guided filter (He et al. 2010, fast form 2015), one or two pixels soft."""
    height, width = pixels.shape[:2]
    small = pixels if hard.shape == (height, width) else cv2.resize(pixels, hard.shape[::-1], interpolation=cv2.INTER_AREA)
    coefficients = _guided(small.astype(np.float32) / 255, hard.astype(np.float32), 3, 1e-4)
    coefficients = cv2.resize(coefficients, (width, height), interpolation=cv2.INTER_LINEAR)
    soft = (coefficients[..., :3] * pixels).sum(-1) / 255 + coefficients[..., 3]
    core = cv2.erode(hard.astype(np.uint8), np.ones((5, 5), np.uint8), borderType=cv2.BORDER_REPLICATE)
    reach = cv2.dilate(hard.astype(np.uint8), np.ones((5, 5), np.uint8), borderType=cv2.BORDER_REPLICATE)
    low, high = (cv2.resize(part, (width, height), interpolation=cv2.INTER_NEAREST) for part in (core, reach))
    soft = np.clip((soft - 0.5) * 1.6 + 0.5, low, high)
    return np.rint(np.clip(soft, 0, 1) * 255).astype(np.uint8)


def _guided(guide: np.ndarray, target: np.ndarray, radius: int, epsilon: float) -> np.ndarray:
    """Coefficients [h, w, 4] of the local linear model target = a . colour + b of the guided filter with a colour guide [h, w, 3]."""
    window = (2 * radius + 1, 2 * radius + 1)

    def mean(values: np.ndarray) -> np.ndarray:
        return cv2.blur(values, window, borderType=cv2.BORDER_REFLECT)

    middle, level = mean(guide), mean(target)
    covariance = mean(guide * target[..., None]) - middle * level[..., None]
    spread = np.empty((*target.shape, 3, 3), np.float32)
    for i in range(3):
        for j in range(3):
            spread[..., i, j] = mean(guide[..., i] * guide[..., j]) - middle[..., i] * middle[..., j] + (epsilon if i == j else 0)
    a = np.linalg.solve(spread, covariance[..., None])[..., 0]
    b = level - (a * middle).sum(-1)
    return np.concatenate([mean(a), mean(b)[..., None]], -1).astype(np.float32)


def _trust(small: np.ndarray, hard: np.ndarray) -> float:
    """How far a cut can be trusted, 0 to 1: the mean of how sharply colours change across its edge and of how little the colours inside and outside have in common."""
    inside = hard.astype(np.uint8)
    cross = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
    edge = (inside - cv2.erode(inside, cross, borderType=cv2.BORDER_REPLICATE)) > 0
    if not edge.any():
        return 0.0
    lab = cv2.cvtColor(small, cv2.COLOR_RGB2LAB)
    soft = cv2.GaussianBlur(lab, (3, 3), 0).astype(np.float32)
    step = np.hypot(*(cv2.Sobel(soft, cv2.CV_32F, dx, dy, ksize=3).max(-1) for dx, dy in ((1, 0), (0, 1)))) / 4
    sharp = float(np.clip(step[edge] / 12, 0, 1).mean())
    within, beyond = (_smooth(np.bincount(_bins(lab)[part], minlength=4096)) for part in (hard, ~hard))
    return (sharp + 1 - float(np.sqrt(within * beyond).sum())) / 2


def on_background(image: Image.Image, mask: Image.Image, colour: tuple[int, int, int] = (255, 255, 255)) -> Image.Image:
    """The subject alone on a colour, RGB: where the mask is white the picture's own pixels, where it is black the colour, and no rim of the old background between."""
    alpha = _alpha(image, mask)[..., None]
    ground = np.float32(colour)
    mixed = _own_colours(image, alpha) * alpha + ground * (1 - alpha)
    return Image.fromarray(np.rint(np.clip(mixed, 0, 255)).astype(np.uint8))


def as_rgba(image: Image.Image, mask: Image.Image) -> Image.Image:
    """The subject with the mask as its alpha; what is hidden keeps the picture's colours, half hidden pixels lose those of the old background."""
    alpha = _alpha(image, mask)
    colours = np.rint(_own_colours(image, alpha[..., None])).astype(np.uint8)
    return Image.fromarray(np.dstack([colours, np.rint(alpha * 255).astype(np.uint8)]))


def _alpha(image: Image.Image, mask: Image.Image) -> np.ndarray:
    """A mask at the picture's size, 0 to 1 [h, w]."""
    return np.asarray(fitted(mask.convert("L"), image.size)).astype(np.float32) / 255


def _own_colours(image: Image.Image, alpha: np.ndarray) -> np.ndarray:
    """The subject's own colours [h, w, 3] where the mask is neither black nor white (blur fusion: Forte 2021, "Approximate Fast Foreground Colour Estimation"), elsewhere the picture's."""
    pixels = np.asarray(image.convert("RGB")).astype(np.float32)
    between = (alpha > 0) & (alpha < 1)
    if not between.any():
        return pixels
    ours, theirs = pixels, pixels
    for side in (91, 7):
        shares = [np.maximum(cv2.blur(part, (side, side)), 1e-5)[..., None] for part in (alpha, 1 - alpha)]
        ours, theirs = (cv2.blur(colours * part, (side, side)) / share for colours, part, share in zip((ours, theirs), (alpha, 1 - alpha), shares, strict=True))
        ours = np.clip(ours + alpha * (pixels - alpha * ours - (1 - alpha) * theirs), 0, 255)
    return np.where(between, ours, pixels)
