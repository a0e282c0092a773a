"""The words of a filter: brackets, operators, and terms such as `tag:"red hat"` or `tokens:>75`, each with its place."""

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from studio.errors import InputError
from studio.projects.wildcards import ANY, ONE, Letter

TEXTS = ("tag", "caption", "name", "path")
COUNTS = ("tags", "chars", "tokens", "width", "height", "megapixels", "ratio", "faces", "repeats")
KEYS = frozenset({*TEXTS, *COUNTS, "is", "size"})
_OPEN, _CLOSE = "(（", ")）"
_QUOTES = {'"': '"', "'": "'", "“": "”", "「": "」"}
_WILD = {"*": ANY, "＊": ANY, "?": ONE, "？": ONE}
_ESCAPABLE = frozenset("()（）*?＊？\"'“”「」\\:：")
_KEY = re.compile(r"([A-Za-z]+)[:：]")
_COUNT = re.compile(rf"({'|'.join(sorted(COUNTS, key=len, reverse=True))})[:：]?(?=[<>=!＜＞＝！≤≥≠])", re.IGNORECASE)
_NUMBER = re.compile(r"\s*([<>=!＜＞＝！≤≥≠]{0,2})\s*(\d+(?:[.．]\d+)?)(?:[:：/／](\d+(?:[.．]\d+)?))?(?=[\s()（）]|\Z)")
_SIZE = re.compile(r"(\d+)[:：xX×＊*](\d+)(?=[\s()（）]|\Z)")
COMPARISONS = {"": "=", "=": "=", "==": "=", "!=": "!=", "<>": "!=", "≠": "!=", "<": "<", ">": ">", "<=": "<=", "=<": "<=", "≤": "<=", ">=": ">=", "=>": ">=", "≥": ">="}
"""Ways to write a comparison, and the one that is meant."""


@dataclass(frozen=True)
class Word:
    """One word; `at` is where it begins, counted from 0."""

    kind: Literal["(", ")", "and", "or", "not", "text", "count", "size", "is"]
    at: int
    key: str = ""
    letters: tuple[Letter, ...] = ()
    comparison: str = "="
    number: float = 0.0
    second: float = 0.0


def wrong(reason: str, at: int, hint: str = "") -> InputError:
    """A mistake in a filter, with its place as a person counts."""
    return InputError(f"Filter: {reason}, at character {at + 1}.", hint)


def words(text: str) -> Iterator[Word]:
    """The words of a filter in order; raises InputError that points at the place."""
    at = 0
    while at < len(text):
        if text[at].isspace():
            at += 1
        elif text[at] in _OPEN or text[at] in _CLOSE:
            yield Word("(" if text[at] in _OPEN else ")", at)
            at += 1
        else:
            word, at = _word(text, at)
            yield word


def _word(text: str, at: int) -> tuple[Word, int]:
    """The word that begins here, and where it ends."""
    counted = _COUNT.match(text, at)
    if counted:
        return _count(text, at, counted.group(1).lower(), counted.end())
    keyed = _KEY.match(text, at)
    key = keyed.group(1).lower() if keyed else ""
    if keyed and key not in KEYS:
        raise wrong(f"there is no `{keyed.group(1)}:`", at, f'There is {", ".join(f"{k}:" for k in sorted(KEYS))}. To look for a text with a colon, put it in quotes: "{keyed.group(1)}:..."')
    begin = keyed.end() if keyed else at
    if key in COUNTS:
        return _count(text, at, key, begin)
    if key == "size":
        return _size(text, at, begin)
    letters, end = _letters(text, begin, key)
    if key == "is":
        return Word("is", at, "".join(letter for letter, _ in letters).lower()), end
    plain = "".join(letter for letter, _ in letters).lower()
    if not key and plain in ("and", "or", "not") and text[at] not in _QUOTES:
        return Word(plain, at), end  # type: ignore[arg-type]
    return Word("text", at, key, letters), end


def _count(text: str, at: int, key: str, begin: int) -> tuple[Word, int]:
    """A comparison with a number."""
    found = _NUMBER.match(text, begin)
    comparison = COMPARISONS.get(unicodedata.normalize("NFKC", found.group(1))) if found else None
    if found is None or comparison is None or (found.group(3) and key != "ratio"):
        raise wrong(f"after `{key}:` a number is missing", begin, f"Write for example {key}:>{'16:9' if key == 'ratio' else 5}; there is = != < > <= >=.")
    number, second = _value(found.group(2)), _value(found.group(3) or "1")
    if not second:
        raise wrong("nothing can be divided by 0", found.start(3))
    return Word("count", at, key, (), comparison, number / second), found.end()


def _size(text: str, at: int, begin: int) -> tuple[Word, int]:
    """A width and a height."""
    found = _SIZE.match(text, begin)
    if found is None:
        raise wrong("after `size:` a width and a height are missing", begin, "Write for example size:512x768.")
    return Word("size", at, "size", (), "=", _value(found.group(1)), _value(found.group(2))), found.end()


def _value(digits: str) -> float:
    """Digits, also full-width ones, as a number."""
    return float(unicodedata.normalize("NFKC", digits))


def _letters(text: str, begin: int, key: str) -> tuple[tuple[Letter, ...], int]:
    """The letters of a value, in quotes or up to a space, and where it ends."""
    quote = _QUOTES.get(text[begin : begin + 1])
    letters, end = _quoted(text, begin, quote) if quote else _bare(text, begin, key)
    if not letters:
        raise wrong(
            f"after `{key}:` a word is missing" if key else "there is nothing between the quotes",
            begin,
            'Words with spaces or brackets go in quotes, as in tag:"red hat". Pictures without a caption are is:uncaptioned.',
        )
    return letters, end


def _letter(text: str, at: int) -> tuple[Letter, int]:
    """One letter, after a backslash as it stands, and where the next begins."""
    if text[at] == "\\" and text[at + 1 : at + 2] in _ESCAPABLE:
        return (text[at + 1], False), at + 2
    return (_WILD.get(text[at], text[at]), text[at] in _WILD), at + 1


def _quoted(text: str, begin: int, quote: str) -> tuple[tuple[Letter, ...], int]:
    """What stands between quotes."""
    letters, at = [], begin + 1
    while at < len(text) and text[at] != quote:
        letter, at = _letter(text, at)
        letters.append(letter)
    if at >= len(text):
        raise wrong(f"the quote {text[begin]} is not closed", begin, f"Close it with {quote}, or write \\{text[begin]} for the sign itself.")
    return tuple(letters), at + 1


def _bare(text: str, begin: int, key: str) -> tuple[tuple[Letter, ...], int]:
    """What stands up to a space or a bracket; brackets that open and close inside a word belong to it, as in `tag:saber_(fate)`."""
    letters: list[Letter] = []
    at = begin
    depth = 0
    while at < len(text) and not text[at].isspace():
        if text[at] in _OPEN:
            operator = not key and text[begin:at].lower() in ("and", "or", "not")
            if not letters or operator or not (depth or _closes(text, at)):
                break
            depth += 1
        elif text[at] in _CLOSE:
            if not depth:
                break
            depth -= 1
        letter, at = _letter(text, at)
        letters.append(letter)
    return tuple(letters), at


def _closes(text: str, at: int) -> bool:
    """Whether the bracket that opens here closes before the next space."""
    depth = 0
    while at < len(text) and not text[at].isspace():
        depth += (text[at] in _OPEN) - (text[at] in _CLOSE)
        if not depth:
            return True
        _, at = _letter(text, at)
    return False


def quoted(text: str) -> str:
    """A text as a value of a filter that means exactly it."""
    return '"' + "".join("\\" + letter if letter in _ESCAPABLE else letter for letter in text) + '"'
