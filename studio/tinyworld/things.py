"""Things: emoji glyphs and plain shapes, in their own or in another colour."""

import math
import os
from functools import lru_cache
from pathlib import Path
from random import Random

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from studio.errors import NotFound
from studio.tinyworld.monsters import CANVAS, SIZE, UNIT
from studio.tinyworld.palette import COLOURS, Colour, named

EMOJI: dict[str, str] = {
    "cat": "🐈",
    "dog": "🐕",
    "rabbit": "🐰",
    "panda": "🐼",
    "penguin": "🐧",
    "duck": "🦆",
    "frog": "🐸",
    "fish": "🐟",
    "shark": "🦈",
    "unicorn": "🦄",
    "apple": "🍎",
    "banana": "🍌",
    "pizza": "🍕",
    "burger": "🍔",
    "ice cream": "🍦",
    "sunflower": "🌻",
    "tree": "🌳",
    "star": "⭐",
    "car": "🚗",
    "rocket": "🚀",
    "house": "🏠",
    "castle": "🏰",
    "robot": "🤖",
    "ghost": "👻",
    "smiley": "😀",
    "heart": "❤️",
    "balloon": "🎈",
    "ball": "⚽",
    "teddy bear": "🧸",
    "sailboat": "⛵",
}
"""Things of the world; a few drawn well."""
SHAPES = ("circle", "square", "triangle", "hexagon", "diamond shape", "ring", "cross")
FONT_PLACES = (
    "/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf",
    "/usr/share/fonts/noto/NotoColorEmoji.ttf",
    "/usr/share/fonts/google-noto-emoji/NotoColorEmoji.ttf",
)
"""Where systems keep the Noto Color Emoji font (OFL 1.1); STUDIO_EMOJI_FONT names another place."""
GLYPH = 109
"""The one size in pixels that the font's bitmaps have."""


def font_file() -> Path:
    """The emoji font; raises NotFound."""
    for place in filter(None, (os.environ.get("STUDIO_EMOJI_FONT"), *FONT_PLACES)):
        if Path(place).is_file():
            return Path(place)
    raise NotFound("The Noto Color Emoji font is not installed.", "On Debian: apt-get install fonts-noto-color-emoji; or name its file in STUDIO_EMOJI_FONT.")


@lru_cache(maxsize=64)
def glyph(name: str) -> Image.Image:
    """A thing of EMOJI on a transparent square; raises NotFound without the font."""
    sheet = Image.new("RGBA", (160, 160), (0, 0, 0, 0))
    ImageDraw.Draw(sheet).text((10, 10), EMOJI[name], font=ImageFont.truetype(str(font_file()), GLYPH), embedded_color=True)
    part = sheet.crop(sheet.getbbox())
    side = max(part.size)
    square = Image.new("RGBA", (side, side), (0, 0, 0, 0))
    square.paste(part, ((side - part.width) // 2, (side - part.height) // 2))
    return square


def tinted(picture: Image.Image, colour: Colour) -> Image.Image:
    """A glyph in another colour: its light and shade from dark to pale shades of that colour."""
    pixels = np.asarray(picture).astype(np.float32)
    light = (pixels[..., :3] @ np.array((0.3, 0.59, 0.11), np.float32)) / 255
    seen = pixels[..., 3] > 10
    low, high = np.percentile(light[seen], (3, 97))
    light = np.clip((light - low) / max(high - low, 0.15), 0, 1)[..., None]
    base = np.array(colour, np.float32)
    dark, pale = base * 0.25, base + (255 - base) * 0.65
    mixed = np.where(light < 0.55, dark + (base - dark) * (light / 0.55), base + (pale - base) * ((light - 0.55) / 0.45))
    return Image.fromarray(np.dstack([mixed, pixels[..., 3]]).clip(0, 255).astype(np.uint8), "RGBA")


def shape(name: str, colour: str, dice: Random) -> Image.Image:
    """A plain shape on a transparent square."""
    picture = Image.new("RGBA", (CANVAS, CANVAS), (0, 0, 0, 0))
    pen, fill = ImageDraw.Draw(picture), (*named(colour, dice), 255)
    middle, reach = 60 * UNIT, 54 * UNIT
    low, high = middle - reach, middle + reach
    if name == "circle":
        pen.ellipse((low, low, high, high), fill=fill)
    elif name == "square":
        pen.rectangle((middle - reach * 0.85, middle - reach * 0.85, middle + reach * 0.85, middle + reach * 0.85), fill=fill)
    elif name == "ring":
        pen.ellipse((low, low, high, high), outline=fill, width=16 * UNIT)
    elif name == "cross":
        pen.rectangle((low, middle - reach * 0.3, high, middle + reach * 0.3), fill=fill)
        pen.rectangle((middle - reach * 0.3, low, middle + reach * 0.3, high), fill=fill)
    else:
        corners = {"triangle": 3, "hexagon": 6, "diamond shape": 4}[name]
        turns = (2 * math.pi * i / corners for i in range(corners))
        pen.polygon([(middle + reach * math.sin(t), middle - reach * math.cos(t)) for t in turns], fill=fill)
    return picture.resize((SIZE, SIZE), Image.Resampling.LANCZOS)


def thing(name: str, colour: str = "") -> Image.Image:
    """A thing in its own colours, or tinted."""
    return tinted(glyph(name), COLOURS[colour]) if colour else glyph(name)
