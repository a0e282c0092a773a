"""What is in a folder of pictures: each one opened upright in plain RGB, or a sentence why it cannot be."""

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageOps, UnidentifiedImageError

from studio import shelves
from studio.dataset.profiles import in_srgb
from studio.errors import InputError, StudioError, Unreadable
from studio.formats.opening import open_limited
from studio.projects.captions import caption_of, is_captioned
from studio.projects.marks import held_out, left_out
from studio.projects.training_images import class_tokens, repeats_of, training_images

DAMAGED = (OSError, RuntimeError, ValueError, TypeError, LookupError, ArithmeticError, SyntaxError, EOFError, struct.error)
"""What Pillow raises for a file that is hurt somewhere."""
ALPHA_MODES = ("RGBA", "LA", "PA", "RGBa", "La")


@dataclass(frozen=True)
class Item:
    """One picture of a data set, what is said about it, and how often it counts in an epoch."""

    image: Path
    caption: str
    repeats: int = 1


def open_upright(path: Path) -> Image.Image:
    """A picture as RGB in sRGB: first frame, turned by its EXIF, colours as its profile means them, alpha laid on white, 16 bits brought to 8. Raises Unreadable in words."""
    with in_words(path):
        return to_rgb(in_srgb(open_turned(path)))


def open_turned(path: Path) -> Image.Image:
    """A picture in its own mode: first frame, turned by its EXIF. Raises Unreadable in words."""
    with in_words(path), open_limited(path) as image:
        image.load()
        return ImageOps.exif_transpose(image)


@contextmanager
def in_words(path: Path) -> Iterator[None]:
    """Say as Unreadable why a file cannot be decoded."""
    try:
        yield
    except UnidentifiedImageError as error:
        raise Unreadable(f"{path.name} is not a picture{' (it is empty)' if path.stat().st_size == 0 else ''}.", "Take it out of the folder, or get it again.") from error
    except DAMAGED as error:
        raise Unreadable(f"{path.name} is damaged or cut off ({str(error)[:100]}).", "Get it again.") from error


def to_rgb(image: Image.Image) -> Image.Image:
    """Any mode as RGB on white."""
    if image.mode.startswith("I;16") or image.mode in ("I", "F"):
        low, high = image.convert("F").getextrema()
        top = 65535.0 if image.mode.startswith("I;16") or (image.mode == "I" and high > 255) else max(float(high), 1.0)
        top = 255.0 if image.mode == "I" and 1 < high <= 255 and low >= 0 else top
        return image.convert("F").point(lambda v: v * (255.0 / top)).convert("L").convert("RGB")
    if image.mode in ALPHA_MODES or "transparency" in image.info:
        layer = image.convert("RGBA")
        white = Image.new("RGBA", layer.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, layer).convert("RGB")
    return image.convert("RGB")


def list_pictures(folder: Path) -> list[Path]:
    """Picture files of a folder in natural order; raises InputError when there is no folder or no picture."""
    if not folder.is_dir():
        raise InputError(f"{str(folder)!r} is not a folder.", "Type the path of a folder with pictures.")
    found = sorted(shelves.images(folder), key=shelves.natural_key)
    if not found:
        raise InputError(f"There is no picture in {str(folder)!r}.", "Pictures are files such as .png, .jpg or .webp directly inside the folder.")
    return found


def divided(folder: Path) -> tuple[list[Path], list[Path]]:
    """Pictures to learn from, and those kept for validation, unopened and in natural order, of a folder or of kohya's numbered folders in it; what a person left out is in neither.

    Raises InputError when nothing is to be learned.
    """
    found = training_images(folder) or list_pictures(folder)
    folders = {path.parent for path in found}
    out = {inner / name for inner in folders for name in left_out(inner)}
    held = {inner / name for inner in folders for name in held_out(inner)}
    used = [path for path in found if path not in out]
    learned = [path for path in used if path not in held]
    if not learned:
        raise InputError(f"All {len(found)} pictures of {folder.name} are left out or kept for validation.", "Take some back in, in the data set room.")
    return learned, [path for path in used if path in held]


def caption_in(folder: Path, picture: Path) -> str:
    """The caption that a training on `folder` uses: the picture's own, else the class tokens of the kohya folder it lies in."""
    tokens = class_tokens(picture, folder)
    return tokens if tokens and not is_captioned(picture) else caption_of(picture)


def read_folder(folder: Path) -> tuple[list[Item], list[tuple[Path, str]]]:
    """Pictures to learn from with captions, and those that cannot be used with the reason; raises InputError when nothing is there at all.

    What a person left out of the data set, or keeps for validation, is not learned.
    """
    items: list[Item] = []
    problems: list[tuple[Path, str]] = []
    learned = divided(folder)[0]
    repeats = repeats_of(learned)
    for path in learned:
        try:
            open_upright(path)
            items.append(Item(path, caption_in(folder, path), repeats[path]))
        except StudioError as error:
            problems.append((path, str(error)))
    return items, problems
