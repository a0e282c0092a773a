"""What may vary along an axis of a plot: its values as A1111 writes them, and what each does to a request."""

import csv
import itertools
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from studio.requests.generate import Emphasis, GenerateRequest, NoiseSource, Schedule
from studio.requests.sampler_names import sampler_of

LIMIT = 500
"""Pictures in one plot, at most."""
AxisName = Literal[
    "Nothing",
    "Seed",
    "Var. seed",
    "Var. strength",
    "Steps",
    "Hires steps",
    "CFG Scale",
    "Prompt S/R",
    "Prompt order",
    "Sampler",
    "Hires sampler",
    "Schedule type",
    "Hires schedule type",
    "Checkpoint name",
    "VAE",
    "LoRA strength",
    "Clip skip",
    "Denoising",
    "Hires upscaler",
    "Hires upscale",
    "Sigma Churn",
    "Sigma min",
    "Sigma max",
    "Sigma noise",
    "Eta",
    "ENSD",
    "Cond. Image Mask Weight",
    "Mask blur",
    "Styles",
    "Emphasis",
    "RNG source",
    "Size",
]
Values = dict[str, Any]
Apply = Callable[[Values, Any, Sequence[Any]], Values]
"""From the fields of a request, one value and all values of its axis to the fields that change; raises ValueError in words."""


@dataclass(frozen=True)
class Axis:
    """One thing that may vary: how its values are read, and what one of them does."""

    name: str
    kind: Literal["whole", "number", "text", "order"]
    apply: Apply


def _field(name: str) -> Apply:
    """Set one field."""
    return lambda _values, value, _all: {name: value}


def _chosen(name: str, choices: Sequence[str]) -> Apply:
    """Set one field to a choice, letter case aside."""

    def apply(_values: Values, value: str, _all: Sequence[Any]) -> Values:
        found = next((choice for choice in choices if choice.lower() == value.lower()), None)
        if found is None:
            raise ValueError(f"there is no {value!r}; choose from {', '.join(choices)}.")
        return {name: found}

    return apply


def _sampler(first: bool) -> Apply:
    """Set a sampler, and the schedule type that an old name such as "DPM++ 2M Karras" holds."""
    fields, same = (("sampler", "scheduler"), "") if first else (("hires_sampler", "hires_scheduler"), "use same sampler")

    def apply(_values: Values, value: str, _all: Sequence[Any]) -> Values:
        if same and value.lower() == same:
            return {fields[0]: "Use same sampler"}
        sampler, schedule = sampler_of(value)
        if sampler is None:
            raise ValueError(f"there is no sampler {value!r}.")
        return {fields[0]: sampler, **({fields[1]: schedule} if schedule else {})}

    return apply


def _replaced(values: Values, value: str, everything: Sequence[str]) -> Values:
    """Prompt S/R: the first value is sought in every prompt, and this one put in its place."""
    sought = everything[0]
    if not sought:
        raise ValueError("the first value is empty; it is what is searched for in the prompts.")
    fields = [name for name in ("prompt", "negative_prompt", "hires_prompt", "hires_negative_prompt") if sought in values[name]]
    if not fields:
        raise ValueError(f"{sought!r} is in neither prompt; the first value is what is searched for.")
    return {name: values[name].replace(sought, value) for name in fields}


def _ordered(values: Values, order: Sequence[str], _all: Sequence[Any]) -> Values:
    """Prompt order: the words stand in the places where they were found, in this order."""
    prompt, places = values["prompt"], []
    for word in order:
        if word not in prompt:
            raise ValueError(f"{word!r} is not in the prompt.")
        places.append((prompt.index(word), len(word)))
    rest, built = 0, ""
    for (start, length), word in zip(sorted(places), order, strict=True):
        if start < rest:
            raise ValueError(f"{word!r} overlaps with another word of the list.")
        built += prompt[rest:start] + word
        rest = start + length
    return {"prompt": built + prompt[rest:]}


_LORA = re.compile(r"<lora:([^:>]{1,300})((?::[^:>]{0,300}){0,20})>")


def _strengthened(values: Values, value: float, _all: Sequence[Any]) -> Values:
    """LoRA strength: every LoRA of the prompts gets it, in the text encoder and in the UNet."""
    fields = {name: _LORA.sub(lambda m: _with_strength(m, value), values[name]) for name in ("prompt", "hires_prompt")}
    if not _LORA.search(values["prompt"]) and not _LORA.search(values["hires_prompt"]):
        raise ValueError("the prompt names no LoRA; write <lora:name:1> into it.")
    return fields


def _with_strength(found: re.Match[str], value: float) -> str:
    """One `<lora:...>` with other multipliers and the rest of its arguments."""
    arguments = found[2].split(":")[1:]
    kept = [a for a in arguments if "=" in a and a.split("=")[0].strip() not in ("te", "unet")]
    return "<" + ":".join(["lora", found[1], f"{value:g}", *kept]) + ">"


def _sized(_values: Values, value: str, _all: Sequence[Any]) -> Values:
    """Size: `512x768`."""
    found = re.fullmatch(r"(\d{1,6})\s*[x×]\s*(\d{1,6})", value, re.ASCII)
    if found is None:
        raise ValueError(f"{value!r} is not a size such as 512x768.")
    return {"width": int(found[1]), "height": int(found[2])}


def _denoised(values: Values, value: float, _all: Sequence[Any]) -> Values:
    """Denoising: of the second pass with hires fix, else of the given picture."""
    return {"hires_denoising_strength" if values["hires"] else "denoising_strength": value}


def _styled(values: Values, value: str, _all: Sequence[Any]) -> Values:
    """Styles: one more, or none."""
    return {"styles": values["styles"]} if not value else {"styles": (*values["styles"], value)}


AXES: tuple[Axis, ...] = (
    Axis("Nothing", "text", lambda _values, _value, _all: {}),
    *(Axis(n, "whole", _field(f)) for n, f in (("Seed", "seed"), ("Var. seed", "variation_seed"), ("Steps", "steps"), ("Hires steps", "hires_steps"), ("Clip skip", "clip_skip"))),
    *(Axis(n, "whole", _field(f)) for n, f in (("ENSD", "ensd"), ("Mask blur", "mask_blur"))),
    *(Axis(n, "number", _field(f)) for n, f in (("Var. strength", "variation_strength"), ("CFG Scale", "cfg_scale"), ("Hires upscale", "hires_scale"), ("Eta", "eta"))),
    *(Axis(n, "number", _field(f)) for n, f in (("Sigma Churn", "s_churn"), ("Sigma min", "s_tmin"), ("Sigma max", "s_tmax"), ("Sigma noise", "s_noise"))),
    Axis("Cond. Image Mask Weight", "number", _field("inpainting_mask_weight")),
    Axis("Denoising", "number", _denoised),
    Axis("LoRA strength", "number", _strengthened),
    Axis("Prompt S/R", "text", _replaced),
    Axis("Prompt order", "order", _ordered),
    Axis("Sampler", "text", _sampler(True)),
    Axis("Hires sampler", "text", _sampler(False)),
    Axis("Schedule type", "text", _chosen("scheduler", get_args(Schedule))),
    Axis("Hires schedule type", "text", _chosen("hires_scheduler", ("Use same scheduler", *get_args(Schedule)))),
    Axis("Checkpoint name", "text", _field("checkpoint")),
    Axis("VAE", "text", _field("vae")),
    Axis("Hires upscaler", "text", _field("hires_upscaler")),
    Axis("Styles", "text", _styled),
    Axis("Emphasis", "text", _chosen("emphasis", get_args(Emphasis))),
    Axis("RNG source", "text", _chosen("noise_source", get_args(NoiseSource))),
    Axis("Size", "text", _sized),
)
"""Everything that may vary, by A1111's names."""


def axis_of(name: str) -> Axis:
    """The axis of a name; raises KeyError."""
    return {axis.name: axis for axis in AXES}[name]


_EMPTY = frozenset({"Prompt S/R", "Styles"})
"""Axes on which an empty value stands for nothing being put in."""
_NUMBER = r"([+-]?\s*\d{1,12}(?:\.\d{0,12})?)"
_RANGE = re.compile(rf"{_NUMBER}\s*-\s*{_NUMBER}\s*(?:\(\s*{_NUMBER}\s*\)|\[\s*(\d{{1,9}})\s*\])?", re.ASCII)


def read_values(axis: Axis, text: str) -> list[Any]:
    """The values of an axis: `1, 2, 3`, ranges `1-5`, `1-5 (+2)` by a step and `1-10 [5]` by a count, words as CSV; raises ValueError in words.

    An empty value counts where it says something, as in A1111: Prompt S/R puts nothing in the place of its first value, Styles adds none.
    """
    if axis.name == "Nothing":
        return [""]
    items = _items(text)
    items = items if axis.name in _EMPTY else [item for item in items if item]
    if not items:
        raise ValueError("there are no values.")
    if axis.kind == "text":
        return items
    if axis.kind == "order":
        if math.factorial(min(len(items), 8)) > LIMIT:
            raise ValueError(f"{len(items)} words have more than {LIMIT} orders; use fewer.")
        return list(itertools.permutations(items))
    return [value for item in items for value in _numbers(item, axis.kind == "whole")]


def _items(text: str) -> list[str]:
    """The parts of a list with commas; a part in quotes may hold commas; a part may be empty, a line of nothing has none."""
    try:
        return [item.strip() for line in csv.reader(text.splitlines(), skipinitialspace=True) for item in line]
    except csv.Error as error:
        raise ValueError(f"the list cannot be read ({error}).") from error


def joined(values: Sequence[object]) -> str:
    """Values as the text that `read_values` reads: quotes around those that hold commas or quotes, and around empty ones."""
    texts = [str(value) for value in values]
    return ", ".join('"' + text.replace('"', '""') + '"' if not text or any(c in text for c in ',"\n') else text for text in texts)


def _numbers(item: str, whole: bool) -> list[float]:
    """One number, or the numbers of a range."""
    found = _RANGE.fullmatch(item)
    kind = int if whole else float
    try:
        if found is None:
            return [kind(item)]
        low, high = (kind(found[i].replace(" ", "")) for i in (1, 2))
        step = kind(found[3].replace(" ", "")) if found[3] else (1 if high >= low else -1)
    except (ValueError, OverflowError) as error:
        raise ValueError(f"{item!r} is not a {'whole ' if whole else ''}number or a range such as 1-5, 1-5 (+2) or 1-10 [5].") from error
    if found[4]:
        return _spread(item, low, high, int(found[4]), whole)
    if not step or (high - low) / step < 0:
        raise ValueError(f"{item!r} never arrives; the step must lead from {low:g} to {high:g}.")
    count = math.floor((high - low) / step + 1e-9) + 1
    _check_count(item, count)
    return [low + i * step if whole else round(low + i * step, 10) for i in range(count)]


def _spread(item: str, low: float, high: float, count: int, whole: bool) -> list[float]:
    """So many numbers, evenly from the first to the last."""
    if not count:
        raise ValueError(f"{item!r} asks for no values.")
    _check_count(item, count)
    spread = [low + (high - low) * i / max(1, count - 1) for i in range(count)]
    return [int(value) if whole else round(value, 10) for value in spread]


def _check_count(item: str, count: int) -> None:
    """Refuse a range that is longer than any plot."""
    if count > LIMIT:
        raise ValueError(f"{item!r} has {count} values; a plot has at most {LIMIT} pictures.")


def applied(request: GenerateRequest, steps: Sequence[tuple[Axis, Any, Sequence[Any]]]) -> GenerateRequest:
    """A request with values of several axes, one after another; raises ValueError or InputError in words."""
    values = request.model_dump()
    for axis, value, everything in steps:
        values |= axis.apply(values, value, everything)
    return GenerateRequest.check(values)  # type: ignore[return-value]


def label(axis: Axis, value: Any) -> str:
    """What stands beside a row or above a column."""
    if axis.kind == "order":
        return ", ".join(value)
    if axis.name == "Prompt S/R" or axis.name == "Nothing":
        return str(value)
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return f"{axis.name}: {text.replace(chr(92), '/').rsplit('/', 1)[-1] if axis.name in ('Checkpoint name', 'VAE') else text}"
