"""Monsters: the world's characters, each a combination of parts that have words."""

from dataclasses import dataclass
from random import Random

from PIL import Image, ImageDraw

from studio.tinyworld.palette import COLOURS, NAMES, Colour, a, named

BODIES = ("round", "square", "tall", "triangular")
HATS = ("party hat", "top hat", "horns", "antenna", "bow", "crown")
PATTERNS = {"striped": "stripes", "spotted": "spots"}
EYES = {1: "one eye", 2: "two eyes", 3: "three eyes"}
MOUTHS = {"happy": "happy", "sad": "sad", "toothy": "scary", "round": "surprised"}
"""Shape of the mouth and the mood it shows."""
FRAMES = {"round": (22, 34, 98, 104), "square": (24, 38, 96, 104), "tall": (36, 26, 84, 106), "triangular": (18, 30, 102, 106)}
"""Box of each body on a canvas of 120 x 120 units."""
UNIT = 3
"""Pixels per unit while drawing; the picture is made small afterwards."""
CANVAS = 120 * UNIT
SIZE = 150
"""Width and height of a drawn subject in pixels."""
INK = (30, 30, 30, 255)


@dataclass(frozen=True)
class Monster:
    """What a monster looks like; `hat` and `pattern` may be empty."""

    body: str
    colour: str
    eyes: int
    mouth: str
    hat: str = ""
    hat_colour: str = "red"
    pattern: str = ""
    pattern_colour: str = "white"
    legs: bool = True
    arms: bool = True


def random_monster(dice: Random) -> Monster:
    """Any monster; parts are drawn independently, so that words can be told apart."""
    colour, pattern_colour = dice.choice(NAMES), dice.choice(NAMES)
    if pattern_colour == colour:
        pattern_colour = "white" if colour != "white" else "blue"
    return Monster(
        body=dice.choice(BODIES),
        colour=colour,
        eyes=dice.choice((1, 2, 2, 3)),
        mouth=dice.choice(tuple(MOUTHS)),
        hat=dice.choice(("", "", *HATS)),
        hat_colour=dice.choice(NAMES),
        pattern=dice.choice(("", "", "", *PATTERNS)),
        pattern_colour=pattern_colour,
        legs=dice.random() < 0.6,
        arms=dice.random() < 0.5,
    )


def describe(monster: Monster, dice: Random, always: bool = False) -> str:
    """A noun phrase that names some of the parts, or all of them."""

    def lucky(chance: float) -> bool:
        return always or dice.random() < chance

    before = [word for word, chance in ((monster.body, 0.6), (monster.colour, 0.75)) if lucky(chance)]
    behind: list[str] = []
    if monster.pattern and lucky(0.7):
        before.append(monster.pattern)
        if lucky(0.6):
            behind.append(f"{monster.pattern_colour} {PATTERNS[monster.pattern]}")
    if lucky(0.55):
        behind.append(EYES[monster.eyes])
    if monster.hat and lucky(0.7):
        behind.append(_hat_words(monster, dice, always))
    if lucky(0.3):
        before.insert(0, MOUTHS[monster.mouth])
    phrase = " ".join([*before, "monster"])
    return f"{phrase} with {' and '.join(behind)}" if behind else phrase


def _hat_words(monster: Monster, dice: Random, always: bool) -> str:
    """What is on its head."""
    if monster.hat == "crown":
        return "a crown"
    if monster.hat == "horns":
        return "horns" if not always and dice.random() < 0.5 else f"{monster.hat_colour} horns"
    return a(f"{monster.hat_colour} {monster.hat}")


def draw(monster: Monster, dice: Random) -> Image.Image:
    """The monster on a transparent square of SIZE pixels; `dice` gives the shades of its colours."""
    colour = named(monster.colour, dice)
    dark = (*(int(v * 0.55) for v in colour), 255)
    picture = Image.new("RGBA", (CANVAS, CANVAS), (0, 0, 0, 0))
    _limbs(monster, ImageDraw.Draw(picture), dark)
    picture.paste(_skin(monster, colour, dice), (0, 0), _silhouette(monster.body))
    pen = ImageDraw.Draw(picture)
    _face(monster, pen)
    if monster.hat:
        HAT_PENS[monster.hat](pen, FRAMES[monster.body][1] + 3, (*named(monster.hat_colour, dice, 8), 255), dark)
    return squared(picture)


def squared(picture: Image.Image) -> Image.Image:
    """What is drawn, cut out, centred on a square and made SIZE pixels large."""
    part = picture.crop(picture.getbbox())
    side = max(part.size)
    square = Image.new("RGBA", (side, side), (0, 0, 0, 0))
    square.paste(part, ((side - part.width) // 2, (side - part.height) // 2))
    return square.resize((SIZE, SIZE), Image.Resampling.LANCZOS)


def _u(*values: float) -> tuple[float, ...]:
    """Units as pixels."""
    return tuple(v * UNIT for v in values)


def _silhouette(body: str) -> Image.Image:
    """Where the body is."""
    mask = Image.new("L", (CANVAS, CANVAS), 0)
    pen = ImageDraw.Draw(mask)
    x0, y0, x1, y1 = FRAMES[body]
    if body == "round":
        pen.ellipse(_u(x0, y0, x1, y1), fill=255)
    elif body == "triangular":
        pen.polygon([_u((x0 + x1) / 2, y0), _u(x1, y1), _u(x0, y1)], fill=255)
    else:
        pen.rounded_rectangle(_u(x0, y0, x1, y1), radius=(12 if body == "square" else 23) * UNIT, fill=255)
    return mask


def _skin(monster: Monster, colour: Colour, dice: Random) -> Image.Image:
    """Colour and pattern, without an outline."""
    skin = Image.new("RGBA", (CANVAS, CANVAS), (*colour, 255))
    pen = ImageDraw.Draw(skin)
    if monster.pattern == "striped":
        fill = (*named(monster.pattern_colour, dice, 6), 255)
        for y in range(34, 110, 18):
            pen.rectangle((0, y * UNIT, CANVAS, (y + 8) * UNIT), fill=fill)
    elif monster.pattern == "spotted":
        fill = (*named(monster.pattern_colour, dice, 6), 255)
        for row, y in enumerate(range(36, 112, 17)):
            for x in range(18 + row % 2 * 10, 104, 20):
                pen.ellipse(_u(x - 5, y - 5, x + 5, y + 5), fill=fill)
    return skin


def _limbs(monster: Monster, pen: ImageDraw.ImageDraw, dark: tuple[int, ...]) -> None:
    """Legs and arms, behind the body."""
    x0, _, x1, _ = FRAMES[monster.body]
    if monster.legs:
        for x in (46, 74):
            pen.rounded_rectangle(_u(x - 6, 96, x + 6, 116), radius=5 * UNIT, fill=dark)
    if monster.arms:
        inset = 14 if monster.body == "triangular" else 4
        for side, x in ((-1, x0 + inset), (1, x1 - inset)):
            pen.line(_u(x, 78, x + side * 16, 62), fill=dark, width=8 * UNIT)


def _face(monster: Monster, pen: ImageDraw.ImageDraw) -> None:
    """Eyes and mouth."""
    y = 72 if monster.body == "triangular" else 62
    narrow = monster.eyes == 3 and monster.body in ("tall", "triangular")
    places = {1: (60,), 2: (48, 72), 3: (46, 60, 74) if narrow else (42, 60, 78)}[monster.eyes]
    radius = 6 if narrow else {1: 13, 2: 9, 3: 7}[monster.eyes]
    for x in places:
        pen.ellipse(_u(x - radius, y - radius, x + radius, y + radius), fill=(255, 255, 255, 255), outline=INK, width=UNIT)
        pen.ellipse(_u(x - radius / 2, y - radius / 2, x + radius / 2, y + radius / 2), fill=(15, 15, 15, 255))
    _mouth(monster.mouth, pen, y + 22)


def _mouth(mouth: str, pen: ImageDraw.ImageDraw, y: int) -> None:
    """The mouth around height y."""
    if mouth == "happy":
        pen.chord(_u(48, y - 10, 72, y + 8), 0, 180, fill=(90, 20, 30, 255))
    elif mouth == "sad":
        pen.arc(_u(48, y, 72, y + 14), 190, 350, fill=(40, 15, 20, 255), width=3 * UNIT)
    elif mouth == "round":
        pen.ellipse(_u(54, y - 6, 66, y + 6), fill=(70, 15, 25, 255))
    else:
        pen.rectangle(_u(46, y - 5, 74, y + 5), fill=(60, 15, 25, 255))
        for x in range(46, 74, 7):
            pen.polygon([_u(x, y - 5), _u(x + 7, y - 5), _u(x + 3.5, y + 3)], fill=(255, 255, 255, 255))


Fill = tuple[int, ...]


def _party_hat(pen: ImageDraw.ImageDraw, top: int, fill: Fill, _: Fill) -> None:
    pen.polygon([_u(60, top - 30), _u(44, top + 4), _u(76, top + 4)], fill=fill, outline=INK)


def _top_hat(pen: ImageDraw.ImageDraw, top: int, fill: Fill, _: Fill) -> None:
    pen.rectangle(_u(36, top - 2, 84, top + 4), fill=fill)
    pen.rectangle(_u(45, top - 26, 75, top), fill=fill)


def _horns(pen: ImageDraw.ImageDraw, top: int, fill: Fill, _: Fill) -> None:
    for side in (-1, 1):
        pen.polygon([_u(60 + side * 10, top + 6), _u(60 + side * 26, top + 10), _u(60 + side * 28, top - 18)], fill=fill)


def _antenna(pen: ImageDraw.ImageDraw, top: int, fill: Fill, dark: Fill) -> None:
    pen.line(_u(60, top + 2, 60, top - 18), fill=dark, width=3 * UNIT)
    pen.ellipse(_u(53, top - 26, 67, top - 12), fill=fill)


def _bow(pen: ImageDraw.ImageDraw, top: int, fill: Fill, dark: Fill) -> None:
    for side in (-1, 1):
        pen.polygon([_u(60, top), _u(60 + side * 20, top - 10), _u(60 + side * 20, top + 10)], fill=fill)
    pen.ellipse(_u(55, top - 5, 65, top + 5), fill=dark)


def _crown(pen: ImageDraw.ImageDraw, top: int, fill: Fill, _: Fill) -> None:
    points = ((42, 4), (40, -20), (50, -8), (60, -24), (70, -8), (80, -20), (78, 4))
    pen.polygon([_u(x, top + y) for x, y in points], fill=(250, 205, 50, 255), outline=(150, 110, 10, 255))


HAT_PENS = {"party hat": _party_hat, "top hat": _top_hat, "horns": _horns, "antenna": _antenna, "bow": _bow, "crown": _crown}

CHARACTERS: tuple[tuple[str, Monster], ...] = (
    ("mo-teal", Monster("round", "teal", 3, "toothy", "top hat", "pink", "spotted", "yellow")),
    ("mo-plum", Monster("square", "purple", 1, "happy", "horns", "orange", "striped", "white", legs=True, arms=False)),
    ("mo-lime", Monster("tall", "green", 2, "sad", "bow", "red", "", "white", legs=False, arms=True)),
    ("mo-rust", Monster("triangular", "orange", 3, "round", "antenna", "blue", "spotted", "black", legs=True, arms=False)),
)
"""Characters that no training picture shows: `held_out` keeps their likes away. The first is the sample project's."""


def held_out(monster: Monster) -> bool:
    """Whether a monster shares body, colour and hat with a character that must stay unseen."""
    return any((c.body, c.colour, c.hat) == (monster.body, monster.colour, monster.hat) for _, c in CHARACTERS)


assert all(c.colour in COLOURS and c.hat in HAT_PENS for _, c in CHARACTERS)
