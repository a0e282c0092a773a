"""Tags of a data set: how often each is used, which go together, which look alike, and which begin as a person types."""

import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations
from typing import Literal, NamedTuple

from studio.projects.captions import split_tags
from studio.projects.facts import Item
from studio.projects.final_prompts import USUAL
from studio.projects.wildcards import folded
from studio.prompts.words import joined

LONGEST_ALIKE = 40
"""Letters of a tag that is compared with others; longer ones are sentences."""
MOST_ALIKE = 5000
"""Tags that are compared, the most frequent."""
LONG_WORD = 5
"""Letters a word has in which one other letter is rather a slip than another word: smile, smlle; but cat, hat."""

CROWD = 50
"""Tags that share all but one letter, such as numbers, beyond which they are no slips of one another."""
Slip = Literal["plural", "letter"]


@dataclass(frozen=True)
class TagCount:
    """A tag, in how many captions it stands, and which share of the captions that is."""

    tag: str
    count: int
    share: float


class Alike(NamedTuple):
    """Two tags that may be one; `keep` is the more frequent one, `why` is "case", "spelling", "plural" or "letter"."""

    keep: str
    drop: str
    why: Literal["case", "spelling", "plural", "letter"]


def _distinct(caption: str) -> tuple[str, ...]:
    """Tags of a caption, each once; those of usual captions are remembered."""
    return _remembered(caption) if len(caption) <= USUAL else _remembered.__wrapped__(caption)


@lru_cache(maxsize=8192)
def _remembered(caption: str) -> tuple[str, ...]:
    """Tags of a caption, each once."""
    return tuple(dict.fromkeys(split_tags(caption)))


def tag_counts(items: Iterable[Item], order: Literal["frequency", "alphabet"] = "frequency") -> list[TagCount]:
    """Every tag as it is written, the most frequent or the first by letters first; shares are of the pictures that have tags."""
    captions = [tags for item in items if (tags := _distinct(item.caption))]
    counts = Counter(tag for tags in captions for tag in tags)
    found = [TagCount(tag, count, count / len(captions)) for tag, count in counts.items()]
    return sorted(found, key=lambda one: (-one.count if order == "frequency" else 0, folded(one.tag), one.tag))


def everywhere(items: Iterable[Item]) -> list[str]:
    """Tags that every caption has, of two captions at least; what they show is learned by them in the place of the trained word."""
    captions = [tags for item in items if (tags := _distinct(item.caption))]
    if len(captions) < 2:
        return []
    shared = set.intersection(*({folded(tag) for tag in tags} for tags in captions))
    return list({folded(tag): tag for tag in reversed(captions[0]) if folded(tag) in shared}.values())[::-1]


def once(items: Iterable[Item]) -> list[str]:
    """Tags that a single caption has, by letters."""
    counted = tag_counts(items, "alphabet")
    counts = Counter(folded(one.tag) for one in counted for _ in range(one.count))
    return [one.tag for one in counted if counts[folded(one.tag)] == 1]


def together(items: Iterable[Item], tag: str) -> list[TagCount]:
    """Tags that stand in captions with a tag, the most frequent first; shares are of those captions."""
    wanted = folded(tag.strip())
    return [one for one in tag_counts(item for item in items if wanted in map(folded, _distinct(item.caption))) if folded(one.tag) != wanted]


def alike(items: Iterable[Item]) -> list[Alike]:
    """Pairs of tags that may be one, those of the most frequent tags first: other case, hyphens or underscores for spaces, a plural, one letter in a long word."""
    counted = [one for one in tag_counts(items) if len(one.tag) <= LONGEST_ALIKE][:MOST_ALIKE]
    ranks = {one.tag: rank for rank, one in enumerate(counted)}
    groups: dict[str, list[str]] = defaultdict(list)
    for one in counted:
        groups[_plain(one.tag)].append(one.tag)
    found = [Alike(tags[0], tag, "case" if folded(tags[0]) == folded(tag) else "spelling") for tags in groups.values() for tag in tags[1:]]
    found += [Alike(groups[left][0], groups[right][0], why) for left, right, why in _slips(tuple(sorted(groups)))]
    return sorted((pair if ranks[pair.keep] < ranks[pair.drop] else Alike(pair.drop, pair.keep, pair.why) for pair in found), key=lambda pair: (ranks[pair.keep], ranks[pair.drop]))


def _plain(tag: str) -> str:
    """A tag without what is only spelling: case, full-width letters, escapes, and how its words are parted."""
    text = folded(unicodedata.normalize("NFKC", tag)).replace("\\", "").replace("_", " ").replace("-", " ")
    return " ".join(text.split()) or tag


@lru_cache(maxsize=4)
def _slips(tags: tuple[str, ...]) -> tuple[tuple[str, str, Slip], ...]:
    """Pairs of plain tags that are singular and plural, or one letter apart in a long word; digits and Chinese count, so 1girl is not 2girl."""
    near: dict[str, list[str]] = defaultdict(list)
    for tag in tags:
        # Two texts that are one edit apart have a text in common that lacks a letter of one or of both.
        for shorter in {tag, tag.removesuffix("es"), *(tag[:i] + tag[i + 1 :] for i in range(len(tag)))}:
            near[shorter].append(tag)
    pairs = {pair for group in near.values() if 1 < len(group) <= CROWD for pair in combinations(group, 2)}
    return tuple((a, b, why) for a, b in sorted(pairs) if (why := _slip(a, b)))


def _slip(left: str, right: str) -> Slip | None:
    """What may have made one of two tags out of the other, when they differ in one word."""
    a, b = left.split(" "), right.split(" ")
    changed = [pair for pair in zip(a, b, strict=True) if pair[0] != pair[1]] if len(a) == len(b) else []
    if len(changed) != 1:
        return None
    short, long = sorted(changed[0], key=len)
    if not (short + long).isascii():
        return None
    if long in (short + "s", short + "es") and len(short) > 2:
        return "plural"
    return "letter" if len(short) >= LONG_WORD and _one_letter(short, long) else None


def _one_letter(short: str, long: str) -> bool:
    """Whether one letter was left out, put in, mistaken, or changed places with the next; digits are no letters."""
    head = next((i for i, (x, y) in enumerate(zip(short, long, strict=False)) if x != y), len(short))
    if len(short) < len(long):
        return short[head:] == long[head + 1 :] and long[head].isalpha()
    swapped = short[head : head + 2] == long[head : head + 2][::-1] and short[head + 2 :] == long[head + 2 :]
    mistaken = short[head + 1 :] == long[head + 1 :]
    return (swapped or mistaken) and (short[head] + long[head]).isalpha()


def complete(prefix: str, items: Iterable[Item], n: int = 10) -> list[TagCount]:
    """Own tags in which a word begins with what was typed: those that begin with it first, then by frequency. In Chinese, every letter begins a word."""
    wanted = folded(prefix.strip())
    if not wanted:
        return []
    found = [(place, one) for one in tag_counts(items) if (place := _begins(folded(one.tag), wanted)) is not None]
    return [one for _, one in sorted(found, key=lambda pair: (pair[0] > 0, -pair[1].count, folded(pair[1].tag)))][:n]


def _begins(tag: str, wanted: str) -> int | None:
    """Where a word of a tag begins that begins with the wanted text; None when none does."""
    at = tag.find(wanted)
    while at > 0 and tag[at - 1] not in "_-" and joined(tag[at - 1], tag[at]):
        at = tag.find(wanted, at + 1)
    return at if at >= 0 else None
