"""The command line: the same requests through the same queue as the page, with progress and Ctrl-C = stop and keep."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from studio import __version__
from studio.cli import data, embedding, runs, tools, training
from studio.cli.following import follow
from studio.cli.knobs import absolute, add_knobs, given
from studio.cli.saying import plain, told
from studio.cli.serving import serve
from studio.engine import Engine
from studio.errors import EXIT_CODES, InputError, StudioError
from studio.requests import GenerateRequest, InspectRequest, PreprocessRequest, TrainRequest
from studio.requests.train import CONFIGS, config_class
from studio.settings import Paths

PORT = 7860


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code: 0 done, 1 failed, 2 a mistake of the caller, 130 stopped by Ctrl-C."""
    arguments = _parser().parse_args(training.spelled(sys.argv[1:] if argv is None else argv))
    paths = Paths(Path(arguments.root).resolve()) if arguments.root else Paths.default()
    try:
        return int(arguments.run(arguments, paths))
    except StudioError as error:
        print(plain(error), file=sys.stderr)
        return EXIT_CODES.get(error.code, 1)
    except BrokenPipeError:
        return 1


def _parser() -> argparse.ArgumentParser:
    """Commands and their options; the knobs come from the requests."""
    parser = argparse.ArgumentParser(prog="studio", description="Prepare pictures, train Stable Diffusion on them, and paint with the result.")
    parser.add_argument("--version", action="version", version=__version__)
    everywhere = {"--root": {"help": "folder of models, embeddings and outputs (default: where the program lies)"}, "--json": {"action": "store_true", "help": "print the result as JSON for scripts"}}
    shared = argparse.ArgumentParser(add_help=False)
    for flag, knobs in everywhere.items():
        parser.add_argument(flag, **knobs)
        shared.add_argument(flag, **knobs, default=argparse.SUPPRESS)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    page = commands.add_parser("serve", parents=[shared], help="serve the page")
    page.add_argument("--port", type=int, default=PORT, help=f"port of the page (default {PORT}; the next free one is taken)")
    page.add_argument("--listen", action="store_true", help="let other machines of the network open the page")
    page.add_argument("--server-name", default="", metavar="ADDRESS", help="address to listen at, such as 192.168.1.5 (default: 127.0.0.1, or every one with --listen)")
    page.add_argument(
        "--allowed-host", action="append", default=[], metavar="NAME", help="another host name that the page is opened under, such as a proxy's; .example.org stands for every name under it"
    )
    page.add_argument("--gradio-auth", default="", metavar="NAME:PASSWORD,...", help="who may open the page; the API's accounts when it is not given")
    page.add_argument("--api-auth", default="", metavar="NAME:PASSWORD,...", help="who may use the HTTP API; the page's accounts when it is not given")
    page.add_argument("--no-auth", action="store_true", help="with --listen: let everyone in who can reach the page, without a token")
    page.add_argument("--api-server-stop", action="store_true", help="let clients of the API stop the server")
    for mode in ("medvram", "lowvram"):
        page.add_argument(
            f"--{mode}", dest="memory_mode", action="store_const", const=mode, help=f"set the memory mode to {mode}: parts of a model visit the card one after another (kept in the settings)"
        )
    page.add_argument("--no-browser", action="store_true", help="do not open the page")
    page.set_defaults(run=serve)

    prepare = commands.add_parser("preprocess", parents=[shared], help="crop, flip and caption pictures")
    prepare.add_argument("source", help="folder or .zip of pictures; it is only read")
    prepare.add_argument("destination", help="folder for the prepared pictures")
    add_knobs(prepare, PreprocessRequest, {"source", "destination"})
    prepare.set_defaults(run=_preprocess)

    data.add_commands(commands, shared)
    runs.add_commands(commands, shared)
    tools.add_commands(commands, shared)

    embedding.add_commands(commands, shared)
    training.add_commands(commands, shared)

    train = commands.add_parser("train", help="train").add_subparsers(dest="method", required=True, metavar="METHOD")
    for config in CONFIGS:
        method = train.add_parser(config.method, parents=[shared], help=config.title)
        add_knobs(method, config, set())
        method.set_defaults(run=_train)

    generate = commands.add_parser("generate", parents=[shared], help="paint pictures, or repaint the masked part of one")
    generate.add_argument("--out", default="", help="folder that receives a copy of the pictures")
    add_knobs(generate, GenerateRequest, set())
    generate.add_argument("--infotext", default="", help="a picture or text file whose infotext fills every knob that is not given")
    generate.set_defaults(run=_generate)

    inspect = commands.add_parser("inspect", parents=[shared], help="say what a model, embedding, LoRA or picture file is")
    inspect.add_argument("path", help="the file, or the folder of a diffusers checkpoint")
    inspect.set_defaults(run=_inspect)

    jobs = commands.add_parser("jobs", parents=[shared], help="list jobs, or stop one")
    jobs.add_argument("act", nargs="?", choices=["stop"], help="stop: finish the step, save, and end")
    jobs.add_argument("id", nargs="?", help="which job to stop")
    jobs.set_defaults(run=_jobs)

    worker = commands.add_parser("worker", parents=[shared], help="show the worker, or restart one that no longer responds")
    worker.add_argument("act", nargs="?", choices=["restart"], help="restart: end the worker; its job goes on from the last checkpoint")
    worker.set_defaults(run=_worker)
    return parser


def _worker(arguments: argparse.Namespace, paths: Paths) -> int:
    """studio worker [restart]"""
    engine = Engine(paths)
    if arguments.act == "restart":
        ended = engine.restart_worker()
        return told(arguments.json, ({"ended": ended}, [f"The worker (process {ended}) was ended; the page starts another one, or the next command does."]))
    facts = engine.device()
    running = f"process {facts['pid']} on {facts['device']}, {facts['job'] or 'idle'}" if facts["alive"] else "no worker is running"
    return told(arguments.json, (facts, [running, f"{facts['waiting']} jobs wait", *([facts["problem"]] if facts["problem"] else [])]))


def _preprocess(arguments: argparse.Namespace, paths: Paths) -> int:
    """studio preprocess SRC DST"""
    values = {**given(arguments, PreprocessRequest), "source": absolute(arguments.source), "destination": absolute(arguments.destination)}
    return follow(Engine(paths), PreprocessRequest.check(values), arguments.json)


def _train(arguments: argparse.Namespace, paths: Paths) -> int:
    """studio train METHOD --name NAME --data DIR --steps N"""
    config = config_class(arguments.method)
    values = given(arguments, config)
    missing = [f"--{name}" for name, field in config.model_fields.items() if field.is_required() and name not in values]
    if missing:
        raise InputError(f"Missing: {' and '.join(missing)}.", "Say what learns, and from which folder of pictures.")
    values["data"] = absolute(values["data"])
    return follow(Engine(paths), TrainRequest.check({"method": arguments.method, "config": values}), arguments.json)


def _generate(arguments: argparse.Namespace, paths: Paths) -> int:
    """studio generate --prompt TEXT --out DIR"""
    engine = Engine(paths)
    values = {**_infotext(engine, arguments.infotext), **given(arguments, GenerateRequest)}
    values |= {name: absolute(values[name]) for name in ("init_image", "mask", "sketch") if name in values}
    return follow(engine, GenerateRequest.check(values), arguments.json, absolute(arguments.out))


def _infotext(engine: Engine, name: str) -> dict[str, Any]:
    """The knobs that a picture's or text file's infotext sets; what cannot be taken over is told on stderr."""
    if not name:
        return {}
    path = Path(name)
    if not path.is_file():
        raise InputError(f"--infotext: {name!r} is not a file.", "Name a picture that was generated, or a text file with its infotext.")
    text = path.read_text(encoding="utf-8-sig", errors="replace") if path.suffix.lower() == ".txt" else engine.picture_info(path)[0]
    if not text.strip():
        raise InputError(f"--infotext: nothing is written inside {path.name}.", "Other programs may have removed it; only the original file carries it.")
    values, notes = engine.pasted(text)
    for sentence in notes:
        print(plain(f"note: {sentence}"), file=sys.stderr)
    return values


def _inspect(arguments: argparse.Namespace, paths: Paths) -> int:
    """studio inspect FILE"""
    return follow(Engine(paths), InspectRequest(path=absolute(arguments.path)), arguments.json)


def _jobs(arguments: argparse.Namespace, paths: Paths) -> int:
    """studio jobs [stop ID]"""
    engine = Engine(paths)
    if arguments.act == "stop":
        if not arguments.id:
            raise InputError("Which job? `studio jobs` lists them; then `studio jobs stop ID`.")
        taken = engine.ask(arguments.id, "stop")
        print(json.dumps({"taken": taken}) if arguments.json else ("Asked to stop." if taken else "It was over already."))
        return 0
    rows = [{"id": j.id, "kind": j.kind, "state": str(j.state), "error": j.error} for j in engine.jobs(limit=50)]
    if arguments.json:
        print(json.dumps(rows, ensure_ascii=False))
    else:
        for row in rows:
            print(plain(f"{row['id']}  {row['kind']:<17} {row['state']:<12} {row['error'] or ''}".rstrip()))
    return 0
