"""Masks: reading and blurring them, what is under them at first, the box around them, and pasting by them. Pure on pictures."""

import cv2
import numpy as np
from PIL import Image, ImageChops, ImageFilter

from studio.diffusion.resize import eight_bits
from studio.errors import InputError

Box = tuple[int, int, int, int]
"""Left, top, right, bottom in pixels; right and bottom are the first ones outside."""


def read_mask(image: Image.Image, size: tuple[int, int], invert: bool = False, rounded: bool = True) -> Image.Image:
    """A mask of any mode and size as greys of a picture's (width, height): white is repainted; `rounded` leaves black and white only.

    An image without transparent pixels is painted where it is light; a brush layer (strokes on transparency) where it is opaque, whatever its color.
    A black and white mask that has some transparent pixels is still painted where it is white.
    """
    grey = _painted(eight_bits(image))
    mask = _black_and_white(grey, size) if rounded else _stretched(grey, size)
    return ImageChops.invert(mask) if invert else mask


def _painted(image: Image.Image) -> Image.Image:
    """How much of each pixel of an 8-bit L, RGB, LA or RGBA mask is painted, as greys."""
    light = image.convert("RGB").convert("L")
    if image.mode not in ("LA", "RGBA") or image.getchannel("A").getextrema()[0] == 255:
        return light
    alpha = image.getchannel("A")
    seen = np.asarray(light)[np.asarray(alpha) >= 128]
    black, white = seen <= 16, seen >= 239
    # A mask drawn black on white or white on black, saved with a few transparent pixels; A1111 would repaint all of it.
    if black.any() and white.any() and ((black | white).mean() >= 0.9 or seen.size >= 0.95 * light.width * light.height):
        return ImageChops.multiply(light, alpha)
    return alpha


def _stretched(grey: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Greys brought to a size; always a picture of its own."""
    return grey.copy() if grey.size == size else grey.resize(size, Image.Resampling.BILINEAR)


def _black_and_white(grey: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Greys at a size as 0 and 255; when every stroke is too thin to survive the scaling, the pixels it falls on are kept."""
    painted = np.asarray(grey) >= 128
    hard = np.asarray(_stretched(Image.fromarray(painted.astype(np.uint8) * 255), size)) >= 128
    if painted.any() and not hard.any():
        rows, columns = np.nonzero(painted)
        hard = hard.copy()
        hard[rows * size[1] // grey.height, columns * size[0] // grey.width] = True
    return Image.fromarray(hard.astype(np.uint8) * 255)


def mask_of(image: Image.Image, size: tuple[int, int], invert: bool) -> Image.Image:
    """A mask as black and white of a picture's size: white is repainted. Raises InputError when it is empty."""
    mask = read_mask(image, size, invert)
    if mask.getbbox() is None:
        raise InputError("The mask is empty: nothing would be repainted.", "Paint over the part that should change.")
    return mask


def blurred(mask: Image.Image, radius: float, radius_y: float | None = None) -> Image.Image:
    """The mask with a soft edge: a Gaussian of standard deviation `radius` across and `radius_y` (default the same) down.

    The kernel is cut off after 2.5 standard deviations, so that pixels farther from the mask stay black.
    """
    greys = np.asarray(mask)
    for sigma, axis in ((radius, 0), (radius if radius_y is None else radius_y, 1)):
        if sigma > 0:
            length = 2 * int(2.5 * sigma + 0.5) + 1
            greys = cv2.GaussianBlur(greys, (length, 1) if axis == 0 else (1, length), sigma)
    return Image.fromarray(greys)


def filled(image: Image.Image, mask: Image.Image) -> Image.Image:
    """The masked part replaced by ever softer copies of what surrounds it; too far from everything, by its mean colour."""
    base = Image.new("RGBA", image.size)
    surround = image.convert("RGBA")
    surround.putalpha(ImageChops.invert(mask))
    surround = surround.convert("RGBa")
    for radius, times in ((256, 1), (64, 1), (16, 2), (4, 4), (2, 2), (0, 1)):
        soft = surround.filter(ImageFilter.GaussianBlur(radius)).convert("RGBA") if radius else surround.convert("RGBA")
        for _ in range(times):
            base.alpha_composite(soft)
    reached = base.getchannel("A").point(lambda v: 255 if v else 0)
    return Image.composite(base.convert("RGB"), Image.new("RGB", image.size, _mean_colour(image, mask)), reached)


def _mean_colour(image: Image.Image, mask: Image.Image) -> tuple[int, int, int]:
    """The mean colour outside a mask; grey when the mask covers everything."""
    weights = 255.0 - np.asarray(mask, dtype=np.float64)
    if not weights.any():
        return 128, 128, 128
    red, green, blue = np.average(np.asarray(image.convert("RGB")).reshape(-1, 3), axis=0, weights=weights.reshape(-1)).round()
    return int(red), int(green), int(blue)


def crop_box(mask: Image.Image, padding: int, aspect: float) -> Box:
    """The box around the mask with padding, widened towards `aspect` (width / height) inside the picture, fractions of pixels dropped as in A1111; raises InputError when the mask is empty."""
    box = mask.getbbox()
    if box is None:
        raise InputError("The mask is empty: there is no masked part to cut out.", "Paint over the part that should change.")
    left, top = max(0, box[0] - padding), max(0, box[1] - padding)
    right, bottom = min(mask.width, box[2] + padding), min(mask.height, box[3] + padding)
    width, height = right - left, bottom - top
    left, right = _widen(left, right, max(0, int(height * aspect - width)), mask.width)
    top, bottom = _widen(top, bottom, max(0, int(width / aspect - height)), mask.height)
    return left, top, right, bottom


def _widen(low: int, high: int, more: int, limit: int) -> tuple[int, int]:
    """An interval made longer by `more` around its middle, an odd pixel behind it, pushed inside 0..limit."""
    length = min(high - low + more, limit)
    low = max(0, min(limit - length, low - more // 2))
    return low, low + length


def pasted(original: Image.Image, painted: Image.Image, mask: Image.Image) -> Image.Image:
    """The painted picture over the original by the soft mask; where the mask is 0 the original's pixels stay as they are."""
    return Image.composite(painted, original, mask)


def strokes(picture: Image.Image, composite: Image.Image) -> Image.Image:
    """A mask of what was painted over a picture: white where the composite differs from it. Raises InputError when their sizes differ."""
    if picture.size != composite.size:
        raise InputError(f"The sketch is {composite.width}x{composite.height}, but the picture is {picture.width}x{picture.height}.", "Paint on this picture.")
    changed = (np.asarray(picture.convert("RGB")) != np.asarray(composite.convert("RGB"))).any(-1)
    return Image.fromarray(changed.astype(np.uint8) * 255)


def sketch(picture: Image.Image, painted: Image.Image, blur: float = 0.0, transparency: float = 0.0) -> tuple[Image.Image, Image.Image]:
    """The picture to begin from (RGB) and the mask (L) of an inpaint sketch.

    `painted` is the picture with coloured strokes over it, or a layer of strokes of any size that is transparent elsewhere. The strokes are softened by
    `blur` pixels, and the picture shows through them by `transparency` from 0 to 1. Raises InputError when a painted picture is of another size.
    """
    base, painted = picture.convert("RGB"), eight_bits(painted)
    if painted.mode in ("LA", "RGBA") and painted.getchannel("A").getextrema()[0] < 255:
        layer = painted.convert("RGBA") if painted.size == base.size else painted.convert("RGBA").resize(base.size, Image.Resampling.BICUBIC)
        mask = layer.getchannel("A").point(lambda v: 255 if v else 0)
        colours = Image.alpha_composite(base.convert("RGBA"), layer).convert("RGB")
    else:
        mask, colours = strokes(base, painted), painted.convert("RGB")
    opacity = blurred(mask, blur).point(lambda v: round(v * (1 - transparency)))
    return pasted(base, colours.filter(ImageFilter.GaussianBlur(blur)), opacity), mask
