"""Exceptions raised by the page's events are shown as messages in the user's language; their own text, which may contain a path or code, goes to the server's log."""

import functools
import logging
from collections.abc import Callable
from typing import Any

import gradio as gr
from gradio.exceptions import Error

from studio.errors import StudioError, disk_error
from studio.ui.words import complaint

log = logging.getLogger("studio.ui")


def explain_errors(blocks: gr.Blocks) -> None:
    """Wrap the function of every event: whatever it raises is shown as a toast that says what was wrong."""
    for event in blocks.fns.values():
        if event.fn is not None:
            event.fn = explained(event.fn)


def explained(function: Callable[..., Any]) -> Callable[..., Any]:
    """A plain function, neither a generator nor async, that raises nothing but gr.Error in the words of the page."""

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except Error:
            raise
        except StudioError as error:
            raise complaint(str(error)) from error
        except Exception as error:  # gradio would show its text on the page
            known = disk_error(error) if isinstance(error, OSError) else None
            log.exception("an event of the page failed")
            raise complaint(str(known or f"Something unforeseen happened ({type(error).__name__}). The server's log holds the details.")) from error

    return call
