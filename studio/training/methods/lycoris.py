"""LyCORIS (Yeh et al. 2023): LoCon, LoHa, LoKr and (IA)3, which differ from LoRA in what is grown alone."""

from dataclasses import replace
from pathlib import Path

from studio.diffusion.model import Model
from studio.errors import InputError
from studio.requests.train import LycorisConfig, TrainConfig
from studio.training.methods.lora import Lora, grow, mistakes, recipe_of, shelves, start_of
from studio.training.methods.trainable import Method

KINDS = {"LoCon": "LoRA", "LoHa": "LoHa", "LoKr": "LoKr", "(IA)3": "IA3"}
"""Algorithm: the kind its tensors are of."""


def attach(model: Model, start: Path | None, config: TrainConfig) -> Lora:
    """One of the family on `model`, going on from the file `start` if there is one; raises InputError when that does not fit."""
    if not isinstance(config, LycorisConfig):
        raise InputError(f"The knobs of {config.title} are not those of LyCORIS.", "Choose the method LyCORIS.")
    return grow(model, start, config, replace(recipe_of(config, KINDS[config.algorithm]), tucker=config.tucker, factor=config.factor, full=config.full_matrix))


LYCORIS = Method(LycorisConfig, attach, shelves, start_of, mistakes=mistakes)
