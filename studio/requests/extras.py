"""Enlarging pictures that are there already."""

from typing import Literal

from pydantic import Field

from studio.config import Config


class ExtrasRequest(Config):
    """Enlarge pictures by one upscaler, or by two that are blended."""

    images: tuple[str, ...] = Field(min_length=1)
    """Paths of the pictures."""
    names: tuple[str, ...] = ()
    """A name for each picture's result; empty = the number it gets."""
    resize: Literal["Scale by", "Scale to"] = "Scale by"
    """How the size of the result is told."""
    scale: float = Field(2.0, ge=1, le=8, json_schema_extra={"step": 0.05})
    """How many times larger the result is."""
    width: int = Field(512, ge=64, le=8192)
    """Width of the result in pixels, with Scale to."""
    height: int = Field(512, ge=64, le=8192)
    """Height of the result in pixels, with Scale to."""
    crop: bool = Field(True, title="Crop to fit")
    """Cut off what does not fit the wanted shape; otherwise the result lies within it."""
    upscaler: str = Field("Lanczos", title="Upscaler 1")
    """Lanczos, Nearest, or a model from models/ESRGAN; None keeps the picture as it is."""
    second_upscaler: str = Field("None", title="Upscaler 2")
    """The upscaler whose result is laid over the first one's."""
    second_visibility: float = Field(0.0, ge=0, le=1, title="Upscaler 2 visibility", json_schema_extra={"step": 0.01})
    """How much of the second result shows."""
