"""How the doctor mends one caption: shortened at a tag, with the word that is taught, brackets escaped, tags once."""

import re
from collections.abc import Callable, Sequence

from studio.projects.caption_checks import BRACKET, PLACES, common, holds
from studio.projects.captions import split_tags
from studio.projects.case import Case
from studio.projects.facts import Item
from studio.prompts.chunks import CHUNK

_BORDERS = (re.compile(r"\s*[,，、\n]"), re.compile(r"\s+"), re.compile(r"(?!^)"))
"""Where a caption may end: before a comma or a new line, else before a space, else before any letter."""


def trimmed(case: Case, item: Item) -> str:
    """The longest beginning of a caption whose final prompt fits into one chunk, ending at a tag, else at a word, else at a letter."""
    for pattern in _BORDERS:
        ends = [match.start() for match in pattern.finditer(item.caption) if match.start()]
        fitting = _longest(ends, lambda end: case.tokens(item.caption[:end]) <= CHUNK)
        if fitting:
            return item.caption[:fitting].rstrip(" ,，、")
    return ""


def _longest(ends: Sequence[int], fits: Callable[[int], bool]) -> int:
    """The last of rising places that fits, 0 for none; steps double first, so that the far end of a long text is never looked at."""
    low, step = -1, 1
    while low + step < len(ends) and fits(ends[low + step]):
        low, step = low + step, step * 2
    high = min(low + step, len(ends))
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(ends[middle]) else (low, middle)
    return ends[low] if low >= 0 else 0


def with_trigger(case: Case, item: Item) -> str:
    """The caption with the word in front, unless it stands there already."""
    trigger = case.aim.trigger
    return item.caption if holds(item.caption, trigger) else ", ".join(filter(None, (trigger, item.caption)))


def escaped(case: Case, item: Item) -> str:
    """The caption with a backslash before each bracket of emphasis; [name] and [filewords] stay places to fill."""
    pieces = re.split(f"({PLACES.pattern})", item.caption)
    return "".join(piece if PLACES.fullmatch(piece) else BRACKET.sub(_escape, piece) for piece in pieces)


def _escape(found: re.Match[str]) -> str:
    """A bracket with an odd number of backslashes before it."""
    return found[0] if len(found[1]) % 2 else f"{found[1]}\\{found[2]}"


def deduped(case: Case, item: Item) -> str:
    """The caption with each tag once, where it stood first."""
    return ", ".join({tag.casefold(): tag for tag in reversed(split_tags(item.caption))}[key] for key in dict.fromkeys(tag.casefold() for tag in split_tags(item.caption)))


def without_common(case: Case, item: Item) -> str:
    """The caption without the tags that stand in every caption."""
    known = {tag.casefold() for tag in common(case)}
    return ", ".join(tag for tag in split_tags(item.caption) if tag.casefold() not in known)
