"""Comparing the pictures of a data set by what they show."""

from pydantic import Field

from studio.config import Config


class CompareRequest(Config):
    """Look at every picture with CLIP, so that the doctor also finds pictures that show the same in other pixels."""

    folder: str = Field(min_length=1, title="Data set")
    """Folder of the data set; its pictures are only read."""
