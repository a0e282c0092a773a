"""Create a hypernetwork, as A1111's tab of that name does."""

from pydantic import Field, field_validator

from studio.requests.hypernetwork_build import HypernetworkBuild
from studio.requests.train import check_name


class CreateHypernetworkRequest(HypernetworkBuild):
    """One press of Create hypernetwork."""

    name: str = Field()
    """The file's name, by which prompts call it: <hypernet:name:1>."""
    checkpoint: str = ""
    """Checkpoint it is for; empty means the default one."""
    seed: int = Field(0, ge=0, le=2**32 - 1)
    """Its first numbers follow from this one."""
    overwrite: bool = Field(False, title="Overwrite Old Hypernetwork")
    """Replace a hypernetwork of the same name."""

    @field_validator("name")
    @classmethod
    def _name(cls, value: str) -> str:
        return check_name(value)
