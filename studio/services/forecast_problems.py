"""What speaks against a training before it begins: sentences with values, and what mends each; needs no model."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from studio.dataset.folder import Item
from studio.dataset.masks import read_mask
from studio.errors import StudioError
from studio.projects.captions import is_captioned
from studio.projects.filling import fill
from studio.projects.final_prompts import FinalPrompt, final_prompt
from studio.projects.text_encodings import legacy_encoding
from studio.prompts.chunks import CHUNK
from studio.requests import forecast as say
from studio.requests.train import TrainConfig, check_schedule
from studio.requests.unused_settings import unused_settings

Problem = dict[str, Any]
"""text, values, severity ("problem", "warning" or "hint") and fix."""
SAMPLED = 2000
"""Prompts that are filled in at most, spread over all pictures."""
LOOKED = 8
"""Pictures whose masks are looked for."""
HIGH = {"AdamW": 0.1, "AdamW 8-bit": 0.1, "Adafactor": 0.1, "Lion": 0.03, "Prodigy": 10.0}
"""Rates from which vectors of length 0.4 fly apart: each step moves every one of their numbers, of about 0.014, by the rate."""
LOW = 1e-5
"""Below this a thousand steps move a number by less than its own size."""
BY_HEART = 2
"""Vectors for each picture from which they hold the pictures themselves."""


@dataclass(frozen=True)
class Material:
    """What a training would be made of: the word and its vectors, the pictures that can be read, reasons why others cannot, template lines, and steps to take."""

    name: str
    vectors: int
    items: Sequence[Item]
    unread: Sequence[str]
    lines: Sequence[str]
    steps: int


def problem(text: str, **values: Any) -> Problem:
    """One problem as the page and the API take it."""
    return {"text": text, "values": values, "severity": say.SEVERITIES.get(text, "warning"), "fix": say.FIXES[text]}


def problems(config: TrainConfig, material: Material, device: str) -> list[Problem]:
    """Everything that speaks against a training on a kind of device, the worst first."""
    found = [*_words(config, material), *_rates(config, material.steps), *_pictures(config, material), *_vectors(material)]
    found += [problem(reason.text, **reason.values) for reason in unused_settings(config, material.lines)]
    if config.compile and device != "cuda":
        found.append(problem(say.COMPILE, device=device))
    return by_weight(found)


def by_weight(found: Iterable[Problem]) -> list[Problem]:
    """Problems in the order of their severity."""
    return sorted(found, key=lambda one: ("problem", "warning", "hint").index(one["severity"]))


def prompts(material: Material) -> list[FinalPrompt]:
    """Final prompts of line and picture, every pair where they are not too many, else spread evenly; each with its tokens."""
    pairs = [(line, item.caption) for item in material.items for line in dict.fromkeys(material.lines)]
    step = max(1, -(-len(pairs) // SAMPLED))
    known = {material.name: material.vectors} if 0 < material.vectors <= CHUNK else {}
    return [final_prompt(line, material.name, caption, known) for line, caption in dict.fromkeys(pairs[::step])]


def _words(config: TrainConfig, material: Material) -> Iterator[Problem]:
    """Prompts that do not hold the name, captions that miss, prompts that are too long."""
    texts = [fill(line, material.name, item.caption).lower() for line in material.lines for item in material.items]
    holding = sum(material.name.lower() in text for text in texts)
    if not holding:
        yield problem(say.UNNAMED, count=len(texts), name=material.name)
    elif holding < len(texts):
        yield problem(say.HALF_NAMED, holding=holding, count=len(texts), name=material.name)
    bare = sum(not item.caption.strip() or not is_captioned(item.image) for item in material.items)
    encoding = next(filter(None, map(legacy_encoding, {item.image.parent for item in material.items})), "")
    if encoding:
        yield problem(say.ENCODED, encoding=encoding)
    if bare and any("[filewords]" in line for line in material.lines):
        yield problem(say.UNCAPTIONED, count=bare, pictures=len(material.items))
    every = prompts(material)
    long = [prompt.count for prompt in every if prompt.count > CHUNK]
    if long:
        yield problem(say.LONG, count=len(long), total=len(every), most=max(long))


def _rates(config: TrainConfig, steps: int) -> Iterator[Problem]:
    """Rates that the optimiser cannot do much with."""
    rates = [rate for rate, _ in check_schedule(config.learn_rate)]
    most, name = max(rates), config.optimizer
    if name == "Prodigy" and most < 0.1:
        yield problem(say.PRODIGY_LOW, rate=most)
    elif most >= HIGH[name]:
        yield problem(say.RATE_HIGH, rate=most, optimizer=name)
    elif name == "Lion" and most >= 0.004:
        yield problem(say.LION_HIGH, rate=most)
    elif name != "Prodigy" and most < LOW:
        yield problem(say.RATE_LOW, rate=most, steps=steps)
    if config.warmup >= steps:
        yield problem(say.WARMING, warmup=config.warmup, steps=steps)


def _pictures(config: TrainConfig, material: Material) -> Iterator[Problem]:
    """Too few pictures, pictures that cannot be read, masks that are not there."""
    count, wanted = len(material.items), config.whole_batch * config.gradient_accumulation
    if count < wanted:
        yield problem(say.FEW, pictures=count, batch=wanted)
    if material.unread:
        yield problem(say.UNREAD, count=len(material.unread), pictures=count + len(material.unread), reason=material.unread[0])
    looked = material.items[:LOOKED]
    if config.use_masks and not any(_masked(item) for item in looked):
        yield problem(say.NO_MASKS, count=len(looked))


def _masked(item: Item) -> bool:
    """Whether a picture has a mask; one that cannot be read counts, since the training tells of it."""
    try:
        return read_mask(item.image) is not None
    except StudioError:
        return True


def _vectors(material: Material) -> Iterator[Problem]:
    """More vectors than the pictures or a prompt can use."""
    if material.vectors > 24:
        yield problem(say.FULL_PROMPT, vectors=material.vectors)
    elif material.vectors > BY_HEART * len(material.items) or material.vectors > 16:
        yield problem(say.MANY_VECTORS, vectors=material.vectors, pictures=len(material.items))
