"""Preprocess: from raw pictures to a training set, on all cores; the source is only read, and a bad file is told, never a stop."""

import hashlib
import json
import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from PIL import Image

from studio import shelves
from studio.cancellation import Stopped
from studio.dataset.captioners import Captioner, Wanted, wanted
from studio.dataset.crew import Crew, in_order
from studio.dataset.faces import yunet_file
from studio.dataset.folder import list_pictures
from studio.dataset.prepare import Kind, Made, Task, finish, parts, prepare
from studio.dataset.sizing import Sizing
from studio.dataset.tag_text import Saying, joined, out_of_world_warning, with_trigger
from studio.errors import InputError, OutOfSpace, StudioError
from studio.formats.opening import open_limited
from studio.jobs import Lane
from studio.projects import archive
from studio.projects.captions import existing_caption, is_captioned, merge_captions
from studio.requests.preprocess import PreprocessRequest
from studio.services.desk import Desk

FEW_BYTES = 4 * 2**20
"""So little is worked on sooner than processes start."""
_NUMBERED = re.compile(r"\.?(\d{5,})-\d+-", re.ASCII)


@dataclass
class _Walk:
    """One run of the job: what it works with and what came of it so far."""

    request: PreprocessRequest
    lane: Lane
    speakers: Sequence[Captioner]
    pictures: list[Path]
    ledger: "_Ledger"
    yunet: Path | None = None
    written: int = 0
    captioned: int = 0
    heard: list[Saying] = field(default_factory=list)
    skipped: list[dict[str, str]] = field(default_factory=list)
    stopped: bool = False


def run(request: PreprocessRequest, lane: Lane, desk: Desk) -> dict[str, Any]:
    """Cut, flip and caption every picture; returns how many were written and what was skipped, with reasons."""
    destination = Path(request.destination)
    with _source(Path(request.source), destination) as (folder, refused), ExitStack() as lent:
        pictures = list_pictures(folder)
        speakers = [lent.enter_context(desk.cache.lend_part(one.kind, one.path, _loader(one, desk))) for one in wanted(desk.paths, request.captioners)]
        _make(destination)
        crops = desk.paths.crops / lane.job
        crops.mkdir(parents=True, exist_ok=True)
        walk = _Walk(request, lane, speakers, pictures, _Ledger(crops / "done.jsonl", pictures, destination), yunet_file(desk.paths.opencv))
        for one in refused:
            lane.emit("warning", text=one["reason"], source=one["source"])
        with walk.ledger:
            _prepare_all(walk, crops)
    if walk.written and not walk.captioned and not walk.stopped and not any(map(is_captioned, shelves.images(destination))):
        lane.emit("log", text=f"None of the {walk.written} images has a caption. Choose a captioner, or write captions in the dataset; training would use file names.")
    result: dict[str, Any] = {"written": walk.written, "skipped": refused + walk.skipped, "destination": str(destination)}
    if text := out_of_world_warning("BLIP (tiny world)", walk.heard):
        lane.emit("log", text=text)
        result["unsure"] = True
    if walk.stopped:
        return {**result, "stopped": True}
    if not walk.written:
        raise InputError("None of the pictures could be used. " + " ".join(s["reason"] for s in walk.skipped[:5]))
    return result


@contextmanager
def _source(source: Path, destination: Path) -> Iterator[tuple[Path, list[dict[str, str]]]]:
    """The folder of originals, and pictures of a zip that are refused with reasons; a zip is unpacked to a temporary folder. Raises InputError."""
    if source.is_dir():
        if destination.resolve() == source.resolve() or source.resolve() in destination.resolve().parents:
            raise InputError("The destination lies in the source, whose pictures must stay untouched.", "Choose another folder.")
        yield source, []
        return
    if source.suffix.lower() != ".zip" or not source.is_file():
        raise InputError(f"{str(source)!r} is neither a folder nor a .zip file.", "Choose a folder of pictures.")
    with tempfile.TemporaryDirectory() as folder:
        refused = archive.unpack_told(source, Path(folder)).refused
        if not shelves.images(Path(folder)):
            raise InputError(f"There is no picture in {source.name}.", "Pack files such as .png, .jpg or .webp.")
        yield Path(folder), [{"source": one.name, "reason": one.reason} for one in refused if Path(one.name).suffix.lower() in shelves.IMAGE_SUFFIXES]


def _loader(one: Wanted, desk: Desk) -> Any:
    """A loader without arguments, as the cache wants it."""
    return lambda: one.load(one.path, desk.cache.device)


def _make(destination: Path) -> None:
    """Make the destination; raises InputError."""
    try:
        destination.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"The destination {str(destination)!r} cannot be made ({error.strerror}).", "Choose another folder.") from error


def crew_for(files: Sequence[Path]) -> Crew:
    """All cores, or this process alone when there is little to read."""
    return Crew(1 if sum(path.stat().st_size for path in files) < FEW_BYTES else None)


def _prepare_all(walk: _Walk, crops: Path) -> None:
    """Hand every picture that is not done yet to the crew, and take what is made in the pictures' order; a stop lets what is in hand be finished."""
    walk.written, walk.skipped = walk.ledger.summary(walk.pictures)
    todo = [number for number in range(len(walk.pictures)) if number not in walk.ledger.done]
    total = len(walk.pictures)
    walk.lane.emit("progress", step=total - len(todo), total=total, text=walk.pictures[todo[0]].name if todo else "")
    with crew_for([walk.pictures[number] for number in todo]) as crew:
        for place, found in in_order(crew.run(prepare, _tasks(walk, todo, crops))):
            picture = walk.pictures[todo[place]]
            _take(walk, todo[place], found)
            walk.lane.emit("progress", step=total - len(todo) + place + 1, total=total, text=picture.name)
            walk.lane.breathe()


def _tasks(walk: _Walk, todo: list[int], crops: Path) -> Iterator[Task]:
    """The tasks in order, until a stop is asked."""
    request, destination = walk.request, Path(walk.request.destination)
    rules = Sizing.of(request, request.crop == "Focal", request.splitting, request.mirrored)
    colour = {"none": "", "white": "#ffffff"}.get(request.background, request.background_colour)
    for number in todo:
        if walk.lane.stopping():
            walk.stopped = True
            return
        picture, index = walk.pictures[number], walk.ledger.first + number
        yield Task(
            picture,
            destination,
            rules,
            before=f"{index:05d}-",
            after=f"-{_stem(picture)}",
            kind=Kind(colour=colour, cut=bool(colour)),
            caption=None if walk.speakers else _caption(picture, "", request) or None,
            wait=bool(walk.speakers),
            drawing=crops / f"{index:05d}.jpg",
            yunet=walk.yunet,
            debug=request.debug,
        )


def _take(walk: _Walk, number: int, found: list[Made] | StudioError) -> None:
    """Tell what became of one original, after the captioners have seen its pictures; one that waits for them when a stop is asked is given up."""
    picture, reason = walk.pictures[number], ""
    if isinstance(found, OutOfSpace):
        raise found
    if isinstance(found, StudioError):
        reason, found = str(found), []
    elif walk.speakers:
        if walk.lane.stopping():
            _give_up(found)
            walk.stopped = True
            return
        try:
            found, reason = _captioned(walk, picture, found)
        except Stopped:
            _give_up(found)
            walk.stopped = True
            return
    if reason:
        walk.skipped.append({"source": picture.name, "reason": reason})
        walk.lane.emit("warning", text=reason, source=picture.name)
    for made in found:
        _tell(walk, picture, number, made)
    walk.written += len(found)
    walk.ledger.add(number, len(found), reason)


def _tell(walk: _Walk, picture: Path, number: int, made: Made) -> None:
    """One picture as an event."""
    shown = walk.ledger.file.parent / f"{walk.ledger.first + number:05d}.jpg"
    words = made.path.with_suffix(".txt")
    caption = words.read_text(encoding="utf-8") if words.name in made.marks else ""
    walk.captioned += bool(caption.strip())
    walk.lane.emit("item", source=str(picture), path=str(made.path), drawn=str(shown), caption=caption, box=list(made.box), size=list(made.original), flipped=bool(made.flip))
    if made.note:
        walk.lane.emit("warning", text=made.note, source=picture.name)


def _captioned(walk: _Walk, picture: Path, found: list[Made]) -> tuple[list[Made], str]:
    """The pictures with captions under their names; or none of them and the reason."""
    try:
        images = [_opened(made.path) for made in found]
        said = [speaker.sayings(images, walk.request) for speaker in walk.speakers]
        walk.heard += [saying for sayings in said for saying in sayings]
        captions = [_caption(picture, joined(sayings, walk.request), walk.request) for sayings in zip(*said, strict=True)]
        return [finish(made, caption) for made, caption in zip(found, captions, strict=True)], ""
    except OutOfSpace:
        raise
    except StudioError as error:
        _give_up(found)
        return [], str(error)


def _opened(path: Path) -> Image.Image:
    """A picture that waits for its caption."""
    with open_limited(path) as image:
        return image.convert("RGB")


def _give_up(found: list[Made]) -> None:
    """Take pictures away that wait for a caption."""
    for made in found:
        made.path.unlink(missing_ok=True)


def _caption(picture: Path, said: str, request: PreprocessRequest) -> str:
    """What is written for a picture of which this was said."""
    return with_trigger(request.trigger, merge_captions(request.existing_captions, existing_caption(picture), said))


def _stem(picture: Path) -> str:
    """A picture's name without suffix, short enough to get numbers and a new suffix."""
    return picture.stem.encode()[:180].decode(errors="ignore").rstrip(" .") or "picture"


class _Ledger:
    """Which pictures of a job are done, one line each, so that the job goes on where a killed worker left it; gone when the job is over."""

    def __init__(self, file: Path, pictures: list[Path], destination: Path) -> None:
        self.file, self.done = file, dict[int, dict[str, Any]]()
        mark = hashlib.sha256(json.dumps([str(destination.resolve()), *((p.name, p.stat().st_size) for p in pictures)]).encode()).hexdigest()
        lines = _read_lines(file)
        if lines and lines[0].get("pictures") == mark:
            self.first = int(lines[0]["first"])
            self.done = {line["number"]: line for line in lines[1:] if "number" in line}
        else:
            self.first = _next_index(destination)
            file.write_text(json.dumps({"pictures": mark, "first": self.first}) + "\n", encoding="utf-8")
        for path in parts(destination):
            if _NUMBERED.match(path.name):
                path.unlink(missing_ok=True)

    def add(self, number: int, written: int, skipped: str) -> None:
        """One picture is done."""
        with self.file.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"number": number, "written": written, "skipped": skipped}) + "\n")

    def summary(self, pictures: list[Path]) -> tuple[int, list[dict[str, str]]]:
        """How many pictures were written before the worker was killed, and what was skipped."""
        skipped = [{"source": pictures[number].name, "reason": line["skipped"]} for number, line in sorted(self.done.items()) if line["skipped"]]
        return sum(line["written"] for line in self.done.values()), skipped

    def __enter__(self) -> "_Ledger":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if error is None or isinstance(error, Exception):  # whatever else ends a job is the end of the process
            self.file.unlink(missing_ok=True)


def _read_lines(file: Path) -> list[dict[str, Any]]:
    """The whole lines of a ledger; the last one may have been cut off."""
    found = []
    for line in file.read_text(encoding="utf-8").splitlines() if file.is_file() else ():
        try:
            found.append(json.loads(line))
        except ValueError:
            break
    return found


def _next_index(destination: Path) -> int:
    """The first number that no picture of the destination uses, so that nothing is overwritten."""
    return 1 + max((int(found[1]) for p in destination.iterdir() if (found := _NUMBERED.match(p.name))), default=-1)
