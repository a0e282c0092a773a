"""What the loop asks of anything that learns, and how a method says what it is."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Protocol

import torch
from torch import Tensor, nn

from studio.diffusion.model import Model
from studio.errors import InputError
from studio.formats.adapter import Adapter
from studio.formats.hypernetwork import Hypernetwork
from studio.formats.provenance import Provenance
from studio.requests.train import TrainConfig
from studio.settings import Paths


def whole(_step: int) -> float:
    """All of the written rate, at every step."""
    return 1.0


@dataclass(frozen=True)
class Group:
    """Parameters that learn at one rate: the written one times `share` of the step; a share of 0 means that they stay as they are."""

    name: str
    parameters: tuple[nn.Parameter, ...]
    share: Callable[[int], float] = whole


class Trainable(Protocol):
    """Something on a model that learns; a method says what, and changes of this only what differs.

    `model` is what it is on. `changes_network`: what the network says without the word may change too, so that drift is worth measuring.
    `changes_reading`: what prompts are read as changes while it learns, by words or text encoders.
    `copies`: a copy is small enough to be kept with every preview. `provenance` is what files say about where they come from, `shelves` where they lie in the end, by suffix.
    """

    model: Model
    changes_network = False
    changes_reading = True
    copies = True
    provenance: Provenance | None = None
    shelves: Mapping[str, Path] = MappingProxyType({})

    def beside(self, path: Path, suffix: str) -> Path:
        """Where a second file of another suffix goes when the first is written to `path`: onto its own shelf with it, else beside it."""
        return self.shelves[suffix] if suffix in self.shelves and path in self.shelves.values() else path.with_suffix(suffix)

    def groups(self) -> list[Group]:
        """The fp32 parameters the optimiser changes, and nothing else, by rate."""

    def parameters(self) -> list[nn.Parameter]:
        """All of them."""
        return [parameter for group in self.groups() for parameter in group.parameters]

    def words(self) -> Mapping[str, Tensor]:
        """Live vectors [n, d] by the word that stands for them in prompts."""
        return {}

    def before_step(self, step: int) -> None:
        """What the method does itself before the step after `step`."""

    def after_step(self, rate: float) -> None:
        """What the method does itself after the optimiser took a step at `rate`."""

    def figures(self) -> dict[str, float]:
        """Numbers for the live view: `norm` and `distance` from the start."""

    def shelve(self, path: Path, step: int) -> None:
        """Write what was learned as a file a person can use."""

    def remember(self, path: Path, optimizer: torch.optim.Optimizer) -> None:
        """Write beside the result what the optimiser remembers, where files of its kind have that."""

    def recalled(self, side: Path, start: Path) -> tuple[Mapping[str, Tensor] | None, str]:
        """What the optimiser remembered beside the file it goes on from, as `optim.restore_optimizer` takes it; else None, and why where there is something to say."""
        return None, ""

    def state(self) -> dict[str, Tensor]:
        """Everything needed to go on, by name."""

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Go on from `state`."""

    def contradictions(self) -> list[str]:
        """Sentences about settings of the form that the file it goes on from contradicts, each with what to do; a new run with any does not begin."""
        return []

    def warnings(self) -> list[str]:
        """Sentences a person should know before it begins."""
        return []

    def live_adapters(self, name: str) -> Mapping[str, Callable[[], Adapter]]:
        """What prompts may wear as the LoRA `name` while it is learned."""
        return {}

    def live_hypernetworks(self, name: str) -> Mapping[str, Callable[[], Hypernetwork]]:
        """What prompts may wear as the hypernetwork `name` while it is learned."""
        return {}

    @contextmanager
    def attached(self) -> Iterator[None]:
        """On the model for the length of a run."""
        yield

    @contextmanager
    def off(self) -> Iterator[None]:
        """The model as others know it, for jobs between two steps."""
        yield

    @contextmanager
    def untouched(self) -> Iterator[Model]:
        """A model that never learned, to ask what it says."""
        with self.off():
            yield self.model

    @contextmanager
    def shown(self) -> Iterator[None]:
        """As previews and measurements see it: no dropout, averaged weights."""
        yield


class Attach(Protocol):
    """Makes a method's trainable on a model."""

    def __call__(self, model: Model, start: Path | None, config: TrainConfig) -> Trainable:
        """`start` is the file it goes on from, None = anew; raises InputError when that does not fit the model."""


Shelves = Callable[[Paths, TrainConfig], dict[str, Path]]
"""Where results lie, by suffix; the first is the one that counts."""


def _nothing(_paths: Paths, _config: TrainConfig) -> list[str]:
    """No mistake."""
    return []


def _shared(_config: TrainConfig) -> bool:
    """The model is shared with other jobs."""
    return False


def _anew(_path: Path) -> int:
    """Counted from 0."""
    return 0


@dataclass(frozen=True)
class Method:
    """One way to train: its knobs, how it is attached to a model, where its results go, which file it goes on from, the step that one was trained to, and mistakes of its own.

    `private` says whether it changes the weights of the model itself, and so needs networks of its own.
    """

    config: type[TrainConfig]
    attach: Attach
    shelves: Shelves
    start: Callable[[Paths, TrainConfig], Path | None]
    first: Callable[[Path], int] = _anew
    private: Callable[[TrainConfig], bool] = _shared
    mistakes: Callable[[Paths, TrainConfig], list[str]] = _nothing

    @property
    def name(self) -> str:
        """What a request calls it."""
        return self.config.method


def begun(shelf: Path, start_from: str) -> Path | None:
    """The file that a result goes on from: of the same kind and folder as `shelf`, by its name; None to begin anew. Raises InputError."""
    if not start_from.strip():
        return None
    found = [path for path in sorted(shelf.parent.rglob(f"*{shelf.suffix}")) if path.stem.lower() == start_from.strip().lower()]
    if not found:
        raise InputError(f"Go on from: there is no {start_from!r} in {shelf.parent.name}.", "Choose one that is there, or leave it empty to begin anew.")
    return found[0]


def taken(shelf: Path, start_from: str, overwrite: bool) -> list[str]:
    """What to say when a result would take the place of a file it did not begin from."""
    if overwrite or not shelf.exists() or shelf.stem.lower() == start_from.strip().lower():
        return []
    return [f"Name: {shelf.stem!r} is taken by {shelf.parent.name}/{shelf.name}. Choose another name, go on from it, or tick overwrite."]
