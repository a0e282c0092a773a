"""What a whole prompt says: comments, the parts that AND joins with their weights, and the text of each part at each step."""

import math
import re
from dataclasses import dataclass

from studio.errors import InputError
from studio.prompts.editing import schedule
from studio.requests.generate import PROMPT_LIMIT

LETTER_LIMIT = 2 * PROMPT_LIMIT
"""How many letters a prompt may have after styles were added to it."""
_AND = re.compile(r"\bAND\b")
_COMMENT_LINE = re.compile(r"(^|\n)#[^\n]*(\n|$)")
_COMMENT = re.compile(r"#[^\n]*(\n|$)")
_WEIGHT = re.compile(r"[-+]?(?:\d*\.\d+|\d+\.?)")


@dataclass(frozen=True)
class Part:
    """One prompt among those that AND joins: how much it counts, and its text until which step, counted from 1."""

    weight: float
    texts: tuple[tuple[int, str], ...]

    def at(self, step: int) -> str:
        """The text at a step counted from 0, the last one's beyond the end. A1111 compares that number with the step a text lasts until, so the first text lasts one step longer than it says."""
        return next((text for until, text in self.texts if step <= until), self.texts[-1][1])


def without_comments(text: str) -> str:
    """A prompt without what stands between # and the end of its line."""
    return _COMMENT.sub("\n", _COMMENT_LINE.sub("\n", text)) if "#" in text else text


def parts(text: str) -> list[tuple[str, float]]:
    """The prompts that AND joins, each with the weight after its last colon; a prompt without AND has one, which may have a weight too."""
    return [_weighed(part) for part in _AND.split(text)]


def _weighed(text: str) -> tuple[str, float]:
    """A text and the number after its last colon; 1 when there is none."""
    before, colon, after = text.rpartition(":")
    weight = float(after) if colon and _WEIGHT.fullmatch(after.strip()) else math.inf
    return (before.rstrip(), weight) if math.isfinite(weight) else (text.rstrip(), 1.0)


def positive(text: str, steps: int, hires_steps: int = 0, old: bool = False) -> tuple[Part, ...]:
    """A positive prompt for every step; `hires_steps` above 0 means the second pass of a hires fix, `old` A1111's prompt editing from before 1.6. Raises InputError when it is too long."""
    return tuple(Part(weight, _texts(part, steps, hires_steps, old)) for part, weight in parts(_short(text)))


def negative(text: str, steps: int, hires_steps: int = 0, old: bool = False) -> Part:
    """A negative prompt for every step, where AND and a weight at the end stay text, as in A1111. Raises InputError when it is too long."""
    return Part(1.0, _texts(_short(text), steps, hires_steps, old))


def _texts(text: str, steps: int, hires_steps: int, old: bool) -> tuple[tuple[int, str], ...]:
    """The text until each step."""
    return tuple(schedule(text, steps, hires_steps, hires_steps > 0, old))


def _short(text: str) -> str:
    """The text, when it is short enough to be read at once."""
    if len(text) > LETTER_LIMIT:
        raise InputError(f"The prompt has {len(text):,} letters with its styles; at most {LETTER_LIMIT:,} are read.", "Shorten it, or take a style away.")
    return text
