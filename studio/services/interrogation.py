"""Interrogate: put one picture into words, by the captioners that preparing uses."""

from pathlib import Path
from typing import Any

from studio.dataset.captioners import CAPTIONERS
from studio.dataset.folder import open_upright
from studio.jobs import Lane
from studio.requests.interrogate import InterrogateRequest
from studio.services.desk import Desk


def run(request: InterrogateRequest, lane: Lane, desk: Desk) -> dict[str, Any]:
    """The caption of a picture; raises Unreadable for what is none, NotFound when the captioner's files are missing."""
    image = open_upright(Path(request.image))
    find, load = next((find, load) for name, find, load in CAPTIONERS if name == request.captioner)
    path = find(desk.paths)
    lane.emit("progress", step=0, total=1, text=request.captioner)
    with desk.cache.lend_part("captioner", path, lambda: load(path, desk.cache.device)) as captioner:
        caption = captioner.caption(image, request.threshold)
    lane.emit("progress", step=1, total=1, text=caption)
    return {"caption": caption}
