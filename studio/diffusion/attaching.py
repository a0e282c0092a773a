"""Attaching: what is put on a model for the length of a block, and can be taken off within it."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager


class Attachment:
    """Something that can be on a model once; `put` makes the block within which it is on."""

    def __init__(self, put: Callable[[], AbstractContextManager[object]]) -> None:
        self._made = put
        self._here: ExitStack | None = None

    @contextmanager
    def on(self) -> Iterator[None]:
        """On for the length of the block; within another such block it stays on."""
        here = self._here is not None
        self._put()
        try:
            yield
        finally:
            if not here:
                self._take()

    @contextmanager
    def off(self) -> Iterator[None]:
        """Within `on`: the model as it was, for the length of the block."""
        here = self._here is not None
        self._take()
        try:
            yield
        finally:
            if here:
                self._put()

    def _put(self) -> None:
        """Put it on, unless it is."""
        if self._here is None:
            with ExitStack() as stack:
                stack.enter_context(self._made())
                self._here = stack.pop_all()

    def _take(self) -> None:
        """Take it off, if it is on."""
        if self._here is not None:
            here, self._here = self._here, None
            here.close()
