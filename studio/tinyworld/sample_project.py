"""The sample project: pictures of the first character in many places, of several shapes, as an artist would bring them."""

from pathlib import Path
from random import Random

from PIL import Image

from studio.tinyworld.backgrounds import random_background
from studio.tinyworld.monsters import CHARACTERS, draw

SHAPES = ((192, 160), (160, 192), (224, 160), (176, 176))
"""Widths and heights in pixels; preprocessing has something to cut."""
FIRST = 77


def write(folder: Path, count: int) -> list[Path]:
    """Write `count` pictures as 01.png and so on, the same every time; returns their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    return [_write(folder / f"{number + 1:02d}.png", number) for number in range(count)]


def _write(path: Path, number: int) -> Path:
    """One picture: the character, not quite in the middle."""
    dice = Random(FIRST + number)
    width, height = SHAPES[number % len(SHAPES)]
    image = random_background(dice).image.convert("RGB").resize((width, height), Image.Resampling.BICUBIC)
    side = round(min(width, height) * dice.uniform(0.66, 0.78))
    subject = draw(CHARACTERS[0][1], Random(5)).resize((side, side), Image.Resampling.LANCZOS)
    left = (width - side) // 2 + round(dice.uniform(-0.14, 0.14) * width)
    top = (height - side) // 2 + round(dice.uniform(-0.06, 0.06) * height)
    image.paste(subject, (left, top), subject)
    image.save(path)
    return path
