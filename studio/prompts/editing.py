"""Prompt editing `[from:to:when]` and alternation `[a|b]`: which text the prompt is at each step."""

import math
import re
from dataclasses import dataclass, field
from itertools import pairwise

from studio.errors import InputError

_TOKEN = re.compile(r"\\.|[()\[\]:|]|[^\\()\[\]:|]+|\\")
_WHEN = re.compile(r"\s*([+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)\s*")
CHANGE_LIMIT = 300_000
"""How many places may change in all texts of a schedule together."""
LETTER_LIMIT = 10_000_000
"""How many letters all texts of a schedule may have together."""


def schedule(text: str, steps: int, hires_steps: int = 0, second_pass: bool = False, old: bool = False) -> list[tuple[int, str]]:
    """The prompt as (until which step, text), the last until the last step; raises InputError where the texts would fill the memory.

    Steps count from 1. A step with a dot is a share of all steps. In the second pass of a hires fix (`hires_steps`; 0 = as many), numbers go on where the first pass ended, shares from 1.0 to 2.0.
    `old` reads it as A1111 did before 1.6: a step below 1 is a share and any other a number, and the second pass counts as the first does.
    Steps that it has beyond those of the first pass show the first text.
    """
    edits = _read(text)
    total = (hires_steps or steps) if second_pass and not old else steps
    if not edits:
        return [(total, text)]
    until = _until_old if old else _until
    ends = {start: until(edit.when, steps, total, second_pass) for start, edit in edits.items() if edit.when}
    lengths = {len(edit.parts) for edit in edits.values() if not edit.when}
    stops = set(range(1, total + 1)) if lengths else {total, *(end for end in ends.values() if end >= 1)}
    texts = _texts(_Script(text, edits), ends, sorted(stops), math.lcm(*lengths))
    return [*texts, (hires_steps, texts[0][1])] if old and second_pass and hires_steps > total else texts


@dataclass
class _Edit:
    """One bracket that changes: where its parts lie in the text, where it ends, and, for editing, when it switches."""

    parts: list[tuple[int, int]]
    end: int
    when: str = ""


@dataclass
class _Frame:
    """A bracket that is still open: where, of which kind, and where separators stand directly in it."""

    start: int
    kind: str
    colons: list[int] = field(default_factory=list)
    bars: list[int] = field(default_factory=list)


def _read(text: str) -> dict[int, _Edit]:
    """Every bracket that changes, by where it begins. A bar outside square brackets, or a backslash before nothing, leaves the whole text as it is (A1111's grammar has no place for them)."""
    if "[" not in text or not (":" in text or "|" in text):
        return {}
    edits: dict[int, _Edit] = {}
    stack: list[_Frame] = []
    for match in _TOKEN.finditer(text):
        token, at = match.group(), match.start()
        if token in "([":
            stack.append(_Frame(at, token))
        elif token == "\\" or (token in ":|" and not _separate(stack, token, at)):
            return {}
        elif token in ")]" and stack and not _close(text, stack, edits, at):
            if any(frame.bars for frame in stack):
                return {}
            stack.clear()
    return {} if any(frame.bars for frame in stack) else dict(sorted(edits.items()))


def _separate(stack: list[_Frame], token: str, at: int) -> bool:
    """A separator in the innermost bracket; False for a bar that stands nowhere near a square one."""
    if token == ":":
        if stack:
            stack[-1].colons.append(at)
        return True
    if stack and stack[-1].kind == "[":
        stack[-1].bars.append(at)
        return True
    return False


def _close(text: str, stack: list[_Frame], edits: dict[int, _Edit], at: int) -> bool:
    """Close the innermost bracket at `at`; False when it fits no rule, which leaves it and all around it plain text."""
    frame = stack[-1]
    if frame.kind + text[at] not in ("()", "[]"):
        return False
    if frame.kind == "(":
        fits = len(frame.colons) <= 1
    elif frame.bars:
        fits = not frame.colons
        edits.update({frame.start: _Edit(_between(frame.start, frame.bars, at), at + 1)} if fits else {})
    elif frame.colons:
        when = _WHEN.fullmatch(text, frame.colons[-1] + 1, at)
        fits = len(frame.colons) <= 2 and when is not None
        if when is not None and fits:
            parts = _between(frame.start, frame.colons, at)[:-1]
            edits[frame.start] = _Edit([(frame.start, frame.start), *parts][-2:], at + 1, when.group(1))
    else:
        fits = True
    if fits:
        stack.pop()
    return fits


def _between(start: int, separators: list[int], end: int) -> list[tuple[int, int]]:
    """The spans that separators leave inside a bracket."""
    cuts = [start, *separators, end]
    return [(a + 1, b) for a, b in pairwise(cuts)]


def _until(when: str, first: int, total: int, second_pass: bool) -> int:
    """The last step of what comes before an edit; 0 or less when it never shows."""
    value = float(when)
    value = (value - second_pass) * total if "." in when else value - first * second_pass
    return int(max(-1.0, min(float(total), value)))


def _until_old(when: str, _first: int, total: int, _second_pass: bool) -> int:
    """The same as A1111 read it before 1.6."""
    value = float(when)
    return int(max(-1.0, min(float(total), value * total if value < 1 else value)))


class _Script:
    """A text with its edits as jumps, so that the text of a step is put together without walking through what it leaves out."""

    def __init__(self, text: str, edits: dict[int, _Edit]) -> None:
        self.text = text
        self.edits = edits
        self.leaves = {end: edit.end for edit in edits.values() for _, end in edit.parts}
        self.marks = sorted({*edits, *self.leaves})

    def at(self, step: int, ends: dict[int, int]) -> str:
        """The text at a step, counted from 1."""
        out: list[str] = []
        position = 0
        for mark in self.marks:
            if mark < position:
                continue
            out.append(self.text[position:mark])
            edit = self.edits.get(mark)
            if edit is None:
                position = self.leaves[mark]
            else:
                start, end = edit.parts[int(step > ends[mark]) if edit.when else (step - 1) % len(edit.parts)]
                position = edit.end if start == end else start
        return "".join([*out, self.text[position:]])


def _texts(script: _Script, ends: dict[int, int], stops: list[int], period: int) -> list[tuple[int, str]]:
    """The text until each stop; steps between the same edits that alternate alike share one."""
    moments = sorted(set(ends.values()))
    keys = [(sum(stop > moment for moment in moments), (stop - 1) % period) for stop in stops]
    count = len(set(keys))
    if count * len(script.marks) > CHANGE_LIMIT or count * len(script.text) > LETTER_LIMIT:
        raise InputError(
            f"The prompt changes in {len(script.edits)} places over {count} steps, which is more than can be kept.", "Take out some of the square brackets with a colon or a bar, or shorten it."
        )
    texts: dict[tuple[int, int], str] = {}
    for stop, key in zip(stops, keys, strict=True):
        if key not in texts:
            texts[key] = script.at(stop, ends)
    return [(stop, texts[key]) for stop, key in zip(stops, keys, strict=True)]
