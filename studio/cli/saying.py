"""What an act says on the command line: as JSON, or as lines."""

import json
from collections.abc import Sequence
from typing import Any

from studio.projects.data_sets import sayable

Say = tuple[Any, Sequence[str]]
"""What an act says: as JSON, and as lines."""


def told(as_json: bool, said: Say) -> int:
    """Print what an act says; returns the exit code."""
    facts, lines = said
    if as_json:
        print(json.dumps(sayable(facts), ensure_ascii=False))
    else:
        for line in lines:
            print(sayable(line))
    return 0
