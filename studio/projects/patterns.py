"""Find and replace with a user's regular expression: a limited pattern and a limited result."""

import re
from collections.abc import Callable

import regex

from studio.errors import InputError
from studio.safe_regex import REFUSALS, SafeRegex, reason

LONGEST_MADE = 2_000_000
"""Characters that the replacements in one text may have together."""
LONGEST_TEXT = 20_000
"""Characters of a text that is searched; longer ones are left alone."""


class Pattern(SafeRegex):
    """A pattern with its replacement; raises InputError with the reason and the place when either is invalid."""

    def __init__(self, pattern: str, replacement: str, match_case: bool) -> None:
        super().__init__(pattern, "Find", match_case, "To find the text as it stands, choose the mode text.")
        self.made = 0
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
        self.made = 0
        try:
            return self.compiled.subn(self.replace, text, timeout=self.timeout)
        except TimeoutError:
            raise self.too_slow(where) from None
        except REFUSALS as error:
            raise InputError(f"Replace: it cannot be filled in: {reason(error)}.", "Write \\\\ for a backslash; groups are \\1 or \\g<name>.") from error
