"""The world: pictures with exact captions and tags, any number of them, each from its number."""

from dataclasses import dataclass
from random import Random

import numpy as np
from PIL import Image, ImageFilter, ImageOps

from studio.tinyworld.backgrounds import PATTERNS as BACKGROUND_PATTERNS
from studio.tinyworld.backgrounds import SCENES, Background, random_background
from studio.tinyworld.monsters import BODIES, EYES, HATS, MOUTHS, Monster, describe, draw, held_out, random_monster
from studio.tinyworld.monsters import PATTERNS as SKIN_PATTERNS
from studio.tinyworld.palette import NAMES, SIDE, a
from studio.tinyworld.things import EMOJI, SHAPES, shape, thing

SIZES = {"small": 56, "": 88, "big": 112}
"""Widths of a subject in pixels, multiples of 8: few sizes and places are drawn well, many are drawn badly."""
SIZE_WORDS = {"small": ("small", "little", "tiny"), "big": ("big", "large", "huge")}
PLACES = {"on the left": (-32, 0), "on the right": (32, 0), "at the top": (0, -32), "at the bottom": (0, 32)}
"""Where a small subject may stand, in pixels from the middle."""
OPENINGS = (
    "a photo of",
    "a photo of",
    "a picture of",
    "an image of",
    "a rendering of",
    "a good photo of",
    "a nice photo of",
    "a photo of the",
    "a depiction of",
    "a cool photo of",
    "a clean photo of",
    "a drawing of",
    "",
)
QUALITIES = ("masterpiece", "best quality", "highly detailed", "high resolution", "8k", "sharp focus", "professional", "beautiful", "trending on artstation")
STYLES = {
    "monochrome": ("a black and white photo of", "monochrome photo of"),
    "sepia": ("a sepia photo of", "an old photo of"),
    "sketch": ("a pencil sketch of", "a sketch of"),
}
TAGS: tuple[str, ...] = (
    *EMOJI,
    *SHAPES,
    "monster",
    *(f"{colour} body" for colour in NAMES),
    *(f"{body} body" for body in BODIES if body != "square"),
    *SKIN_PATTERNS,
    *EYES.values(),
    *HATS,
    *(f"{colour} hat" for colour in NAMES),
    *MOUTHS.values(),
    *(f"{colour} background" for colour in NAMES),
    "simple background",
    "gradient background",
    *(f"{pattern} background" for pattern in BACKGROUND_PATTERNS),
    *SCENES,
    *STYLES,
    "rating:safe",
)
"""All tags of the world, in the order of the tagger's scores."""


@dataclass(frozen=True)
class Subject:
    """Something in a picture: how it looks, a noun phrase, its tags, and a phrase that leaves nothing out."""

    image: Image.Image
    phrase: str
    tags: tuple[str, ...]
    full: str


@dataclass(frozen=True)
class Picture:
    """A picture of the world, 128 x 128, with a caption as people write them, the tags of all that is in it, and a caption that leaves nothing out."""

    image: Image.Image
    caption: str
    tags: tuple[str, ...]
    full: str


def picture(number: int) -> Picture:
    """Picture number `number` of the world; the same every time."""
    dice = Random(number)
    background = random_background(dice)
    image = background.image
    phrase, place, tags, full = _pair(image, dice) if dice.random() < 0.1 else _single(image, dice)
    style = dice.choice(tuple(STYLES)) if dice.random() < 0.05 else ""
    opening = dice.choice(OPENINGS) if dice.random() < 0.6 else ""
    if style:
        image, opening, tags = styled(image, style), dice.choice(STYLES[style]), (*(t for t in tags if not _colour_tag(t)), style)
    shown = background.tags if not style else tuple(t for t in background.tags if not _colour_tag(t))
    caption = _caption(opening, phrase, place, background if dice.random() < 0.9 else None)
    if dice.random() < 0.06:
        caption += ", " + ", ".join(dice.sample(QUALITIES, dice.randint(1, 2)))
    full = f"{STYLES[style][0] + ' ' if style else ''}{full} {background.full}"
    return Picture(image.convert("RGB"), caption, tuple(t for t in TAGS if t in {*tags, *shown, "rating:safe"}), full)


def portrait(monster: Monster, number: int, name: str = "monster") -> Picture:
    """A known monster in the middle of any background; the caption calls it `name` and describes the background."""
    dice = Random(number)
    background = random_background(dice)
    image = background.image
    _put(image, draw(monster, Random(5)), SIZES[""], (0, 0))
    full = f"{a(describe(monster, dice, always=True))} {background.full}"
    return Picture(image.convert("RGB"), f"{a(name)}{background.joined}", (*monster_tags(monster), *background.tags), full)


def _single(image: Image.Image, dice: Random) -> tuple[str, str, tuple[str, ...], str]:
    """Put one subject into the picture; returns phrase, place, tags and full phrase."""
    subject = random_subject(dice)
    size = dice.choice(("", "", "", "", "", "", "", "", "small", "big"))
    place = dice.choice(tuple(PLACES)) if size == "small" and dice.random() < 0.1 else ""
    _put(image, subject.image, SIZES[size], PLACES.get(place, (0, 0)))
    phrase = f"{dice.choice(SIZE_WORDS[size])} {subject.phrase}" if size else subject.phrase
    return a(phrase), place, subject.tags, a(subject.full)


def _pair(image: Image.Image, dice: Random) -> tuple[str, str, tuple[str, ...], str]:
    """Put two things side by side; returns phrase, place, tags and full phrase."""
    left, right = random_thing(dice), random_thing(dice)
    _put(image, left.image, SIZES["small"], (-32, 0))
    _put(image, right.image, SIZES["small"], (32, 0))
    phrase = f"{a(left.phrase)} and {a(right.phrase)}"
    return phrase, "", (*left.tags, *right.tags), phrase


def random_subject(dice: Random) -> Subject:
    """A thing, a monster or a shape."""
    roll = dice.random()
    if roll < 0.70:
        return random_thing(dice)
    if roll < 0.95:
        monster = random_monster(dice)
        while held_out(monster):
            monster = random_monster(dice)
        return Subject(draw(monster, dice), describe(monster, dice), monster_tags(monster), describe(monster, dice, always=True))
    name, colour = dice.choice(SHAPES), dice.choice(NAMES)
    return Subject(shape(name, colour, dice), f"{colour} {name}", (name, f"{colour} body"), f"{colour} {name}")


def random_thing(dice: Random) -> Subject:
    """A thing, now and then in another colour."""
    name = dice.choice(tuple(EMOJI))
    if dice.random() >= 0.15:
        return Subject(thing(name), name, (name,), name)
    colour = dice.choice(NAMES)
    return Subject(thing(name, colour), f"{colour} {name}", (name, f"{colour} body"), f"{colour} {name}")


def monster_tags(monster: Monster) -> tuple[str, ...]:
    """Every tag that is true of a monster."""
    body = () if monster.body == "square" else (f"{monster.body} body",)
    hat = (monster.hat, *(() if monster.hat == "crown" else (f"{monster.hat_colour} hat",))) if monster.hat else ()
    skin = (monster.pattern,) if monster.pattern else ()
    return ("monster", f"{monster.colour} body", *body, *skin, EYES[monster.eyes], *hat, MOUTHS[monster.mouth])


def _put(image: Image.Image, subject: Image.Image, size: int, offset: tuple[int, int]) -> None:
    """Paste a subject at a place, seen from the middle."""
    small = subject.resize((size, size), Image.Resampling.LANCZOS)
    image.paste(small, (SIDE // 2 + offset[0] - size // 2, SIDE // 2 + offset[1] - size // 2), small)


def styled(image: Image.Image, style: str) -> Image.Image:
    """A picture in one of STYLES."""
    grey = ImageOps.grayscale(image)
    if style == "monochrome":
        return grey.convert("RGB")
    if style == "sepia":
        return ImageOps.colorize(grey, (35, 20, 8), (255, 240, 205), mid=(150, 105, 60))
    edges = grey.filter(ImageFilter.FIND_EDGES).crop((2, 2, SIDE - 2, SIDE - 2)).resize((SIDE, SIDE))
    return Image.fromarray((255 - np.clip(np.asarray(edges).astype(int) * 2.2, 0, 215)).astype(np.uint8)).convert("RGB")


def _caption(opening: str, phrase: str, place: str, background: Background | None) -> str:
    """The parts of a caption in one line."""
    if opening.endswith(" the"):
        phrase = phrase.split(" ", 1)[1]
    said = " ".join(filter(None, (opening, phrase, place)))
    return said + background.joined if background else said


def _colour_tag(tag: str) -> bool:
    """Whether a tag names a colour, which a picture without colours does not show."""
    return tag.split(" ")[0] in NAMES


def sheet(images: list[Image.Image], columns: int, gap: int = 2) -> Image.Image:
    """Pictures of one size in rows on white."""
    width, height = images[0].size
    rows = -(-len(images) // columns)
    whole = Image.new("RGB", (columns * (width + gap), rows * (height + gap)), "white")
    for i, image in enumerate(images):
        whole.paste(image, (i % columns * (width + gap), i // columns * (height + gap)))
    return whole
