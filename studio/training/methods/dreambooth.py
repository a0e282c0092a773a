"""DreamBooth (Ruiz et al. 2023): a checkpoint, or a LoRA on it, learns one subject by a rare word before its class word, and the class is kept as it was."""

from pathlib import Path

from studio.diffusion.model import Model
from studio.errors import InputError
from studio.requests.train import DreamboothConfig, LoraConfig, TrainConfig
from studio.settings import Paths
from studio.training.methods import full, lora
from studio.training.methods.trainable import Method, Trainable

SLOW = 2e-5
"""A rate below which a LoRA hardly learns; those that a whole network takes lie there."""


class Thin(lora.Lora):
    """A LoRA that learns as DreamBooth does, at rates between `slowest` and higher ones."""

    slowest = 1.0

    def warnings(self) -> list[str]:
        """That the rate is one for a whole network."""
        if self.slowest >= SLOW:
            return super().warnings()
        return [*super().warnings(), f"The learning rate {self.slowest:g} is one for a whole checkpoint; a LoRA hardly learns at it. Write about 1e-4."]


def attach(model: Model, start: Path | None, config: TrainConfig) -> Trainable:
    """The weights of a private model, or a LoRA on a shared one, made trainable; raises InputError when the LoRA `start` does not fit."""
    if not isinstance(config, DreamboothConfig):
        raise InputError(f"The knobs of {config.title} are not those of DreamBooth.", "Choose the method DreamBooth.")
    if config.result == "checkpoint":
        return full.Full(model, full.Scope.of(config))
    knobs = LoraConfig.model_validate({**{name: value for name, value in config if name in LoraConfig.model_fields}, "alpha": float(config.rank)})
    grown = lora.grow(model, start, knobs, lora.recipe_of(knobs), config)
    learner = Thin(grown.grown, grown.rates, grown.precision)
    learner.told, learner.refused = grown.told, grown.refused
    learner.slowest = 1.0 if config.optimizer == "Prodigy" else max(config.rates)
    return learner


def _into_lora(config: TrainConfig) -> bool:
    """Whether a LoRA learns."""
    return isinstance(config, DreamboothConfig) and config.result == "LoRA"


def _shelves(paths: Paths, config: TrainConfig) -> dict[str, Path]:
    """Where the result lies: among checkpoints or LoRA files."""
    return (lora if _into_lora(config) else full).shelves(paths, config)


def _start(paths: Paths, config: TrainConfig) -> Path | None:
    """The LoRA it goes on from; a checkpoint goes on from the one it is trained on."""
    return lora.start_of(paths, config) if _into_lora(config) else None


def _mistakes(paths: Paths, config: TrainConfig) -> list[str]:
    """What would be overwritten, and what cannot be gone on from."""
    if _into_lora(config) or not isinstance(config, DreamboothConfig):
        return lora.mistakes(paths, config)
    return full.mistakes(paths, config)


DREAMBOOTH = Method(DreamboothConfig, attach, _shelves, _start, private=lambda config: not _into_lora(config), mistakes=_mistakes)
