"""Embeddings by name inside a text: whole words, the longest name first, upper and lower case alike."""

import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator

_SPACELESS = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u2e80-\u2fdf\u3005-\u3007\u3040-\u30ff\u3100-\u312f\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003ffff]"
)
"""Letters of scripts that put no space between words: Han, kana, bopomofo, Thai, Lao, Khmer, Burmese."""
_ESCAPE = re.compile(r"\\([()\[\]\\]?)")


class Names:
    """The names of embeddings, ready to be found in texts."""

    def __init__(self, names: Iterable[str]) -> None:
        self.spellings: dict[str, list[str]] = {}
        for name in names:
            self.spellings.setdefault(fold(name), []).append(name)
        self.spellings.pop("", None)
        self._lengths: dict[str, list[int]] = {}
        for name in self.spellings:
            self._lengths.setdefault(name[0], []).append(len(name))
        self._lengths = {first: sorted(set(lengths), reverse=True) for first, lengths in self._lengths.items()}
        firsts = "".join(map(re.escape, self._lengths))
        self._first = re.compile(f"[{firsts}]") if firsts else None

    def find(self, text: str) -> Iterator[tuple[int, int, str]]:
        """Where names stand in a text in Unicode's composed form: begin, end, and the name as its file spells it."""
        if self._first is None:
            return
        folded, at = fold(text), 0
        while match := self._first.search(folded, at):
            at = match.start()
            length = self._length_at(folded, at)
            if length:
                yield at, at + length, self._spelling(text[at : at + length], folded[at : at + length])
            at += length or 1

    def _length_at(self, folded: str, at: int) -> int:
        """How long the longest name is that stands here as a word of its own; 0 when none does."""
        if at and joined(folded[at - 1], folded[at]):
            return 0
        for length in self._lengths[folded[at]]:
            end = at + length
            free = end == len(folded) or (end < len(folded) and not joined(folded[end - 1], folded[end]))
            if free and folded[at:end] in self.spellings:
                return length
        return 0

    def _spelling(self, written: str, folded: str) -> str:
        """Of names that differ in case alone, the one that is written; else the first."""
        spellings = self.spellings[folded]
        return written if written in spellings else spellings[0]


def composed(text: str) -> str:
    """A text in Unicode's composed form (NFC), in which é is one letter however it was typed."""
    return unicodedata.normalize("NFC", text)


def fold(text: str) -> str:
    """A text without upper case, letter for letter, so that places in it are places in the composed text."""
    text = composed(text)
    if text.isascii():
        return text.lower()
    return "".join(small if len(small := letter.casefold()) == 1 else letter for letter in text)


def unescaped(text: str) -> str:
    """A prompt without the backslashes that keep brackets from being read as weights; a backslash before anything else is dropped too, as attention() does."""
    return _ESCAPE.sub(r"\1", text) if "\\" in text else text


def escaped(name: str) -> str:
    """A name as a prompt must write it: brackets and backslashes behind a backslash."""
    return re.sub(r"([()\[\]\\])", r"\\\1", name)


def mentions(text: str) -> Callable[[str], bool]:
    """Returns a test of whether a name may occur in a prompt, whatever its case, Unicode form and escapes; quick, but also true inside longer words."""
    written, plain = fold(text), fold(unescaped(text))
    return lambda name: (folded := fold(name)) in plain or folded in written


def joined(left: str, right: str) -> bool:
    """Whether two neighbouring letters belong to one word, so that no name ends between them.

    Letters, digits, _ and - join; scripts without spaces end a word anywhere but beside _ and -; of other signs only equal ones join, as in c++.
    """
    if not (_wordlike(left) and _wordlike(right)):
        return left == right and not left.isspace()
    if left in "_-" or right in "_-":
        return True
    return not (_SPACELESS.match(left) or _SPACELESS.match(right))


def _wordlike(letter: str) -> bool:
    """Whether a letter can be inside a word."""
    return letter.isalnum() or letter in "_-" or unicodedata.category(letter).startswith("M")
