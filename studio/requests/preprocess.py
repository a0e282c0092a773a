"""Preparing pictures: crop to size, flip, caption."""

from typing import Literal

from pydantic import Field

from studio.config import Config

Captioner = Literal["BLIP", "DeepBooru"]
CaptionAction = Literal["ignore", "copy", "prepend", "append"]


class PreprocessRequest(Config):
    """One press of Preprocess; the source is only read."""

    source: str = Field(min_length=1, title="Source directory")
    """Folder or .zip of the original pictures; nothing in it is changed."""
    destination: str = Field(min_length=1, title="Destination directory")
    """Folder that receives the prepared pictures and captions."""
    width: int = Field(128, ge=64, le=2048, json_schema_extra={"step": 8})
    """Width of the prepared pictures in pixels."""
    height: int = Field(128, ge=64, le=2048, json_schema_extra={"step": 8})
    """Height of the prepared pictures in pixels."""
    crop: Literal["Focal", "Center"] = "Focal"
    """Where to cut when the shape does not fit: around faces and detail, or in the middle."""
    face_weight: float = Field(0.9, ge=0, le=1, title="Focal point face weight", json_schema_extra={"step": 0.05})
    """Pull of faces on the crop."""
    entropy_weight: float = Field(0.15, ge=0, le=1, title="Focal point entropy weight", json_schema_extra={"step": 0.05})
    """Pull of detailed areas on the crop."""
    edges_weight: float = Field(0.5, ge=0, le=1, title="Focal point edges weight", json_schema_extra={"step": 0.05})
    """Pull of corners and edges on the crop."""
    flip: bool = Field(False, title="Create flipped copies")
    """Write a mirrored copy of every picture; leave off for faces that are not symmetric."""
    captioners: tuple[Captioner, ...] = Field((), title="Captions by")
    """BLIP writes a sentence, DeepBooru writes tags; both are joined with a comma."""
    existing_captions: CaptionAction = Field("ignore", title="Existing caption action")
    """What happens with captions that lie beside the originals."""
    threshold: float = Field(0.5, ge=0, le=1, title="DeepBooru: score threshold", json_schema_extra={"step": 0.05})
    """How sure the tagger must be before a tag is written."""
