"""One original becomes its prepared pictures: opened, measured if need be, cut, turned, written whole. A pure function of its task, for the processes of a crew."""

import hashlib
import io
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image, ImageColor, ImageOps

from studio.dataset.background import as_rgba, cut_out, on_background, seed_of
from studio.dataset.crop import drawn
from studio.dataset.examine import measure
from studio.dataset.folder import open_upright
from studio.dataset.masks import read_mask
from studio.dataset.sizing import Piece, Sizing, needs_focus, pieces
from studio.errors import InputError, Unreadable
from studio.files import atomic_write
from studio.projects.facts import Box, Crop, Facts, Size
from studio.shelves import MASK_SUFFIX

SMALLEST = 16
"""A picture with a shorter side is of no use for training."""
DEBUG_SIDE = 1024
"""Longer side of a drawing that shows the crop, in pixels."""
PACKING = zlib.Z_RLE
"""How PNGs are packed: photographs get as small as by zlib's usual way, in a fifth of the time (measured on scikit-image's photographs)."""
PART = ".part"
"""How a picture ends that waits for its caption; it begins with a dot, so that nobody takes it for one."""
MIRRORS: dict[str, Callable[[Image.Image], Image.Image]] = {
    "": lambda image: image,
    "Horizontal": ImageOps.mirror,
    "Vertical": ImageOps.flip,
    "Both": lambda image: image.transpose(Image.Transpose.ROTATE_180),
}


@dataclass(frozen=True)
class Kind:
    """What kind of files is written, and what becomes of masks and background."""

    format: str = "png"
    quality: int = 95
    masks: str = "none"
    """"none", "sidecar" or "alpha"."""
    colour: str = ""
    """The colour behind the subject as #rrggbb; empty keeps what is there."""
    cut: bool = False
    """Whether a subject without a mask is cut out."""


@dataclass(frozen=True)
class Task:
    """What is made of one original. Stems of the files are those in `stems`, or a number between `before` and `after`."""

    picture: Path
    folder: Path
    rules: Sizing
    stems: tuple[str, ...] = ()
    before: str = ""
    after: str = ""
    kind: Kind = Kind()
    facts: Facts | None = None
    """None measures it now."""
    crop: Crop | None = None
    """Where a person chose to cut."""
    caption: str | None = None
    """What is written beside each picture; None writes no file."""
    wait: bool = False
    """Whether pictures wait under hidden names until `finish` gives them a caption."""
    drawing: Path | None = None
    """Where a small drawing of the crop goes."""
    yunet: Path | None = None
    """YuNet's file, where a person put it."""
    debug: bool = False
    """Whether a larger one goes into the folder `debug`."""

    def stem(self, number: int) -> str:
        """The stem of the so-manieth picture."""
        return self.stems[number] if self.stems else f"{self.before}{number}{self.after}"


@dataclass(frozen=True)
class Made:
    """One picture that was written: its file, where it was cut, which way it is mirrored, the original's size, and its files by name with their marks."""

    path: Path
    box: Box
    size: Size
    flip: str
    original: Size
    marks: dict[str, tuple[int, int, str]]
    """Size in bytes, time of change in nanoseconds, and SHA-256 of each file."""
    note: str = ""
    """What a person should know about it, in a sentence."""


def prepare(task: Task) -> list[Made]:
    """Write everything that is made of one original; raises Unreadable and InputError in words."""
    image = open_upright(task.picture)
    if min(image.size) < SMALLEST:
        raise Unreadable(f"{task.picture.name} is {image.width}x{image.height} pixels, too small to learn from.", f"Use pictures of at least {SMALLEST} pixels each way.")
    facts = task.facts if task.facts is not None and task.facts.size == image.size else _measured(image, task)
    try:
        wanted = pieces(facts, task.rules, task.crop)
    except InputError as error:
        raise InputError(f"{task.picture.name}: {error.message}", error.hint) from error
    _draw(image, wanted, task)
    image, mask, note = _grounded(image, facts, task)
    return [_made(image, mask, piece, task.stem(number), task, note) for number, piece in enumerate(wanted)]


def _measured(image: Image.Image, task: Task) -> Facts:
    """What must be known of a picture to cut it."""
    if task.crop is None and needs_focus(image.size, task.rules):
        return measure(image, yunet=task.yunet)
    return Facts(width=image.width, height=image.height)


def _draw(image: Image.Image, wanted: list[Piece], task: Task) -> None:
    """Show where an original is cut."""
    if task.drawing is not None:
        with atomic_write(task.drawing) as temporary:
            drawn(image, wanted[0].box).save(temporary, "JPEG", quality=85)
    if task.debug:
        for number, box in enumerate(dict.fromkeys(piece.box for piece in wanted)):
            with atomic_write(task.folder / "debug" / f"{task.stem(number)}.jpg") as temporary:
                drawn(image, box, DEBUG_SIDE).save(temporary, "JPEG", quality=90)


def _grounded(image: Image.Image, facts: Facts, task: Task) -> tuple[Image.Image, Image.Image | None, str]:
    """The picture with what shall be behind its subject, the mask if it is needed, and what a person should know."""
    kind, note = task.kind, ""
    if not kind.colour and kind.masks == "none":
        return image, None, note
    mask = read_mask(task.picture)
    if mask is None and kind.cut:
        seed = seed_of(facts if facts.faces or facts.detail_x else measure(image, yunet=task.yunet))
        found = cut_out(image, seed)
        mask, note = (None, found.problem) if found.problem else (found.mask, "")
    if mask is not None and kind.colour:
        red, green, blue = ImageColor.getrgb(kind.colour)[:3]
        image = on_background(image, mask, (red, green, blue))
    return image, mask, f"{task.picture.name} keeps its background. {note}" if note else ""


def _made(image: Image.Image, mask: Image.Image | None, piece: Piece, stem: str, task: Task, note: str) -> Made:
    """Write one picture with what lies beside it: caption and mask first, so that a picture that is there is complete."""
    picture, marks = shaped(image, piece), {}
    kind = task.kind
    if task.caption is not None:
        marks[f"{stem}.txt"] = put(task.folder / f"{stem}.txt", task.caption.encode())
    if mask is not None and kind.masks != "none":
        shaped_mask = shaped(mask, piece)
        if kind.masks == "alpha":
            picture = as_rgba(picture, shaped_mask)
        else:
            marks[stem + MASK_SUFFIX] = put(task.folder / (stem + MASK_SUFFIX), encoded(shaped_mask, Kind()))
    name = f"{stem}.{kind.format}"
    path = task.folder / (f".{name}{PART}" if task.wait else name)
    marks[name] = put(path, encoded(picture, kind))
    return Made(path, piece.box, piece.size, piece.flip, image.size, marks, note)


def shaped(image: Image.Image, piece: Piece) -> Image.Image:
    """A picture cut, brought to its size and mirrored; where its shape leaves room, the edges are stretched outwards, so nothing is ever black."""
    part = image if piece.box == (0, 0, *image.size) else image.crop(piece.box)
    if piece.fill:
        part = _filled(part, piece.size)
    elif part.size != piece.size:
        part = part.resize(piece.size, Image.Resampling.LANCZOS)
    return MIRRORS[piece.flip](part)


def _filled(image: Image.Image, size: Size) -> Image.Image:
    """The whole picture as large as it fits, in the middle, its outermost pixels continued to the rim."""
    scale = min(size[0] / image.width, size[1] / image.height)
    inner = image.resize((min(size[0], max(1, round(image.width * scale))), min(size[1], max(1, round(image.height * scale)))), Image.Resampling.LANCZOS)
    left, top = (size[0] - inner.width) // 2, (size[1] - inner.height) // 2
    sides = [(top, size[1] - inner.height - top), (left, size[0] - inner.width - left)]
    pixels = np.asarray(inner)
    return Image.fromarray(np.pad(pixels, sides + [(0, 0)] * (pixels.ndim - 2), mode="edge"))


def encoded(image: Image.Image, kind: Kind) -> bytes:
    """A picture as the bytes of a file, in sRGB and without what the original said about itself."""
    file = io.BytesIO()
    if kind.format == "jpg":
        image.convert("RGB").save(file, "JPEG", quality=kind.quality, subsampling=0 if kind.quality >= 90 else 2, icc_profile=None, exif=b"")
    elif kind.format == "webp":
        image.save(file, "WEBP", quality=kind.quality, lossless=kind.quality == 100, exact=True, icc_profile=None, exif=b"")
    else:
        image.save(file, "PNG", compress_type=PACKING, icc_profile=None)
    return file.getvalue()


def put(path: Path, data: bytes) -> tuple[int, int, str]:
    """Write a file whole and give its mark: bytes, time of change, SHA-256."""
    with atomic_write(path) as temporary:
        temporary.write_bytes(data)
    return len(data), path.stat().st_mtime_ns, hashlib.sha256(data).hexdigest()


def finish(made: Made, caption: str) -> Made:
    """Give a picture that waited its caption, then its name."""
    path = made.path.with_name(made.path.name.removeprefix(".").removesuffix(PART))
    marks = dict(made.marks)
    if caption:
        marks[f"{path.stem}.txt"] = put(path.with_suffix(".txt"), caption.encode())
    made.path.replace(path)
    return replace(made, path=path, marks=marks)


def parts(folder: Path) -> Iterator[Path]:
    """Pictures that wait in a folder for a caption that never came."""
    return (path for path in folder.glob(f".*{PART}") if path.is_file())
