"""Preprocess: from raw pictures to a training set; the source is only read, and a bad file is told, never a stop."""

import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from PIL import Image, ImageOps

from studio import shelves
from studio.dataset.captioners import CAPTIONERS, Captioner
from studio.dataset.crop import Box, Weights, center, cut, drawn, focal_point, window
from studio.dataset.folder import list_pictures, open_upright
from studio.errors import InputError, StudioError, Unreadable
from studio.files import atomic_write
from studio.jobs import Lane
from studio.projects import archive
from studio.projects.captions import existing_caption, merge_captions
from studio.requests.preprocess import PreprocessRequest
from studio.services.desk import Desk

SMALLEST = 16
"""A picture with a shorter side is of no use for training."""


def run(request: PreprocessRequest, lane: Lane, desk: Desk) -> dict[str, Any]:
    """Crop, flip and caption every picture; returns how many were written and what was skipped, with reasons."""
    destination = Path(request.destination)
    written, skipped = 0, []
    with _source(Path(request.source), destination) as folder, ExitStack() as lent:
        pictures = list_pictures(folder)
        speakers = [lent.enter_context(desk.cache.lend_part("captioner", path, _loader(load, path, desk))) for path, load in _wanted(request, desk)]
        _make(destination)
        crops = desk.paths.crops / lane.job
        crops.mkdir(parents=True, exist_ok=True)
        first = _next_index(destination)
        for number, picture in enumerate(pictures):
            if lane.stopping():
                return {"written": written, "skipped": skipped, "destination": str(destination), "stopped": True}
            lane.emit("progress", step=number, total=len(pictures), text=picture.name)
            try:
                written += _prepare(picture, first + number, request, lane, speakers, crops)
            except StudioError as error:
                skipped.append({"source": picture.name, "reason": str(error)})
                lane.emit("warning", text=str(error), source=picture.name)
            lane.emit("progress", step=number + 1, total=len(pictures), text=picture.name)
    if not written:
        raise InputError("None of the pictures could be used. " + " ".join(s["reason"] for s in skipped[:5]))
    return {"written": written, "skipped": skipped, "destination": str(destination)}


@contextmanager
def _source(source: Path, destination: Path) -> Iterator[Path]:
    """The folder of originals; a zip is unpacked to a temporary one. Raises InputError."""
    if source.is_dir():
        if destination.resolve() == source.resolve() or source.resolve() in destination.resolve().parents:
            raise InputError("The destination lies in the source, whose pictures must stay untouched.", "Choose another folder.")
        yield source
        return
    if source.suffix.lower() != ".zip" or not source.is_file():
        raise InputError(f"{str(source)!r} is neither a folder nor a .zip file.", "Choose a folder of pictures.")
    with tempfile.TemporaryDirectory() as folder:
        archive.unpack(source, Path(folder))
        if not shelves.images(Path(folder)):
            raise InputError(f"There is no picture in {source.name}.", "Pack files such as .png, .jpg or .webp.")
        yield Path(folder)


def _wanted(request: PreprocessRequest, desk: Desk) -> list[tuple[Path, Any]]:
    """Files and loaders of the captioners that were chosen, in the table's order; raises NotFound before any work is done."""
    return [(find(desk.paths), load) for name, find, load in CAPTIONERS if name in request.captioners]


def _loader(load: Any, path: Path, desk: Desk) -> Any:
    """A loader without arguments, as the cache wants it."""
    return lambda: load(path, desk.cache.device)


def _make(destination: Path) -> None:
    """Make the destination; raises InputError."""
    try:
        destination.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"The destination {str(destination)!r} cannot be made ({error.strerror}).", "Choose another folder.") from error


def _next_index(destination: Path) -> int:
    """The first number that no picture of the destination uses, so that nothing is overwritten."""
    return 1 + max((int(found[1]) for p in destination.iterdir() if (found := re.match(r"(\d{5,})-[01]-", p.name, re.ASCII))), default=-1)


def _prepare(picture: Path, index: int, request: PreprocessRequest, lane: Lane, speakers: Sequence[Captioner], crops: Path) -> int:
    """Write one picture's copies with captions, and into `crops` what was cut; returns how many."""
    image = open_upright(picture)
    if min(image.size) < SMALLEST:
        raise Unreadable(f"{picture.name} is {image.width}x{image.height} pixels, too small to learn from.", f"Use pictures of at least {SMALLEST} pixels each way.")
    target = (request.width, request.height)
    box = _box(image, request)
    shown = crops / f"{index:05d}.jpg"
    drawn(image, box).save(shown, "JPEG", quality=85)
    copies = [cut(image, box, target)]
    if request.flip:
        copies.append(ImageOps.mirror(copies[0]))
    for sub, copy in enumerate(copies):
        caption = merge_captions(request.existing_captions, existing_caption(picture), ", ".join(filter(None, (s.caption(copy, request.threshold) for s in speakers))))
        path = _write(Path(request.destination), f"{index:05d}-{sub}-{_stem(picture)}", copy, caption)
        lane.emit("item", source=str(picture), path=str(path), drawn=str(shown), caption=caption, box=list(box), size=list(image.size), flipped=sub == 1)
    return len(copies)


def _box(image: Image.Image, request: PreprocessRequest) -> Box:
    """The crop of one picture."""
    weights = Weights(request.face_weight, request.entropy_weight, request.edges_weight)
    focus = focal_point(image, weights) if request.crop == "Focal" else center(image.size)
    return window(image.size, (request.width, request.height), focus)


def _stem(picture: Path) -> str:
    """A picture's name without suffix, short enough to get numbers and a new suffix."""
    return picture.stem.encode()[:180].decode(errors="ignore").rstrip(" .") or "picture"


def _write(destination: Path, stem: str, image: Image.Image, caption: str) -> Path:
    """Write the caption, then the picture: a picture that is there has its caption."""
    if caption:
        with atomic_write(destination / f"{stem}.txt") as temporary:
            temporary.write_text(caption, encoding="utf-8")
    with atomic_write(destination / f"{stem}.png") as temporary:
        image.save(temporary, "PNG")
    return destination / f"{stem}.png"
