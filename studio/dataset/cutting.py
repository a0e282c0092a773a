"""From the file of a picture to the bytes of its mask: opened, cut out, grown, softened, turned round. No torch, so that a crew can do it."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from PIL import Image, ImageOps

from studio.dataset.background import Cut, Seed, cut_out, seed_of
from studio.dataset.examine import measure
from studio.dataset.folder import in_words, open_turned, to_rgb
from studio.dataset.masks import alpha_of, mask_png, refine
from studio.dataset.profiles import in_srgb
from studio.errors import NotFound
from studio.projects.facts import Choices, Facts

Segment = Callable[[Image.Image, Seed], Cut]
"""Finds the subject of an upright RGB picture."""


@dataclass(frozen=True)
class Order:
    """One picture that gets a mask, and how the mask is mended."""

    picture: Path
    facts: Facts | None
    choices: Choices
    grow: int = 0
    feather: int = 0
    invert: bool = False
    words: str = ""
    """What the subject is, for networks that look for words."""
    fill_holes: bool = False
    keep_alpha: bool = True
    """Whether a picture whose own alpha is a mask keeps that."""


class Masked(NamedTuple):
    """The mask as a PNG (empty when there is none), how far it can be trusted (0 to 1), and in words what is wrong with it."""

    png: bytes
    confidence: float = 0.0
    problem: str = ""


def masked(order: Order, segment: Segment = cut_out) -> Masked | None:
    """The mask of a picture; None when its own alpha is kept. Raises NotFound, Unreadable."""
    if not order.picture.is_file():
        raise NotFound(f"{order.picture.name} is gone.", "It was moved or deleted meanwhile.")
    stored = open_turned(order.picture)
    if order.keep_alpha and alpha_of(stored) is not None:
        return None
    with in_words(order.picture):
        image = to_rgb(in_srgb(stored))
    cut = segment(image, _seed(image, order))
    if cut.problem:
        return Masked(b"", 0.0, f"{order.picture.name}: {cut.problem}")
    mask = refine(cut.mask, order.grow, order.feather, order.fill_holes)
    low, high = mask.getextrema()
    if high < 128:
        return Masked(b"", 0.0, f"Nothing is left of the subject of {order.picture.name} once its edge is moved. Make it less small, or its edge less soft.")
    if low >= 128:
        return Masked(b"", 0.0, f"The subject of {order.picture.name} covers the whole picture once its edge is moved. Make it less large.")
    return Masked(mask_png(ImageOps.invert(mask) if order.invert else mask), cut.confidence)


def _seed(image: Image.Image, order: Order) -> Seed:
    """Where the subject is, from what is known; a picture that was not examined yet is looked at for faces."""
    known = order.facts is not None and not order.facts.problem and bool(order.facts.faces or order.facts.detail_x)
    return replace(seed_of(order.facts if known else measure(image), order.choices), words=order.words)
