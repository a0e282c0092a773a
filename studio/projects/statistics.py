"""What a data set is made of, in numbers: sizes, shapes, captions, tokens, tags, masks, faces, states."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from studio.projects.captions import split_tags
from studio.projects.case import Case
from studio.projects.cropping import buckets, nearest_bucket
from studio.projects.facts import Size
from studio.prompts.chunks import CHUNK

TAGS = 50
"""Tags that are listed, the most frequent first."""
SHOWN = 8
"""Shapes and tags that the table names."""
SMALLEST_SIDE = 64
_FINE = 1000
"""Shapes are told apart to a thousandth."""


@dataclass(frozen=True)
class Spread:
    """The least, the middle and the most of some numbers."""

    least: float = 0
    middle: float = 0
    most: float = 0

    @classmethod
    def of(cls, numbers: Sequence[float]) -> "Spread":
        """The spread of numbers; all zero without any."""
        return cls(min(numbers), round(median(numbers), 3), max(numbers)) if numbers else cls()

    def line(self) -> str:
        """The three numbers in a row."""
        return f"{self.least:g} / {self.middle:g} / {self.most:g}"


@dataclass(frozen=True)
class Statistics:
    """Numbers of a data set; pictures that are left out count in `states` alone."""

    pictures: int
    states: dict[str, int]
    """Pictures that are learned, held_out, left_out, unreadable, not_examined."""
    bytes: int
    megapixels: Spread
    width: Spread
    height: Spread
    sharpness: Spread
    letters: Spread
    """Length of captions, of those that say something."""
    tokens: Spread
    """Places of the longest final prompt."""
    over: int
    """Prompts longer than one chunk."""
    captioned: int
    masked: int
    faces: dict[str, int]
    """Measured pictures by number of faces: "0", "1", "2 or more"."""
    buckets: tuple[tuple[int, int, int], ...]
    """Width, height and number of pictures of each shape that is used, if pictures are not all cut to one; the largest number first."""
    tags: tuple[tuple[str, int], ...]
    """The most frequent tags with the captions they stand in."""
    different_tags: int
    orphan_captions: tuple[str, ...]
    orphan_masks: tuple[str, ...]
    formats: dict[str, int]
    shown: int
    """Pictures of one round, repeats and mirrored copies counted."""

    def as_json(self) -> dict[str, Any]:
        """All numbers, for programs."""
        return asdict(self)

    def rows(self) -> list[tuple[str, str]]:
        """The numbers as lines of a table: what it is, and how much."""
        states = self.states
        return [
            ("Pictures", f"{self.pictures}"),
            ("Learned / kept for validation / left out", f"{states['learned']} / {states['held_out']} / {states['left_out']}"),
            ("Shown in one round, with repeats and mirrored copies", f"{self.shown}"),
            ("Unreadable / not examined", f"{states['unreadable']} / {states['not_examined']}"),
            ("Width: least / middle / most (pixels)", self.width.line()),
            ("Height: least / middle / most (pixels)", self.height.line()),
            ("Size: least / middle / most (megapixels)", self.megapixels.line()),
            ("Sharpness: least / middle / most", self.sharpness.line()),
            ("Shapes", ", ".join(f"{width}×{height}: {count}" for width, height, count in self.buckets[:SHOWN]) or "–"),
            ("With a caption", f"{self.captioned}"),
            ("Caption: least / middle / most (letters)", self.letters.line()),
            ("Final prompt: least / middle / most (tokens)", self.tokens.line()),
            ("Final prompts over 75 tokens", f"{self.over}"),
            ("Different tags", f"{self.different_tags}"),
            ("Frequent tags", ", ".join(f"{tag} ({count})" for tag, count in self.tags[:SHOWN]) or "–"),
            ("With a mask", f"{self.masked}"),
            ("Without a face / with one / with more", " / ".join(str(self.faces.get(number, 0)) for number in ("0", "1", "2 or more"))),
            ("Text files / masks without a picture", f"{len(self.orphan_captions)} / {len(self.orphan_masks)}"),
            ("Formats", ", ".join(f"{name}: {count}" for name, count in self.formats.items()) or "–"),
            ("On disk (MB)", f"{self.bytes / 1e6:.1f}"),
        ]


def statistics(case: Case) -> Statistics:
    """The numbers of a data set."""
    facts = [item.facts for item in case.seen if item.facts]
    tokens = [case.tokens(item.caption) for item in case.used]
    tags = _tags(case)
    return Statistics(
        pictures=len(case.items),
        states=_states(case),
        bytes=sum(item.bytes for item in case.used),
        megapixels=Spread.of([round(one.width * one.height / 1e6, 3) for one in facts]),
        width=Spread.of([one.width for one in facts]),
        height=Spread.of([one.height for one in facts]),
        sharpness=Spread.of([round(one.sharpness, 1) for one in facts]),
        letters=Spread.of([len(item.caption) for item in case.captioned]),
        tokens=Spread.of(tokens),
        over=sum(count > CHUNK for count in tokens),
        captioned=len(case.captioned),
        masked=sum(bool(item.mask_name) for item in case.used),
        faces=dict(Counter("2 or more" if len(one.faces) > 1 else str(len(one.faces)) for one in facts)),
        buckets=_buckets([one.size for one in facts], case.aim.size),
        tags=tuple(tags.most_common(TAGS)),
        different_tags=len(tags),
        orphan_captions=case.around.orphan_captions,
        orphan_masks=case.around.orphan_masks,
        formats=dict(Counter(one.format or "unknown" for one in facts).most_common()),
        shown=sum(item.choices.repeats * (2 if item.choices.flipped else 1) for item in case.learned),
    )


def _states(case: Case) -> dict[str, int]:
    """Pictures of each state; each picture is in one of the first four."""
    return {
        "learned": len(case.learned),
        "held_out": len(case.held),
        "left_out": len(case.items) - len(case.used),
        "unreadable": len(case.used) - len(case.usable),
        "not_examined": sum(item.facts is None for item in case.used),
    }


def _buckets(sizes: Sequence[Size], target: Size) -> tuple[tuple[int, int, int], ...]:
    """How many pictures would go into each bucket about the target's area."""
    step = 64 if min(target) >= 256 else 8
    some = buckets(target, step, min(*target, max(SMALLEST_SIDE, min(target) // 2)), max(target) * 2)
    shapes = Counter(round(_FINE * width / height) or 1 for width, height in sizes)
    counts: Counter[Size] = Counter()
    for shape, count in shapes.items():
        counts[nearest_bucket((shape, _FINE), some)] += count
    return tuple((width, height, count) for (width, height), count in sorted(counts.items(), key=lambda pair: (-pair[1], pair[0])))


def _tags(case: Case) -> Counter[str]:
    """In how many captions each tag stands."""
    return Counter(tag for item in case.captioned for tag in dict.fromkeys(split_tags(item.caption)))
