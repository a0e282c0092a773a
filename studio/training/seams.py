"""Seams: what paints for a run, and what listens to it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol


class Painted(Protocol):
    """A preview: its file, prompt, column and seed."""

    @property
    def path(self) -> Path:
        """The picture."""

    @property
    def prompt(self) -> str:
        """What it shows."""

    @property
    def column(self) -> int:
        """Its place in the row."""

    @property
    def seed(self) -> int:
        """The seed it was painted from."""


class Rows(Protocol):
    """What paints previews of the live words."""

    seconds: float

    def paint(self, step: int) -> Sequence[Painted]:
        """Paint a row."""

    def sample(self, step: int, prompt: str = "", seed: int | None = None) -> Painted | None:
        """Paint what a person asked for."""

    def with_prompts(self, text: str) -> "Rows":
        """The same with other prompts."""


class Listener(Protocol):
    """Something else that keeps what a run tells, such as TensorBoard; it never ends a run."""

    def began(self, step: int) -> None:
        """The run goes on from this step; whatever was kept after it is void."""

    def stepped(self, step: int, figures: dict[str, Any]) -> None:
        """A step was taken."""

    def measured(self, step: int, reading: dict[str, Any]) -> None:
        """The probe was read."""

    def painted(self, picture: Path, weights: Path) -> None:
        """A preview was painted with these weights."""

    def saved(self, path: Path) -> None:
        """A copy was saved."""

    def checkpoint(self) -> None:
        """The run can go on from here."""

    def ended(self) -> None:
        """Nothing more will come."""
