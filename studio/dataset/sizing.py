"""From what is known of a picture to the pieces that are made of it: where each is cut, what size it gets, how it is turned. Pure arithmetic."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from studio.errors import InputError
from studio.projects.cropping import AutoSize, Split, Weights, auto_size, box_of, nearest_bucket, split_boxes, suggest
from studio.projects.facts import Box, Crop, Facts, Size

if TYPE_CHECKING:  # every process of a crew would wait for pydantic
    from studio.requests.preprocess import SizingOptions

FLIPS = ("Horizontal", "Vertical", "Both")


@dataclass(frozen=True)
class Piece:
    """One picture that is made: the box of the upright original, the size it is brought to, whether its edges are stretched to fill it, and which way it is mirrored."""

    box: Box
    size: Size
    fill: bool = False
    flip: str = ""


@dataclass(frozen=True)
class Sizing:
    """The rules by which pieces are made."""

    target: Size
    sizing: str = "crop"
    """"crop", "buckets", "auto" or "keep"."""
    resize_mode: str = "Crop to fit"
    weights: Weights | None = None
    """None cuts in the middle."""
    buckets: tuple[Size, ...] = ()
    auto: AutoSize | None = None
    split: Split | None = None
    flips: tuple[str, ...] = ()

    @classmethod
    def of(cls, request: "SizingOptions", focal: bool = True, split: Split | None = None, flips: tuple[str, ...] = ()) -> "Sizing":
        """The rules a request asks for."""
        sizes = request.sizes() if request.sizing == "buckets" else ()
        return cls(request.target, request.sizing, request.resize_mode, request.weights if focal else None, sizes, request.auto, split, flips)


def size_of(size: Size, rules: Sizing) -> Size:
    """The size a picture of this upright size gets; raises InputError when an auto-sized crop finds none."""
    if rules.sizing == "keep":
        return size
    if rules.sizing == "buckets":
        return nearest_bucket(size, rules.buckets)
    if rules.sizing == "auto":
        found = auto_size(size, rules.auto or AutoSize())
        if found is None:
            raise InputError(f"No size that an auto-sized crop may have is near enough to the shape of {size[0]}x{size[1]} pixels.", "Raise its error threshold or widen its bounds.")
        return found
    return rules.target


def needs_focus(size: Size, rules: Sizing) -> bool:
    """Whether it matters where the subject is: something is cut off, and something pulls."""
    weights = rules.weights
    if weights is None or max(weights.face, weights.entropy, weights.edges) <= 0 or rules.sizing == "keep" or rules.resize_mode != "Crop to fit":
        return False
    target = size_of(size, rules)
    return size[0] * target[1] != size[1] * target[0] and not _tiles(size, target, rules)


def pieces(facts: Facts, rules: Sizing, crop: Crop | None = None) -> list[Piece]:
    """What is made of a picture: where a person chose to cut, else as suggested; each piece is followed by its mirrored copies. Raises InputError."""
    size, whole = facts.size, (0, 0, *facts.size)
    target = size_of(size, rules)
    if rules.sizing == "keep":
        straight = [Piece(whole, size)]
    elif rules.resize_mode != "Crop to fit":
        straight = [Piece(whole, target, fill=rules.resize_mode == "Resize and fill")]
    elif crop is None and (tiles := _tiles(size, target, rules)):
        straight = [Piece(box, target) for box in tiles]
    else:
        crop = crop or (suggest(facts, target, rules.weights) if rules.weights else Crop())
        straight = [Piece(box_of(size, target, crop), target)]
    flips = [flip for flip in FLIPS if flip in rules.flips]
    return [made for piece in straight for made in (piece, *(Piece(piece.box, piece.size, piece.fill, flip) for flip in flips))]


def _tiles(size: Size, target: Size, rules: Sizing) -> list[Box]:
    """The parts of an oversized picture; none when it is not split."""
    return split_boxes(size, target, rules.split) if rules.split and rules.sizing == "crop" else []
