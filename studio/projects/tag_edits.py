"""Changes to the tags of captions, one class each; a caption without a comma is one tag."""

from random import Random
from typing import ClassVar, Literal

from pydantic import Field

from studio.projects.captions import split_tags
from studio.projects.edits import TEXT_LIMIT, CaptionEdit, Where, quoted
from studio.projects.tagged import Changed, Tagged, kept, once, renamed, reordered
from studio.projects.wildcards import folded

_KEEP = Field(0, ge=0, le=1000, title="Keep the first")


class AddTag(CaptionEdit):
    """Add a tag, such as a trigger word, to captions that do not have it."""

    label: ClassVar[str] = "Add a tag"
    kind: Literal["add_tag"] = "add_tag"
    tag: str = Field(min_length=1, max_length=TEXT_LIMIT)
    """The tag, or several with commas."""
    where: Literal["start", "end"] = "end"
    """Before the first tag or behind the last."""
    unless_present: bool = Field(True, title="Only where it is missing")
    """Leave captions alone that have it as a tag already."""

    def step(self) -> str:
        """What the step is called in the history."""
        return f"Add {quoted(self.tag)} at the {self.where}"

    def change(self, caption: str, where: Where) -> Changed:
        """The caption with the tags."""
        tagged, added = Tagged.of(caption), split_tags(self.tag)
        for tag in added if self.where == "end" else reversed(added):
            if not (self.unless_present and folded(tag) in map(folded, tagged.tags)):
                tagged = tagged.adding(tag, self.where == "end")
        count = len(tagged.tags) - len(Tagged.of(caption).tags)
        return (tagged.text, count) if count else (caption, 0)


class RemoveTag(CaptionEdit):
    """Take a tag out of all captions."""

    label: ClassVar[str] = "Remove a tag"
    kind: Literal["remove_tag"] = "remove_tag"
    tag: str = Field(min_length=1, max_length=TEXT_LIMIT)
    """The tag, or several with commas."""

    def step(self) -> str:
        """What the step is called in the history."""
        return f"Remove {quoted(self.tag)}"

    def change(self, caption: str, where: Where) -> Changed:
        """The caption without the tags."""
        gone, tagged = set(map(folded, split_tags(self.tag))), Tagged.of(caption)
        return kept(caption, tagged, [folded(tag) not in gone for tag in tagged.tags])


class RenameTag(CaptionEdit):
    """Give a tag another name in all captions; where both were, one stays."""

    label: ClassVar[str] = "Rename a tag"
    kind: Literal["rename_tag"] = "rename_tag"
    tag: str = Field(min_length=1, max_length=TEXT_LIMIT)
    """The tag as it is."""
    to: str = Field(min_length=1, max_length=TEXT_LIMIT, title="New name")
    """The tag as it becomes."""

    def step(self) -> str:
        """What the step is called in the history."""
        return f"Rename {quoted(self.tag)} to {quoted(self.to)}"

    def change(self, caption: str, where: Where) -> Changed:
        """The caption with the new name."""
        return renamed(caption, self.tag, self.to.strip(), False)


class Sort(CaptionEdit):
    """Bring the tags of each caption into an order."""

    label: ClassVar[str] = "Sort tags"
    kind: Literal["sort"] = "sort"
    order: Literal["alphabetical", "frequency"] = "alphabetical"
    """By letters, or the tags first that most captions have."""
    keep_first: int = _KEEP
    """So many tags at the beginning stay where they are."""

    def change(self, caption: str, where: Where) -> Changed:
        """The caption in order."""
        if self.order == "frequency":
            return reordered(caption, self.keep_first, lambda tags: sorted(tags, key=lambda tag: -where.counts.get(folded(tag), 0)))
        return reordered(caption, self.keep_first, lambda tags: sorted(tags, key=folded))


class Shuffle(CaptionEdit):
    """Bring the tags of each caption into a random order."""

    label: ClassVar[str] = "Shuffle tags"
    kind: Literal["shuffle"] = "shuffle"
    seed: int = Field(0, ge=0, le=2**32 - 1)
    """The same number gives the same orders."""
    keep_first: int = _KEEP
    """So many tags at the beginning stay where they are."""

    def change(self, caption: str, where: Where) -> Changed:
        """The caption in an order that follows from the seed and the picture's name."""
        draw = Random(f"{self.seed} {where.name}")
        return reordered(caption, self.keep_first, lambda tags: draw.sample(tags, len(tags)))


class Reverse(CaptionEdit):
    """Turn the order of the tags of each caption around."""

    label: ClassVar[str] = "Reverse tags"
    kind: Literal["reverse"] = "reverse"
    keep_first: int = _KEEP
    """So many tags at the beginning stay where they are."""

    def change(self, caption: str, where: Where) -> Changed:
        """The caption, last tag first."""
        return reordered(caption, self.keep_first, lambda tags: tags[::-1])


class MoveToFront(CaptionEdit):
    """Move a tag to the beginning of the captions that have it."""

    label: ClassVar[str] = "Move a tag to the front"
    kind: Literal["move_to_front"] = "move_to_front"
    tag: str = Field(min_length=1, max_length=TEXT_LIMIT)
    """The tag, or several with commas in the order they should have."""

    def step(self) -> str:
        """What the step is called in the history."""
        return f"Move {quoted(self.tag)} to the front"

    def change(self, caption: str, where: Where) -> Changed:
        """The caption with the tags first."""
        ranks = {folded(tag): i for i, tag in reversed(list(enumerate(split_tags(self.tag))))}
        return reordered(caption, 0, lambda tags: sorted(tags, key=lambda tag: ranks.get(folded(tag), len(ranks))))


class Dedupe(CaptionEdit):
    """Keep only the first of tags that a caption holds twice."""

    label: ClassVar[str] = "Remove repeated tags"
    kind: Literal["dedupe"] = "dedupe"

    def change(self, caption: str, where: Where) -> Changed:
        """The caption without repetitions."""
        return once(caption, Tagged.of(caption), lambda tag: True)
