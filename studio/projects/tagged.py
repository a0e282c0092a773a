"""A caption as tags with what stands between them, so that tags can change and nothing else does."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from studio.projects.wildcards import folded

Changed = tuple[str | None, int]
"""A caption as it becomes (None for no file), and in how many places it was changed."""
JOIN = ", "
_RUN = re.compile(r"[^,，、]+")


@dataclass(frozen=True)
class Tagged:
    """Tags, what joins each to the next, and what stands before the first and behind the last; a caption without a comma is one tag."""

    tags: tuple[str, ...]
    joins: tuple[str, ...]
    lead: str = ""
    trail: str = ""

    @classmethod
    def of(cls, caption: str) -> "Tagged":
        """Takes a caption apart; `text` puts it together again letter for letter."""
        spans = []
        for run in _RUN.finditer(caption):
            inner = run.group().strip()
            if inner:
                start = run.start() + len(run.group()) - len(run.group().lstrip())
                spans.append((start, start + len(inner)))
        if not spans:
            return cls((), (), caption)
        joins = tuple(caption[a[1] : b[0]] for a, b in pairwise(spans))
        return cls(tuple(caption[a:b] for a, b in spans), joins, caption[: spans[0][0]], caption[spans[-1][1] :])

    @property
    def text(self) -> str:
        """The caption."""
        between = [join + tag for join, tag in zip(self.joins, self.tags[1:], strict=True)]
        return self.lead + "".join([*self.tags[:1], *between]) + self.trail

    def ordered(self, tags: Sequence[str]) -> "Tagged":
        """The same number of tags in another order or spelling; what joins them stays."""
        return replace(self, tags=tuple(tags))

    def keeping(self, keep: Sequence[bool]) -> "Tagged":
        """Only some tags; each goes with what joined it to the tag before it."""
        tags = [tag for tag, kept in zip(self.tags, keep, strict=True) if kept]
        joins = [join for join, kept in zip(("", *self.joins), keep, strict=False) if kept][1:]
        return replace(self, tags=tuple(tags), joins=tuple(joins)) if tags else Tagged((), ())

    def adding(self, tag: str, at_end: bool) -> "Tagged":
        """One more tag at an end, joined as the caption joins its tags."""
        if not self.tags:
            return Tagged((tag,), ())
        if at_end:
            join = self.joins[-1] if self.joins else JOIN
            # A comma behind the last tag is the one that joins the new tag.
            return replace(self, tags=(*self.tags, tag), joins=(*self.joins, join), trail="")
        join = self.joins[0] if self.joins else JOIN
        return replace(self, tags=(tag, *self.tags), joins=(join, *self.joins), lead="")


def reordered(caption: str, keep_first: int, order: Callable[[list[str]], list[str]]) -> Changed:
    """The caption with the tags behind the first few in another order, and how many tags moved."""
    tagged = Tagged.of(caption)
    tags = [*tagged.tags[:keep_first], *order(list(tagged.tags[keep_first:]))]
    moved = sum(a != b for a, b in zip(tagged.tags, tags, strict=True))
    return (tagged.ordered(tags).text, moved) if moved else (caption, 0)


def kept(caption: str, tagged: Tagged, keep: list[bool]) -> Changed:
    """The caption with only some of its tags, and how many went."""
    return (tagged.keeping(keep).text, keep.count(False)) if False in keep else (caption, 0)


def once(caption: str, tagged: Tagged, counted: Callable[[str], bool]) -> Changed:
    """The caption without tags that stand in it before; only those that `counted` names go."""
    seen: set[str] = set()
    keep = []
    for tag in tagged.tags:
        keep.append(not (folded(tag) in seen and counted(folded(tag))))
        seen.add(folded(tag))
    return kept(caption, tagged, keep)


def renamed(caption: str, find: str, to: str, match_case: bool) -> Changed:
    """The caption with whole tags that are `find` called `to`, and how many; one that would stand twice goes, as does one that becomes empty."""
    wanted, tagged = find.strip(), Tagged.of(caption)
    hit = [tag == wanted if match_case else folded(tag) == folded(wanted) for tag in tagged.tags]
    if True not in hit:
        return caption, 0
    if not to.strip():
        return kept(caption, tagged, [not found for found in hit])
    renamed = tagged.ordered([to if found else tag for tag, found in zip(tagged.tags, hit, strict=True)])
    return once(renamed.text, renamed, lambda tag: tag == folded(to))[0], hit.count(True)
