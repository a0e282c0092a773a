"""What to set for so many pictures: vectors, steps, learning rate and batch, each with its reason."""

from collections.abc import Callable
from dataclasses import dataclass
from math import sqrt
from typing import Any

from studio.errors import InputError


@dataclass(frozen=True)
class Reason:
    """Why a value is advised: an English sentence with {places}, so that it can be translated, and what stands in them."""

    text: str
    values: dict[str, Any]

    @property
    def sentence(self) -> str:
        """The English sentence."""
        return self.text.format(**self.values)


@dataclass(frozen=True)
class Advice:
    """Values to begin with; none is a law."""

    vectors: int
    """Places of the prompt; 0 where the method has none."""
    steps: int
    learning_rate: str
    """A schedule, as the field of the form takes it."""
    batch: int
    """Pictures looked at in one go."""
    reasons: tuple[Reason, ...]


@dataclass(frozen=True)
class Subject:
    """What the pictures are, as far as it changes the advice: whether they have captions, and whether most show a face."""

    captions: bool = True
    faces: bool = False
    family: str = "sd1"


@dataclass(frozen=True)
class Bounds:
    """How many pictures a method wants: under `few` it learns them by heart, over `many` it has no room for them; None = there is no such number."""

    few: int
    many: int | None


METHODS: dict[str, Bounds] = {
    "textual_inversion": Bounds(5, 100),
    "lora": Bounds(10, None),
    "dreambooth": Bounds(5, 1000),
    "hypernetwork": Bounds(10, None),
    "full": Bounds(50, None),
}
"""Method: the pictures it wants. The first paper of textual inversion used 3 to 5; a few vectors cannot hold much more than 100; networks gain from every further good picture."""
STEPS_PER_PICTURE = 100
FEWEST, MOST = 1500, 6000
"""Steps: 100 for each picture, but at least what a word needs to settle and at most what a few vectors can use."""
_NETWORK_STEPS = (1000, 20_000)
_BATCHES = ((40, 4), (16, 2))
"""Pictures from which on a batch of so many is worth its memory."""


def bounds(method: str) -> Bounds:
    """How many pictures a method wants; raises InputError for one that is not known."""
    if method not in METHODS:
        raise InputError(f"There is no method {method!r}.", f"Choose one of: {', '.join(METHODS)}.")
    return METHODS[method]


def recommend(count: int, method: str = "textual_inversion", family: str = "sd1", captions: bool = True, faces: bool = False) -> Advice:
    """Values for `count` pictures; more pictures never mean fewer steps, fewer vectors or a smaller batch. Raises InputError for a method that is not known."""
    bounds(method)
    count, subject = max(count, 0), Subject(captions, faces, family)
    return _inversion(count, subject) if method == "textual_inversion" else _network(count, method, subject)


def _inversion(count: int, subject: Subject) -> Advice:
    """A word that is taught."""
    vectors, why = _vectors(count, subject)
    batch = _batch(count)
    steps = _rounded(min(max(count * STEPS_PER_PICTURE, FEWEST), MOST))
    reasons = [why, _about_steps(count, steps)]
    top = _two_digits(0.005 * min(1.0, sqrt(2 / vectors)) * (0.5 if subject.family == "sdxl" else 1.0))
    third, most = steps // 3 // 10 * 10, steps * 2 // 3 // 10 * 10
    schedule = f"{top:g}:{third}, {_two_digits(top / 2.5):g}:{most}, {_two_digits(top / 10):g}"
    reasons.append(
        Reason(
            "The rate begins at {top} and falls twice, to a tenth: a step moves a vector by a good part of its own length, so a rate that stays high never settles. "
            "Working systems use 0.0005 to 0.005; more vectors take a little less.",
            {"top": f"{top:g}"},
        )
    )
    if subject.family == "sdxl":
        reasons.append(Reason("SDXL has two text encoders to teach: half the rate.", {}))
    if not subject.captions:
        reasons.append(Reason("Without captions the background is learned along with the subject; captions that name what changes keep it out.", {}))
    return Advice(vectors, steps, schedule, batch, (*reasons, _about_batch(count, batch)))


def _vectors(count: int, subject: Subject) -> tuple[int, Reason]:
    """Vectors by what is to be remembered: more pictures show more, and a person needs more than a thing; over 8 the word eats the prompt."""
    if count < 5:
        return (
            (2, Reason("{vectors} vectors: {count} pictures show too little to fill more.", {"vectors": 2, "count": count}))
            if subject.faces
            else (
                1,
                Reason("{vectors} vector: {count} pictures show too little to fill more.", {"vectors": 1, "count": count}),
            )
        )
    vectors = (4 if subject.faces else 2) + (2 if count >= 20 else 0) + (2 if count >= 50 else 0)
    text = (
        "{vectors} vectors: a person or a style needs 4 to 8, and {count} pictures can fill them."
        if vectors >= 4
        else "{vectors} vectors: 1 or 2 are enough for a thing, and {count} pictures fill no more. Over 16 the word learns whole pictures and eats the prompt's 75 places."
    )
    return vectors, Reason(text, {"vectors": vectors, "count": count})


def _about_steps(count: int, steps: int) -> Reason:
    """The reason of the steps of a word."""
    values = {"count": count, "steps": steps, "each": STEPS_PER_PICTURE}
    if count * STEPS_PER_PICTURE < FEWEST:
        return Reason("{steps} steps: {each} for each of {count} pictures would be fewer than a word needs to settle.", values)
    if count * STEPS_PER_PICTURE > MOST:
        return Reason("{steps} steps: {each} for each of {count} pictures would be more than a few vectors can use.", values)
    return Reason("{steps} steps: {each} for each of {count} pictures.", values)


def _network(count: int, method: str, subject: Subject) -> Advice:
    """A network, or an addition to one, that is taught."""
    batch = _batch(count)
    low, high = _NETWORK_STEPS
    steps = _rounded(min(max(count * STEPS_PER_PICTURE, low), high))
    rate, text = _RATES[method](subject)
    rate = _two_digits(rate * sqrt(batch))
    reasons = [
        Reason(
            "{steps} steps: {each} for each of {count} pictures, between {low} and {high}. The best step is usually earlier; copies are kept on the way.",
            {"steps": steps, "each": STEPS_PER_PICTURE, "count": count, "low": low, "high": high},
        ),
        Reason(text, {"rate": f"{rate:g}"}),
    ]
    if batch > 1:
        reasons.append(Reason("The rate is {base} times the square root of the batch, not times the batch.", {"base": f"{_RATES[method](subject)[0]:g}"}))
    return Advice(0, steps, f"{rate:g}", batch, (*reasons, _about_batch(count, batch)))


def _lora(subject: Subject) -> tuple[float, str]:
    """Rate and reason for LoRA."""
    return 1e-4, "Rate {rate}: what nearly every guide of LoRA comes to. An alpha that is divided by k wants the rate times the square root of k."


def _dreambooth(subject: Subject) -> tuple[float, str]:
    """Rate and reason when the whole network is taught one subject."""
    return (2e-6 if subject.family == "sdxl" else 5e-6), "Rate {rate}: the whole network moves, and a higher one makes it forget what it knew."


def _hypernetwork(subject: Subject) -> tuple[float, str]:
    """Rate and reason for a hypernetwork."""
    return 1e-5, "Rate {rate}: a hypernetwork changes every attention at once and breaks at the rates of a word."


def _full(subject: Subject) -> tuple[float, str]:
    """Rate and reason for full fine-tuning."""
    return (1e-6 if subject.family == "sdxl" else 2e-6), "Rate {rate}: between 5e-6 and 1e-7 all rates reach the same place, only at another speed; a lower one forgets less."


_RATES: dict[str, Callable[[Subject], tuple[float, str]]] = {"lora": _lora, "dreambooth": _dreambooth, "hypernetwork": _hypernetwork, "full": _full}


def _batch(count: int) -> int:
    """Pictures in one go."""
    return next((batch for least, batch in _BATCHES if count >= least), 1)


def _about_batch(count: int, batch: int) -> Reason:
    """The reason of the batch."""
    if batch == 1:
        return Reason("Batch {batch}: with {count} pictures a larger one shows the same ones together again and again.", {"batch": batch, "count": count})
    return Reason("Batch {batch}: the noise of a step falls with the square root of the batch; take what the memory holds.", {"batch": batch})


def _rounded(steps: int) -> int:
    """Steps in whole hundreds."""
    return round(steps / 100) * 100


def _two_digits(value: float) -> float:
    """A number a person would type."""
    return float(f"{value:.1e}")
