"""What is known about a picture of a data set: what was measured once, and what a person decided."""

from dataclasses import asdict, dataclass, field
from typing import Any

BINS = 64
"""A profile says how much lies in each of so many equal stripes of a picture."""
Size = tuple[int, int]
"""Width and height in pixels."""
Box = tuple[int, int, int, int]
"""Left, top, right and bottom in pixels, the last two not included."""


@dataclass(frozen=True)
class Facts:
    """What was measured on one picture file; `problem` says why nothing could be. Places are shares (0 to 1) of the upright picture."""

    width: int = 0
    height: int = 0
    format: str = ""
    mode: str = ""
    turned: bool = False
    """Whether its EXIF turns it."""
    alpha: bool = False
    """Whether some of it is transparent."""
    frames: int = 1
    sharpness: float = 0.0
    """Variance of the Laplacian, in squared grey levels, on a copy whose longer side is 512."""
    perceptual: str = ""
    """64-bit perceptual hash, in hexadecimal."""
    digest: str = ""
    """SHA-256 of the file."""
    faces: tuple[tuple[float, float, float, float], ...] = ()
    """Left, top, right, bottom of each face, as shares; the largest first."""
    detail_x: tuple[int, ...] = ()
    """Profile of detail (entropy) over the width, each bin 0 to 255; `detail_y` over the height."""
    detail_y: tuple[int, ...] = ()
    edges_x: tuple[int, ...] = ()
    """Profile of edges and corners."""
    edges_y: tuple[int, ...] = ()
    clip: str = ""
    """CLIP's feature vector as base64 of fp16, when it was asked for."""
    problem: str = ""

    @property
    def size(self) -> Size:
        """Width and height, upright."""
        return self.width, self.height

    def as_json(self) -> dict[str, Any]:
        """What the database keeps."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "Facts":
        """Back from the database; what another version wrote and this one does not know is left out."""
        known = {k: v for k, v in values.items() if k in cls.__dataclass_fields__}
        for name in ("detail_x", "detail_y", "edges_x", "edges_y"):
            known[name] = tuple(known.get(name, ()))
        known["faces"] = tuple(tuple(face) for face in known.get("faces", ()))
        return cls(**known)


@dataclass(frozen=True)
class Crop:
    """Where to cut: the window's middle as shares of the upright picture, pushed inside; zoom 1 is the largest window, 2 half of its side."""

    x: float = 0.5
    y: float = 0.5
    zoom: float = 1.0


@dataclass(frozen=True)
class Choices:
    """What a person decided about a picture."""

    crop: Crop | None = None
    """None = as suggested."""
    flipped: bool = False
    """Write a mirrored copy too."""
    left_out: bool = False
    """Neither written nor trained on."""
    held_out: bool = False
    """Kept for the validation split."""
    repeats: int = 1

    def as_json(self) -> dict[str, Any]:
        """What the database keeps."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "Choices":
        """Back from the database."""
        known = {k: v for k, v in values.items() if k in cls.__dataclass_fields__}
        if known.get("crop"):
            known["crop"] = Crop(**known["crop"])
        return cls(**known)


@dataclass(frozen=True)
class Item:
    """One picture of a data set; `name` is its file name, which is how it is called everywhere."""

    name: str
    caption: str = ""
    """What its caption file says; empty without one."""
    captioned: bool = False
    """Whether there is a caption file, even an empty one."""
    caption_name: str = ""
    """File name of the caption file that counts, or that would be written."""
    mask_name: str = ""
    """File name of its mask (`<stem>-masklabel.png`); empty without one."""
    mask_changed: int = 0
    """When the mask changed, in nanoseconds since 1970."""
    bytes: int = 0
    changed: int = 0
    """When the file changed, in nanoseconds since 1970."""
    facts: Facts | None = None
    """None until it was examined."""
    choices: Choices = field(default_factory=Choices)


@dataclass(frozen=True)
class Change:
    """One field of one picture: what it was and what it becomes.

    `field` is "caption" (text, or None for no file), "mask" (digest of a kept mask, or None), "own_caption" (text of a caption file of its own),
    "encoding" (how the caption file is written), or a field of Choices.
    """

    item: str
    field: str
    before: Any
    after: Any


@dataclass(frozen=True)
class Edit:
    """One named step of the journal; `state` is "pending" (being applied), "done" or "undone"."""

    id: int
    name: str
    at: float
    count: int
    state: str
