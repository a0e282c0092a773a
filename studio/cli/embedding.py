"""Embeddings on the command line: `studio embedding` with create, list, show, convert, merge, prune, rename, duplicate, delete, trash and restore."""

import argparse
from collections.abc import Callable
from typing import Any

from studio import embedding_shelf as shelf
from studio import shelves
from studio.cli.following import follow
from studio.cli.knobs import absolute, add_knobs, given
from studio.cli.saying import Say, told
from studio.config import Config
from studio.engine import Engine
from studio.requests import CreateEmbeddingRequest
from studio.requests.embedding_room import EditEmbeddingRequest, InspectEmbeddingRequest
from studio.settings import Paths

TAKEN = {"convert": {"act", "names", "keep", "how", "weights"}, "merge": {"act", "names", "keep", "weights", "picture"}, "prune": {"act", "names", "keep", "how", "weights", "picture"}}
"""Knobs of an edit that an act sets itself, or does not use."""


def add_commands(commands: Any, shared: argparse.ArgumentParser) -> None:
    """Add `embedding` to the commands."""
    acts = commands.add_parser("embedding", help="make embeddings and look after them").add_subparsers(dest="act", required=True, metavar="ACT")
    create = acts.add_parser("create", parents=[shared], help="create an embedding")
    create.add_argument("name", help="the word you will write in prompts")
    add_knobs(create, CreateEmbeddingRequest, {"name"})
    create.set_defaults(run=lambda arguments, paths: _submit(arguments, paths, CreateEmbeddingRequest))

    show = acts.add_parser("show", parents=[shared], help="say what an embedding is like: lengths, nearest words, likeness, way from the start")
    show.add_argument("name", help="the embedding")
    add_knobs(show, InspectEmbeddingRequest, {"name"})
    show.set_defaults(run=lambda arguments, paths: _submit(arguments, paths, InspectEmbeddingRequest))

    for act, text, count in (("convert", "write an embedding in another layout", 1), ("merge", "join or average several embeddings", "+"), ("prune", "keep some vectors of an embedding", 1)):
        parser = acts.add_parser(act, parents=[shared], help=text)
        parser.add_argument("names", nargs=count, help="embeddings it is made from" if act == "merge" else "the embedding")
        add_knobs(parser, EditEmbeddingRequest, TAKEN[act])
        parser.set_defaults(run=_edit)
        if act == "merge":
            parser.add_argument("--weights", default="", metavar="NUMBERS", help=_help("weights") + " Such as 0.7,0.3.")
        if act == "prune":
            parser.add_argument("--keep", required=True, metavar="NUMBERS", help=_help("keep") + " Such as 1,3.")

    def plain(name: str, does: Callable[[argparse.Namespace, Paths], Say], text: str, *places: tuple[str, str]) -> None:
        parser = acts.add_parser(name, parents=[shared], help=text)
        for place, meaning in places:
            parser.add_argument(place, help=meaning)
        parser.set_defaults(run=lambda arguments, paths: told(arguments.json, does(arguments, paths.prepare())))

    which, new = ("name", "the embedding"), ("to", "the new name")
    plain("list", _list, "list embeddings with what they hold, or why they cannot be used")
    plain("rename", _rename, "give an embedding another name", which, new)
    plain("duplicate", _duplicate, "copy an embedding under another name", which, new)
    plain("delete", _delete, "move an embedding to the trash", which)
    plain("trash", _trash, "list embeddings in the trash")
    plain("restore", _restore, "bring an embedding back from the trash", ("id", "what delete or trash said"))


def _help(knob: str) -> str:
    """The sentence of a knob of an edit."""
    return EditEmbeddingRequest.model_fields[knob].description or ""


def _submit(arguments: argparse.Namespace, paths: Paths, request: type[Config]) -> int:
    """studio embedding create NAME / studio embedding show NAME"""
    return follow(Engine(paths), request.check(given(arguments, request)), arguments.json)


def _edit(arguments: argparse.Namespace, paths: Paths) -> int:
    """studio embedding convert NAME --layout png / merge NAMES --result NAME / prune NAME --keep 1,3"""
    values = given(arguments, EditEmbeddingRequest)
    if values.get("picture"):
        values["picture"] = absolute(values["picture"])
    if arguments.act == "convert":
        values.setdefault("shelf", bool(values.get("replace") or values.get("result")))
    return follow(Engine(paths), EditEmbeddingRequest.check(values), arguments.json)


def _list(_arguments: argparse.Namespace, paths: Paths) -> Say:
    """studio embedding list"""
    cards = [shelf.told(card) for card in shelves.embeddings(paths)]
    return cards, [f"{card['name']:<24} {_held(card)}" for card in cards] or ["There is no embedding yet."]


def _held(card: dict[str, Any]) -> str:
    """What an embedding holds, in a few words."""
    if card["problem"] or card["vectors"] is None:
        return str(card["problem"] or f"{card['file']}, not read yet")
    rest = [f"for {card['family']}" if card["family"] else "", f"{card['step']} steps" if card["step"] else "", card["file"]]
    return ", ".join(filter(None, [f"{card['vectors']} x {card['width']}", *rest]))


def _rename(arguments: argparse.Namespace, paths: Paths) -> Say:
    """studio embedding rename NAME TO"""
    done = shelf.rename(paths, arguments.name, arguments.to)
    return done, [done["path"], done["note"]]


def _duplicate(arguments: argparse.Namespace, paths: Paths) -> Say:
    """studio embedding duplicate NAME TO"""
    done = shelf.duplicate(paths, arguments.name, arguments.to)
    return done, [done["path"]]


def _delete(arguments: argparse.Namespace, paths: Paths) -> Say:
    """studio embedding delete NAME"""
    gone = shelf.delete(paths, arguments.name)
    return {"id": gone.id, "name": gone.name}, [f"{gone.name} lies in the trash; bring it back with: studio embedding restore {gone.id!r}"]


def _trash(_arguments: argparse.Namespace, paths: Paths) -> Say:
    """studio embedding trash"""
    found = [{"id": one.id, "name": one.name} for one in shelf.trashed(paths)]
    return found, [one["id"] for one in found] or ["The trash is empty."]


def _restore(arguments: argparse.Namespace, paths: Paths) -> Say:
    """studio embedding restore ID"""
    done = shelf.restore(paths, arguments.id)
    return done, [done["path"]]
