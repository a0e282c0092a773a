"""Colours of a result brought back to those of the picture it began from: histograms matched in CIE Lab, the result's own lightness kept."""

import cv2
import numpy as np
from PIL import Image

_LUMA = np.array([0.3, 0.59, 0.11], dtype=np.float32)
"""Weights of red, green and blue in a colour's luminosity (W3C Compositing and Blending, section 10)."""


def corrected(result: Image.Image, original: Image.Image) -> Image.Image:
    """The result (RGB) with the colours of the original, which may be of another size; light and shade stay the result's own."""
    pixels = np.asarray(result.convert("RGB"))
    source, target = (cv2.cvtColor(np.ascontiguousarray(p), cv2.COLOR_RGB2LAB) for p in (pixels, np.asarray(original.convert("RGB"))))
    matched = np.dstack([_matched(source[..., c], target[..., c]) for c in range(3)])
    coloured = cv2.cvtColor(np.clip(matched, 0, 255).round().astype(np.uint8), cv2.COLOR_LAB2RGB)
    return Image.fromarray(_with_luminosity(coloured, pixels))


def _matched(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Bytes of any shape mapped so that their cumulative histogram follows the target's (Gonzalez & Woods, histogram specification)."""
    counts, wanted = (np.bincount(channel.reshape(-1), minlength=256) for channel in (source, target))
    present = np.flatnonzero(wanted)
    shares = np.cumsum(wanted)[present] / target.size
    return np.interp(np.cumsum(counts) / source.size, shares, present)[source]


def _with_luminosity(colours: np.ndarray, lights: np.ndarray) -> np.ndarray:
    """Pixels [h, w, 3] with the hue and saturation of one picture and the luminosity of another (W3C Compositing and Blending, "luminosity")."""
    colours, wanted = colours.astype(np.float32), lights.astype(np.float32) @ _LUMA
    moved = colours + (wanted - colours @ _LUMA)[..., None]
    light = wanted[..., None]
    low, high = moved.min(-1, keepdims=True), moved.max(-1, keepdims=True)
    # What left 0..255 is drawn towards its grey, which keeps hue and luminosity.
    shrink = np.minimum(np.where(low < 0, light / np.maximum(light - low, 1e-6), 1.0), np.where(high > 255, (255 - light) / np.maximum(high - light, 1e-6), 1.0))
    return np.clip(light + (moved - light) * shrink, 0, 255).round().astype(np.uint8)
