"""Averaging the weights of a run."""

from pydantic import Field, field_validator

from studio.config import Config
from studio.requests.train import check_name


class AverageRequest(Config):
    """Make a new embedding or hypernetwork that is the mean of several moments of a run; often steadier than any one of them."""

    run: str = Field(min_length=1, max_length=300)
    """Folder name of the run."""
    count: int = Field(5, ge=2, le=1000, title="How many")
    """The newest so many weights of the run are averaged."""
    steps: tuple[int, ...] = ()
    """Steps whose weights are averaged in the place of the newest."""
    name: str = ""
    """Name of the result; empty = the old name with -avg and how many."""
    overwrite: bool = Field(False, title="Overwrite what has this name")
    """Replace a file of the same name."""

    @field_validator("name")
    @classmethod
    def _name(cls, value: str) -> str:
        return check_name(value) if value.strip() else ""
