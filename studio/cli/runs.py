"""Runs on the command line: `studio runs` with list, show, compare, export, import, use, trash, restore, resume and extend."""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from studio.cli.following import follow
from studio.cli.saying import Say, told
from studio.engine import Engine
from studio.errors import Conflict, InputError, NotFound
from studio.files import atomic_write
from studio.jobs import Job
from studio.requests import TrainRequest
from studio.runs import acts, card, using
from studio.runs.comparing import comparison
from studio.runs.diagnosis import sentence_of
from studio.runs.in_use import in_use
from studio.runs.listing import listing
from studio.runs.reading import job_of, view
from studio.settings import Paths


def add_commands(commands: Any, shared: argparse.ArgumentParser) -> None:
    """Add `runs` to the commands."""
    made = commands.add_parser("runs", help="look after trainings that were run").add_subparsers(dest="act", required=True, metavar="ACT")

    def act(name: str, does: Callable[[argparse.Namespace, Engine], Say], text: str, *places: str) -> argparse.ArgumentParser:
        parser = made.add_parser(name, parents=[shared], help=text)
        for place in places:
            parser.add_argument(place, help="folder name of a run; its beginning or its job is enough")
        parser.set_defaults(run=lambda arguments, paths: told(arguments.json, does(arguments, Engine(paths))))
        return parser

    act("list", _list, "list runs, newest first")
    act("show", _show, "say how a run went", "id")
    act("compare", _compare, "say what two to six runs set differently, and how far each came").add_argument("ids", nargs="+", help="folder names of runs")
    export = act("export", _export, "write a run as a recipe card", "id")
    export.add_argument("file", help="a .zip with curves and weights, or a .png: the best preview with the recipe inside")
    export.add_argument("--pictures", action="store_true", help="put the pictures it learned from into the .zip too")
    act("import", _import, "say what a recipe card sets, and what is missing here").add_argument("file", help="a .zip or .png that `studio runs export` wrote")
    use = act("use", _use, "use weights of a run in prompts: the best ones, or those of another step", "id")
    use.add_argument("which", nargs="?", help="a step, a file of the run, best, or last (default: best where one was measured, else last)")
    use.add_argument("--name", default="", help="a new name for it (default: the one that the run taught)")
    act("trash", _trash, "move a run to the trash", "id")
    act("restore", _restore, "bring a run back from the trash").add_argument("id", help="its name in the trash")
    act("trashed", _trashed, "list runs in the trash")
    for name, text in (("resume", "go on with a run that did not reach its end"), ("extend", "go on with a run to a later step")):
        parser = made.add_parser(name, parents=[shared], help=text)
        parser.add_argument("id", help="folder name of a run; its beginning or its job is enough")
        if name == "extend":
            parser.add_argument("steps", type=int, help="the step to go on to")
        parser.set_defaults(run=_go_on)


def _jobs(engine: Engine) -> list[Job]:
    """Trainings, newest first."""
    return engine.jobs(1000, "train")


def _named(engine: Engine, name: str) -> str:
    """The folder name of a run by its whole name, its beginning or its job; raises NotFound, InputError when several begin so."""
    found = sorted(f.name for f in engine.paths.runs.iterdir() if f.is_dir())
    if name in found:
        return name
    near = [each for each in found if name and (each.startswith(name) or each.endswith(f"-{name}"))]
    if len(near) > 1:
        raise InputError(f"{len(near)} runs are called {name!r}.", f"Write more of one: {', '.join(near[:5])}.")
    if not near:
        raise NotFound(f"There is no run {name!r}.", "`studio runs list` names them.")
    return near[0]


def _view(engine: Engine, name: str) -> dict[str, Any]:
    """A run as it is now."""
    name = _named(engine, name)
    job = job_of(name, _jobs(engine))
    folder = acts.run_folder(engine.paths, name)
    seen = view(folder, job, {}, engine.latest(job.id, "metric") if job else {})
    return {**seen, "in_use": in_use(engine.paths.root, folder, seen["step"], seen["usage"])}


def _list(_arguments: argparse.Namespace, engine: Engine) -> Say:
    """studio runs list"""
    rows = listing(engine.paths.runs, _jobs(engine))
    return rows, [f"{row['state']:<12} {row['step']:>7}/{row['end']:<7} {row['id']}  {row['title']}  {sentence_of(row['verdict'])}".rstrip() for row in rows]


def _show(arguments: argparse.Namespace, engine: Engine) -> Say:
    """studio runs show ID"""
    seen = _view(engine, arguments.id)
    best = seen["best"] or {}
    facts = {
        "run": seen["id"],
        "name": seen["title"],
        "note": seen["note"],
        "state": seen["state"],
        "steps": f"{seen['step']} of {seen['end']}",
        "diagnosis": sentence_of(seen["verdict"]),
        "best": f"step {best['step']}" if "step" in best else "",
        "in prompts": sentence_of(seen["in_use"]),
        "previews": len(seen["previews"]) or "",
        "weights of steps": ", ".join(str(copy["step"]) for copy in seen["saved"]),
        "error": seen["error"],
    }
    return seen, [f"{label}: {value}" for label, value in facts.items() if value not in ("", None)]


def _compare(arguments: argparse.Namespace, engine: Engine) -> Say:
    """studio runs compare ID ID ..."""
    found = comparison([_view(engine, name) for name in arguments.ids])
    lines = [f"{run['id']}: {run['state']}, step {run['step']} of {run['end']}. {sentence_of(run['verdict'])}".rstrip() for run in found["runs"]]
    return found, [*lines, *(f"{row['label']}: {' | '.join(map(str, row['values']))}" for row in found["settings"])]


def _export(arguments: argparse.Namespace, engine: Engine) -> Say:
    """studio runs export ID FILE"""
    name, file = _named(engine, arguments.id), Path(arguments.file)
    if file.suffix.lower() not in (".zip", ".png"):
        raise InputError(f"{file.name!r} is neither a .zip nor a .png.", "Name the file after what it shall be.")
    if file.exists():
        raise Conflict(f"{arguments.file!r} exists already.", "Choose another name.")
    data = card.as_png(engine.paths, name) if file.suffix.lower() == ".png" else card.as_zip(engine.paths, name, arguments.pictures)
    try:
        with atomic_write(file) as temporary:
            temporary.write_bytes(data)
    except OSError as error:
        raise InputError(f"{arguments.file!r} cannot be written ({error.strerror}).", "Choose another place.") from error
    return {"path": str(file.resolve()), "bytes": len(data)}, [str(file)]


def _import(arguments: argparse.Namespace, engine: Engine) -> Say:
    """studio runs import FILE"""
    file = Path(arguments.file)
    if not file.is_file():
        raise NotFound(f"There is no file {arguments.file!r}.")
    found = card.import_card(engine.paths, file, file.name, engine.checkpoint_hashes())
    return found, [
        f"--method {found['method']}",
        *(f"--{name.replace('_', '-')} {json.dumps(value, ensure_ascii=False)}" for name, value in found["values"].items()),
        *(f"note: {text}" for text in found["notes"]),
    ]


def _use(arguments: argparse.Namespace, engine: Engine) -> Say:
    """studio runs use ID [WHICH]"""
    done = using.use(engine.paths, acts.run_folder(engine.paths, _named(engine, arguments.id)), arguments.which, arguments.name)
    step = "" if done["step"] is None else f" (step {done['step']}{', best' if done['best'] else ''})"
    return done, [f"{done['name']}: {done['path']}{step}", *(f"What was there is kept as outputs/trash/{kept}." for kept in done["kept"])]


def _trash(arguments: argparse.Namespace, engine: Engine) -> Say:
    """studio runs trash ID"""
    done = acts.trash(engine.paths, _named(engine, arguments.id), _jobs(engine))
    return done, [f"Moved to the trash. `studio runs restore {done['trashed']}` brings it back."]


def _restore(arguments: argparse.Namespace, engine: Engine) -> Say:
    """studio runs restore ID"""
    done = acts.restore(engine.paths, arguments.id)
    return done, [done["id"]]


def _trashed(_arguments: argparse.Namespace, engine: Engine) -> Say:
    """studio runs trashed"""
    names = acts.trashed(engine.paths)
    return names, names


def _go_on(arguments: argparse.Namespace, paths: Paths) -> int:
    """studio runs resume ID / studio runs extend ID STEPS"""
    engine = Engine(paths)
    return follow(engine, TrainRequest.check(acts.going_on(engine.paths, _named(engine, arguments.id), _jobs(engine), getattr(arguments, "steps", 0))), arguments.json)
