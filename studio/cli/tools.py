"""Tools on the command line: `studio merge`, merge-lora, extract-lora, resize-lora, bake-lora, convert and metadata."""

import argparse
import json
import os
from typing import Any

from studio.cli.following import follow
from studio.cli.knobs import absolute, add_knobs, given
from studio.cli.saying import plain
from studio.config import Config
from studio.engine import Engine
from studio.networks.saying import said
from studio.requests.tools import BakeLoraRequest, ConvertRequest, ExtractLoraRequest, MergeLoraRequest, MergeRequest, ResizeLoraRequest
from studio.settings import Paths

COMMANDS: tuple[tuple[str, type[Config], str, tuple[str, ...]], ...] = (
    ("merge", MergeRequest, "merge checkpoints", ("primary", "secondary", "tertiary")),
    ("merge-lora", MergeLoraRequest, "merge LoRAs", ("loras",)),
    ("extract-lora", ExtractLoraRequest, "make a LoRA of what lies between two checkpoints", ("tuned", "original")),
    ("resize-lora", ResizeLoraRequest, "make a LoRA smaller", ("lora",)),
    ("bake-lora", BakeLoraRequest, "put LoRAs into a checkpoint for good", ("checkpoint", "loras")),
    ("convert", ConvertRequest, "prune a checkpoint, change its precision or its layout", ("checkpoint",)),
)
"""Command, its request, what it does, and which knobs are given by place."""
FILES = ("primary", "secondary", "tertiary", "tuned", "original", "checkpoint", "lora")
"""Knobs that name a file of a shelf, or one that lies elsewhere."""


def add_commands(commands: Any, shared: argparse.ArgumentParser) -> None:
    """Add the tools to the commands."""
    for name, request, text, places in COMMANDS:
        parser = commands.add_parser(name, parents=[shared], help=text)
        for place in places:
            field = request.model_fields[place]
            parser.add_argument(place, help=(field.description or "").replace("%", "%%"), nargs=None if field.is_required() else "?", default=None)
        add_knobs(parser, request, set(places))
        parser.set_defaults(run=_submit, request=request)
    metadata = commands.add_parser("metadata", parents=[shared], help="show what the header of a .safetensors file says")
    metadata.add_argument("file", help="the file, or its name on a shelf")
    metadata.set_defaults(run=_metadata)


def _submit(arguments: argparse.Namespace, paths: Paths) -> int:
    """studio TOOL ..."""
    values = given(arguments, arguments.request)
    values |= {name: _located(str(values[name])) for name in FILES if values.get(name)}
    return follow(Engine(paths), arguments.request.check(values), arguments.json)


def _located(name: str) -> str:
    """A file that lies here by its whole path, anything else as the name of a shelf."""
    return absolute(name) if os.sep in name and os.path.exists(os.path.expanduser(name)) else name


def _metadata(arguments: argparse.Namespace, paths: Paths) -> int:
    """studio metadata FILE"""
    found = said(paths, absolute(arguments.file) if os.path.isfile(os.path.expanduser(arguments.file)) else arguments.file)
    if arguments.json:
        print(json.dumps(found.as_json(), ensure_ascii=False))
    else:
        for name, value in found.rows():
            print(plain(f"{name}: {value}"))
    return 0
