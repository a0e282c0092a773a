"""Trainings from files on the command line: `studio train run.json` and `studio train-like FILE`."""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from studio.cli.following import follow
from studio.cli.knobs import absolute
from studio.cli.saying import plain
from studio.engine import Engine
from studio.errors import InputError, NotFound
from studio.presets.importing import imported
from studio.requests import TrainRequest
from studio.requests.train import config_class
from studio.settings import SHIPPED_ROOT, Paths

_FROM_FILE = "train-file"


def spelled(argv: Sequence[str]) -> list[str]:
    """The words of a command line in which `train` is followed by a file instead of a method as the parser knows them."""
    words = list(argv)
    for number in range(len(words) - 1):
        if words[number] == "train" and words[number + 1].lower().endswith(".json"):
            words[number] = _FROM_FILE
            break
    return words


def add_commands(commands: Any, shared: argparse.ArgumentParser) -> None:
    """Add both to the commands."""
    here = commands.add_parser(_FROM_FILE, parents=[shared], help="train what a run.json says in this process (`studio train FILE.json`); `accelerate launch -m studio train FILE.json` takes several")
    here.add_argument("file", help="a .json with method and config, such as the config.json of a run")
    here.set_defaults(run=_here)
    like = commands.add_parser("train-like", parents=[shared], help="say what another training's file sets, or train so with --name and --data")
    like.add_argument("file", help="a .safetensors of kohya's trainer, its JSON or TOML, or A1111's settings-….json")
    like.add_argument("--data", default="", help="folder of pictures")
    like.add_argument("--name", default="", help="what learns: a new name, or an embedding that was created")
    like.set_defaults(run=_like)


def _here(arguments: argparse.Namespace, paths: Paths) -> int:
    """studio train FILE.json: this process becomes the training, so that what launched it sees that end."""
    file = Path(arguments.file).resolve()
    if not file.is_file():
        raise NotFound(f"There is no file {arguments.file!r}.", "Name a .json with method and config.")
    path = os.pathsep.join(filter(None, (str(SHIPPED_ROOT), os.environ.get("PYTHONPATH", ""))))
    command, env = [sys.executable, "-m", "studio.launched", str(file)], {**os.environ, "STUDIO_ROOT": str(paths.root), "PYTHONPATH": path}
    env = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", **env}
    if os.name == "posix":
        os.execve(sys.executable, command, env)
    return subprocess.run(command, env=env, check=False).returncode


def _like(arguments: argparse.Namespace, paths: Paths) -> int:
    """studio train-like FILE --name NAME --data DIR"""
    engine = Engine(paths)
    found = imported(Path(arguments.file), tuple(engine.checkpoint_hashes()))
    if not (arguments.name or arguments.data):
        print(json.dumps({"method": found.method, "config": dict(found.values), "notes": list(found.sentences)}, ensure_ascii=False, indent=None if arguments.json else 2))
        return 0
    for sentence in found.sentences:
        print(plain(f"note: {sentence}"), file=sys.stderr)
    subject = "embedding" if "embedding" in config_class(found.method).model_fields else "name"
    values = {**found.values, **({subject: arguments.name} if arguments.name else {}), **({"data": absolute(arguments.data)} if arguments.data else {})}
    missing = [f"--{'name' if field == subject else field}" for field in (subject, "data") if not values.get(field)]
    if missing:
        raise InputError(f"Missing: {' and '.join(missing)}.", "The file says how to train; say what learns, and from which folder of pictures.")
    return follow(engine, TrainRequest.check({"method": found.method, "config": values}), arguments.json)
