"""The full text-to-image fine-tune: the whole UNet, or its attention, learns from pictures and captions and becomes a checkpoint."""

from pathlib import Path

from studio.diffusion.model import Model
from studio.errors import InputError
from studio.requests.train import FineTuneConfig, TrainConfig
from studio.settings import Paths
from studio.training.methods import full
from studio.training.methods.trainable import Method


def attach(model: Model, start: Path | None, config: TrainConfig) -> full.Full:
    """The weights of a private model made trainable; it goes on from no file."""
    if not isinstance(config, FineTuneConfig):
        raise InputError(f"The knobs of {config.title} are not those of a full fine-tune.", "Choose the method Full fine-tune.")
    return full.Full(model, full.Scope.of(config))


def _start(_paths: Paths, _config: TrainConfig) -> Path | None:
    """Nothing: it goes on from the checkpoint it is trained on."""
    return None


def _mistakes(paths: Paths, config: TrainConfig) -> list[str]:
    """What would be overwritten, and what cannot be gone on from."""
    return full.mistakes(paths, config) if isinstance(config, FineTuneConfig) else []


FINE_TUNE = Method(FineTuneConfig, attach, full.shelves, _start, private=lambda _config: True, mistakes=_mistakes)
