"""Sentences that the worker wrote in English, in a person's language."""

import re
from functools import lru_cache

from studio.prompts.notices import NOTICES
from studio.ui.widgets import note
from studio.ui.words import tell
from studio.wording import localized

_PLACE = re.compile(r"\{(\w+)\}")
_ZH = {"hypernetwork": "超网络"}


def translated(lang: str, sentence: str) -> str:
    """A sentence in a language when it is one of the NOTICES filled in, or an error; any other as it stands."""
    if lang != "zh":
        return sentence
    for text in NOTICES:
        if match := _pattern(text).fullmatch(sentence):
            return tell(lang, text, **{name: _ZH.get(value, value) if name == "kind" else value for name, value in match.groupdict().items()})
    return localized(lang, sentence)


def warnings(lang: str, sentences: list[str]) -> str:
    """Sentences as coloured boxes."""
    return "".join(note("warn", translated(lang, sentence)) for sentence in sentences)


@lru_cache(64)
def _pattern(text: str) -> re.Pattern[str]:
    """What a sentence with its places filled in looks like."""
    seen: set[str] = set()
    pattern = ""
    for i, part in enumerate(_PLACE.split(text)):
        if i % 2 == 0:
            pattern += re.escape(part)
        elif part in seen:
            pattern += f"(?P={part})"
        else:
            seen.add(part)
            pattern += f"(?P<{part}>.+?)"
    return re.compile(pattern, re.DOTALL)
