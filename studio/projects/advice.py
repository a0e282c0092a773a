"""What to set for so many images, as the data set's check says it: the values of the preset for the same case, with their reasons."""

from dataclasses import dataclass

from studio.errors import InputError
from studio.presets.fitting import base_of
from studio.presets.intents import preset
from studio.presets.reason import Reason
from studio.presets.seen import Batching
from studio.requests.train import CONFIGS


@dataclass(frozen=True)
class Advice:
    """Values to begin with; none is a law."""

    vectors: int
    """Places of the prompt; 0 where the method has none."""
    steps: int
    learning_rate: str
    """A schedule, as the field of the form takes it."""
    batch: int
    """Images in one batch."""
    accumulation: int
    """Batches before each optimizer step."""
    family: str
    """Kind of checkpoint it is for: "SD1", "SD2" or "SDXL"."""
    reasons: tuple[Reason, ...]


@dataclass(frozen=True)
class Bounds:
    """How many pictures a method wants: under `few` it learns them by heart, over `many` it has no room for them; None = there is no such number."""

    few: int
    many: int | None


_LORA = Bounds(10, None)
METHODS: dict[str, Bounds] = {
    "textual_inversion": Bounds(5, 100),
    "lora": _LORA,
    "lycoris": _LORA,
    "hypernetwork": Bounds(10, None),
    "dreambooth": Bounds(5, 1000),
    "fine_tune": Bounds(50, None),
    "together": _LORA,
}
"""Method: the pictures it wants. The first paper of textual inversion used 3 to 5; a few vectors cannot hold much more than 100; networks gain from every further good picture."""
ADVISED = ("vectors", "steps", "learn_rate", "rate_shape", "batch_size", "gradient_accumulation")
"""Settings whose reasons the advice gives."""
BARE = "Without captions the background is learned along with the subject; captions that name what changes keep it out."


def bounds(method: str) -> Bounds:
    """How many pictures a method wants, those of textual inversion for one that was just added; raises InputError for one that is not known."""
    if method not in {cls.method for cls in CONFIGS}:
        raise InputError(f"There is no method {method!r}.", f"Choose one of: {', '.join(METHODS)}.")
    return METHODS.get(method, METHODS["textual_inversion"])


def recommend(count: int, method: str = "textual_inversion", family: str = "sd1", captions: bool = True, faces: bool = False, epoch_images: int = 0) -> Advice | None:
    """The preset's values for `count` images, of a person where most show faces and of an object otherwise; `epoch_images` counts repeats, 0 = each image once.

    None for a method that no preset is for yet. Raises InputError for one that is not known.
    """
    bounds(method)
    made = preset("person" if faces else "object", family, method, count, captions, Batching(epoch_images=epoch_images))
    values = {choice.knob: choice.value for choice in made.choices}
    if not values:
        return None
    reasons = tuple(choice.reason for knob in ADVISED for choice in made.choices if choice.knob == knob and not (knob == "gradient_accumulation" and choice.value == 1))
    bare = () if captions else (Reason(BARE, {}),)
    return Advice(values.get("vectors", 0), values["steps"], str(values["learn_rate"]), values["batch_size"], values["gradient_accumulation"], base_of(family), (*reasons, *bare))
