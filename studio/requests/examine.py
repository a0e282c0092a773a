"""Measuring the pictures of a data set."""

from pydantic import Field

from studio.config import Config


class ExamineRequest(Config):
    """Measure pictures once: size, sharpness, faces, detail, hashes; crops and warnings are worked out from that."""

    folder: str = Field(min_length=1, title="Data set")
    """Folder of the data set; its pictures are only read."""
    again: bool = Field(False, title="Measure all again")
    """Measure every picture, also those that were measured and have not changed since."""
