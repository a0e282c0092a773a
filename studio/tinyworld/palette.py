"""Colours and small words of the tiny world."""

import math
from random import Random

import numpy as np
from PIL import Image

SIDE = 128
"""Width and height of the world's pictures in pixels."""
Colour = tuple[int, int, int]

COLOURS: dict[str, Colour] = {
    "red": (220, 35, 35),
    "orange": (245, 135, 25),
    "yellow": (250, 215, 40),
    "green": (45, 160, 60),
    "blue": (40, 90, 220),
    "purple": (130, 55, 190),
    "pink": (248, 140, 190),
    "brown": (125, 80, 45),
    "black": (20, 20, 24),
    "white": (248, 248, 248),
    "gray": (135, 135, 140),
    "teal": (25, 165, 165),
}
"""Every colour that has a name."""
NAMES = tuple(COLOURS)


def shade(colour: Colour, dice: Random, by: float = 14) -> Colour:
    """A colour moved a little at random."""
    red, green, blue = (int(min(255, max(0, v + dice.uniform(-by, by)))) for v in colour)
    return red, green, blue


def named(name: str, dice: Random, by: float = 14) -> Colour:
    """A shade of a named colour."""
    return shade(COLOURS[name], dice, by)


def gradient(start: Colour, end: Colour, angle: float = 0.0) -> Image.Image:
    """A picture that goes from one colour to another."""
    y, x = np.mgrid[0:SIDE, 0:SIDE] / (SIDE - 1)
    t = x * math.sin(angle) + y * math.cos(angle)
    t = ((t - t.min()) / (t.max() - t.min()))[..., None]
    return Image.fromarray((np.array(start) * (1 - t) + np.array(end) * t).astype(np.uint8))


def a(noun: str) -> str:
    """A noun with its article."""
    vowel = noun[0] in "aeiou" and not noun.startswith(("unicorn", "one"))
    return f"{'an' if vowel else 'a'} {noun}"
