"""Wildcards that never take long: `*` is any text, `?` any letter, upper and lower case alike."""

import re
import unicodedata
from collections.abc import Sequence

ANY, ONE = "*", "?"
Letter = tuple[str, bool]
"""A letter and whether it is a wildcard."""


def folded(text: str) -> str:
    """A text as texts are compared: Unicode's composed form without upper case."""
    return text.lower() if text.isascii() else unicodedata.normalize("NFC", text).casefold()


class Wildcard:
    """A pattern; matching takes time in proportion to the text times the pattern, whatever the stars."""

    def __init__(self, letters: Sequence[Letter]) -> None:
        runs: list[list[Letter]] = [[]]
        for letter in letters:
            if letter == (ANY, True):
                runs.append([])
            else:
                runs[-1].append(letter)
        built = [_run(run) for run in runs]
        self.first, self.last = built[0], built[-1]
        self.single = len(built) == 1
        self.middle = [run for run in built[1:-1] if run[1]]
        self.every = [run[0] for run in built if run[1]]

    def whole(self, text: str) -> bool:
        """Whether a folded text is what the pattern says, from beginning to end."""
        pattern, length = self.first
        if self.single:
            return len(text) == length and pattern.match(text) is not None
        if pattern.match(text) is None:
            return False
        at = length
        for middle, size in self.middle:
            found = middle.search(text, at)
            if found is None:
                return False
            at = found.start() + size
        pattern, length = self.last
        return len(text) - length >= at and pattern.match(text, len(text) - length) is not None

    def within(self, text: str) -> bool:
        """Whether the pattern stands somewhere in a folded text."""
        at = 0
        for pattern in self.every:
            found = pattern.search(text, at)
            if found is None:
                return False
            at = found.end()
        return True


def _run(letters: Sequence[Letter]) -> tuple[re.Pattern[str], int]:
    """Letters between two stars as an expression without repeats, and how many letters of text it takes."""
    parts: list[str] = []
    plain = ""
    for letter, wild in letters:
        if wild:
            parts += [folded(plain), ONE]
            plain = ""
        else:
            plain += letter
    parts.append(folded(plain))
    source = "".join("." if i % 2 else re.escape(part) for i, part in enumerate(parts))
    return re.compile(source, re.DOTALL), sum(map(len, parts))
