"""Why a value is advised."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Reason:
    """Why a value is advised: an English sentence with {places}, so that it can be translated, and what stands in them."""

    text: str
    values: dict[str, Any]

    @property
    def sentence(self) -> str:
        """The English sentence."""
        return self.text.format(**self.values)
