"""Writing a data set out as prepared copies, as its crops and captions are now."""

from typing import Literal

from pydantic import Field, model_validator

from studio.requests.preprocess import Config, Flip, SizingOptions


class DataSetPlaces(Config):
    """Which data set is written, and where to."""

    folder: str = Field(min_length=1, title="Data set")
    """Folder of the data set; its pictures are only read."""
    destination: str = Field("", title="Destination directory")
    """Folder that receives the copies; empty means exports/<width>x<height> inside the data set."""


class WriteRequest(SizingOptions, DataSetPlaces):
    """One press of Write: prepared copies of every picture that is not left out; what an earlier Write made there is brought up to date."""

    names: tuple[str, ...] = Field((), title="Pictures")
    """File names of the pictures to write; empty means all."""
    flip: bool = Field(False, title="Create flipped copies")
    """Write mirrored copies of every picture; off writes them only for the pictures where they were chosen."""
    flips: tuple[Flip, ...] = Field(("Horizontal",), title="Flipped copies")
    """Which mirrored copies are written: left to right, upside down, or both at once (turned by half)."""
    captions: bool = Field(True, title="With captions")
    """Write each caption as .txt beside its picture."""
    masks: Literal["none", "sidecar", "alpha"] = Field("none", title="Masks")
    """Leave masks out, write them beside the pictures as -masklabel.png, or into the pictures' alpha channel."""
    background: Literal["keep", "white", "colour"] = Field("keep", title="Background")
    """Keep what is behind the subject, or put white or a colour there, where a picture has a mask."""
    background_colour: str = Field("#ffffff", pattern=r"^#[0-9a-fA-F]{6}$", title="Background colour")
    """The colour behind the subject as #rrggbb."""
    format: Literal["png", "jpg", "webp"] = Field("png", title="File format")
    """Kind of file: png and webp can carry masks in their alpha, jpg is smallest and loses a little."""
    quality: int = Field(95, ge=1, le=100, title="Quality")
    """Quality of jpg and webp files; 100 writes webp without loss."""
    repeats: bool = Field(False, title="Repeats in folder names")
    """Put pictures into folders such as 10_name by how often they are to be repeated, as kohya's trainer reads it."""

    @model_validator(mode="after")
    def _alpha_needs_its_file(self) -> "WriteRequest":
        """A jpg has no alpha channel."""
        if self.masks == "alpha" and self.format == "jpg":
            raise ValueError("A jpg file has no alpha channel for masks; choose png or webp, or masks beside the pictures.")
        return self
