"""Attaching: what is put on a model for the length of a block, and can be taken off within it."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager


class Attachment:
    """Something that can be on a model once; `put` makes the block within which it is on."""

    def __init__(self, put: Callable[[], AbstractContextManager[object]]) -> None:
        self._made = put
        self._here: ExitStack | None = None

    def on(self) -> AbstractContextManager[None]:
        """On for the length of the block; within another such block it stays on."""
        return self._turned(True)

    def off(self) -> AbstractContextManager[None]:
        """Within `on`: the model as it was, for the length of the block."""
        return self._turned(False)

    @contextmanager
    def _turned(self, on: bool) -> Iterator[None]:
        """On or off for the length of the block, then as it was before."""
        before = self._here is not None
        self._turn(on)
        try:
            yield
        finally:
            self._turn(before)

    def _turn(self, on: bool) -> None:
        """Put it on or take it off, unless it is so."""
        if on and self._here is None:
            with ExitStack() as stack:
                stack.enter_context(self._made())
                self._here = stack.pop_all()
        elif not on and self._here is not None:
            here, self._here = self._here, None
            here.close()
