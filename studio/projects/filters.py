"""The filter language: which pictures of a data set are shown. `tag:red NOT (tokens:>75 OR is:leftout)`."""

import operator
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from math import isclose
from pathlib import PurePath

from studio.errors import InputError
from studio.projects.captions import split_tags
from studio.projects.facts import Facts, Item
from studio.projects.filter_words import Word, quoted, words, wrong
from studio.projects.final_prompts import USUAL, places
from studio.projects.wildcards import Wildcard, folded
from studio.prompts.chunks import CHUNK

__all__ = ["STATES", "Context", "Filter", "compile_filter", "quoted"]

LONGEST = 4000
"""Letters of a filter."""
MOST_TERMS = 200
DEEPEST = 50
"""Brackets inside one another."""
NEAR = 0.005
"""Shapes and megapixels are equal up to this share, since 1366x768 is meant to be 16:9."""


@dataclass(frozen=True)
class Context:
    """What a filter may ask about that no picture knows alone."""

    folder: str = ""
    """Folder of the data set, for `path:`."""
    trigger: str = ""
    """The word that is taught, for `is:triggered`."""
    duplicates: frozenset[str] = frozenset()
    """File names for `is:duplicate`."""
    problems: frozenset[str] = frozenset()
    """File names for `is:problem`, beside pictures that cannot be read."""


NO_CONTEXT = Context()
Test = Callable[[Item, Context], bool]


@dataclass(frozen=True)
class Filter:
    """A filter that was understood; an empty one matches everything."""

    text: str
    test: Test = field(repr=False, compare=False)

    def matches(self, item: Item, context: Context = NO_CONTEXT) -> bool:
        """Whether a picture is let through."""
        return self.test(item, context)

    def choose(self, items: Iterable[Item], context: Context = NO_CONTEXT) -> list[Item]:
        """The pictures that are let through, in their order."""
        return [item for item in items if self.test(item, context)]


def compile_filter(text: str) -> Filter:
    """A filter from what a person typed; raises InputError that points at the place."""
    if len(text) > LONGEST:
        raise InputError(f"Filter: it has {len(text):,} letters; at most {LONGEST:,} are read.", "Shorten it.")
    found = list(words(text))
    if sum(word.kind not in ("(", ")", "and", "or", "not") for word in found) > MOST_TERMS:
        raise InputError(f"Filter: it has more than {MOST_TERMS} terms.", "Shorten it.")
    return Filter(text, _Parser(found, len(text)).all() if found else _everything)


def _everything(item: Item, context: Context) -> bool:
    """Lets every picture through."""
    return True


class _Parser:
    """Words to one test; NOT binds closer than AND, and AND closer than OR. Words side by side are joined by AND."""

    def __init__(self, found: list[Word], end: int) -> None:
        self.words = found
        self.end = end
        self.at = 0
        self.depth = 0

    def all(self) -> Test:
        """The whole filter."""
        test = self.either()
        if self.at < len(self.words):
            raise wrong("a bracket is closed that was not opened", self.words[self.at].at, 'To look for the sign itself, put it in quotes: ")".')
        return test

    def kind(self) -> str:
        """What comes next; empty at the end."""
        return self.words[self.at].kind if self.at < len(self.words) else ""

    def either(self) -> Test:
        """Terms joined by OR."""
        tests = [self.both()]
        while self.kind() == "or":
            self.at += 1
            tests.append(self.both())
        return tests[0] if len(tests) == 1 else lambda item, context: any(test(item, context) for test in tests)

    def both(self) -> Test:
        """Terms joined by AND or by nothing."""
        tests = [self.term()]
        while self.kind() not in ("", ")", "or"):
            self.at += self.kind() == "and"
            tests.append(self.term())
        return tests[0] if len(tests) == 1 else lambda item, context: all(test(item, context) for test in tests)

    def term(self) -> Test:
        """One test, turned around by each NOT before it."""
        turned = False
        while self.kind() == "not":
            turned = not turned
            self.at += 1
        test = self.group() if self.kind() == "(" else self.one()
        return (lambda item, context: not test(item, context)) if turned else test

    def group(self) -> Test:
        """What stands in brackets."""
        opened = self.words[self.at]
        self.depth += 1
        if self.depth > DEEPEST:
            raise wrong(f"more than {DEEPEST} brackets stand inside one another", opened.at)
        self.at += 1
        test = self.either()
        if self.kind() != ")":
            raise wrong("the bracket is not closed", opened.at, 'To look for the sign itself, put it in quotes: "(".')
        self.at += 1
        self.depth -= 1
        return test

    def one(self) -> Test:
        """A term that is a test itself."""
        if self.kind() in ("", ")", "and", "or"):
            before = self.words[self.at - 1] if self.at else None
            place = self.words[self.at].at if self.at < len(self.words) else self.end
            after = {"(": "the bracket", "and": "AND", "or": "OR", "not": "NOT"}.get(before.kind, "it") if before else ""
            reason = f"after {after} a term is missing" if before else f"before {self.kind().upper() if self.kind() != ')' else 'the bracket'} a term is missing"
            raise wrong(reason, place, f'To look for the word itself, put it in quotes: "{after.lower()}".' if after.isupper() else "")
        word = self.words[self.at]
        self.at += 1
        return _BUILDERS[word.kind](word)


def _tags(caption: str) -> tuple[str, ...]:
    """Folded tags of a caption; those of usual captions are remembered."""
    return _remembered(caption) if len(caption) <= USUAL else _remembered.__wrapped__(caption)


@lru_cache(maxsize=8192)
def _remembered(caption: str) -> tuple[str, ...]:
    """Folded tags of a caption."""
    return tuple(folded(tag) for tag in split_tags(caption))


def _text(word: Word) -> Test:
    """A test of a text."""
    wanted = Wildcard(word.letters)
    tests: dict[str, Test] = {
        "tag": lambda item, _: any(map(wanted.whole, _tags(item.caption))),
        "caption": lambda item, _: wanted.within(folded(item.caption)),
        "name": lambda item, _: wanted.within(folded(item.name)),
        "path": lambda item, context: wanted.within(folded(str(PurePath(context.folder, item.name)))),
        "": lambda item, _: wanted.within(folded(item.caption)) or wanted.within(folded(item.name)),
    }
    return tests[word.key]


def _measured(of: Callable[[Facts], float]) -> Callable[[Item], float | None]:
    """A number that is only known of pictures that were measured."""
    return lambda item: of(item.facts) if item.facts and item.facts.width and item.facts.height else None


NUMBERS: Mapping[str, Callable[[Item], float | None]] = {
    "tags": lambda item: len(_tags(item.caption)),
    "chars": lambda item: len(item.caption),
    "tokens": lambda item: places(item.caption),
    "repeats": lambda item: item.choices.repeats,
    "width": _measured(lambda facts: facts.width),
    "height": _measured(lambda facts: facts.height),
    "megapixels": _measured(lambda facts: facts.width * facts.height / 1e6),
    "ratio": _measured(lambda facts: facts.width / facts.height),
    "faces": _measured(lambda facts: len(facts.faces)),
}
"""What can be compared with a number; None while it is not known, which no comparison matches."""
_EXACT: Mapping[str, Callable[[float, float], bool]] = {"=": operator.eq, "!=": operator.ne, "<": operator.lt, ">": operator.gt, "<=": operator.le, ">=": operator.ge}
_NEARLY: Mapping[str, Callable[[float, float], bool]] = {
    **_EXACT,
    "=": lambda a, b: isclose(a, b, rel_tol=NEAR),
    "!=": lambda a, b: not isclose(a, b, rel_tol=NEAR),
}


def _count(word: Word) -> Test:
    """A comparison with a number."""
    of, number = NUMBERS[word.key], word.number
    compare = (_NEARLY if word.key in ("megapixels", "ratio") else _EXACT)[word.comparison]

    def test(item: Item, context: Context) -> bool:
        value = of(item)
        return value is not None and compare(value, number)

    return test


def _size(word: Word) -> Test:
    """A test of width and height."""
    wanted = (word.number, word.second)
    return lambda item, _: item.facts is not None and item.facts.size == wanted


STATES: Mapping[str, Test] = {
    "uncaptioned": lambda item, _: not item.caption.strip(),
    "captioned": lambda item, _: bool(item.caption.strip()),
    "leftout": lambda item, _: item.choices.left_out,
    "heldout": lambda item, _: item.choices.held_out,
    "masked": lambda item, _: bool(item.mask_name),
    "flipped": lambda item, _: item.choices.flipped,
    "cropped": lambda item, _: item.choices.crop is not None,
    "examined": lambda item, _: item.facts is not None,
    "over": lambda item, _: places(item.caption) > CHUNK,
    "problem": lambda item, context: bool(item.facts and item.facts.problem) or item.name in context.problems,
    "duplicate": lambda item, context: item.name in context.duplicates,
    "triggered": lambda item, context: bool(context.trigger) and folded(context.trigger) in folded(item.caption),
}
"""What comes after `is:`."""


def _state(word: Word) -> Test:
    """A test of a state."""
    found = STATES.get(word.key.replace("_", "").replace("-", ""))
    if found is None:
        raise wrong(f"there is no `is:{word.key[:50]}`", word.at, f"There is {', '.join(f'is:{state}' for state in STATES)}.")
    return found


_BUILDERS: Mapping[str, Callable[[Word], Test]] = {"text": _text, "count": _count, "size": _size, "is": _state}
