"""Tags as text: which are written, in which order and form, and how the sayings of several captioners become one caption."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from statistics import median

from studio.projects.captions import split_tags
from studio.projects.wildcards import ANY, Wildcard, folded
from studio.requests.caption import CaptionOptions


@dataclass(frozen=True)
class Tag:
    """A tag as its tagger calls it, how sure that is (0 to 1), and whether its underscore belongs to it, as in ^_^."""

    name: str
    score: float
    literal: bool = False


@dataclass(frozen=True)
class Saying:
    """What one captioner says about one picture: a sentence, or tags that reached their threshold; `confidence` (0 to 1) where it is measured."""

    sentence: str = ""
    tags: tuple[Tag, ...] = field(default=())
    confidence: float | None = None


CONFIDENT = 0.86
"""Median confidence from which the tiny captioner is taken to know what it sees: measured, 0.87 to 0.95 for each image of the tiny world and 0.67 to 0.84 for photographs."""
OUT_OF_ITS_WORLD = (
    "These images don't look like the tiny world, which is all that the captioner {name} knows (confidence {confidence:.2f}; {limit} and more is usual), "
    "so its captions are probably wrong. Download another captioner in the dataset under Captions, More models."
)


def out_of_world_warning(name: str, sayings: Iterable[Saying]) -> str:
    """A warning when a captioner that measures its confidence is unsure of most images; empty otherwise."""
    measured = [saying.confidence for saying in sayings if saying.confidence is not None]
    middle = median(measured) if measured else 1.0
    return OUT_OF_ITS_WORLD.format(name=name, confidence=middle, limit=CONFIDENT) if middle < CONFIDENT else ""


def chosen(tags: Sequence[Tag], options: CaptionOptions) -> list[Tag]:
    """Tags that are not excluded, the surest when there is a limit, in the order that is asked for."""
    kept = [tag for tag in tags if not excluded(tag.name, options.tag_exclude)]
    by_score = sorted(kept, key=lambda tag: (-tag.score, tag.name))
    kept = by_score[: options.tag_limit or None]
    return kept if options.tag_sort == "score" else sorted(kept, key=lambda tag: tag.name)


def excluded(name: str, exclude: str) -> bool:
    """Whether a tag is on a list of tags to leave out, however its spaces and capitals are written; * stands for any letters."""
    return any(pattern.whole(folded(_plain(name))) for pattern in _patterns(exclude))


@lru_cache(maxsize=64)
def _patterns(exclude: str) -> tuple[Wildcard, ...]:
    """The patterns of a list; a backslash before a bracket is taken as escaping it."""
    entries = (_plain(re.sub(r"\\([\\()])", r"\1", entry)) for entry in split_tags(exclude.replace("\n", ",")))
    return tuple(Wildcard([(letter, letter == ANY) for letter in folded(entry)]) for entry in entries)


def _plain(name: str) -> str:
    """A tag as it is compared: small letters, spaces for underscores."""
    return name.replace("_", " ").casefold().strip()


def written(tag: Tag, options: CaptionOptions) -> str:
    """One tag as text: spaces, escaped brackets and backslashes, and its score, as asked for."""
    text = tag.name.replace("_", " ") if options.tag_spaces and not tag.literal else tag.name
    if options.tag_escape:
        text = re.sub(r"([\\()])", r"\\\1", text)
    return f"({text}:{tag.score:.3f})" if options.tag_scores else text


def text_of_tags(tags: Sequence[Tag], options: CaptionOptions) -> str:
    """Tags as they stand in a caption."""
    return ", ".join(written(tag, options) for tag in chosen(tags, options))


def joined(sayings: Sequence[Saying], options: CaptionOptions) -> str:
    """One caption from what several captioners say, in their order; a tag that an earlier one said is not said again. The limit counts all tags."""
    first = _without_repeats(sayings)
    allowed = {id(tag) for tag in chosen([tag for saying in first for tag in saying.tags], options)}
    parts = []
    for saying in first:
        tags = [tag for tag in saying.tags if id(tag) in allowed]
        parts += [saying.sentence, text_of_tags(tags, options)]
    return ", ".join(filter(None, parts))


def _without_repeats(sayings: Sequence[Saying]) -> list[Saying]:
    """Sayings whose tags are all different; of two sentences that are the same the first stays."""
    seen: set[str] = set()
    kept = []
    for saying in sayings:
        tags = []
        for tag in saying.tags:
            if _plain(tag.name) not in seen:
                seen.add(_plain(tag.name))
                tags.append(tag)
        sentence = "" if f"sentence {saying.sentence}" in seen else saying.sentence
        seen.add(f"sentence {saying.sentence}")
        kept.append(Saying(sentence, tuple(tags)))
    return kept


def with_trigger(trigger: str, caption: str) -> str:
    """A caption that begins with the trigger word; one that has it as a tag already gets it moved to the front."""
    trigger = trigger.strip().strip(",").strip()
    if not trigger:
        return caption
    tags = split_tags(caption)
    if trigger not in tags:
        return ", ".join(filter(None, (trigger, caption)))
    if tags[0] == trigger:
        return caption
    return ", ".join([trigger, *(tag for tag in tags if tag != trigger)])
