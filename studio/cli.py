"""The command line: the same requests through the same queue as the page, with progress and Ctrl-C = stop and keep."""

import argparse
import json
import os
import shutil
import sys
import webbrowser
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from studio import __version__, shelves
from studio.config import Config, Control, controls
from studio.engine import Engine
from studio.errors import EXIT_CODES, InputError, StudioError
from studio.jobs import Job, State
from studio.requests import CreateEmbeddingRequest, GenerateRequest, InspectRequest, PreprocessRequest, TrainRequest
from studio.requests.train import TextualInversionConfig
from studio.settings import Paths

POLL = 0.2
"""Seconds between two looks at a job."""
PORT = 7860


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code: 0 done, 1 failed, 2 a mistake of the caller, 130 stopped by Ctrl-C."""
    arguments = _parser().parse_args(list(sys.argv[1:] if argv is None else argv))
    paths = Paths(Path(arguments.root).resolve()) if arguments.root else Paths.default()
    try:
        return int(arguments.run(arguments, paths))
    except StudioError as error:
        print(error, file=sys.stderr)
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

    serve = commands.add_parser("serve", parents=[shared], help="serve the page")
    serve.add_argument("--port", type=int, default=PORT, help=f"port of the page (default {PORT}; the next free one is taken)")
    serve.add_argument("--listen", action="store_true", help="let other machines of the network open the page")
    serve.add_argument("--gradio-auth", default="", metavar="NAME:PASSWORD,...", help="who may open the page")
    serve.add_argument("--api-auth", default="", metavar="NAME:PASSWORD,...", help="who may use the HTTP API; the page's accounts when it is not given")
    serve.add_argument("--api-server-stop", action="store_true", help="let clients of the API stop the server")
    for mode in ("medvram", "lowvram"):
        serve.add_argument(
            f"--{mode}", dest="memory_mode", action="store_const", const=mode, help=f"set the memory mode to {mode}: parts of a model visit the card one after another (kept in the settings)"
        )
    serve.add_argument("--no-browser", action="store_true", help="do not open the page")
    serve.set_defaults(run=_serve)

    prepare = commands.add_parser("preprocess", parents=[shared], help="crop, flip and caption pictures")
    prepare.add_argument("source", help="folder or .zip of pictures; it is only read")
    prepare.add_argument("destination", help="folder for the prepared pictures")
    _knobs(prepare, PreprocessRequest, {"source", "destination"})
    prepare.set_defaults(run=_preprocess)

    embedding = commands.add_parser("embedding", help="make embeddings").add_subparsers(dest="act", required=True, metavar="ACT")
    create = embedding.add_parser("create", parents=[shared], help="create an embedding")
    create.add_argument("name", help="the word you will write in prompts")
    _knobs(create, CreateEmbeddingRequest, {"name"})
    create.set_defaults(run=_create)

    train = commands.add_parser("train", help="train").add_subparsers(dest="method", required=True, metavar="METHOD")
    inversion = train.add_parser("textual_inversion", parents=[shared], help="train an embedding")
    _knobs(inversion, TextualInversionConfig, set())
    inversion.set_defaults(run=_train)

    generate = commands.add_parser("generate", parents=[shared], help="paint pictures, or repaint the masked part of one")
    generate.add_argument("--out", default="", help="folder that receives a copy of the pictures")
    _knobs(generate, GenerateRequest, set())
    generate.add_argument("--infotext", default="", help="a picture or text file whose infotext fills every knob that is not given")
    generate.set_defaults(run=_generate)

    inspect = commands.add_parser("inspect", parents=[shared], help="say what a model, embedding, LoRA or picture file is")
    inspect.add_argument("path", help="the file, or the folder of a diffusers checkpoint")
    inspect.set_defaults(run=_inspect)

    jobs = commands.add_parser("jobs", parents=[shared], help="list jobs, or stop one")
    jobs.add_argument("act", nargs="?", choices=["stop"], help="stop: finish the step, save, and end")
    jobs.add_argument("id", nargs="?", help="which job to stop")
    jobs.set_defaults(run=_jobs)
    return parser


def _knobs(parser: argparse.ArgumentParser, cls: type[Config], skip: set[str]) -> None:
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


def _values(arguments: argparse.Namespace, cls: type[Config]) -> dict[str, Any]:
    """The knobs that were given."""
    return {name: getattr(arguments, name) for name in cls.model_fields if getattr(arguments, name, None) is not None}


def _absolute(value: str) -> str:
    """A path as the worker must see it, whatever folder it runs in."""
    return str(Path(value).expanduser().resolve()) if value else ""


def _preprocess(arguments: argparse.Namespace, paths: Paths) -> int:
    """studio preprocess SRC DST"""
    values = {**_values(arguments, PreprocessRequest), "source": _absolute(arguments.source), "destination": _absolute(arguments.destination)}
    return _follow(Engine(paths), PreprocessRequest.check(values), arguments.json)


def _create(arguments: argparse.Namespace, paths: Paths) -> int:
    """studio embedding create NAME"""
    return _follow(Engine(paths), CreateEmbeddingRequest.check(_values(arguments, CreateEmbeddingRequest)), arguments.json)


def _train(arguments: argparse.Namespace, paths: Paths) -> int:
    """studio train textual_inversion --embedding NAME --data DIR --steps N"""
    values = _values(arguments, TextualInversionConfig)
    missing = [f"--{name}" for name in ("embedding", "data") if name not in values]
    if missing:
        raise InputError(f"Missing: {' and '.join(missing)}.", "Say which embedding learns, and from which folder of pictures.")
    values["data"] = _absolute(values["data"])
    return _follow(Engine(paths), TrainRequest.check({"config": values}), arguments.json)


def _generate(arguments: argparse.Namespace, paths: Paths) -> int:
    """studio generate --prompt TEXT --out DIR"""
    engine = Engine(paths)
    values = {**_infotext(engine, arguments.infotext), **_values(arguments, GenerateRequest)}
    values |= {name: _absolute(values[name]) for name in ("init_image", "mask", "sketch") if name in values}
    return _follow(engine, GenerateRequest.check(values), arguments.json, _absolute(arguments.out))


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
        print(f"note: {sentence}", file=sys.stderr)
    return values


def _inspect(arguments: argparse.Namespace, paths: Paths) -> int:
    """studio inspect FILE"""
    return _follow(Engine(paths), InspectRequest(path=_absolute(arguments.path)), arguments.json)


def _follow(engine: Engine, request: Config, as_json: bool, out: str = "") -> int:
    """Submit, show progress until the end, print the result; Ctrl-C asks to stop and keep."""
    engine.keep_worker("cli")
    name = engine.submit(request)
    stopped = False
    seen = 0
    with tqdm(total=None, disable=as_json, file=sys.stderr, unit="it") as bar:
        while True:
            try:
                job = engine.job(name)
                for event in engine.events(name, seen):
                    seen = event.seq
                    _show(bar, event.kind, event.data)
                if job.state.over:
                    break
                bar.refresh()
                _sleep()
            except KeyboardInterrupt:
                if stopped:
                    return 130
                stopped = engine.ask(name, "stop")
                bar.write("Stopping: the step in hand is finished and saved. Press Ctrl-C again to leave it to the worker.")
    return _ended(job, as_json, out) or (130 if stopped else 0)


def _sleep() -> None:
    """Wait between two looks."""
    import time

    time.sleep(POLL)


def _show(bar: "tqdm[Any]", kind: str, data: dict[str, Any]) -> None:
    """One event on the progress bar."""
    if kind in ("metric", "progress") and "step" in data:
        if data.get("total"):
            bar.total = data["total"]
        bar.update(data["step"] - bar.n)
        if "smoothed" in data:
            bar.set_postfix_str(f"loss {data['smoothed']:.4f}")
        elif data.get("text"):
            bar.set_postfix_str(str(data["text"])[:60])
    elif kind == "warning":
        bar.write(f"warning: {data.get('text', data)}", file=sys.stderr)


def _ended(job: Job, as_json: bool, out: str) -> int:
    """Print how a job ended; returns the exit code."""
    result = dict(job.result or {})
    if out and result.get("images"):
        folder = Path(out)
        folder.mkdir(parents=True, exist_ok=True)
        result["images"] = [str(shutil.copy2(image, folder)) for image in result["images"]]
    if as_json:
        print(json.dumps({"id": job.id, "state": job.state, "error": job.error, **result}, ensure_ascii=False))
    elif job.state is State.FAILED:
        print(job.error, file=sys.stderr)
    else:
        for key, value in ({"": result["words"]} if "words" in result else result).items():
            for line in value if isinstance(value, list) else [value]:
                print(f"{key}: {line}" if key else line)
    return 1 if job.state is State.FAILED else 0


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
            print(f"{row['id']}  {row['kind']:<17} {row['state']:<12} {row['error'] or ''}".rstrip())
    return 0


def _serve(arguments: argparse.Namespace, paths: Paths) -> int:
    """studio serve"""
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    import threading

    import uvicorn

    from studio.api.app import create_app
    from studio.api.auth import Access, accounts

    engine = Engine(paths)
    if arguments.memory_mode:
        engine.prefer({"memory_mode": arguments.memory_mode})
    host = "0.0.0.0" if arguments.listen else "127.0.0.1"
    port = _free_port(host, arguments.port)
    api, page = (accounts(words, flag) if words else () for words, flag in ((arguments.api_auth, "--api-auth"), (arguments.gradio_auth, "--gradio-auth")))
    access = Access(api, page, arguments.api_server_stop)
    app = create_app(engine, access)
    engine.keep_worker("web")
    url = f"http://127.0.0.1:{port}"
    print(f"SD Training Studio is at {url}  (Ctrl-C leaves; a training goes on)", flush=True)
    if not shelves.checkpoints(paths):
        print("There is no checkpoint yet: put one into models/Stable-diffusion.", file=sys.stderr)
    if not arguments.no_browser:
        threading.Timer(1.0, webbrowser.open, (url,)).start()  # when the server has begun to listen
    try:
        uvicorn.run(app, host=host, port=port, log_level="warning", timeout_graceful_shutdown=2)
    finally:
        engine.close()
    return 0


def _free_port(host: str, first: int) -> int:
    """The first port from `first` on that nobody listens at."""
    import socket

    for port in range(first, first + 100):
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            if sys.platform != "win32":  # there, the option would let two programs share the port
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a server that was killed leaves its port at once
            try:
                probe.bind((host, port))
            except OSError:
                continue
            return port
    raise InputError(f"No port between {first} and {first + 99} is free.", "Name another with --port.")


if __name__ == "__main__":
    raise SystemExit(main())
