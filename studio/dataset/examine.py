"""What a picture file is like, measured once: size, sharpness, fingerprints, faces, and where there is something to see. Never raises for a bad file."""

import hashlib
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageOps

from studio.dataset.faces import detectors, find_faces
from studio.dataset.folder import ALPHA_MODES, DAMAGED, in_srgb, in_words, to_rgb
from studio.dataset.saliency import maps
from studio.errors import Unreadable
from studio.formats.opening import open_limited
from studio.projects.facts import BINS, Facts

WORK = 512
"""Longer side in pixels of the copy that is measured; a smaller picture is measured as it is."""
FINE = 3
"""A JPEG is decoded at no less than so many times WORK, so that its sharpness stays within a twentieth (measured up to 6,000 pixels)."""
HASH_SIDE = 32
"""A perceptual hash looks at a grey copy of so many pixels each way."""
EXIF_TURN = 0x0112


def examine(path: Path, focal: bool = True, yunet: Path | None = None) -> Facts:
    """The facts of one picture file; of one that cannot be used, `problem` in a sentence. Without `focal`, no faces and profiles; `yunet` is that network's file."""
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        known, image = _opened(path)
    except Unreadable as error:
        return Facts(problem=str(error))
    except OSError as error:
        return Facts(problem=f"{path.name} cannot be read ({error.strerror or error}).")
    return replace(measure(image, focal, yunet), digest=digest, **known)


def _opened(path: Path) -> tuple[dict[str, object], Image.Image]:
    """What its header says, and the upright RGB picture, perhaps at a smaller scale; raises Unreadable."""
    with in_words(path), open_limited(path) as image:
        size = image.size
        turn = image.getexif().get(EXIF_TURN, 1)
        facts = {"format": image.format or "", "mode": image.mode, "turned": turn in range(2, 9)}
        if image.format in ("JPEG", "MPO") and max(size) >= 2 * FINE * WORK:
            image.draft(None, (max(1, FINE * WORK * size[0] // max(size)), max(1, FINE * WORK * size[1] // max(size))))
        image.load()
        width, height = size[::-1] if turn in range(5, 9) else size
        upright = to_rgb(in_srgb(ImageOps.exif_transpose(image)))
        return {**facts, "width": width, "height": height, "alpha": _transparent(image), "frames": _frames(image)}, upright


def _frames(image: Image.Image) -> int:
    """How many pictures a file holds; 1 when those after the first are damaged, since only the first is used."""
    try:
        return getattr(image, "n_frames", 1)
    except DAMAGED:
        return 1


def _transparent(image: Image.Image) -> bool:
    """Whether any pixel is less than opaque."""
    if image.mode not in ALPHA_MODES and "transparency" not in image.info:
        return False
    return image.convert("RGBA").getchannel("A").getextrema()[0] < 255


def measure(image: Image.Image, focal: bool = True, yunet: Path | None = None) -> Facts:
    """The facts of an upright RGB picture in memory; nothing about a file."""
    colour = _small(image)
    grey = cv2.cvtColor(colour, cv2.COLOR_RGB2GRAY)
    facts = Facts(width=image.width, height=image.height, mode=image.mode, sharpness=sharpness(grey), perceptual=perceptual_hash(grey))
    if not focal:
        return facts
    height, width = grey.shape
    detail, edges = maps(colour)
    shares = tuple((left / width, top / height, right / width, bottom / height) for left, top, right, bottom in find_faces(colour, detectors(yunet)))
    return replace(facts, faces=shares, detail_x=profile(detail, 0), detail_y=profile(detail, 1), edges_x=profile(edges, 0), edges_y=profile(edges, 1))


def _small(image: Image.Image) -> np.ndarray:
    """The picture as 8-bit RGB [h, w, 3] whose longer side is at most WORK, each pixel the mean of those it stands for."""
    colour = np.asarray(image.convert("RGB"))
    factor = WORK / max(image.size)
    if factor >= 1:
        return colour
    return cv2.resize(colour, (max(1, round(image.width * factor)), max(1, round(image.height * factor))), interpolation=cv2.INTER_AREA)


def sharpness(grey: np.ndarray) -> float:
    """Variance of the Laplacian in squared grey levels (Pech-Pacheco et al. 2000): small for a blurred picture."""
    return round(float(cv2.Laplacian(grey, cv2.CV_32F).var()), 3)


def perceptual_hash(grey: np.ndarray) -> str:
    """64 bits as hexadecimal: which of the 8 x 8 lowest frequencies (DCT of a 32 x 32 copy) lie above their median; near-duplicates differ in few bits."""
    copy = cv2.resize(grey, (HASH_SIDE, HASH_SIDE), interpolation=cv2.INTER_AREA).astype(np.float32)
    low = cv2.dct(copy)[:8, :8].ravel()
    low[np.abs(low) < 1e-2] = 0  # what rounding leaves in a flat picture
    bits = low > np.median(low)
    return f"{int(''.join('1' if bit else '0' for bit in bits), 2):016x}"


def profile(found: np.ndarray, axis: int) -> tuple[int, ...]:
    """How much of a map [h, w] lies in each of BINS stripes over the width (axis 0) or the height (axis 1), the fullest 255; all 0 where there is nothing."""
    line = found.mean(axis=axis, dtype=np.float64)
    ends = np.linspace(0, len(line), BINS + 1)
    running = np.concatenate([[0.0], np.cumsum(line)])
    bins = np.diff(np.interp(ends, np.arange(len(running)), running))
    top = float(bins.max())
    return tuple(int(v) for v in np.rint(bins / top * 255)) if top > 1e-3 else (0,) * BINS
