"""Reasons of presets, cards and imports in a person's language."""

from studio.presets.reason import Reason
from studio.ui.catalogue_presets import CARD
from studio.ui.words import tell


def told(lang: str, reason: Reason) -> str:
    """A reason as a sentence of a language, the words that stand in it too; KeyError when the catalogue lacks the sentence."""
    return tell(lang, reason.text, **{name: CARD.get(value, value) if lang == "zh" and isinstance(value, str) else value for name, value in reason.values.items()})
