"""The embedding room: looking into an embedding, and making one from others."""

from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from studio.config import Config
from studio.requests.train import check_name


class InspectEmbeddingRequest(Config):
    """Look into an embedding: lengths of its vectors, the words nearest to each, how they differ from each other and from where they began."""

    name: str = Field(min_length=1, title="Embedding")
    """The embedding to look into."""
    checkpoint: str = ""
    """Checkpoint whose words it is compared with; empty means the default one."""
    training: str = Field("", max_length=300)
    """Folder name of the training whose start it is measured from; empty means the newest one of this embedding."""
    nearest: int = Field(5, ge=1, le=50, title="Nearest words")
    """How many of the nearest words are told for each vector."""


class EditEmbeddingRequest(Config):
    """Make an embedding from others: some of its vectors, several merged, or the same in another layout."""

    act: Literal["prune", "merge", "convert"] = "convert"
    """Prune keeps some vectors of one; merge joins or averages several; convert writes another layout."""
    names: tuple[str, ...] = Field(min_length=1, max_length=16, title="Embeddings")
    """What it is made from; prune and convert take one."""
    result: str = ""
    """Name of what is made; empty means the name of the first, which needs Replace."""
    keep: tuple[int, ...] = Field((), title="Vectors to keep")
    """Numbers of the vectors that prune keeps, from 1, in the order they are to stand."""
    how: Literal["join", "average"] = "join"
    """Merge sets vectors one after another, or takes their weighted mean, for which all need the same number of vectors."""
    weights: tuple[float, ...] = ()
    """How much each embedding counts in an average; empty means the same for all."""
    layout: Literal["", "pt", "safetensors", "png", "diffusers"] = ""
    """File that is written: A1111's .pt, .safetensors, a picture that carries it, or diffusers' files; empty means that of the first."""
    picture: str = Field("", title="Picture")
    """Picture that carries the embedding when the layout is png; empty means a plain card."""
    family: Literal["", "SD 1.x", "SD 2.x", "SDXL"] = ""
    """Family of checkpoints it must be for; vectors cannot be scaled to another one, which is refused in words."""
    shelf: bool = Field(True, title="Put it on the shelf")
    """Usable in prompts at once; otherwise it is written to outputs/exports/embeddings, to be given away."""
    replace: bool = Field(False, title="Replace")
    """Put an embedding of that name into the trash, where it can be brought back from."""

    @field_validator("result")
    @classmethod
    def _result(cls, value: str) -> str:
        return check_name(value) if value.strip() else ""

    @field_validator("keep", "weights", mode="before")
    @classmethod
    def _numbers(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        parts = [part.strip() for part in value.replace("，", ",").split(",") if part.strip()]
        if not all(part.removeprefix("-").replace(".", "", 1).isdecimal() for part in parts):
            raise ValueError("it is not a list of numbers; write for example 1, 3.")
        return parts

    @field_validator("keep")
    @classmethod
    def _keep(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if any(number < 1 for number in value) or len(set(value)) != len(value):
            raise ValueError("vectors are counted from 1, and each can be kept once.")
        return value

    @model_validator(mode="after")
    def _whole(self) -> "EditEmbeddingRequest":
        if self.act != "merge" and len(self.names) != 1:
            raise ValueError(f"Embeddings: {self.act} takes one embedding, and {len(self.names)} are named.")
        if self.act == "merge" and len(self.names) < 2:
            raise ValueError("Embeddings: merge needs at least two embeddings.")
        if self.act == "prune" and not self.keep:
            raise ValueError("Vectors to keep: choose at least one vector.")
        if self.weights and len(self.weights) != len(self.names):
            raise ValueError(f"Weights: {len(self.weights)} are given for {len(self.names)} embeddings.")
        if self.layout == "diffusers" and self.shelf:
            raise ValueError("Layout: diffusers' files are all called learned_embeds, so they cannot lie on the shelf; write them to be given away.")
        return self
