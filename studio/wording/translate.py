"""An English error message, sentence by sentence, in another language: each sentence is matched with the patterns of a catalogue."""

import re
from contextvars import ContextVar
from functools import cache

from studio.wording.errors_zh import ERRORS
from studio.wording.errors_zh_data import DATA_ERRORS
from studio.wording.errors_zh_files import FILE_ERRORS
from studio.wording.errors_zh_more import MORE_ERRORS
from studio.wording.errors_zh_worker import WORKER_ERRORS

CATALOGUE: dict[str, str] = {**ERRORS, **DATA_ERRORS, **FILE_ERRORS, **MORE_ERRORS, **WORKER_ERRORS}
"""English sentence to Chinese, with `{}` for each value."""
LABELS: dict[str, str] = {}
"""Labels of fields as errors name them, in Chinese; the page adds its own."""
LONGEST = 6000
"""Characters of a message that are matched; what follows stays as it is."""
BLANK = "{}"
READER: ContextVar[str] = ContextVar("READER", default="en")
"""Language of the person whose request is being answered; programs are answered in English."""
_GOT = re.compile(r"([A-Z][^:.\n]{0,80}): ((?:(?! \(got ).){1,800}) \(got (.{0,80}?)\)\.(?=\s|$)\s*", re.DOTALL)
"""A field, what is wrong with its value, and the value."""
VALUE = r"((?:(?!\. [A-Z]).){1,600}?)"
"""A value in a sentence; it does not reach into the next sentence."""
_PLACE = re.compile(r"\{(\d*)\}")
_REST = re.compile(r"[^\n]*?[.!?;](?=\s|$)\s*|[^\n]*\n\s*|.+$", re.DOTALL)


def language(header: str | None) -> str:
    """`zh` or `en`, from a browser's Accept-Language header."""
    first = (header or "").split(",")[0].strip().lower()
    return "zh" if first.startswith("zh") else "en"


def for_reader(text: str) -> str:
    """A message in the language of the person whose request is being answered."""
    return localized(READER.get(), text)


def localized(lang: str, text: str) -> str:
    """A message of one or more sentences in a language; a sentence that no pattern matches stays in English."""
    if lang != "zh" or not text:
        return text
    head, tail = text[:LONGEST], text[LONGEST:]
    said, at = [], 0
    while at < len(head):
        found = _match(head, at)
        if found is None:
            rest = _REST.match(head, at)
            end = rest.end() if rest and rest.end() > at else len(head)
            said.append(head[at:end])
        else:
            end, sentence = found
            said.append(sentence)
        at = end
    return "".join(said).strip() + tail


@cache
def _patterns() -> list[tuple[re.Pattern[str], str]]:
    """The catalogue as patterns, those with the most fixed text first."""
    order = sorted(CATALOGUE, key=lambda text: -len(text.replace(BLANK, "")))
    return [(re.compile(VALUE.join(map(re.escape, text.split(BLANK))) + r"(?:(?<=[.!?…])|(?=[.\s]|$))\s*", re.DOTALL), CATALOGUE[text]) for text in order]


def _match(text: str, at: int) -> tuple[int, str] | None:
    """Where the sentence that begins at a place ends, and what it is in Chinese; None when no pattern matches it."""
    got = _GOT.match(text, at)
    if got:
        return got.end(), f"{LABELS.get(got[1], got[1])}：{localized('zh', got[2]).rstrip('。')}（当前值 {got[3]}）。"
    for pattern, said in _patterns():
        found = pattern.match(text, at)
        if found:
            return found.end(), fill(said, [_word(group) for group in found.groups()])
    return None


def fill(said: str, values: list[str]) -> str:
    """A sentence with its values, in their order or by their numbers."""
    order = iter(values)
    return _PLACE.sub(lambda place: values[int(place[1])] if place[1] else next(order), said)


def _word(value: str) -> str:
    """A value that is itself a label of the page or an error, in Chinese."""
    if value in LABELS:
        return LABELS[value]
    return localized("zh", value) if " " in value and value[0] not in "'\"" else value
