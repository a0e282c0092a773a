"""One change of many captions: planned and looked at first, then applied as one named step."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Annotated, Any, Literal, get_args

from pydantic import Field

from studio.config import Config
from studio.errors import InputError
from studio.projects.captions import clean_caption, split_tags
from studio.projects.edits import Brackets, CaptionEdit, Clear, Prefix, Replace, SetCaption, Suffix, TidySpaces, Underscores, Where
from studio.projects.facts import Change, Item
from studio.projects.filters import NO_CONTEXT, Context, compile_filter
from studio.projects.patterns import LONGEST_TEXT
from studio.projects.tag_edits import AddTag, Dedupe, MoveToFront, RemoveTag, RenameTag, Reverse, Shuffle, Sort
from studio.projects.wildcards import folded

SHOWN = 20
"""Changes of a preview."""
LONGEST_RESULT = 5 * LONGEST_TEXT
"""Letters a change may leave in one caption."""
_PIECE = re.compile(r"\w+|\s+|.", re.DOTALL)
_FINE = 400
"""Pieces up to which differences are looked for inside what changed; beyond, all of it is one difference."""

AnyEdit = Annotated[
    Replace | AddTag | Prefix | Suffix | RemoveTag | RenameTag | Sort | Shuffle | Reverse | MoveToFront | Dedupe | TidySpaces | Brackets | Underscores | Clear | SetCaption,
    Field(discriminator="kind"),
]
"""Any change, told apart by `kind`."""
KINDS: tuple[tuple[str, type[CaptionEdit]], ...] = tuple((cls.model_fields["kind"].default, cls) for cls in get_args(get_args(AnyEdit)[0]))
"""Every change with its kind, in the order of a list."""
ScopeName = Literal["all", "filtered", "selected"]


class BulkRequest(Config):
    """One change of many captions."""

    edit: AnyEdit
    """What is changed."""
    scope: ScopeName = "all"
    """All pictures, those that the filter lets through, or those that are chosen."""
    filter: str = ""
    """Filter of the scope filtered."""
    names: tuple[str, ...] = ()
    """File names of the scope selected."""


@dataclass(frozen=True)
class Difference:
    """One place where a caption differs: from where to where before, and after."""

    before_start: int
    before_end: int
    after_start: int
    after_end: int


@dataclass(frozen=True)
class Preview:
    """One caption as it is and as it becomes (None for no file)."""

    name: str
    before: str | None
    after: str | None
    spans: tuple[Difference, ...]


@dataclass(frozen=True)
class BulkPlan:
    """What a change would do; applying it is `Project.edit(plan.name, plan.changes)`."""

    name: str
    """What the step is called."""
    changes: tuple[Change, ...]
    matches: int
    """Places that are changed, over all captions."""
    preview: tuple[Preview, ...]
    """The first changes, with their differences."""
    note: str = ""
    """A sentence when nothing would change, or when captions are left alone."""


def label_of(cls: type[CaptionEdit]) -> str:
    """What a kind of change is called."""
    return cls.label


def edit_of(values: dict[str, Any]) -> CaptionEdit:
    """A change from loose values; raises InputError for a kind that there is not, or naming every mistake."""
    found = dict(KINDS).get(str(values.get("kind", "")))
    if found is None:
        raise InputError(f"There is no change called {values.get('kind')!r}.", f"There is {', '.join(kind for kind, _ in KINDS)}.")
    return found.check(values)  # type: ignore[return-value]


def chosen(items: Sequence[Item], scope: ScopeName, text: str = "", names: Sequence[str] = (), context: Context = NO_CONTEXT) -> list[Item]:
    """The pictures a change is for; raises InputError that points at a mistake in the filter."""
    if scope == "filtered":
        return compile_filter(text).choose(items, context)
    wanted = set(names)
    return [item for item in items if scope == "all" or item.name in wanted]


def plan(edit: CaptionEdit, items: Sequence[Item], everyone: Sequence[Item] | None = None) -> BulkPlan:
    """What a change does to these pictures; `everyone` is the whole data set, for how often tags are used. Raises InputError when what was typed cannot be used."""
    counts = Counter(tag for item in (items if everyone is None else everyone) for tag in set(map(folded, split_tags(item.caption))))
    change, changes, matches, long = edit.changer(), [], 0, 0
    for item in _files(items):
        if len(item.caption) > LONGEST_TEXT and not isinstance(edit, Clear | SetCaption):
            long += 1
            continue
        after, count = change(item.caption, Where(item.name, counts))
        if after is not None and len(after) > LONGEST_RESULT:
            raise InputError(f"The caption of {item.name} would become {len(after):,} letters long; at most {LONGEST_RESULT:,} are written.", "Nothing was changed.")
        # A caption is read without NUL characters and outer space, so it is written without them: undo compares the two.
        after = after if after is None else clean_caption(after).strip()
        before = item.caption if item.captioned else None
        if after != before and not (before is None and not after):
            changes.append(Change(item.name, "caption", before, after))
            matches += count
    named = f"{edit.step()} ({len(changes)})" if len(changes) != 1 else edit.step()
    return BulkPlan(named, tuple(changes), matches, tuple(map(_preview, changes[:SHOWN])), _note(edit, len(items), len(changes), long))


def _files(items: Sequence[Item]) -> Iterator[Item]:
    """One picture for each caption file; what is written for one shows in all that share it."""
    seen: set[str] = set()
    for item in items:
        if not item.caption_name or item.caption_name not in seen:
            yield item
        seen.add(item.caption_name)


def _note(edit: CaptionEdit, count: int, changed: int, long: int) -> str:
    """What a person should know before the change."""
    sentences = []
    if not changed:
        where = "the caption" if count == 1 else f"all {count:,} captions"
        sentences.append(f"Nothing would change: {where} would stay as {'it is' if count == 1 else 'they are'}." if count else "Nothing would change: no picture is chosen.")
    if long:
        sentences.append(f"{long:,} {'captions are' if long > 1 else 'caption is'} left alone, being longer than {LONGEST_TEXT:,} letters.")
    return " ".join(sentences)


def _preview(change: Change) -> Preview:
    """A change with its differences."""
    return Preview(change.item, change.before, change.after, differences(change.before or "", change.after or ""))


def differences(before: str, after: str) -> tuple[Difference, ...]:
    """Where two texts differ, word by word; in long texts that differ much, from the first difference to the last."""
    head = _common(before, after)
    tail = _common(before[head:][::-1], after[head:][::-1])
    left, right = _PIECE.findall(before[head : len(before) - tail]), _PIECE.findall(after[head : len(after) - tail])
    if not left and not right:
        return ()
    if max(len(left), len(right)) > _FINE:
        return (Difference(head, len(before) - tail, head, len(after) - tail),)
    starts, ends = _places(left, head), _places(right, head)
    codes = SequenceMatcher(None, left, right, autojunk=False).get_opcodes()
    return tuple(Difference(starts[a], starts[b], ends[c], ends[d]) for code, a, b, c, d in codes if code != "equal")


def _common(left: str, right: str) -> int:
    """How many letters two texts begin alike."""
    return next((i for i, (a, b) in enumerate(zip(left, right, strict=False)) if a != b), min(len(left), len(right)))


def _places(pieces: Sequence[str], begin: int) -> list[int]:
    """Where each piece begins, and where the last ends."""
    places = [begin]
    for piece in pieces:
        places.append(places[-1] + len(piece))
    return places
