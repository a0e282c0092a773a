"""A crop on a real picture: cut out and brought to size, or drawn over it. Where it lies is arithmetic (studio/projects/cropping.py)."""

from PIL import Image, ImageDraw, ImageEnhance

from studio.projects.cropping import center, window
from studio.projects.facts import Box, Size

__all__ = ["center", "cut", "drawn", "window"]

FRAME = (13, 148, 136)
"""Colour of the line along a crop."""


def cut(image: Image.Image, box: Box, target: Size) -> Image.Image:
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
    ImageDraw.Draw(shown).rectangle((frame[0], frame[1], frame[2] - 1, frame[3] - 1), outline=FRAME, width=2)
    return shown
