"""Tables of pictures with words beside the rows and above the columns."""

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont

from studio.requests.scripts import Label

MEGAPIXELS = 200.0
"""A table is no larger than this (A1111's limit); larger ones are drawn smaller."""
LONGEST = 16_000
"""Pixels of a table's longer side, at most: more than this few programs open."""
_FONTS = ("NotoSansCJK-Regular.ttc", "NotoSansSC-Regular.otf", "msyh.ttc", "PingFang.ttc", "Hiragino Sans GB.ttc", "wqy-zenhei.ttc", "DroidSansFallbackFull.ttf", "DejaVuSans.ttf")
"""Fonts that a system may have, those with Chinese first."""
_INK, _FADED, _PAPER = (0, 0, 0), (153, 153, 153), (255, 255, 255)
_MOST_LINES = 12

Labels = Sequence[Sequence[Label]]
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


@dataclass(frozen=True)
class Words:
    """What stands around a table: words above each column and beside each row; empty ones take no room."""

    columns: Labels = ()
    rows: Labels = ()


@functools.cache
def _font_file() -> str:
    """The first font that is here; empty when only Pillow's own is."""
    for name in _FONTS:
        try:
            ImageFont.truetype(name, 12)
        except OSError:
            continue
        return name
    return ""


@functools.lru_cache(64)
def _font(size: int) -> Font:
    """A font of a size in pixels."""
    return ImageFont.truetype(_font_file(), size) if _font_file() else ImageFont.load_default(size)


def table(pictures: Mapping[tuple[int, int], Image.Image], shape: tuple[int, int], words: Words | None = None, margin: int = 0, megapixels: float = MEGAPIXELS) -> Image.Image:
    """Pictures by (column, row) in a table of `shape` = (columns, rows), white where there is none; drawn smaller when it would be too large."""
    words = words or Words()
    width, height = max((p.width for p in pictures.values()), default=64), max((p.height for p in pictures.values()), default=64)
    scale = _fitting((width, height), shape, words, margin, megapixels)
    cell = (max(1, int(width * scale)), max(1, int(height * scale)))
    gap = int(margin * scale)
    size = max(9, min(cell) // 16)
    above = _drawn(words.columns, cell[0], size)
    beside = _drawn(words.rows, _beside(cell[0]), size)
    left, top = (_beside(cell[0]) if any(beside) else 0), max((image.height for image in above if image), default=0)
    sheet = Image.new("RGB", (left + shape[0] * (cell[0] + gap) - gap, top + shape[1] * (cell[1] + gap) - gap), _PAPER)
    for (column, row), picture in pictures.items():
        small = picture.convert("RGB") if scale == 1 else picture.convert("RGB").resize((max(1, int(picture.width * scale)), max(1, int(picture.height * scale))), Image.Resampling.LANCZOS)
        sheet.paste(small, (left + column * (cell[0] + gap) + (cell[0] - small.width) // 2, top + row * (cell[1] + gap) + (cell[1] - small.height) // 2))
    for column, image in enumerate(above):
        if image:
            sheet.paste(image, (left + column * (cell[0] + gap), (top - image.height) // 2))
    for row, image in enumerate(beside):
        if image:
            shown = image if image.height <= cell[1] else image.resize((max(1, image.width * cell[1] // image.height), cell[1]), Image.Resampling.LANCZOS)
            sheet.paste(shown, ((left - shown.width) // 2, top + row * (cell[1] + gap) + (cell[1] - shown.height) // 2))
    return sheet


def _beside(width: int) -> int:
    """Room for words beside a row."""
    return max(48, width * 3 // 4)


def _fitting(cell: tuple[int, int], shape: tuple[int, int], words: Words, margin: int, megapixels: float) -> float:
    """How much smaller than it is a table must be drawn; 1 = as it is."""
    left = _beside(cell[0]) if any(words.rows) else 0
    top = cell[1] // 2 if any(words.columns) else 0
    width, height = left + shape[0] * (cell[0] + margin), top + shape[1] * (cell[1] + margin)
    return min(1.0, math.sqrt(megapixels * 1e6 / (width * height)), LONGEST / max(width, height))


def _drawn(labels: Labels, width: int, size: int) -> list[Image.Image | None]:
    """Each label as a picture of a width, as high as its words need; None for an empty one."""
    return [_written(label, width, size) if any(line.text for line in label) else None for label in labels]


def _written(label: Sequence[Label], width: int, size: int) -> Image.Image:
    """The lines of a label, wrapped and centred; inactive ones are grey and struck through."""
    pad = max(2, size // 3)
    font = _font(size)
    lines = [(line, part.active) for part in label for line in _wrapped(part.text, font, width - 2 * pad)]
    step = size + pad
    image = Image.new("RGB", (width, step * len(lines) + 2 * pad), _PAPER)
    draw = ImageDraw.Draw(image)
    for number, (text, active) in enumerate(lines):
        wide = draw.textlength(text, font=font)
        x, y = (width - wide) / 2, pad + number * step
        draw.text((x, y), text, fill=_INK if active else _FADED, font=font, anchor="lt" if isinstance(font, ImageFont.FreeTypeFont) else None)
        if not active:
            draw.line((x, y + size // 2, x + wide, y + size // 2), fill=_FADED, width=max(1, size // 10))
    return image


def _wrapped(text: str, font: Font, width: int) -> list[str]:
    """A text in lines that fit a width in pixels: between words where that goes, else inside them; cut short after a dozen lines."""
    lines: list[str] = []
    for paragraph in text[:2000].splitlines() or [""]:
        line = ""
        for word in paragraph.split(" "):
            joined = f"{line} {word}" if line else word
            if font.getlength(joined) <= width:
                line = joined
                continue
            if line:
                lines.append(line)
            *whole, line = _pieces(word, font, width)
            lines += whole
        lines.append(line)
    return lines if len(lines) <= _MOST_LINES else [*lines[: _MOST_LINES - 1], "..."]


def _pieces(word: str, font: Font, width: int) -> list[str]:
    """A word in parts that fit a width; Chinese, which knows no spaces, breaks anywhere."""
    parts = [""]
    for character in word:
        if parts[-1] and font.getlength(parts[-1] + character) > width:
            parts.append("")
        parts[-1] += character
    return parts


def titled(pictures: Sequence[Image.Image], titles: Labels, megapixels: float = MEGAPIXELS) -> Image.Image:
    """Tables side by side, each under its title."""
    return table({(i, 0): picture for i, picture in enumerate(pictures)}, (len(pictures), 1), Words(columns=titles), megapixels=megapixels)
