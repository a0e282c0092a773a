"""Where a picture has something to see: what differs from the rim's background, weighed by local entropy or by edges. Classical, pure on arrays."""

import cv2
import numpy as np

SIDE = 256
"""Longer side in pixels of the copy that is looked at."""
GRID = 48
"""Longer side in cells of the grid over which distances from the rim are measured."""
LEVELS = 16
"""Grey levels of the histograms whose entropy is taken."""
WATERMARK = 0.1
"""Part of the height at the bottom where edges count less, because that is where marks are written (A1111)."""
DAMPED = 0.25
RIM = 0.08
"""Width of the strips that stand for the background, in shares of the shorter side."""
LEAST = 4.0
"""A smaller difference from the background (in units of Lab, or of its own spread) is none to speak of."""
FLOOR = 0.3
"""What a cell of the subject counts even without detail of its own."""


def maps(colour: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of an 8-bit RGB picture [h, w, 3]: detail and edges, two maps of one small grid, 0 to 1; all 0 for a flat picture."""
    factor = min(1.0, SIDE / max(colour.shape[:2]))
    height, width = (max(1, round(side * factor)) for side in colour.shape[:2])
    small = cv2.resize(colour, (width, height), interpolation=cv2.INTER_AREA)
    scale = min(1.0, GRID / max(width, height))
    grid = max(1, round(width * scale)), max(1, round(height * scale))
    grey = cv2.cvtColor(small, cv2.COLOR_RGB2GRAY)
    entropy, slope = entropies(grey, grid), slopes(grey, grid)
    subject = saliency(small, entropy, grid)
    detail = subject * (FLOOR + (1 - FLOOR) * entropy)
    edges = subject * (FLOOR + (1 - FLOOR) * slope)
    edges[edges.shape[0] - round(edges.shape[0] * WATERMARK) :] *= DAMPED
    return detail, edges


def entropies(grey: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
    """Shannon entropy of the grey levels in windows of 3 x 3 cells, as a share of the most that LEVELS can have."""
    levels = grey >> 4
    shares = np.stack([cv2.blur(cv2.resize((levels == level).astype(np.float32), grid, interpolation=cv2.INTER_AREA), (3, 3)) for level in range(LEVELS)])
    return -(shares * np.log2(np.maximum(shares, 1e-9))).sum(0) / np.log2(LEVELS)


def slopes(grey: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
    """Mean strength of edges (Sobel) in each cell, as a share of the strongest."""
    smooth = cv2.GaussianBlur(grey, (3, 3), 0)
    strength = cv2.magnitude(cv2.Sobel(smooth, cv2.CV_32F, 1, 0), cv2.Sobel(smooth, cv2.CV_32F, 0, 1))
    return _scaled(cv2.resize(strength, grid, interpolation=cv2.INTER_AREA), LEAST)


def saliency(small: np.ndarray, entropy: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
    """How unlike the background each cell is, 0 to 1: the mean of its distance from the rim over the picture and its contrast to the rim."""
    lab = cv2.resize(cv2.cvtColor(small.astype(np.float32) / 255, cv2.COLOR_RGB2Lab), grid, interpolation=cv2.INTER_AREA)
    features = np.dstack([lab, 40 * entropy]).astype(np.float32)
    return (_scaled(rim_contrast(features), LEAST) + _scaled(rim_distance(features), LEAST)) / 2


def rim_contrast(features: np.ndarray) -> np.ndarray:
    """Mahalanobis distance of each cell [h, w, n] from the colours of each side's strip, summed without the largest: one side may hold the subject.

    The rule is of Zhang et al. 2015, "Minimum Barrier Salient Object Detection at 80 FPS".
    """
    height, width, count = features.shape
    deep = max(1, round(min(height, width) * RIM))
    strips = features[:deep], features[-deep:], features[:, :deep], features[:, -deep:]
    found = []
    for strip in strips:
        cells = strip.reshape(-1, count)
        spread = np.cov(cells, rowvar=False) if len(cells) > 1 else np.zeros((count, count))
        inverse = np.linalg.inv(spread + np.eye(count) * 4.0)
        apart = features - cells.mean(0)
        found.append(np.sqrt(np.maximum(0, np.einsum("hwi,ij,hwj->hw", apart, inverse, apart))))
    return np.sum(found, 0) - np.max(found, 0)


def rim_distance(features: np.ndarray) -> np.ndarray:
    """Shortest way from the rim to each cell [h, w, n], a step costing the change of features above what is usual (Wei et al. 2012, "Geodesic Saliency Using Background Priors")."""
    across, down = np.linalg.norm(np.diff(features, axis=1), axis=2), np.linalg.norm(np.diff(features, axis=0), axis=2)
    usual = float(np.median(np.concatenate([across.ravel(), down.ravel(), [0.0]])))
    across, down = np.maximum(across - usual, 0), np.maximum(down - usual, 0)
    ways = np.full(features.shape[:2], np.inf)
    ways[[0, -1]] = ways[:, [0, -1]] = 0
    for _ in range(GRID):  # a sweep each way follows all straight ways, so a few rounds follow every winding one
        before = ways.copy()
        _sweep(ways, down)
        _sweep(ways.T, across.T)
        if np.array_equal(before, ways):
            break
    return ways


def _sweep(ways: np.ndarray, costs: np.ndarray) -> None:
    """Shorten ways in place by steps down the rows [h, w] and up again; `costs` [h - 1, w] are those of a step between two rows."""
    for row in range(len(costs)):
        np.minimum(ways[row + 1], ways[row] + costs[row], out=ways[row + 1])
    for row in range(len(costs) - 1, -1, -1):
        np.minimum(ways[row], ways[row + 1] + costs[row], out=ways[row])


def _scaled(found: np.ndarray, least: float = 1e-6) -> np.ndarray:
    """From its lowest value up, as a share of its range; a range below `least` is not blown up."""
    low = float(found.min())
    return (found - low) / max(float(found.max()) - low, least)
