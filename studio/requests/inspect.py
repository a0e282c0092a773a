"""Asking what a file is."""

from pydantic import Field

from studio.config import Config


class InspectRequest(Config):
    """Say what a checkpoint, VAE, LoRA, embedding, hypernetwork, upscaler or picture file holds."""

    path: str = Field(..., min_length=1)
    """The file, or the folder of a diffusers checkpoint."""
