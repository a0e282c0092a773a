"""Interrogate: put one picture into words, by the captioners that preparing uses."""

from pathlib import Path
from typing import Any

from studio.cancellation import raise_if_stopped
from studio.dataset.captioners import wanted
from studio.dataset.folder import open_upright
from studio.dataset.tag_text import joined, out_of_world_warning, with_trigger
from studio.errors import InputError
from studio.jobs import Lane
from studio.projects.captions import split_tags
from studio.requests.interrogate import InterrogateRequest
from studio.services.desk import Desk


def run(request: InterrogateRequest, lane: Lane, desk: Desk) -> dict[str, Any]:
    """The caption of a picture; raises Unreadable for what is none, NotFound when the captioner's files are missing."""
    image = open_upright(Path(request.image))
    labels = split_tags(request.captioner)
    if not labels:
        raise InputError(f"Captioner: {request.captioner!r} names none.", "Choose one, such as BLIP or DeepBooru.")
    speakers, said = wanted(desk.paths, labels), []
    for number, one in enumerate(speakers):
        raise_if_stopped()
        lane.emit("progress", step=number, total=len(speakers), text=f"{one.kind}: {one.path.name}")
        with desk.cache.lend_part(one.kind, one.path, lambda one=one: one.load(one.path, desk.cache.device)) as captioner:
            said += captioner.sayings([image], request)
    if text := out_of_world_warning("BLIP (tiny world)", said):
        lane.emit("warning", text=text)
    caption = with_trigger(request.trigger, joined(said, request))
    lane.emit("progress", step=len(speakers), total=len(speakers), text=caption)
    return {"caption": caption}
