"""A person's regular expressions, kept from taking long: short patterns, few repeats, and a time for every search and for all together."""

import re
import time
from collections.abc import Callable

import regex

from studio.errors import InputError

LONGEST_PATTERN = 1000
LONGEST_MADE = 2_000_000
"""Letters that the replacements in one text may have together."""
LONGEST_TEXT = 20_000
"""Letters of a text that is searched; longer ones are left alone."""
SEARCH_SECONDS = 0.25
"""Time of one search."""
ALL_SECONDS = 5.0
"""Time of all searches of one request."""
_REPEATS = 200_000
"""Letters of a pattern after its {repeats} are written out, which is how it is compiled."""
_COUNTS = re.compile(r"\{([^{}]*)\}")
_REFUSALS = (regex.error, RecursionError, OverflowError, MemoryError, ValueError, KeyError, IndexError, TypeError, AttributeError)
"""What compiling a pattern, or filling in its replacement, is known to end in."""


class Pattern:
    """A pattern that replaces; raises InputError with the reason and the place when it cannot be understood."""

    def __init__(self, pattern: str, replacement: str, match_case: bool) -> None:
        self.deadline = time.monotonic() + ALL_SECONDS
        self.made = 0
        if len(pattern) > LONGEST_PATTERN:
            raise InputError(f"Find: the pattern has {len(pattern):,} letters; at most {LONGEST_PATTERN:,} are read.", "Shorten it.")
        _check_repeats(pattern)
        try:
            self.compiled = regex.compile(pattern, 0 if match_case else regex.IGNORECASE)
        except _REFUSALS as error:
            raise InputError(f"Find: the pattern {pattern!r} cannot be understood: {_reason(error)}.", "To find the text as it stands, choose the mode text.") from error
        self.replace = self._template(replacement)

    def _template(self, replacement: str) -> Callable[["regex.Match[str]"], str]:
        """What fills in `\\1` and `\\g<name>`; raises InputError for a group that the pattern has not."""
        groups = max(self.compiled.groups, 0)
        for number in re.findall(r"(?<!\\)(?:\\\\)*\\(?:g<(\d+)>|([1-9]\d?))", replacement):
            wanted = int(number[0] or number[1])
            if wanted > groups:
                raise InputError(f"Replace: the pattern has {groups} groups in round brackets, so there is no \\{wanted}.", "Groups are counted from \\1.")
        return lambda match: self._made(match.expand(replacement))

    def _made(self, text: str) -> str:
        """What comes in the place of one match; raises InputError when it is too much together."""
        self.made += len(text)
        if self.made > LONGEST_MADE:
            raise InputError("Replace: it makes captions of millions of letters.", "A group that holds the whole caption is put in at every place; write it in another way.")
        return text

    def substitute(self, text: str, where: str) -> tuple[str, int]:
        """The text with everything replaced, and how often; raises InputError when it takes too long, naming `where`."""
        left, self.made = self.deadline - time.monotonic(), 0
        try:
            return self.compiled.subn(self.replace, text, timeout=min(SEARCH_SECONDS, max(left, 1e-6)))
        except TimeoutError:
            raise InputError(f"Find: the pattern {self.compiled.pattern!r} takes too long on {where}.", "Repeats inside repeats, such as (a+)+, do that; write it in another way.") from None
        except _REFUSALS as error:
            raise InputError(f"Replace: it cannot be filled in: {_reason(error)}.", "Write \\\\ for a backslash; groups are \\1 or \\g<name>.") from error


def _check_repeats(pattern: str) -> None:
    """Refuses repeats that would fill the memory when compiled: a{1000}{1000} is a million letters."""
    size = max(1, len(pattern))
    for inside in _COUNTS.findall(pattern):
        numbers = [int(number[:9]) for number in re.findall(r"\d+", re.sub(r"\s", "", inside))]
        size *= max(1, *numbers)
    if size > _REPEATS:
        raise InputError(f"Find: the repeats in {{}} of {pattern[:100]!r} are too many together.", "Use * or + instead.")


def _reason(error: BaseException) -> str:
    """Why a pattern cannot be used."""
    if isinstance(error, regex.error):
        place = f" at character {error.pos + 1}" if error.pos is not None else ""
        return f"{error.msg}{place}"
    if isinstance(error, RecursionError):
        return "its brackets are nested too deeply"
    return str(error) or type(error).__name__
