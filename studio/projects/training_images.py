"""The images a training uses: those of a folder, or of the numbered folders of a kohya tree in it, and how often each counts in an epoch."""

from collections.abc import Iterable
from pathlib import Path

from studio import shelves
from studio.projects.kohya import folder_repeats
from studio.projects.marks import held_out, left_out, noted_repeats


def training_images(folder: Path) -> list[Path]:
    """Images directly in `folder`, else those of the folders such as `10_name` in it, in natural order; empty when there are none. Raises OSError for a folder that cannot be read."""
    found = shelves.images(folder) or [image for inner in _numbered(folder) for image in shelves.images(inner)]
    return sorted(found, key=lambda image: (shelves.natural_key(image.parent), shelves.natural_key(image)))


def learned_images(folder: Path) -> list[Path]:
    """Those that nobody left out or kept for validation. Raises Unreadable when a data set's notes are damaged."""
    found = training_images(folder)
    unused = {inner / name for inner in {image.parent for image in found} for name in left_out(inner) | held_out(inner)}
    return [image for image in found if image not in unused]


def repeats_of(images: Iterable[Path]) -> dict[Path, int]:
    """How often each image counts in an epoch: the number in front of its folder's name times the repeats set in the data set. Raises Unreadable when a data set's notes are damaged."""
    images = list(images)
    noted = {folder: noted_repeats(folder) for folder in {image.parent for image in images}}
    return {image: folder_repeats(image.parent.name)[0] * noted[image.parent].get(image.name, 1) for image in images}


def class_tokens(image: Path, folder: Path) -> str:
    """The caption of an image without one, where it lies in a kohya folder below the chosen `folder`: what the folder's name says after the repeats."""
    return "" if image.parent == folder else folder_repeats(image.parent.name)[1]


def _numbered(folder: Path) -> list[Path]:
    """Folders in `folder` whose names say their repeats."""
    return [inner for inner in folder.iterdir() if folder_repeats(inner.name)[1] and inner.is_dir()] if folder.is_dir() else []
