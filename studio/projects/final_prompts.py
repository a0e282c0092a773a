"""The prompts a picture is trained with: filled in, cut into CLIP's tokens, and each token shown where it stands."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from studio.projects.filling import Filled, Span, filled
from studio.prompts.attention import BREAK, attention, placed
from studio.prompts.chunks import CHUNK, Chunker
from studio.prompts.vocabulary import spelled, tokens_of
from studio.prompts.words import Names, composed

USUAL = 2000
"""Letters of a usual caption at most; what is worked out for longer ones is not kept in memory."""
SHOWN = 5
"""Final prompts that are shown unless more are asked for."""
_NOT_IN_TRAINING = (("<lora:", "`<lora:...>`"), (" AND ", "`AND`"), ("<hypernet:", "`<hypernet:...>`"))
"""What means something when painting, and is plain text when training."""
_SYNTAX = re.compile(r"[\\()\[\]]|BREAK")
_PLAIN = Chunker({})


@dataclass(frozen=True)
class Token:
    """One place of a prompt: the letters it stands for, from `start` to `end` of the prompt, and the chunk it is in, counted from 0.

    Tokens of a letter that takes several have the same span; each vector of an embedding is one token with the span of its name.
    """

    text: str
    start: int
    end: int
    chunk: int
    embedding: bool = False


@dataclass(frozen=True)
class FinalPrompt:
    """One prompt as it is trained with."""

    line: str
    """The template line it comes from."""
    text: str
    tokens: tuple[Token, ...]
    count: int
    """Places used in its chunks, as the counter under a prompt shows them; a chunk that ended early counts whole."""
    cut_at: int | None
    """The first letter that does not fit into the first 75 tokens; None when all fit."""
    name_spans: tuple[Span, ...]
    filewords_spans: tuple[Span, ...]
    warnings: tuple[str, ...] = ()


def final_prompts(lines: Sequence[str], name: str, vectors: int, caption: str, limit: int = SHOWN, words: Mapping[str, int] | None = None) -> list[FinalPrompt]:
    """The prompts of one picture for the first `limit` different template lines. Raises InputError for an embedding that no prompt can hold.

    0 vectors make the name a word like any other; `words` are other embeddings by their vectors.
    """
    known = dict(words or {}) | ({name: vectors} if name and vectors else {})
    return [final_prompt(line, name, caption, known) for line in list(dict.fromkeys(lines))[:limit]]


def final_prompt(line: str, name: str, caption: str, words: Mapping[str, int]) -> FinalPrompt:
    """One template line with name and caption put in, as tokens; `words` says how many vectors each embedding has."""
    made = _composed(filled(line, name, caption))
    chunks = Chunker(words).chunks(made.text)
    spans = _spans(made.text, words)
    numbers = (number for number, chunk in enumerate(chunks) for _ in chunk)
    tokens = tuple(Token(made.text[start:end], start, end, number, own) for (start, end, own), number in zip(spans, numbers, strict=True))
    cut = next((token.start for token in tokens if token.chunk), None)
    count = (len(chunks) - 1) * CHUNK + len(chunks[-1])
    warnings = (*caption_warnings(caption), *_warnings(made.text, name, words, cut, count))
    return FinalPrompt(line, made.text, tokens, count, cut, made.name_spans, made.filewords_spans, warnings)


def _composed(made: Filled) -> Filled:
    """The prompt in Unicode's composed form, as tokens see it, with its spans."""
    text = composed(made.text)
    if text == made.text:
        return made

    def moved(spans: tuple[Span, ...]) -> tuple[Span, ...]:
        return tuple((len(composed(made.text[:start])), len(composed(made.text[:end]))) for start, end in spans)

    return Filled(text, moved(made.name_spans), moved(made.filewords_spans))


def _spans(text: str, words: Mapping[str, int]) -> Iterator[tuple[int, int, bool]]:
    """Where each token of a prompt stands in it, and whether it is a vector of an embedding; in the order of its chunks."""
    names = Names(words)
    for bits, weight in placed(text):
        piece = composed("".join(bit for bit, _ in bits))
        if piece == BREAK and weight == -1.0:
            continue
        letters = [at + i for bit, at in bits for i in range(len(bit))]
        letters += [letters[-1] if letters else 0] * (len(piece) - len(letters))
        for start, end, own in _tokens(piece, names, words):
            yield letters[start], letters[max(start, end - 1)] + 1, own


def _tokens(piece: str, names: Names, words: Mapping[str, int]) -> Iterator[tuple[int, int, bool]]:
    """Where each token of a text without syntax stands in it."""
    last = 0
    for start, end, name in names.find(piece):
        yield from ((last + a, last + b, False) for _, a, b in spelled(piece[last:start]))
        yield from [(start, end, True)] * words[name]
        last = end
    yield from ((last + a, last + b, False) for _, a, b in spelled(piece[last:]))


def places(caption: str) -> int:
    """Places a caption alone takes in the chunks of a prompt; those of usual captions are remembered."""
    return _remembered(caption) if len(caption) <= USUAL else _remembered.__wrapped__(caption)


@lru_cache(maxsize=20_000)
def _remembered(caption: str) -> int:
    """Places of a caption; its words, which come again in other captions, are remembered too."""
    if not _SYNTAX.search(caption):
        # Spaces end a token, so words can be counted one by one; only a full chunk depends on where commas stand.
        count = sum(_tokens_in(word) if len(word) <= CHUNK else len(tokens_of(word)) for word in caption.split(" ") if word)
        if count <= CHUNK:
            return count
    chunks = _PLAIN.chunks(caption)
    return (len(chunks) - 1) * CHUNK + len(chunks[-1])


@lru_cache(maxsize=50_000)
def _tokens_in(word: str) -> int:
    """Tokens of a word."""
    return len(tokens_of(word))


def caption_warnings(caption: str) -> tuple[str, ...]:
    """Sentences about what in a caption acts as syntax while training, or looks as if it did."""
    pieces = attention(caption)
    sentences = []
    weighed = [(text.strip(), weight) for text, weight in pieces if weight != 1.0 and text.strip() and not (text == BREAK and weight == -1.0)]
    if weighed:
        text, weight = weighed[0]
        sentences.append(f"Brackets in the caption act as emphasis: {_short(text)} counts {weight:.3g} times. Escape them as \\( and \\) when they are part of a tag.")
    elif any(sign in caption for sign in "()[]") and "".join(text for text, _ in pieces) != caption.replace("\\", ""):
        sentences.append("Brackets in the caption are read as syntax and left out. Escape them as \\( and \\) when they are part of a tag.")
    if any(text == BREAK and weight == -1.0 for text, weight in pieces):
        sentences.append("BREAK in the caption begins a new chunk of 75 tokens.")
    sentences += [f"{shown} in the caption is learned as plain text." for sign, shown in _NOT_IN_TRAINING if sign in caption]
    return tuple(sentences)


def _warnings(text: str, name: str, words: Mapping[str, int], cut: int | None, count: int) -> Iterator[str]:
    """Sentences about a whole prompt: the cut, and a name that is not met."""
    if cut is not None:
        yield f"The prompt takes {count} places; a prompt is learned in chunks of {CHUNK}, and the second one begins at {_short(text[cut:])}."
    if name in words and name not in Chunker({name: 1}).used(text):
        inside = "stands inside another word, where it is not seen as the word that learns"
        yield f"{name!r} {inside if name.lower() in text.lower() else 'is not in the prompt, so that this prompt teaches it nothing'}."


def _short(text: str) -> str:
    """The beginning of a text in quotes."""
    return f'"{text[:30]}…"' if len(text) > 30 else f'"{text}"'
