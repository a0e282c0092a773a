"""Cutting the subjects of a data set out, as masks that lie beside the pictures."""

from typing import Literal

from pydantic import Field

from studio.config import Config


class MaskRequest(Config):
    """One press of Cut out: a mask for each picture, as one step that can be taken back."""

    folder: str = Field(min_length=1, title="Data set")
    """Folder of the data set; its pictures are only read."""
    names: tuple[str, ...] = Field((), title="Pictures")
    """File names of the pictures; empty means all that are not left out."""
    segmenter: Literal["GrabCut", "Automatic", "rembg", "SAM", "Segmentation", "CLIPSeg"] = "GrabCut"
    """What cuts: GrabCut is always there and follows colours; the others need their files in models/rembg or models/segmentation and know what a subject is."""
    words: str = Field("", max_length=200)
    """What the subject is, such as: a dog; for CLIPSeg, which Automatic takes first when there are words."""
    grow: int = Field(0, ge=-256, le=256, title="Grow (pixels)")
    """Make the masked subject larger by so many pixels; negative makes it smaller."""
    feather: int = Field(0, ge=0, le=256, title="Feather (pixels)")
    """Soften the edge of the mask over so many pixels."""
    fill_holes: bool = False
    """Count what the subject encloses as subject; GrabCut does so always."""
    invert: bool = False
    """Learn what is around the subject, and leave the subject out."""
    keep_existing: bool = Field(True, title="Keep masks that are there")
    """Skip pictures that have a mask already."""
