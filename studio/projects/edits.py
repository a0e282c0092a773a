"""Changes to captions as texts, one class each: its fields are what a person fills in, `change` is what it does to one caption."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from pydantic import Field

from studio.config import Config
from studio.projects.captions import split_tags
from studio.projects.patterns import Pattern
from studio.projects.tagged import JOIN, Changed, Tagged, renamed

TEXT_LIMIT = 2000
"""Letters of what is typed into a change."""
_SIGN = re.compile(r"\\[()\[\]\\]|[()\[\]]")
_ESCAPED = re.compile(r"\\([()\[\]])")
_LONG_WORD = re.compile(r"[^\W_]{2}|[^\x00-\x7f]")


@dataclass(frozen=True)
class Where:
    """Which picture a caption belongs to, and how often each tag (folded) is used in the data set."""

    name: str
    counts: Mapping[str, int] = field(default_factory=dict)


def quoted(text: str) -> str:
    """A text in quotes, short enough for a name of a step."""
    return f'"{text[:40]}…"' if len(text) > 40 else f'"{text}"'


class CaptionEdit(Config):
    """One way to change captions."""

    label: ClassVar[str]
    """What it is called in a list."""

    def step(self) -> str:
        """What the step is called in the history."""
        return self.label

    def changer(self) -> Callable[[str, Where], Changed]:
        """What changes one caption; made once for many. Raises InputError when what was typed cannot be used."""
        return self.change

    def change(self, caption: str, where: Where) -> Changed:
        """The caption as it becomes; here, with nothing changed."""
        return caption, 0


class Replace(CaptionEdit):
    """Find a text, a pattern or a whole tag in captions, and put another in its place."""

    label: ClassVar[str] = "Find and replace"
    kind: Literal["replace"] = "replace"
    find: str = Field(min_length=1, max_length=TEXT_LIMIT)
    """What is looked for."""
    replace: str = Field("", max_length=TEXT_LIMIT, title="Replace with")
    """What comes in its place; empty takes it away. In the mode regex, \\1 is the first group."""
    mode: Literal["text", "regex", "tag"] = "text"
    """Text as it stands, a regular expression, or whole tags."""
    match_case: bool = False
    """Upper and lower case must be the same."""

    def step(self) -> str:
        """What the step is called in the history."""
        return f"Replace {quoted(self.find)} with {quoted(self.replace)}" if self.replace else f"Take {quoted(self.find)} away"

    def changer(self) -> Callable[[str, Where], Changed]:
        """What changes one caption."""
        if self.mode == "regex":
            pattern = Pattern(self.find, self.replace, self.match_case)
            return lambda caption, where: pattern.substitute(caption, where.name)
        if self.mode == "tag":
            return lambda caption, where: renamed(caption, self.find, self.replace, self.match_case)
        plain = re.compile(re.escape(self.find), 0 if self.match_case else re.IGNORECASE)
        return lambda caption, where: plain.subn(lambda _: self.replace, caption)


class Prefix(CaptionEdit):
    """Put a text before every caption, letter for letter."""

    label: ClassVar[str] = "Put before"
    kind: Literal["prefix"] = "prefix"
    text: str = Field(min_length=1, max_length=TEXT_LIMIT)
    """The text, with the comma or space that should stand behind it."""
    unless_present: bool = Field(True, title="Only where it is missing")
    """Leave captions alone that begin with it already."""

    def step(self) -> str:
        """What the step is called in the history."""
        return f"Put {quoted(self.text)} before"

    def change(self, caption: str, where: Where) -> Changed:
        """The caption with the text before it."""
        there = self.unless_present and caption.startswith(self.text.strip())
        return (caption, 0) if there else (self.text + caption, 1)


class Suffix(CaptionEdit):
    """Put a text behind every caption, letter for letter."""

    label: ClassVar[str] = "Put behind"
    kind: Literal["suffix"] = "suffix"
    text: str = Field(min_length=1, max_length=TEXT_LIMIT)
    """The text, with the comma or space that should stand before it."""
    unless_present: bool = Field(True, title="Only where it is missing")
    """Leave captions alone that end with it already."""

    def step(self) -> str:
        """What the step is called in the history."""
        return f"Put {quoted(self.text)} behind"

    def change(self, caption: str, where: Where) -> Changed:
        """The caption with the text behind it."""
        there = self.unless_present and caption.endswith(self.text.strip())
        return (caption, 0) if there else (caption + self.text, 1)


class TidySpaces(CaptionEdit):
    """Bring captions into a plain form: one space between words, tags joined by a comma and a space, Chinese commas too, no empty tags."""

    label: ClassVar[str] = "Tidy spaces and commas"
    kind: Literal["tidy_spaces"] = "tidy_spaces"

    def change(self, caption: str, where: Where) -> Changed:
        """The caption in plain form."""
        text = JOIN.join(" ".join(tag.split()) for tag in split_tags(caption))
        return text, int(text != caption)


class Brackets(CaptionEdit):
    """Escape brackets, so that they are learned as text and do not act as emphasis, or take the escapes away."""

    label: ClassVar[str] = "Escape brackets"
    kind: Literal["brackets"] = "brackets"
    direction: Literal["escape", "unescape"] = "escape"
    """Put a backslash before each bracket that has none, or take backslashes before brackets away."""

    def step(self) -> str:
        """What the step is called in the history."""
        return "Escape brackets" if self.direction == "escape" else "Take escapes of brackets away"

    def change(self, caption: str, where: Where) -> Changed:
        """The caption with its brackets changed."""
        if self.direction == "unescape":
            return _ESCAPED.subn(r"\1", caption)
        text = _SIGN.sub(lambda sign: sign[0] if sign[0][0] == "\\" else "\\" + sign[0], caption)
        return text, len(text) - len(caption)


class Underscores(CaptionEdit):
    """Turn underscores into spaces, as in blue_eyes; faces of signs such as ^_^ stay."""

    label: ClassVar[str] = "Underscores to spaces"
    kind: Literal["underscores"] = "underscores"

    def change(self, caption: str, where: Where) -> Changed:
        """The caption with spaces."""
        tagged = Tagged.of(caption)
        tags = [tag.replace("_", " ") if _LONG_WORD.search(tag) else tag for tag in tagged.tags]
        text = tagged.ordered(tags).text
        return text, sum(a != b for a, b in zip(caption, text, strict=True))


class Clear(CaptionEdit):
    """Empty captions."""

    label: ClassVar[str] = "Clear captions"
    kind: Literal["clear"] = "clear"
    remove_file: bool = Field(False, title="Remove the file too")
    """Without a caption file, a picture is trained with its file name, as in A1111; with an empty one it is trained without words."""

    def change(self, caption: str, where: Where) -> Changed:
        """No caption."""
        return (None if self.remove_file else ""), 1


class SetCaption(CaptionEdit):
    """Give all pictures one caption."""

    label: ClassVar[str] = "Set the caption"
    kind: Literal["set_caption"] = "set_caption"
    text: str = Field("", max_length=10 * TEXT_LIMIT)
    """The caption."""

    def step(self) -> str:
        """What the step is called in the history."""
        return f"Set the caption to {quoted(self.text)}"

    def change(self, caption: str, where: Where) -> Changed:
        """The one caption."""
        return self.text.strip(), int(caption != self.text.strip())
