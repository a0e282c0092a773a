"""Asking that models leave memory, or come back."""

from typing import Literal

from pydantic import Field

from studio.config import Config


class ResidenceRequest(Config):
    """Free the device of loaded models, or load what was used last."""

    act: Literal["unload", "reload"] = Field("unload")
    """Unload drops every model that nothing is using; reload brings back the checkpoint that was used last."""
