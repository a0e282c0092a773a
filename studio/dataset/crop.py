"""Where to cut a picture: faces first, then edges and detail, and a window that never leaves the picture. Pure on pictures."""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageEnhance

from studio.errors import InputError

WORK = 512
"""Focal points are looked for on a copy whose longer side is at most this."""
Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class Weights:
    """Pull of each kind of focal point, 0 to 1."""

    face: float = 0.9
    entropy: float = 0.15
    edges: float = 0.5


def crop_size(size: tuple[int, int], target: tuple[int, int]) -> tuple[int, int]:
    """The largest window of the target's shape that fits into a picture; at least one pixel each way."""
    width, height = size
    scale = min(width / target[0], height / target[1])
    return max(1, min(width, round(target[0] * scale))), max(1, min(height, round(target[1] * scale)))


def window(size: tuple[int, int], target: tuple[int, int], focus: tuple[float, float]) -> Box:
    """The crop (left, top, right, bottom) of the target's shape around a focus in pixels, pushed inside the picture."""
    width, height = crop_size(size, target)
    left = min(max(0, round(focus[0] - width / 2)), size[0] - width)
    top = min(max(0, round(focus[1] - height / 2)), size[1] - height)
    return left, top, left + width, top + height


def center(size: tuple[int, int]) -> tuple[float, float]:
    """The middle of a picture."""
    return size[0] / 2, size[1] / 2


def focal_point(image: Image.Image, weights: Weights) -> tuple[float, float]:
    """The weighted mean of faces, edges and detail in pixels; the middle when nothing is found or all weights are 0."""
    factor = min(1.0, WORK / max(image.size))
    small = image.resize((max(1, round(image.width * factor)), max(1, round(image.height * factor))), Image.Resampling.BILINEAR) if factor < 1 else image
    grey = np.asarray(small.convert("L"))
    found = [(weights.face, face_point(grey)), (weights.edges, edge_point(grey)), (weights.entropy, entropy_point(grey))]
    points = [(weight, point) for weight, point in found if weight > 0 and point is not None]
    if not points:
        return center(image.size)
    total = sum(weight for weight, _ in points)
    x, y = (sum(weight * point[axis] for weight, point in points) / total for axis in (0, 1))
    return x / factor, y / factor


@lru_cache(maxsize=1)
def _detector() -> cv2.CascadeClassifier:
    """OpenCV's frontal face cascade (Viola & Jones 2001), which its package carries."""
    cascade = cv2.CascadeClassifier(str(Path(cv2.data.haarcascades) / "haarcascade_frontalface_default.xml"))
    if cascade.empty():
        raise InputError("OpenCV's face detector is missing.", "Run launch.py again to install it.")
    return cascade


def faces(grey: np.ndarray) -> list[Box]:
    """Faces in an 8-bit grey picture [h, w] as boxes, largest first."""
    if min(grey.shape) < 24:
        return []
    found = _detector().detectMultiScale(cv2.equalizeHist(grey), scaleFactor=1.1, minNeighbors=7, minSize=(max(24, min(grey.shape) // 12),) * 2)
    boxes = [(int(x), int(y), int(x + w), int(y + h)) for x, y, w, h in found]
    return sorted(boxes, key=lambda b: (b[0] - b[2]) * (b[3] - b[1]))


def face_point(grey: np.ndarray) -> tuple[float, float] | None:
    """The mean of the faces, each at a third of its height, weighted by area."""
    boxes = faces(grey)
    if not boxes:
        return None
    areas = np.array([(b[2] - b[0]) * (b[3] - b[1]) for b in boxes], dtype=float)
    spots = np.array([((b[0] + b[2]) / 2, b[1] + (b[3] - b[1]) / 3) for b in boxes])
    x, y = (spots * areas[:, None]).sum(0) / areas.sum()
    return float(x), float(y)


def edge_point(grey: np.ndarray) -> tuple[float, float] | None:
    """The mean of the strongest corners (Shi & Tomasi 1994)."""
    corners = cv2.goodFeaturesToTrack(grey, maxCorners=100, qualityLevel=0.04, minDistance=max(1.0, min(grey.shape) * 0.06))
    if corners is None or not len(corners):
        return None
    x, y = corners.reshape(-1, 2).mean(0)
    return float(x), float(y)


def entropy_point(grey: np.ndarray) -> tuple[float, float] | None:
    """The centre of local detail: the mean place, weighted by each tile's entropy in bits above the flattest tile's."""
    side = max(4, min(grey.shape) // 12)
    rows, columns = grey.shape[0] // side, grey.shape[1] // side
    if not rows or not columns:
        return None
    tiles = grey[: rows * side, : columns * side].reshape(rows, side, columns, side).swapaxes(1, 2).reshape(rows * columns, -1)
    weight = np.array([_entropy(tile) for tile in tiles])
    weight = (weight - weight.min()) ** 2
    if weight.sum() <= 1e-9:
        return None
    ys, xs = np.mgrid[0:rows, 0:columns].reshape(2, -1)
    return float((weight * (xs + 0.5)).sum() / weight.sum() * side), float((weight * (ys + 0.5)).sum() / weight.sum() * side)


def _entropy(tile: np.ndarray) -> float:
    """Shannon entropy of a tile's 32-level histogram, in bits."""
    p = np.bincount(tile >> 3, minlength=32) / tile.size
    p = p[p > 0]
    return float(-(p * np.log2(p)).sum())


def cut(image: Image.Image, box: Box, target: tuple[int, int]) -> Image.Image:
    """The crop, brought to the target size."""
    return image.crop(box).resize(target, Image.Resampling.LANCZOS)


def drawn(image: Image.Image, box: Box, side: int = 320) -> Image.Image:
    """The picture made small, dimmed outside the crop and framed along it."""
    factor = min(1.0, side / max(image.size))
    small = image.convert("RGB").resize((max(1, round(image.width * factor)), max(1, round(image.height * factor))), Image.Resampling.LANCZOS)
    left, top = (min(round(v * factor), most - 1) for v, most in zip(box[:2], small.size, strict=True))
    frame = left, top, max(left + 1, round(box[2] * factor)), max(top + 1, round(box[3] * factor))
    shown = ImageEnhance.Brightness(small).enhance(0.4)
    shown.paste(small.crop(frame), frame[:2])
    ImageDraw.Draw(shown).rectangle((frame[0], frame[1], frame[2] - 1, frame[3] - 1), outline=(13, 148, 136), width=2)
    return shown
