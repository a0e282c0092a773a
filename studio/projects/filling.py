"""From a template line and a caption to the prompt that is trained on; the page and the trainer share these."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from studio.errors import InputError
from studio.projects.captions import split_tags

Span = tuple[int, int]
"""Where something begins and ends in a text."""
_FILEWORDS = re.compile(r"\[filewords\]")
_NAME = re.compile(r"\[name\]")
_DOUBLE_COMMA = re.compile(r",(\s*,)+")
_HANGING = re.compile(r"^[\s,]+|[\s,]+\Z")


class Draw(Protocol):
    """Random numbers: a generator of numpy's, or Python's own."""

    def random(self) -> float:
        """A number from 0 up to 1."""

    def shuffle(self, x: list[str]) -> None:
        """Put a list into a new order, in its place."""


@dataclass(frozen=True)
class Filled:
    """A prompt, and where the name and the caption stand in it; a caption that was empty stands nowhere."""

    text: str
    name_spans: tuple[Span, ...] = ()
    filewords_spans: tuple[Span, ...] = ()


def parse_template(text: str, name: str = "the template") -> tuple[str, ...]:
    """The prompts of a template, one per line; blank lines are not prompts. Raises InputError for a text without any."""
    lines = tuple(line.strip() for line in text.splitlines() if line.strip())
    if not lines:
        raise InputError(f"Prompt template: {name} holds no line.", 'Write one prompt per line, such as "a photo of [name]".')
    return lines


def filled(line: str, name: str, caption: str) -> Filled:
    """A template line with [filewords] and then [name] put in, also where the caption says [name]; commas left hanging by an empty caption go."""
    text, words, _ = _put(line, _FILEWORDS, caption, ())
    text, names, words = _put(text, _NAME, name, words)
    if not caption:
        text, _, names = _put(text, _DOUBLE_COMMA, ",", names)
        text, _, names = _put(text, _HANGING, "", names)
    return Filled(text, _shown(names), _shown(words) if caption else ())


def _put(text: str, pattern: re.Pattern[str], value: str, spans: Sequence[Span]) -> tuple[str, list[Span], list[Span]]:
    """The text with `value` for everything the pattern matches, where the values stand, and where `spans` of the old text stand now."""
    pieces, placed, moves, last, length = [], [], [], 0, 0
    for match in pattern.finditer(text):
        pieces += [text[last : match.start()], value]
        length += match.start() - last
        placed.append((length, length + len(value)))
        moves.append((match.start(), match.end(), length))
        length, last = length + len(value), match.end()
    pieces.append(text[last:])
    return "".join(pieces), placed, [(_moved(start, moves, len(value)), _moved(end, moves, len(value))) for start, end in spans]


def _moved(at: int, moves: Sequence[tuple[int, int, int]], length: int) -> int:
    """A place of the old text in the new one; inside what was replaced, the nearest place of what came there. `moves` say where each part began and ended, and where it begins now."""
    for start, end, now in reversed(moves):
        if at >= end:
            return now + length + at - end
        if at > start:
            return now + min(at - start, length)
    return at


def _shown(spans: Sequence[Span]) -> tuple[Span, ...]:
    """Spans that hold a letter."""
    return tuple(span for span in spans if span[0] < span[1])


def fill(line: str, name: str, caption: str) -> str:
    """A template line with [filewords] and [name] put in."""
    return filled(line, name, caption).text


def vary(caption: str, shuffle: bool, drop_out: float, draw: Draw) -> str:
    """The caption with its tags left out with probability `drop_out` and put in a new order; unchanged when neither is asked."""
    if not shuffle and not drop_out:
        return caption
    tags = [tag for tag in split_tags(caption) if draw.random() >= drop_out]
    if shuffle:
        draw.shuffle(tags)
    return ", ".join(tags)
