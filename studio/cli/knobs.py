"""Requests as options of the command line: one for each knob, checked by the request itself."""

import argparse
from pathlib import Path
from typing import Any

from studio.config import Config, Control, controls


def add_knobs(parser: argparse.ArgumentParser, cls: type[Config], skip: set[str]) -> None:
    """One option per knob of a request; values stay text and are checked by the request itself."""
    for knob in controls(cls):
        if knob.name not in skip:
            flag = f"--{knob.name.replace('_', '-')}"
            text = knob.help.replace("%", "%%")
            if knob.kind == "flag":
                parser.add_argument(flag, action=argparse.BooleanOptionalAction, default=None, help=text)
            elif knob.kind == "choices":
                parser.add_argument(flag, action="append", choices=knob.choices or None, help=text, metavar="NAME")
            else:
                parser.add_argument(flag, default=None, help=_described(knob, text), metavar=knob.kind.upper())


def _described(knob: Control, text: str) -> str:
    """A knob's sentence with its choices and default."""
    choices = f" One of: {', '.join(knob.choices)}." if knob.choices else ""
    default = "" if knob.default in (None, "") else f" (default {knob.default})"
    return f"{text}{choices}{default}".replace("%", "%%").replace("%%%%", "%%")


def given(arguments: argparse.Namespace, cls: type[Config]) -> dict[str, Any]:
    """The knobs that were given."""
    return {name: getattr(arguments, name) for name in cls.model_fields if getattr(arguments, name, None) is not None}


def absolute(value: str) -> str:
    """A path as the worker must see it, whatever folder it runs in."""
    return str(Path(value).expanduser().resolve()) if value else ""
