"""A contact sheet of a run's previews, or a film of one of them."""

from typing import Literal

from pydantic import Field

from studio.config import Config


class SheetRequest(Config):
    """Lay the previews of a run out as one picture, steps below each other and prompts side by side, or let one prompt's previews follow each other in time."""

    run: str = Field(min_length=1, max_length=300)
    """Folder name of the run."""
    format: Literal["PNG", "GIF", "WebP"] = "PNG"
    """PNG is a sheet; GIF and WebP move."""
    rows: int = Field(12, ge=1, le=200, title="Steps at most")
    """How many steps are shown; of more, the first, the last and some between at even distances."""
    columns: tuple[int, ...] = ()
    """Columns of the previews that are shown, counted from 0; empty = all. What moves shows the first of them."""
    size: int = Field(256, ge=0, le=2048, title="Longer side")
    """Pixels of a picture's longer side; 0 = as it was painted."""
    title: str = Field("", max_length=300)
    """What stands above; empty = the embedding's name."""
    seconds: float = Field(0.5, ge=0.05, le=10, title="Seconds a picture")
    """How long what moves shows each picture; the last is shown three times as long."""
