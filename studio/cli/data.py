"""Data sets on the command line: `studio caption`, and `studio dataset` with list, import, examine, mask, write, doctor and export."""

import argparse
import json
from pathlib import Path
from typing import Any

from studio.cli.following import follow
from studio.cli.knobs import absolute, add_knobs, given
from studio.cli.saying import plain
from studio.config import Config
from studio.engine import Engine
from studio.errors import InputError
from studio.projects import doctor
from studio.projects.data_sets import sayable
from studio.projects.findings import LABELS, report_for
from studio.projects.project import Project
from studio.projects.room import aim_of
from studio.requests.caption import CaptionRequest
from studio.requests.compare import CompareRequest
from studio.requests.examine import ExamineRequest
from studio.requests.mask import MaskRequest
from studio.requests.room import RoomSettings
from studio.requests.transfer import ExportRequest, ImportRequest
from studio.requests.write import WriteRequest
from studio.settings import Paths

JOBS: tuple[tuple[str, type[Config], str, tuple[str, ...]], ...] = (
    ("examine", ExamineRequest, "measure pictures: faces, detail, blur, likeness", ()),
    ("compare", CompareRequest, "look at pictures with CLIP, so that the doctor finds those that show the same", ()),
    ("mask", MaskRequest, "cut subjects out and write masks beside the pictures", ()),
    ("write", WriteRequest, "write cropped copies with captions", ("destination",)),
    ("import", ImportRequest, "copy a folder, .zip, kohya tree or .toml into a data set", ("source",)),
    ("export", ExportRequest, "give a data set away as another trainer reads it", ("destination",)),
)
"""Act, its request, what it does, and which of its paths follow the folder."""
PLACES = {("export", "destination"): "folder, or name of a .zip, that receives it"}
"""What is said of a path here, where every path begins at the current folder."""


def add_commands(commands: Any, shared: argparse.ArgumentParser) -> None:
    """Add `caption` and `dataset` to the commands."""
    caption = commands.add_parser("caption", parents=[shared], help="put the pictures of a folder into words")
    caption.add_argument("folder", help="folder of pictures; captions are written beside them as .txt, by BLIP unless --captioners names others")
    add_knobs(caption, CaptionRequest, {"folder"})
    caption.set_defaults(run=_submit, request=CaptionRequest)

    acts = commands.add_parser("dataset", help="look after data sets").add_subparsers(dest="act", required=True, metavar="ACT")
    acts.add_parser("list", parents=[shared], help="list data sets").set_defaults(run=_list)
    for act, request, text, places in JOBS:
        parser = acts.add_parser(act, parents=[shared], help=text)
        parser.add_argument("folder", help="folder of the data set")
        for place in places:
            parser.add_argument(place, help=PLACES.get((act, place)) or request.model_fields[place].description, nargs="?" if not request.model_fields[place].is_required() else None)
        add_knobs(parser, request, {"folder", *places})
        parser.set_defaults(run=_submit, request=request)
    check = acts.add_parser("doctor", parents=[shared], help="say what is wrong with a data set and what to set for it; exit code 1 when something spoils the training")
    check.add_argument("folder", help="folder of the data set")
    add_knobs(check, RoomSettings, set())
    check.set_defaults(run=_doctor)


def _submit(arguments: argparse.Namespace, paths: Paths) -> int:
    """studio dataset ACT FOLDER … / studio caption FOLDER"""
    request = arguments.request
    values = given(arguments, request)
    values |= {name: absolute(str(values[name])) for name in ("folder", "source", "destination") if values.get(name)}
    if request is CaptionRequest:
        values.setdefault("captioners", ["BLIP"])
    if request is ImportRequest:
        _made(Path(values["folder"]), Path(values["source"]))
    return follow(Engine(paths), request.check(values), arguments.json)


def _made(folder: Path, source: Path) -> None:
    """Make the folder of a data set that is to receive pictures; raises InputError when that cannot be, or there is no source."""
    if not source.exists():
        raise InputError(f"{str(source)!r} does not exist.", "Name a folder of pictures, a .zip, a kohya tree or a .toml.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{str(folder)!r} cannot be made a folder ({error.strerror}).", "Name another place for the data set.") from error


def _list(arguments: argparse.Namespace, paths: Paths) -> int:
    """studio dataset list"""
    sets = Engine(paths).data_sets.all()
    if arguments.json:
        print(json.dumps(sayable([{"id": s.id, "name": s.name, "folder": str(s.folder), "pictures": s.pictures} for s in sets]), ensure_ascii=False))
    else:
        for each in sets:
            print(plain(f"{each.pictures:>6}  {each.name}  {each.folder}"))
    return 0


def _doctor(arguments: argparse.Namespace, paths: Paths) -> int:
    """studio dataset doctor FOLDER [--json]"""
    engine, project = Engine(paths), Project(Path(absolute(arguments.folder)))
    if any(item.facts is None for item in project.items()) and (code := follow(engine, ExamineRequest(folder=str(project.folder)), True, quiet=True)):
        return code
    report = report_for(project, aim_of(project, engine.template_text, given(arguments, RoomSettings)))
    print(json.dumps(sayable(doctor.as_json(report, LABELS)), ensure_ascii=False) if arguments.json else plain(doctor.as_text(report)))
    return 1 if report.problems else 0
