"""A grid of a run: moments of the training against prompts."""

from typing import Literal

from pydantic import Field, field_validator

from studio.config import Config
from studio.requests.generate import PROMPT_LIMIT, Sampler

MOST_CELLS = 400
"""Pictures of a grid, at most."""


class RunGridRequest(Config):
    """Paint the same prompts with the weights of several steps of a run, at one seed, so that the best moment can be seen."""

    run: str = Field(min_length=1, max_length=300)
    """Folder name of the run."""
    steps: tuple[int, ...] = ()
    """Steps whose weights are compared; empty = those that are there, evenly chosen."""
    most: int = Field(6, ge=1, le=50, title="Steps at most")
    """How many steps are chosen where none are named."""
    prompts: str = Field("", max_length=PROMPT_LIMIT, json_schema_extra={"multiline": True})
    """One prompt in each line, with [name] for the word; empty = those of the run's previews."""
    strengths: tuple[float, ...] = ()
    """Weights that the word is given in the prompt, or strengths of the LoRA or hypernetwork that was taught, one row each; empty = only 1."""
    base: Literal["initialization", "without the word", "none"] = Field("initialization", title="First column")
    """What the steps are compared with: the word as it was before the run, the prompt without it, or nothing."""
    negative_prompt: str | None = Field(None, max_length=PROMPT_LIMIT)
    """What to keep out of the pictures; unset = as the run's previews."""
    seed: int | None = Field(None, ge=0, le=2**32 - 1)
    """Seed of every picture; unset = as the run's previews."""
    sampler: Sampler | None = Field(None, title="Sampling method")
    """How noise is turned into a picture; unset = as the run's previews."""
    sampling_steps: int | None = Field(None, ge=1, le=150)
    """Steps of the sampling; unset = as the run's previews."""
    cfg_scale: float | None = Field(None, ge=0, le=30, title="CFG Scale")
    """How strictly the prompt is followed; unset = as the run's previews."""

    @field_validator("strengths")
    @classmethod
    def _strengths(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        for strength in value:
            if not 0 <= strength <= 4:
                raise ValueError(f"the strength {strength:g} must be from 0 to 4.")
        return tuple(dict.fromkeys(value))
