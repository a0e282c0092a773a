"""What an act says on the command line: as JSON, or as lines."""

import json
import re
from collections.abc import Sequence
from typing import Any

from studio.projects.data_sets import sayable

Say = tuple[Any, Sequence[str]]
"""What an act says: as JSON, and as lines."""

_CONTROL = re.compile("\\x1b(?:\\[[0-?]*[ -/]*[@-~]|[\\]PX^_][^\\x07\\x1b]*(?:\\x07|\\x1b\\\\)?|[ -/]*[0-~])?|[\\x00-\\x08\\x0b-\\x1f\\x7f-\\x9f\\u200e\\u200f\\u202a-\\u202e\\u2066-\\u2069]")
"""Escape sequences of terminals, other control characters than tab and line feed, and marks that turn the direction of reading."""


def plain(text: object) -> str:
    """A text that may come from a file, as a terminal can show it: what would move its cursor, set its title or hide words is left out."""
    return _CONTROL.sub("", sayable(str(text)))


def told(as_json: bool, said: Say) -> int:
    """Print what an act says; returns the exit code."""
    facts, lines = said
    if as_json:
        print(json.dumps(sayable(facts), ensure_ascii=False))
    else:
        for line in lines:
            print(plain(line))
    return 0
