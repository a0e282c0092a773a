"""Asking what a picture shows."""

from typing import Literal

from pydantic import Field

from studio.config import Config


class InterrogateRequest(Config):
    """Put a picture into words."""

    image: str = Field(min_length=1)
    """Path of the picture."""
    captioner: Literal["BLIP", "DeepBooru"] = "BLIP"
    """BLIP writes a sentence, DeepBooru writes tags."""
    threshold: float = Field(0.5, ge=0, le=1, title="DeepBooru: score threshold")
    """How sure the tagger must be before a tag is written."""
