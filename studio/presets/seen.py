"""A case that a preset is made for, and one value that is chosen for it."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import sqrt
from typing import Any

from studio.presets.reason import Reason

INTENTS = ("person", "object", "style", "character")
"""What the pictures shall teach."""
SEEN: dict[str, tuple[int, int]] = {
    "textual_inversion": (1500, 3000),
    "lora": (1500, 10_000),
    "lycoris": (1500, 10_000),
    "together": (1500, 10_000),
    "hypernetwork": (2000, 20_000),
    "dreambooth": (400, 3000),
    "fine_tune": (2000, 40_000),
}
"""Method: fewest and most looks at a picture; a step of textual inversion counts as one."""
EACH = 100
"""Looks at each picture."""


@dataclass(frozen=True)
class Batching:
    """Images of a batch and batches of an optimizer step, 0 = as advised; `epoch_images` are the images of an epoch with repeats counted, 0 = each picture once."""

    batch: int = 0
    accumulation: int = 0
    epoch_images: int = 0


@dataclass(frozen=True)
class Case:
    """What a preset is asked for: the intent, the family ("SD1", "SD2", "SDXL"), the method, how many pictures, and whether they have captions.

    `batching` holds what a person has chosen of the batch, which steps and rates follow.
    """

    intent: str
    family: str
    method: str
    pictures: int
    captions: bool = True
    batching: Batching = Batching()

    @property
    def lean(self) -> bool:
        """Whether memory is short, so that a card of 8 GB can do it: SDXL."""
        return self.family == "SDXL"

    @property
    def has_words(self) -> bool:
        """Whether vectors of an embedding learn."""
        return self.method in ("textual_inversion", "together")

    @property
    def small_networks(self) -> bool:
        """Whether matrices beside the layers learn; DreamBooth on SDXL is trained into a LoRA."""
        return self.method in ("lora", "lycoris", "together") or (self.method == "dreambooth" and self.lean)

    @property
    def whole_network(self) -> bool:
        """Whether the checkpoint's own weights learn."""
        return self.method in ("dreambooth", "fine_tune") and not self.small_networks

    @property
    def batch(self) -> int:
        """Pictures in one go: as many as there are enough for; one where memory is short."""
        if self.lean or self.whole_network:
            return 1
        if self.method == "textual_inversion":
            return max(1, min(4, self.pictures))
        return 4 if self.pictures >= 40 else 2 if self.pictures >= 16 else 1

    @property
    def accumulation(self) -> int:
        """Goes before one change: words want four pictures a step."""
        return max(1, min(4, self.pictures)) if self.method == "textual_inversion" and self.batch == 1 else 1

    @property
    def images_per_step(self) -> int:
        """Images of an optimizer step, as given, else as advised."""
        return (self.batching.batch or self.batch) * (self.batching.accumulation or self.accumulation)

    @property
    def epochs(self) -> float:
        """Epochs of the whole training, repeats counted."""
        return self.steps * self.images_per_step / max(1, self.batching.epoch_images or self.pictures)

    @property
    def looks(self) -> int:
        """Looks at a picture in the whole training."""
        fewest, most = SEEN[self.method]
        return min(max(self.pictures * EACH, fewest), most)

    @property
    def steps(self) -> int:
        """Steps of the whole training, in whole fifties."""
        steps = self.looks if self.method == "textual_inversion" else self.looks / self.images_per_step
        return max(50, round(steps / 50) * 50)

    @property
    def vectors(self) -> int:
        """Vectors of an embedding: what has many sides wants 4 to 8, a thing 1 or 2."""
        if self.intent == "object":
            return 1 if self.pictures < 5 else 2
        if self.pictures < 5:
            return 2
        return 4 if self.pictures < 20 else 6 if self.pictures < 50 else 8

    @property
    def rate_of_batch(self) -> float:
        """What a rate is multiplied with for the batch: its square root."""
        return sqrt(self.images_per_step)


@dataclass(frozen=True)
class Choice:
    """One knob's value and why; `beside` where it belongs to the creation of the embedding and not to the form of the training."""

    knob: str
    value: Any
    reason: Reason
    beside: bool = False


def because(knob: str, value: Any, text: str, **values: Any) -> Choice:
    """A choice with its reason; {value} stands for the value itself."""
    return Choice(knob, value, Reason(text, {"value": f"{value:g}" if isinstance(value, float) else value, **values}))


def two_digits(value: float) -> float:
    """A number a person would type."""
    return float(f"{value:.1e}")


def batching_of(values: Mapping[str, Any], epoch_images: int = 0) -> Batching:
    """The batch size and gradient accumulation of a form; 0 for what is missing or no number from 1 on."""
    found = [values.get(name) for name in ("batch_size", "gradient_accumulation")]
    batch, accumulation = (int(value) if isinstance(value, int | float) and value >= 1 else 0 for value in found)
    return Batching(batch, accumulation, epoch_images)
