"""Caption: put the pictures of a data set into words as one step that can be taken back; a bad picture is told, never a stop."""

import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from studio.cancellation import Stopped
from studio.dataset.captioners import Captioner, Wanted, wanted
from studio.dataset.folder import open_upright
from studio.dataset.tag_text import Saying, joined, out_of_world_warning, with_trigger
from studio.errors import Conflict, InputError, NotFound, StudioError
from studio.jobs import JobStore, Lane
from studio.projects.captions import merge_captions, sharing
from studio.projects.facts import Change, Item
from studio.projects.project import Project
from studio.projects.steps import shown_caption
from studio.projects.streams import Stream
from studio.requests.caption import CaptionRequest
from studio.services.desk import Desk
from studio.services.pace import tell_pace

SEVERAL = 16
"""With several captioners so many pictures are looked at by one before the next takes its place on the card."""
LARGE = 2048
"""Pictures whose shorter side is longer than this are halved or more before they wait for a captioner: none looks at so many pixels."""
READERS = 2


@dataclass
class Walk:
    """One run over the pictures: what it works with, and what came of it."""

    request: CaptionRequest
    lane: Lane
    desk: Desk
    project: Project
    speakers: list[Wanted]
    total: int
    before: dict[str, str | None]
    """What each picture's caption was when the job began; None for no file."""
    shared: frozenset[str]
    """Pictures that share a caption file with another: each gets one of its own."""
    step: int = 0
    looked: int = 0
    captioned: int = 0
    skipped: list[dict[str, str]] = field(default_factory=list)
    began: float = field(default_factory=time.monotonic)
    heard: dict[str, list[Saying]] = field(default_factory=dict)

    def warn(self) -> None:
        """Say when a captioner doesn't know what it saw."""
        for name, sayings in self.heard.items():
            if text := out_of_world_warning(name, sayings):
                self.lane.emit("warning", text=text)

    def skip(self, name: str, reason: str) -> None:
        """A picture that could not be captioned."""
        self.skipped.append({"name": name, "reason": reason})
        self.lane.emit("warning", text=reason, name=name)

    def result(self, stopped: bool = False) -> dict[str, Any]:
        """What the job gives back."""
        found = {"captioned": self.captioned, "skipped": self.skipped, "folder": str(self.project.folder)}
        return {**found, "stopped": True} if stopped else found


def run(request: CaptionRequest, lane: Lane, desk: Desk) -> dict[str, Any]:
    """Caption the pictures; returns how many got words and what was skipped, with reasons. Raises InputError, NotFound."""
    project = Project(Path(request.folder))
    speakers = wanted(desk.paths, request.captioners)
    items = _chosen(project, request)
    told = _told(lane, desk)
    with _snapshot(project, lane.job, items, request) as before:
        waiting = [item for item in items if item.name not in told and not (request.existing == "keep" and item.captioned)]
        shared = frozenset(name for names in sharing(project.items()).values() for name in names)
        walk = Walk(request, lane, desk, project, speakers, len(items), before, shared, step=len(items) - len(waiting), captioned=sum(item.name in told for item in items))
        lane.emit("progress", step=walk.step, total=walk.total, text="")
        with project.edit_stream(_name(len(items), speakers)) as stream:
            for chunk in _read_ahead(project, waiting, max(request.batch_size, SEVERAL if len(speakers) > 1 else 1)):
                if lane.stopping():
                    return walk.result(stopped=True)
                try:
                    _caption(walk, chunk, stream)
                except Stopped:
                    return walk.result(stopped=True)
                lane.breathe()
    walk.warn()
    if items and not walk.captioned and len(walk.skipped) == len(items):
        raise InputError("None of the pictures could be captioned. " + " ".join(s["reason"] for s in walk.skipped[:5]))
    return walk.result()


def _chosen(project: Project, request: CaptionRequest) -> list[Item]:
    """The pictures that are meant; raises NotFound for a name that is none, InputError for an empty folder."""
    items = project.items()
    if not items:
        raise InputError(f"There is no picture in {project.name}.", "Put pictures into the data set first.")
    if not request.names:
        return items
    by_name = {item.name: item for item in items}
    if missing := [name for name in request.names if name not in by_name]:
        raise NotFound(f"There is no picture {missing[0]!r} in {project.name}.", "It may have been moved or deleted.")
    return [by_name[name] for name in dict.fromkeys(request.names)]


def _name(count: int, speakers: Sequence[Wanted]) -> str:
    """What the step is called in the history."""
    return f"Caption {count} picture{'' if count == 1 else 's'} by {', '.join(dict.fromkeys(s.kind for s in speakers))}"


def _told(lane: Lane, desk: Desk) -> set[str]:
    """Pictures that this job captioned before its worker died."""
    return {event.data["name"] for event in JobStore(desk.paths.database).events(lane.job, kinds=("item",), limit=1_000_000)}


@contextmanager
def _snapshot(project: Project, job: str, items: Sequence[Item], request: CaptionRequest) -> Iterator[dict[str, str | None]]:
    """Captions as they were when the job began, kept until it ends: what is resumed after a crash neither prepends nor appends twice."""
    key = f"captioning {job}"
    now = {item.name: item.caption if item.captioned else None for item in items}
    if request.existing not in ("prepend", "append"):
        yield now
        return
    kept = project.setting(key)
    if kept is None:
        project.put_setting(key, now)
    try:
        yield now | (kept or {})
    except StudioError:  # the job is over; only one whose worker died is resumed
        project.put_setting(key, None)
        raise
    project.put_setting(key, None)


Read = tuple[Item, "Image.Image | StudioError"]


def _read_ahead(project: Project, items: Sequence[Item], size: int) -> Iterator[list[Read]]:
    """Pictures in chunks, opened by threads while the captioners look at the chunk before; a bad one comes as its error."""
    with ThreadPoolExecutor(READERS) as readers:
        waiting: deque[tuple[Item, Future[Image.Image | StudioError]]] = deque()
        rest = iter(items)
        while True:
            while len(waiting) < 2 * size and (item := next(rest, None)) is not None:
                waiting.append((item, readers.submit(_open, project.folder / item.name)))
            if not waiting:
                return
            try:
                yield [(item, future.result()) for item, future in (waiting.popleft() for _ in range(min(size, len(waiting))))]
            except GeneratorExit:
                readers.shutdown(cancel_futures=True)
                raise


def _open(path: Path) -> Image.Image | StudioError:
    """A picture for captioners, or why it cannot be opened."""
    try:
        image = open_upright(path)
    except StudioError as error:
        return error
    except FileNotFoundError:
        return NotFound(f"{path.name} is gone.", "It was moved or deleted meanwhile.")
    except OSError as error:
        return StudioError(f"{path.name} cannot be read ({error.strerror}).")
    return image.reduce(2 * min(image.size) // LARGE) if min(image.size) > LARGE else image


def _caption(walk: Walk, chunk: Sequence[Read], stream: Stream) -> None:
    """Caption one chunk: each captioner looks at all of it before the next is lent, so that those that do not fit together take turns."""
    good: list[tuple[Item, Image.Image]] = []
    for item, image in chunk:
        if isinstance(image, StudioError):
            walk.skip(item.name, str(image))
            tell_pace(walk, item.name)
        else:
            good.append((item, image))
    silent = walk.request.existing == "copy"
    look = [(item, image) for item, image in good if not (silent and walk.before[item.name])]
    said: list[list[Saying]] = [[] for _ in look]
    for speaker in walk.speakers if look else ():
        with walk.desk.cache.lend_part(speaker.kind, speaker.path, lambda speaker=speaker: speaker.load(speaker.path, walk.desk.cache.device)) as captioner:
            for start in range(0, len(look), walk.request.batch_size):
                pictures = [image for _, image in look[start : start + walk.request.batch_size]]
                for row, saying in zip(said[start:], _sayings(captioner, pictures, walk.request), strict=False):
                    row.append(saying)
                    walk.heard.setdefault(speaker.path.name, []).append(saying)
    words = {item.name: joined(row, walk.request) for (item, _), row in zip(look, said, strict=True)}
    for item, _ in good:
        _write(walk, item.name, words.get(item.name, ""), stream)
        tell_pace(walk, item.name)


def _sayings(captioner: Captioner, images: Sequence[Image.Image], request: CaptionRequest) -> list[Saying]:
    """What a captioner says; pictures that do not fit on the card together are looked at in halves."""
    try:
        return captioner.sayings(images, request)
    except torch.OutOfMemoryError:
        if len(images) == 1:
            raise
    torch.cuda.empty_cache()
    middle = len(images) // 2
    return _sayings(captioner, images[:middle], request) + _sayings(captioner, images[middle:], request)


def _write(walk: Walk, name: str, said: str, stream: Stream) -> None:
    """Write one caption into the step, and tell it; a picture nothing is said about keeps what it has."""
    action = walk.request.existing if walk.request.existing in ("copy", "prepend", "append") else "ignore"
    caption = with_trigger(walk.request.trigger, merge_captions(action, walk.before[name] or "", said))
    if not caption:
        walk.skip(name, f"Nothing was said about {name}; no tag reached its threshold.")
        return
    try:
        stream.add([Change(name, "own_caption" if name in walk.shared else "caption", shown_caption(walk.project.folder / name), caption)])
    except (Conflict, InputError, NotFound) as error:
        walk.skip(name, str(error))
        return
    walk.captioned += 1
    walk.lane.emit("item", name=name, caption=caption)
