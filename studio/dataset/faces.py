"""Faces in a picture: the first of several detectors that finds one. Nothing is fetched; the first two need what a person may add."""

import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from studio.projects.facts import Box

YUNET_NAMES = ("face_detection_yunet_2023mar.onnx", "face_detection_yunet_2022mar.onnx")
"""File names of A1111 in models/opencv, the better first."""
SIDE = 384
"""Longer side in pixels of the copy that is searched."""
SMALLEST = 24
"""Side in pixels below which the cascades know no face."""
SHARE = 12
"""A face smaller than this part of the shorter side is not what a picture is about."""
STEP = 1.15
"""From one size of face that a cascade looks for to the next: as many are found as with 1.1, in two thirds of the time."""
SAME = 0.4
"""Boxes that share so much of their union are one face."""
Find = Callable[[np.ndarray], list[Box]]


@dataclass(frozen=True)
class Detector:
    """One way to find faces in an 8-bit RGB picture [h, w, 3]."""

    name: str
    find: Find


def detectors(yunet: Path | None = None) -> tuple[Detector, ...]:
    """What can be used here, the most reliable first; `yunet` is the file of OpenCV's network when a person has it."""
    found = []
    if yunet is not None and yunet.is_file() and hasattr(cv2, "FaceDetectorYN"):
        found.append(Detector("YuNet", lambda colour: by_yunet(colour, yunet)))
    if importlib.util.find_spec("facenet_pytorch"):
        found.append(Detector("MTCNN", by_mtcnn))
    found += [Detector(name, lambda colour, name=name: by_cascade(colour, name)) for name in CASCADES]
    return tuple(found)


def yunet_file(folder: Path) -> Path | None:
    """YuNet's file in models/opencv, or None."""
    return next((folder / name for name in YUNET_NAMES if (folder / name).is_file()), None)


def find_faces(picture: np.ndarray, chosen: Sequence[Detector] | None = None) -> list[Box]:
    """Faces of an 8-bit picture (grey [h, w] or RGB [h, w, 3]) as boxes, the largest first: those of the first detector that finds any."""
    if min(picture.shape[:2]) < SMALLEST:
        return []
    height, width = picture.shape[:2]
    factor = min(1.0, SIDE / max(height, width))
    colour = picture if picture.ndim == 3 else cv2.cvtColor(picture, cv2.COLOR_GRAY2RGB)
    if factor < 1:
        colour = cv2.resize(colour, (max(1, round(width * factor)), max(1, round(height * factor))), interpolation=cv2.INTER_AREA)
    for detector in detectors() if chosen is None else chosen:
        found = [tuple(round(v / factor) for v in box) for box in detector.find(colour)]
        if boxes := merged(found, width, height):
            return boxes
    return []


def merged(boxes: Sequence[Box], width: int, height: int) -> list[Box]:
    """Boxes inside the picture, without those that mostly repeat a larger one or lie in it; the largest first."""
    inside = [(max(0, left), max(0, top), min(width, right), min(height, bottom)) for left, top, right, bottom in boxes]
    kept: list[Box] = []
    for box in sorted((b for b in inside if b[0] < b[2] and b[1] < b[3]), key=lambda b: (-_area(b), b)):
        if all(_shared(box, other) < SAME * (_area(box) + _area(other) - _shared(box, other)) and _shared(box, other) < 0.8 * _area(box) for other in kept):
            kept.append(box)
    return kept


def _area(box: Box) -> int:
    """Pixels in a box."""
    return (box[2] - box[0]) * (box[3] - box[1])


def _shared(one: Box, other: Box) -> int:
    """Pixels in both boxes."""
    return max(0, min(one[2], other[2]) - max(one[0], other[0])) * max(0, min(one[3], other[3]) - max(one[1], other[1]))


CASCADES = {
    "Haar alt2": ("haarcascade_frontalface_alt2.xml", 4, 1.0),
    "Haar default": ("haarcascade_frontalface_default.xml", 7, 1.6),
}
"""Cascades that OpenCV's package carries (Viola & Jones 2001; Lienhart & Maydt 2002), trained apart from each other.

Name, file, how many overlapping hits make a face, and how many times the least size it starts at: small faces that the second finds, the first
has found already, and looking for them takes half of its time.
"""


@lru_cache(maxsize=len(CASCADES))
def _cascade(file: str) -> cv2.CascadeClassifier:
    """One cascade, read once per process."""
    return cv2.CascadeClassifier(str(Path(cv2.data.haarcascades) / file))


def by_cascade(colour: np.ndarray, name: str) -> list[Box]:
    """What a cascade finds; nothing where OpenCV comes without it."""
    file, hits, start = CASCADES[name]
    cascade = _cascade(file)
    if cascade.empty():
        return []
    least = round(start * max(SMALLEST, min(colour.shape[:2]) // SHARE))
    grey = cv2.equalizeHist(cv2.cvtColor(colour, cv2.COLOR_RGB2GRAY))
    found = cascade.detectMultiScale(grey, scaleFactor=STEP, minNeighbors=hits, minSize=(least, least))
    return [(int(x), int(y), int(x + w), int(y + h)) for x, y, w, h in found]


@lru_cache(maxsize=1)
def _yunet(file: Path) -> Any:
    """OpenCV's network, loaded once; thresholds as A1111."""
    return cv2.FaceDetectorYN.create(str(file), "", (0, 0), score_threshold=0.9, nms_threshold=0.3, top_k=5000)


def by_yunet(colour: np.ndarray, file: Path) -> list[Box]:
    """What YuNet (Wu, Peng & Yu 2023) finds; nothing when its file cannot be used."""
    try:
        network = _yunet(file)
        network.setInputSize((colour.shape[1], colour.shape[0]))
        found = network.detect(cv2.cvtColor(colour, cv2.COLOR_RGB2BGR))[1]
    except cv2.error:
        return []
    return [] if found is None else [_rounded(row[0], row[1], row[0] + row[2], row[1] + row[3]) for row in found]


@lru_cache(maxsize=1)
def _mtcnn() -> Any:
    """The cascade of networks that facenet-pytorch carries, on the CPU."""
    from facenet_pytorch import MTCNN

    return MTCNN(keep_all=True, device="cpu")


def by_mtcnn(colour: np.ndarray) -> list[Box]:
    """What MTCNN (Zhang et al. 2016) finds with at least 0.9; only where a person installed facenet-pytorch, since it needs torch."""
    found, sure = _mtcnn().detect(np.ascontiguousarray(colour))
    if found is None:
        return []
    return [_rounded(*box) for box, chance in zip(found, sure, strict=True) if chance is not None and chance >= 0.9]


def _rounded(left: float, top: float, right: float, bottom: float) -> Box:
    """A box in whole pixels."""
    return round(float(left)), round(float(top)), round(float(right)), round(float(bottom))
