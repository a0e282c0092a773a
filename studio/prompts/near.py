"""Embeddings that a prompt misses by their spelling alone."""

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache

from studio.prompts.notices import EXTENSION, NEAR
from studio.prompts.vocabulary import tokens_of
from studio.prompts.words import composed, escaped, fold

LONGEST = 8
"""Words that a name may have to be looked for."""
SHORTEST = 3
"""Letters a name must have; shorter ones are met by chance."""
EDITED = 6
"""Letters a name must have to be looked for with a typing error in it."""
SHOWN = 5
"""How many sentences are said at most."""
READ = 4_000
"""Words of a prompt that are looked at."""
_PIECE = re.compile(r"[^\s_\-()\[\]{}.\\,:|<>]+")
_BORDER = re.compile(r"[,:|<>\n]")
_JOINTS = ("_", "-")
"""What makes two words one, so that a name does not begin or end there."""
_SUFFIX = re.compile(r"\.(?:pt|bin|safetensors|png|webp|avif|jxl)(?!\w)")


def near_misses(text: str, names: Iterable[str], used: Iterable[str]) -> list[str]:
    """Sentences about embeddings of `names` that a prompt without networks means but does not name as they are called.

    A miss differs in brackets that are not escaped, in spaces, underscores and hyphens, in width or form of its letters, in a file extension, or in one letter. What is `used` is no miss.
    """
    text, used = composed(text), set(used)
    sentences = [_extension(text, name) for name in used]
    known, edits = _index(tuple(sorted(set(names))))
    found: dict[str, str] = {}
    for written, plain, pieces in _windows(text, max((name.count(" ") + 1 for name in known), default=0)):
        if plain in known:
            near = known[plain]
        elif any(len(piece) > 1 for piece in pieces) and (near := _edited(plain, pieces, edits)):
            pass
        else:
            continue
        if not used.intersection(near):
            found.setdefault(near[0], written)
    sentences += [NEAR.format(written=written[:100], name=name, form=escaped(name)) for name, written in found.items()]
    return list(filter(None, sentences))[:SHOWN]


def _extension(text: str, name: str) -> str:
    """A sentence when an embedding's name is followed by a file extension, which is read as text; else an empty one."""
    folded, short = fold(text), fold(name)
    for form in (short, fold(escaped(name))):
        at = folded.find(form)
        while at >= 0:
            if match := _SUFFIX.match(folded, at + len(form)):
                return EXTENSION.format(written=text[at : match.end()][:100], name=name)
            at = folded.find(form, at + 1)
    return ""


def _windows(text: str, longest: int) -> Iterator[tuple[str, str, list[str]]]:
    """Neighbouring words of a prompt, up to so many: as they are written, canonical, and the words; none reaches over a comma or colon."""
    count = 0
    for start, end in _segments(text):
        spans = [(start + m.start(), start + m.end()) for m in _PIECE.finditer(text[start:end])]
        count += len(spans)
        if count > READ:
            return
        pieces = [canonical(text[a:b]) for a, b in spans]
        for i in range(len(spans)):
            for j in range(i, min(i + longest, len(spans))):
                first, last = spans[i][0], spans[j][1]
                if text[max(0, first - 1) : first] not in _JOINTS and text[last : last + 1] not in _JOINTS:
                    yield text[first : last + (text[last : last + 1] == ")")], " ".join(pieces[i : j + 1]), pieces[i : j + 1]


def _segments(text: str) -> Iterator[tuple[int, int]]:
    """Where the parts of a text between commas, colons and the like begin and end."""
    start = 0
    for match in _BORDER.finditer(text):
        yield start, match.start()
        start = match.end()
    yield start, len(text)


def canonical(text: str) -> str:
    """A name or a text with everything taken out that people write in different ways: case, width of letters, brackets, and what stands between words."""
    return " ".join(_PIECE.findall(unicodedata.normalize("NFKC", text).casefold()))


@lru_cache(8)
def _index(names: tuple[str, ...]) -> tuple[Mapping[str, tuple[str, ...]], Mapping[str, tuple[str, ...]]]:
    """Names by their canonical form, also without a file extension that is part of them; and long ones by what is left when no or one letter is taken out."""
    known: dict[str, list[str]] = {}
    for name in names:
        for form in dict.fromkeys((canonical(name), canonical(_SUFFIX.sub("", name)))):
            if len(form.replace(" ", "")) >= SHORTEST and form.count(" ") < LONGEST:
                known.setdefault(form, []).append(name)
    edits: dict[str, list[str]] = {}
    for form in known:
        if len(form) >= EDITED:
            for less in _less(form):
                edits.setdefault(less, []).append(form)
    return {form: tuple(found) for form, found in known.items()}, {less: tuple(dict.fromkeys(name for form in forms for name in known[form])) for less, forms in edits.items()}


def _less(form: str) -> set[str]:
    """A form itself, and every way to take one letter out of it."""
    return {form, *(form[:i] + form[i + 1 :] for i in range(len(form)))}


def _edited(plain: str, pieces: list[str], edits: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    """Names that are one letter away from words, unless all of the words are ordinary ones, which CLIP has a token for."""
    if len(plain) < EDITED - 1:
        return ()
    near = dict.fromkeys(name for less in _less(plain) for name in edits.get(less, ()) if _one_apart(plain, canonical(name)))
    if near and all(len(tokens_of(piece)) == 1 for piece in pieces):
        return ()
    return tuple(near)


def _one_apart(one: str, other: str) -> bool:
    """Whether two texts differ in one letter that is added, left out, exchanged, or swapped with its neighbour."""
    if abs(len(one) - len(other)) > 1 or one == other:
        return False
    start = next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
    rest, rest_other = one[start:], other[start:]
    return rest[1:] == rest_other[1:] or rest[1:] == rest_other or rest == rest_other[1:] or (rest[:2] == rest_other[1::-1] and rest[2:] == rest_other[2:])
