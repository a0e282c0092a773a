"""Backgrounds: plain, gradient, patterned, or one of eight scenes, each with its words and tags."""

from dataclasses import dataclass
from random import Random

from PIL import Image, ImageDraw

from studio.tinyworld.palette import NAMES, SIDE, Colour, a, gradient, named, shade

SCENES: dict[str, tuple[str, ...]] = {
    "grass": ("on grass", "in a field", "on the grass"),
    "beach": ("on the beach", "at the beach"),
    "snow": ("in the snow", "on snow"),
    "desert": ("in the desert",),
    "night": ("at night", "in the night"),
    "sea": ("in the sea", "under water"),
    "space": ("in space", "in outer space"),
    "sunset": ("at sunset",),
}
"""Scenes and how captions speak of them."""
GROUNDS: dict[str, tuple[Colour, Colour, Colour, Colour]] = {
    "grass": ((110, 180, 245), (200, 230, 255), (110, 190, 70), (50, 130, 40)),
    "beach": ((90, 180, 250), (200, 235, 255), (240, 220, 160), (225, 195, 120)),
    "snow": ((150, 180, 215), (215, 228, 240), (250, 252, 255), (225, 235, 245)),
    "desert": ((120, 190, 240), (250, 230, 190), (235, 180, 100), (205, 140, 65)),
    "night": ((8, 10, 40), (35, 40, 95), (20, 45, 35), (10, 25, 20)),
    "sunset": ((90, 50, 120), (255, 150, 60), (60, 40, 70), (30, 20, 45)),
}
"""Scenes with a horizon: sky from top to bottom, ground from top to bottom."""
PATTERNS = ("striped", "checkered", "dotted")


@dataclass(frozen=True)
class Background:
    """A picture with nothing in it yet, what a caption says of it, its tags, and what a careful caption says."""

    image: Image.Image
    words: str
    tags: tuple[str, ...]
    full: str

    @property
    def joined(self) -> str:
        """The words with what joins them to a noun before."""
        return f" {self.words}" if self.words.startswith(("on ", "in ", "at ", "under ")) else f", {self.words}"


def plain(name: str, dice: Random) -> Background:
    """One colour, sometimes a little darker towards one side."""
    colour = named(name, dice)
    flat = dice.random() < 0.7
    image = Image.new("RGB", (SIDE, SIDE), colour) if flat else gradient(colour, shade((int(colour[0] * 0.8), int(colour[1] * 0.8), int(colour[2] * 0.8)), dice, 6), dice.uniform(0, 6.28))
    words = dice.choice((f"on {a(name)} background", f"on {a(name)} background", f"{name} background", f"in front of {a(name)} wall"))
    return Background(image, words, ("simple background", f"{name} background"), f"on {a(name)} background")


def blended(dice: Random) -> Background:
    """From one colour at the top to another at the bottom."""
    first, second = dice.sample(NAMES, 2)
    words = f"on {a(first)} and {second} gradient background"
    return Background(gradient(named(first, dice), named(second, dice)), words, ("gradient background",), words)


def patterned(dice: Random) -> Background:
    """Stripes, a chequered board or dots."""
    first, second = dice.sample(NAMES, 2)
    kind, pitch = dice.choice(PATTERNS), dice.choice((24, 28, 32))
    offset = dice.randrange(pitch)
    image = Image.new("RGB", (SIDE, SIDE), named(first, dice))
    _pattern(ImageDraw.Draw(image), kind, pitch, offset, named(second, dice))
    words = f"on a {kind} {first} and {second} background"
    return Background(image, words, (f"{kind} background",), words)


def _pattern(pen: ImageDraw.ImageDraw, kind: str, pitch: int, offset: int, fill: Colour) -> None:
    """Draw a repeating pattern."""
    if kind == "striped":
        for x in range(offset - pitch, SIDE, pitch):
            pen.rectangle((x, 0, x + pitch // 2, SIDE), fill=fill)
        return
    for i, x in enumerate(range(-pitch, SIDE + pitch, pitch)):
        for j, y in enumerate(range(-pitch, SIDE + pitch, pitch)):
            if kind == "checkered" and (i + j) % 2:
                pen.rectangle((x, y, x + pitch, y + pitch), fill=fill)
            elif kind == "dotted":
                pen.ellipse((x + offset - 6, y + offset - 6, x + offset + 6, y + offset + 6), fill=fill)


def scene(name: str, dice: Random) -> Background:
    """One of SCENES."""
    image = _landscape(name, dice) if name in GROUNDS else _depth(name, dice)
    return Background(image, dice.choice(SCENES[name]), (name,), SCENES[name][0])


def _landscape(name: str, dice: Random) -> Image.Image:
    """A scene with sky and ground."""
    horizon = int(SIDE * dice.uniform(0.55, 0.72))
    sky_top, sky, ground_top, ground = (shade(c, dice) for c in GROUNDS[name])
    image = gradient(sky_top, sky)
    image.paste(gradient(ground_top, ground).crop((0, horizon, SIDE, SIDE)), (0, horizon))
    pen = ImageDraw.Draw(image)
    if name == "beach":
        pen.rectangle((0, horizon - 14, SIDE, horizon), fill=(30, 120, 190))
    if name == "night":
        for _ in range(14):
            x, y = dice.uniform(0, SIDE), dice.uniform(0, horizon - 6)
            pen.ellipse((x - 1, y - 1, x + 1, y + 1), fill=(255, 255, 230))
    return image


def _depth(name: str, dice: Random) -> Image.Image:
    """A scene without a horizon: the sea or space."""
    if name == "sea":
        return gradient(shade((40, 150, 215), dice), shade((8, 40, 110), dice))
    image = gradient(shade((12, 8, 30), dice), shade((30, 12, 55), dice))
    pen = ImageDraw.Draw(image)
    for _ in range(22):
        x, y, r = dice.uniform(0, SIDE), dice.uniform(0, SIDE), dice.uniform(0.5, 1.5)
        pen.ellipse((x - r, y - r, x + r, y + r), fill=(255, 255, 255))
    return image


def random_background(dice: Random) -> Background:
    """Any background: mostly plain, often a scene."""
    roll = dice.random()
    if roll < 0.55:
        return plain(dice.choice(NAMES), dice)
    if roll < 0.65:
        return blended(dice)
    if roll < 0.72:
        return patterned(dice)
    return scene(dice.choice(tuple(SCENES)), dice)
