"""What the doctor looks at: the pictures of a data set, what they are wanted for, and what follows from both, worked out once."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from hashlib import sha256
from typing import Any, Literal

from studio.projects import likeness
from studio.projects.cropping import Weights, box_of, suggest
from studio.projects.facts import Box, Crop, Item, Size
from studio.projects.filling import fill
from studio.prompts.chunks import CHUNK, Chunker

Severity = Literal["problem", "warning", "hint"]
"""A problem spoils the training, a warning makes it worse, a hint is good to know."""
USUAL = 2000
"""Letters of a usual prompt at most; of longer ones only a few counts are kept in memory."""
PLAIN_LINES = ("a photo of [name], [filewords]",)


@dataclass(frozen=True)
class Aim:
    """What a data set is wanted for: size of the prepared pictures, the word that is taught, and how."""

    width: int = 512
    height: int = 512
    weights: Weights = field(default_factory=Weights)
    trigger: str = ""
    """The word written in prompts: the embedding's name, or a trigger word; empty when none is chosen yet."""
    template: tuple[str, ...] = PLAIN_LINES
    """Lines of the prompt template."""
    vectors: int = 1
    """Places of the prompt that the word takes."""
    method: str = "textual_inversion"
    family: str = "sd1"
    """Kind of checkpoint: "sd1", "sd2" or "sdxl"."""
    sizing: str = "Focal"
    """How pictures come to the size: "Center" cuts the middle, everything else cuts as suggested or chosen."""

    @property
    def size(self) -> Size:
        """Width and height in pixels."""
        return self.width, self.height

    @property
    def names(self) -> bool:
        """Whether every line of the template holds [name]."""
        return all("[name]" in line for line in self.template)

    @property
    def asks_captions(self) -> bool:
        """Whether a line of the template holds [filewords]."""
        return any("[filewords]" in line for line in self.template)

    @property
    def words(self) -> dict[str, int]:
        """The trigger as an embedding of so many vectors, for counting tokens; a word like any other for methods that teach the network."""
        return {self.trigger: self.vectors} if self.trigger and self.method == "textual_inversion" else {}


@dataclass(frozen=True)
class Surroundings:
    """What lies in the folder beside the pictures, and what reading it showed."""

    caption_trouble: Mapping[str, str] = field(default_factory=dict)
    """Picture: what is wrong with its caption file, as a code of captions.TROUBLES."""
    caption_encoding: str = ""
    """What the encoding is called in which captions that aren't Unicode are read."""
    mask_trouble: Mapping[str, str] = field(default_factory=dict)
    """Picture: what is wrong with its mask, in a sentence; empty when nothing is."""
    orphan_masks: tuple[str, ...] = ()
    """Mask files without a picture."""
    orphan_captions: tuple[str, ...] = ()
    """Text files without a picture."""


@dataclass(frozen=True)
class Finding:
    """One thing found, as a sentence with the pictures it is about."""

    id: str
    severity: Severity
    text: str
    """English sentence with {places}, so that it can be translated."""
    values: dict[str, Any]
    """What stands in the places."""
    items: tuple[str, ...]
    """File names of all pictures (or masks, or text files) it is about."""
    groups: tuple[tuple[str, ...], ...] = ()
    """The same names in groups of those that belong together, where they do."""
    fix: str | None = None
    """What mends it, a name in `findings.FIXES`."""

    @property
    def sentence(self) -> str:
        """The English sentence."""
        return self.text.format(**self.values)

    @property
    def key(self) -> str:
        """What it is ignored by: the same as long as it is about the same pictures."""
        about = sorted(self.items) or sorted(f"{name}={value}" for name, value in self.values.items())
        return f"{self.id}:{sha256(chr(0).join(about).encode('utf-8', 'surrogatepass')).hexdigest()[:16]}"


@dataclass(frozen=True)
class Hit:
    """What a check found: file names, values for the sentence beyond {count} and {total}, and another fix than the usual one."""

    items: Sequence[str]
    values: Mapping[str, Any] = field(default_factory=dict)
    groups: Sequence[Sequence[str]] = ()
    fix: str | None = None


@dataclass(frozen=True)
class Check:
    """One line of the doctor's table."""

    id: str
    severity: Severity
    text: str
    fix: str | None
    find: Callable[["Case"], Hit | None]

    def finding(self, case: "Case") -> Finding | None:
        """The finding, when there is one."""
        hit = self.find(case)
        if hit is None:
            return None
        values = {"count": len(hit.items), "total": len(case.used), **hit.values}
        fix = hit.fix or self.fix
        nothing_left = fix == "leave_out" and len(hit.items) == len(case.used)
        return Finding(self.id, self.severity, self.text, values, tuple(hit.items), tuple(map(tuple, hit.groups)), None if nothing_left else fix)


class Case:
    """The pictures, the aim, and what several checks ask for; each thing is worked out at most once."""

    def __init__(self, items: Sequence[Item], aim: Aim, around: Surroundings) -> None:
        self.items = tuple(items)
        self.aim = aim
        self.around = around
        self.used = tuple(item for item in items if not item.choices.left_out)
        self.seen = tuple(item for item in self.used if item.facts and not item.facts.problem and item.facts.width > 0 and item.facts.height > 0)
        self.usable = tuple(item for item in self.used if not (item.facts and item.facts.problem))
        self.held = tuple(item for item in self.usable if item.choices.held_out)
        self.learned = tuple(item for item in self.usable if not item.choices.held_out)
        self._crops: dict[str, Crop] = {}

    @cached_property
    def by_name(self) -> dict[str, Item]:
        """Pictures by their names."""
        return {item.name: item for item in self.items}

    @cached_property
    def captioned(self) -> tuple[Item, ...]:
        """Used pictures whose caption says something."""
        return tuple(item for item in self.used if item.caption.strip())

    @cached_property
    def copies(self) -> list[list[str]]:
        """Groups of files that are the same, byte for byte."""
        return likeness.same((item.name, item.facts.digest) for item in self.seen if item.facts)

    @cached_property
    def alike(self) -> tuple[tuple[str, ...], ...]:
        """Groups of pictures that look the same, copies and mirror images too."""
        return likeness.alike(tuple((item.name, item.facts) for item in self.seen if item.facts))

    def crop(self, item: Item) -> Crop:
        """Where a picture is cut: as chosen, else the middle or as suggested."""
        if item.name not in self._crops:
            suggested = Crop() if item.facts is None or self.aim.sizing == "Center" else _suggested(item.facts, self.aim.size, self.aim.weights)
            self._crops[item.name] = item.choices.crop or suggested
        return self._crops[item.name]

    def box(self, item: Item) -> Box:
        """What is kept of a measured picture, in pixels."""
        assert item.facts is not None
        return box_of(item.facts.size, self.aim.size, self.crop(item))

    def enlarged(self, item: Item) -> float:
        """How many times larger the picture is painted than it was taken; 1 and less is sharp."""
        left, top, right, bottom = self.box(item)
        return max(self.aim.width / (right - left), self.aim.height / (bottom - top))

    @cached_property
    def longest_line(self) -> str:
        """The line of the template that leaves the least room for captions, among those that hold them."""
        lines = [line for line in self.aim.template if "[filewords]" in line] or list(self.aim.template) or [""]
        return max(lines, key=lambda line: self._count(line, ""))

    def tokens(self, caption: str) -> int:
        """Places the longest final prompt of a caption takes."""
        return self._count(self.longest_line, caption.strip())

    def _count(self, line: str, caption: str) -> int:
        """Places of a line of the template with a caption put in."""
        prompt = fill(line, self.aim.trigger, caption)
        return (_counted if len(prompt) <= USUAL else _counted_long)(prompt, tuple(self.aim.words.items()))

    @cached_property
    def shared(self) -> list[list[str]]:
        """Groups of used pictures that have one caption file together."""
        return likeness.same((item.name, item.caption_name) for item in self.used if item.captioned)


def _places(prompt: str, words: tuple[tuple[str, int], ...]) -> int:
    """Places a prompt takes as the trainer cuts it; a chunk that ended early counts whole."""
    chunks = _chunker(words).chunks(prompt)
    return (len(chunks) - 1) * CHUNK + len(chunks[-1])


_suggested = lru_cache(maxsize=8192)(suggest)
_counted = lru_cache(maxsize=20_000)(_places)
_counted_long = lru_cache(maxsize=32)(_places)


@lru_cache(maxsize=8)
def _chunker(words: tuple[tuple[str, int], ...]) -> Chunker:
    """A cutter for embeddings of so many vectors."""
    return Chunker({name: min(count, CHUNK) for name, count in words})
