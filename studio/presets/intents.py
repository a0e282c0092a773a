"""Presets by intent: what to set for a person, an object, a style or a character, for each method and family, each value with its reason in one sentence."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from studio.errors import InputError
from studio.presets import learning, showing
from studio.presets.fitting import base_of
from studio.presets.seen import INTENTS, SEEN, Batching, Case, Choice
from studio.requests.train import CONFIGS

__all__ = ["FAMILIES", "INTENTS", "Preset", "preset"]

FAMILIES = ("SD1", "SD2", "SDXL")
"""Families that presets know."""
AS_ADVISED = Batching()
RULES = (*learning.RULES, *showing.RULES)
"""What chooses values, in the order of the form."""


@dataclass(frozen=True)
class Preset:
    """What is advised for one case; the knobs it does not name stay as they are."""

    case: Case
    choices: tuple[Choice, ...]

    @property
    def values(self) -> dict[str, Any]:
        """The knobs of the form."""
        return {choice.knob: choice.value for choice in self.choices if not choice.beside}

    @property
    def beside(self) -> dict[str, Any]:
        """What is chosen where the embedding is created: the number of its vectors."""
        return {choice.knob: choice.value for choice in self.choices if choice.beside}


def preset(intent: str, family: str, method: str, pictures: int, captions: bool = True, batching: Batching = AS_ADVISED) -> Preset:
    """The preset of an intent; `family` may be a full name such as "SD2 inpainting", `batching` what a person has chosen of the batch.

    A method that was just added has no advice yet. Raises InputError for an intent or a method that is not known.
    """
    if intent not in INTENTS:
        raise InputError(f"There is no preset for {intent!r}.", f"Choose one of: {', '.join(INTENTS)}.")
    knobs = next((set(cls.model_fields) for cls in CONFIGS if cls.method == method), None)
    if knobs is None:
        raise InputError(f"There is no method {method!r}.", f"Choose one of: {', '.join(cls.method for cls in CONFIGS)}.")
    case = Case(intent, base_of(family), method, max(pictures, 0), captions, batching)
    if method not in SEEN:
        return Preset(case, ())
    return Preset(case, tuple(choice for choice in _chosen(case) if choice.beside or choice.knob in knobs))


def _chosen(case: Case) -> Iterator[Choice]:
    """Every value that any rule chooses."""
    for rule in RULES:
        yield from rule(case)
