"""Regular expressions typed by a user or found in a file: size limits, and a time limit on every search.

Anything that isn't written in this code base is compiled here and nowhere else, because a pattern such as `(a+)+b` takes time
exponential in the text and cannot be interrupted in `re`. `tests/test_house.py` looks for `re.compile` of anything else.
"""

import re
import time

import regex

from studio.errors import InputError

LONGEST_PATTERN = 1000
"""Characters of a pattern."""
SEARCH_SECONDS = 0.25
"""Time limit of one search."""
ALL_SECONDS = 5.0
"""Time limit of all searches with one pattern."""
_REPEATS = 200_000
"""Characters of a pattern after its {repeats} are written out, which is how it is compiled."""
_COUNTS = re.compile(r"\{([^{}]*)\}")
REFUSALS = (regex.error, RecursionError, OverflowError, MemoryError, ValueError, KeyError, IndexError, TypeError, AttributeError)
"""What compiling a pattern, or filling in its replacement, is known to raise."""


class SafeRegex:
    """A compiled pattern whose searches end in time.

    Args:
        pattern: the regular expression.
        field: label of the form field it was typed into; error messages begin with it.
        match_case: whether case matters.
        advice: what to write instead, for the error message of a pattern that can't be compiled.

    Raises:
        InputError: the pattern is too long, too large when compiled, or not a regular expression.
    """

    def __init__(self, pattern: str, field: str, match_case: bool = True, advice: str = "") -> None:
        self.pattern, self.field = pattern, field
        self.deadline = time.monotonic() + ALL_SECONDS
        if len(pattern) > LONGEST_PATTERN:
            raise InputError(f"{field}: the pattern has {len(pattern):,} characters; the limit is {LONGEST_PATTERN:,}.", "Shorten it.")
        _check_repeats(pattern, field)
        try:
            self.compiled = regex.compile(pattern, 0 if match_case else regex.IGNORECASE)
        except REFUSALS as error:
            raise InputError(f"{field}: {pattern!r} is not a valid regular expression: {reason(error)}.", advice) from error

    @property
    def timeout(self) -> float:
        """Seconds that the next search may take."""
        return min(SEARCH_SECONDS, max(self.deadline - time.monotonic(), 1e-6))

    def too_slow(self, where: str) -> InputError:
        """The error for a search that ran into its time limit; `where` names the text that was searched."""
        return InputError(f"{self.field}: the pattern {self.pattern!r} takes too long on {where}.", "Nested repeats such as (a+)+ cause this; write it in another way.")

    def search(self, text: str) -> bool:
        """Whether the pattern is found anywhere in a text; raises InputError when the search takes too long."""
        try:
            return self.compiled.search(text, timeout=self.timeout) is not None
        except TimeoutError:
            raise self.too_slow(repr(text[:100])) from None

    def fullmatch(self, text: str) -> bool:
        """Whether the pattern matches a whole text; raises InputError when that takes too long."""
        try:
            return self.compiled.fullmatch(text, timeout=self.timeout) is not None
        except TimeoutError:
            raise self.too_slow(repr(text[:100])) from None


def _check_repeats(pattern: str, field: str) -> None:
    """Refuse repeats that would fill the memory when compiled: a{1000}{1000} is a million characters."""
    size = max(1, len(pattern))
    for inside in _COUNTS.findall(pattern):
        numbers = [int(number[:9]) for number in re.findall(r"\d+", re.sub(r"\s", "", inside))]
        size *= max(1, *numbers)
    if size > _REPEATS:
        raise InputError(f"{field}: the repeats in {{}} of {pattern[:100]!r} multiply to too many.", "Use * or + instead.")


def reason(error: BaseException) -> str:
    """Why a pattern can't be used, for an error message."""
    if isinstance(error, regex.error):
        place = f" at character {error.pos + 1}" if error.pos is not None else ""
        return f"{error.msg}{place}"
    if isinstance(error, RecursionError):
        return "its brackets are nested too deeply"
    return str(error) or type(error).__name__
