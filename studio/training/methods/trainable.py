"""What the loop asks of anything that learns, and how a method says what it is."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from torch import Tensor, nn

from studio.config import Config


class Trainable(Protocol):
    """Something attached to a model that learns."""

    def parameters(self) -> list[nn.Parameter]:
        """The fp32 parameters the optimiser changes, and nothing else."""

    def words(self) -> Mapping[str, Tensor]:
        """Live vectors [n, d] by the word that stands for them in prompts."""

    def after_step(self, rate: float) -> None:
        """What the method does itself after the optimiser took a step at `rate`."""

    def figures(self) -> dict[str, float]:
        """Numbers for the live view: `norm` and `distance` from the start."""

    def shelve(self, path: Path, step: int) -> None:
        """Write what was learned as a file a person can use."""

    def state(self) -> dict[str, Tensor]:
        """Everything needed to go on, by name."""

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Go on from `state`."""


@dataclass(frozen=True)
class Method:
    """One way to train: its name, its knobs and how to attach it to a model (model, file that learns, knobs) -> Trainable; without knobs it has their defaults."""

    name: str
    config: type[Config]
    attach: Callable[..., Trainable]
