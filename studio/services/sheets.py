"""Sheets: the previews of a run as one picture, steps below each other and prompts side by side, or as a film of one prompt."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from studio.cancellation import raise_if_stopped
from studio.dataset.folder import open_upright
from studio.errors import InputError, StudioError
from studio.files import atomic_write
from studio.formats.carriers import write_picture
from studio.jobs import Lane
from studio.requests.scripts import Label
from studio.requests.sheet import SheetRequest
from studio.requests.train import subject_of
from studio.runs.reading import old_previews
from studio.runs.tails import objects
from studio.services.desk import Desk
from studio.services.grids import Words, table, titled
from studio.services.run_folders import config_of, numbered, run_folder, spread

LAST = 3
"""How many times as long a film shows its last picture."""


@dataclass(frozen=True)
class Strip:
    """Previews that are shown: pictures by (column, step), the steps and columns in order, and what stands above each column."""

    pictures: Mapping[tuple[int, int], Path]
    steps: Sequence[int]
    heads: Mapping[int, str] = field(default_factory=dict)


def run(request: SheetRequest, lane: Lane, desk: Desk) -> dict[str, Any]:
    """Write exports/sheet-<n> into the run's folder; raises NotFound and InputError in words. Needs no model."""
    folder = run_folder(desk.paths, request.run)
    raise_if_stopped()
    title = request.title or (subject_of(config_of(folder)) or folder.name)
    strip = strip_of(folder, request)
    lane.emit("progress", step=0, total=1, text=f"{len(strip.steps)} steps")
    path = numbered(folder / "exports", "sheet", f".{request.format.lower()}")
    if request.format == "PNG":
        write_picture(sheet(strip, title, request.size, lane), path)
    else:
        film(strip, title, request, path, lane)
    lane.emit("progress", step=1, total=1, text="")
    lane.emit("saved", path=str(path))
    return {"path": str(path), "images": [str(path)], "steps": list(strip.steps), "columns": list(strip.heads)}


def previews_of(folder: Path) -> list[dict[str, Any]]:
    """What a run's previews.jsonl says of the pictures that are there, asked ones left out; what an older run without one has."""
    try:
        lines = (folder / "previews.jsonl").read_text(encoding="utf-8").splitlines()
    except OSError:
        return old_previews(folder, config_of(folder))
    return [said for said in objects(lines) if _usable(folder, said)]


def _usable(folder: Path, said: Mapping[str, Any]) -> bool:
    """Whether a line tells of a picture of a row that lies in the run's folder."""
    if not all(isinstance(said.get(name), int) and said[name] >= 0 for name in ("step", "column")) or not isinstance(said.get("path"), str):
        return False
    path = (folder / said["path"]).resolve()
    return path.is_relative_to(folder.resolve()) and path.is_file()


def strip_of(folder: Path, request: SheetRequest) -> Strip:
    """The previews that a request shows; raises InputError when there are none."""
    found = previews_of(folder)
    there = sorted({said["column"] for said in found})
    if not there:
        raise InputError(f"The run {folder.name!r} has no previews, so there is nothing to show.", 'Train with "Save an image every N steps" above 0.')
    missing = [str(column) for column in request.columns if column not in there]
    if missing:
        raise InputError(f"Columns: the previews have no column {', '.join(missing)} (there are {', '.join(map(str, there))}).", "Choose among those that are there.")
    columns = list(dict.fromkeys(request.columns)) or there
    columns = columns if request.format == "PNG" else columns[:1]
    shown = [said for said in found if said["column"] in columns]
    steps = spread(sorted({said["step"] for said in shown}), request.rows)
    return Strip({(said["column"], said["step"]): folder / said["path"] for said in shown if said["step"] in steps}, steps, _heads(shown, columns))


def _heads(shown: Iterable[Mapping[str, Any]], columns: Sequence[int]) -> dict[int, str]:
    """Prompt of each column as it was last, with the seed where a prompt has several."""
    last = {said["column"]: (str(said.get("prompt") or ""), said.get("seed")) for said in shown}
    prompts = [prompt for prompt, _ in last.values()]
    return {column: f"{prompt}\nseed {seed}" if prompts.count(prompt) > 1 else prompt for column in columns for prompt, seed in [last[column]]}


def sheet(strip: Strip, title: str, size: int, lane: Lane) -> Image.Image:
    """Rows of steps and columns of prompts under a title; a picture that cannot be opened is told and left white."""
    places = {column: number for number, column in enumerate(strip.heads)}
    rows = {step: number for number, step in enumerate(strip.steps)}
    pictures = {(places[column], rows[step]): picture for (column, step), path in strip.pictures.items() if (picture := _opened(path, size, lane))}
    if not pictures:
        raise InputError("None of the previews could be opened, so there is nothing to show.", "They may have been moved.")
    words = Words([(Label(head),) for head in strip.heads.values()], [(Label(f"step {step}"),) for step in strip.steps])
    return titled([table(pictures, (len(places), len(rows)), words, margin=4)], [(Label(title),)])


def film(strip: Strip, title: str, request: SheetRequest, path: Path, lane: Lane) -> None:
    """Write one column as a moving GIF or WebP, each picture under the title and its step; raises InputError when nothing can be opened."""
    column = next(iter(strip.heads))
    opened = [(step, picture) for step in strip.steps if (picture := _opened(strip.pictures[column, step], request.size, lane))]
    if not opened:
        raise InputError("None of the previews could be opened, so there is nothing to show.", "They may have been moved.")
    edge = max(p.width for _, p in opened), max(p.height for _, p in opened)
    last = max(strip.steps)
    frames = _levelled([_frame(picture, edge, (title, f"step {step} of {last}")) for step, picture in opened])
    each = round(request.seconds * 1000)
    durations = [*[each] * (len(frames) - 1), each * LAST]
    knobs: dict[str, Any] = {"quality": 85} if request.format == "WebP" else {}
    with atomic_write(path) as temporary:
        frames[0].save(temporary, request.format, save_all=True, append_images=frames[1:], duration=durations, loop=0, **knobs)


def _frame(picture: Image.Image, edge: tuple[int, int], lines: tuple[str, str]) -> Image.Image:
    """A picture in the middle of a white field of (width, height), under its words."""
    field = Image.new("RGB", edge, "white")
    field.paste(picture, ((edge[0] - picture.width) // 2, (edge[1] - picture.height) // 2))
    return table({(0, 0): field}, (1, 1), Words(columns=[tuple(Label(line) for line in lines)]))


def _levelled(frames: Sequence[Image.Image]) -> list[Image.Image]:
    """Frames of one height: words that took fewer lines get white above them."""
    height = max(frame.height for frame in frames)
    fields = [Image.new("RGB", (frame.width, height), "white") for frame in frames]
    for whole, frame in zip(fields, frames, strict=True):
        whole.paste(frame, (0, height - frame.height))
    return fields


def _opened(path: Path, size: int, lane: Lane) -> Image.Image | None:
    """A preview no longer than `size` pixels (0 = as it is); None, and a warning, when it cannot be opened."""
    raise_if_stopped()
    try:
        picture = open_upright(path).convert("RGB")
    except StudioError as error:
        lane.emit("warning", text=str(error), name=path.name)
        return None
    factor = min(1.0, size / max(picture.size)) if size else 1.0
    return picture if factor == 1 else picture.resize((max(1, round(picture.width * factor)), max(1, round(picture.height * factor))), Image.Resampling.LANCZOS)
