"""Every event of the page answers a failure with a sentence: no path, no exception's text, no traceback."""

import errno
import os
from collections.abc import Callable
from typing import Any

import gradio as gr
import pytest

from studio.engine import Engine
from studio.errors import NotFound, StudioError
from studio.settings import Paths
from studio.ui.app import build, mount_options
from studio.ui.event_errors import explained

CODE = explained(lambda: None).__code__


def test_every_event_of_the_page_is_guarded(root: Paths) -> None:
    blocks = build(Engine(root))
    functions = [event.fn for event in blocks.fns.values() if event.fn is not None]
    assert len(functions) > 50
    assert [function for function in functions if function.__code__ is not CODE] == []
    assert mount_options(root)["show_error"] is False


def raising(error: Exception) -> Callable[..., Any]:
    def fail() -> None:
        raise error

    return fail


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (NotFound("There is no x.", "Choose y."), "There is no x. Choose y."),
        (OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG), "/home/ann/" + "n" * 300), "longer than the disk allows"),
        (PermissionError(errno.EACCES, os.strerror(errno.EACCES), "/home/ann/x"), "may not read or write there"),
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/home/ann/x"), "The disk is full."),
        (KeyError("/home/ann/x"), "Something unforeseen happened (KeyError)."),
        (ValueError("embedded null byte"), "Something unforeseen happened (ValueError)."),
    ],
)
def test_what_an_event_raises_is_told_in_words(error: Exception, said: str) -> None:
    with pytest.raises(gr.Error) as told:
        explained(raising(error))()
    assert said in told.value.message and "/home" not in told.value.message


def test_a_toast_that_is_raised_on_purpose_stays_as_it_is() -> None:
    with pytest.raises(gr.Error, match="on purpose"):
        explained(raising(gr.Error("on purpose")))()
    assert not issubclass(gr.Error, StudioError)
