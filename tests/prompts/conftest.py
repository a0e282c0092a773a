"""What tests of the prompt language share: counting work in the place of measuring time."""

import sys
from collections.abc import Callable
from types import FrameType

import pytest


@pytest.fixture
def work() -> Callable[..., int]:
    """Count the lines of the studio that a call runs: the same on every machine, and it grows with what the call does."""

    def count(call: Callable[..., object], *args: object) -> int:
        lines = 0

        def trace(frame: FrameType, event: str, _: object) -> object:
            nonlocal lines
            lines += event == "line"
            return trace if "studio" in frame.f_code.co_filename else None

        before = sys.gettrace()
        sys.settrace(trace)
        try:
            call(*args)
        finally:
            sys.settrace(before)
        return lines

    return count
