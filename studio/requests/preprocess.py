"""Preparing pictures: size, crop, split, flip, caption."""

from typing import Literal

from pydantic import Field, model_validator

from studio.config import Config
from studio.errors import InputError
from studio.projects.cropping import AutoSize, Split, Weights, buckets
from studio.projects.facts import Size
from studio.requests.caption import CaptionOptions

Captioner = Literal["BLIP", "DeepBooru", "WD14", "Florence-2", "CLIP interrogator"]
CaptionAction = Literal["ignore", "copy", "prepend", "append"]
Flip = Literal["Horizontal", "Vertical", "Both"]
ResizeMode = Literal["Crop to fit", "Resize and fill", "Just resize"]
WEIGHT = {"step": 0.05}


class SizingOptions(Config):
    """What size pictures get and where they are cut; preparing and writing have these knobs alike."""

    width: int = Field(128, ge=64, le=2048, json_schema_extra={"step": 8})
    """Width of the prepared pictures in pixels."""
    height: int = Field(128, ge=64, le=2048, json_schema_extra={"step": 8})
    """Height of the prepared pictures in pixels."""
    sizing: Literal["crop", "buckets", "auto", "keep"] = Field("crop", title="Sizes")
    """Size of each picture: crop = exactly width and height; buckets = the one of several sizes of that area whose shape is nearest; auto = A1111's auto-sized crop; keep = its own size."""
    resize_mode: ResizeMode = Field("Crop to fit", title="Resize mode")
    """What happens when the shape does not fit: Crop to fit cuts the rest off, Resize and fill keeps everything and stretches the edges outwards, Just resize stretches the picture."""
    face_weight: float = Field(0.9, ge=0, le=1, title="Focal point face weight", json_schema_extra=WEIGHT)
    """Pull of faces on the crop."""
    entropy_weight: float = Field(0.15, ge=0, le=1, title="Focal point entropy weight", json_schema_extra=WEIGHT)
    """Pull of detailed areas on the crop."""
    edges_weight: float = Field(0.5, ge=0, le=1, title="Focal point edges weight", json_schema_extra=WEIGHT)
    """Pull of corners and edges on the crop."""
    bucket_step: int = Field(64, ge=8, le=256, title="Buckets: step", json_schema_extra={"step": 8})
    """Sides of bucket sizes are multiples of so many pixels."""
    bucket_smallest: int = Field(0, ge=0, le=2048, title="Buckets: smallest side", json_schema_extra={"step": 8})
    """Shortest side of a bucket in pixels; 0 takes half of the shorter of width and height."""
    bucket_largest: int = Field(0, ge=0, le=4096, title="Buckets: largest side", json_schema_extra={"step": 8})
    """Longest side of a bucket in pixels; 0 takes twice the longer of width and height."""
    auto_smallest: int = Field(384, ge=64, le=2048, title="Auto-sized crop: dimension lower bound", json_schema_extra={"step": 8})
    """Shortest side that an auto-sized picture may have, in pixels."""
    auto_largest: int = Field(768, ge=64, le=2048, title="Auto-sized crop: dimension upper bound", json_schema_extra={"step": 8})
    """Longest side that an auto-sized picture may have, in pixels."""
    auto_least_area: int = Field(64 * 64, ge=64 * 64, le=2048 * 2048, title="Auto-sized crop: area lower bound")
    """Smallest area of an auto-sized picture, in pixels."""
    auto_most_area: int = Field(640 * 640, ge=64 * 64, le=2048 * 2048, title="Auto-sized crop: area upper bound")
    """Largest area of an auto-sized picture, in pixels."""
    auto_objective: Literal["Maximize area", "Minimize error"] = Field("Maximize area", title="Auto-sized crop: resizing objective")
    """Of the sizes that are allowed, take the largest, or the one that cuts off least."""
    auto_threshold: float = Field(0.1, ge=0, le=1, title="Auto-sized crop: error threshold", json_schema_extra={"step": 0.01})
    """How much of the longer way an auto-sized crop may cut off, as a share."""

    @property
    def target(self) -> Size:
        """Width and height."""
        return self.width, self.height

    @property
    def weights(self) -> Weights:
        """Pull of each kind of focal point."""
        return Weights(self.face_weight, self.entropy_weight, self.edges_weight)

    @property
    def auto(self) -> AutoSize:
        """Which sizes an auto-sized crop may have."""
        return AutoSize(self.auto_smallest, self.auto_largest, self.auto_least_area, self.auto_most_area, self.auto_objective, self.auto_threshold)

    def sizes(self) -> tuple[Size, ...]:
        """The bucket sizes; raises InputError when there is none."""
        smallest = self.bucket_smallest or max(self.bucket_step, min(self.target) // 2)
        largest = self.bucket_largest or 2 * max(self.target)
        return tuple(buckets(self.target, self.bucket_step, smallest, largest))

    @model_validator(mode="after")
    def _limits_leave_something(self) -> "SizingOptions":
        """Limits that exclude every size are refused at the door."""
        if self.sizing == "auto" and (self.auto_smallest > self.auto_largest or self.auto_least_area > self.auto_most_area):
            raise ValueError("The lower bounds of the auto-sized crop are above its upper bounds; lower the one or raise the other.")
        if self.sizing == "buckets":
            try:
                self.sizes()
            except InputError as error:
                raise ValueError(str(error)) from error
        return self


class Places(Config):
    """Where pictures come from and go to."""

    source: str = Field(min_length=1, title="Source directory")
    """Folder or .zip of the original pictures; nothing in it is changed."""
    destination: str = Field(min_length=1, title="Destination directory")
    """Folder that receives the prepared pictures and captions."""


class CuttingOptions(Config):
    """How one original becomes one or more pictures."""

    crop: Literal["Focal", "Center"] = "Focal"
    """Where to cut when the shape does not fit: around faces and detail, or in the middle."""
    debug: bool = Field(False, title="Create debug image")
    """Draw each crop over its original, as pictures in the sub-folder debug, where training does not look."""
    split: bool = Field(False, title="Split oversized images")
    """Cut a picture that is too long for one crop into several that overlap."""
    split_threshold: float = Field(0.5, ge=0, le=1, title="Split image threshold", json_schema_extra={"step": 0.05})
    """Split when one crop would keep at most this share of the picture."""
    overlap_ratio: float = Field(0.2, ge=0, le=0.9, title="Split image overlap ratio", json_schema_extra={"step": 0.05})
    """How much neighbouring parts of a split picture share."""
    flip: bool = Field(False, title="Create flipped copies")
    """Write mirrored copies of every picture; leave off for faces that are not symmetric."""
    flips: tuple[Flip, ...] = Field(("Horizontal",), title="Flipped copies")
    """Which mirrored copies are written: left to right, upside down, or both at once (turned by half)."""
    background: Literal["none", "white", "colour"] = Field("none", title="Background")
    """Set the subject on white or on a colour: by the picture's mask when one lies beside it or in its alpha, else cut out by itself; none leaves pictures as they are."""
    background_colour: str = Field("#ffffff", pattern=r"^#[0-9a-fA-F]{6}$", title="Background colour")
    """The colour behind the subject as #rrggbb."""

    @property
    def splitting(self) -> Split | None:
        """How oversized pictures are split; None when they are not."""
        return Split(self.split_threshold, self.overlap_ratio) if self.split else None

    @property
    def mirrored(self) -> tuple[str, ...]:
        """The mirrored copies that are wanted."""
        return self.flips if self.flip else ()


class WordOptions(Config):
    """Who writes captions, and what becomes of those that are there."""

    captioners: tuple[Captioner | str, ...] = Field((), title="Captions by")
    """Who writes captions, by kind or by kind and name: BLIP and Florence-2 write a sentence, DeepBooru and WD14 tags; all are joined with a comma."""
    existing_captions: CaptionAction = Field("ignore", title="Existing caption action")
    """What happens with captions that lie beside the originals."""


class PreprocessRequest(CaptionOptions, WordOptions, CuttingOptions, SizingOptions, Places):
    """One press of Preprocess; the source is only read."""
