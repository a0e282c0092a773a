"""A prompt as chunks of 75 tokens: where each begins, what each token weighs, and which places embeddings take."""

from collections.abc import Iterator, Mapping

from studio.errors import InputError
from studio.prompts.attention import BREAK, attention
from studio.prompts.vocabulary import COMMA, tokens_of
from studio.prompts.words import Names, composed

CHUNK = 75
"""Tokens that fit between start and end."""
BACKTRACK = 20
"""How far back a full chunk may end at a comma, unless something else is asked for."""

Token = int | tuple[str, int]
"""An id of the vocabulary, or a row of an embedding."""
Chunk = list[tuple[Token, float]]
"""Up to 75 tokens with their weights."""


class Chunker:
    """Cuts prompts into chunks; `words` says how many vectors each embedding has. Made once for many prompts."""

    def __init__(self, words: Mapping[str, int], backtrack: int = BACKTRACK) -> None:
        self.words = words
        self.names = Names(words)
        self.backtrack = backtrack

    def chunks(self, prompt: str) -> list[Chunk]:
        """The chunks of a prompt, at least one; raises InputError on an embedding that no chunk can hold."""
        packer = _Packer(self.backtrack)
        for text, weight in attention(prompt):
            if text == BREAK and weight == -1.0:
                packer.end()
                continue
            for group in self._groups(text):
                packer.add(group, weight)
        return packer.finish()

    def used(self, prompt: str) -> tuple[str, ...]:
        """Names of the embeddings in a prompt, in the order they first appear."""
        found = (name for text, _ in attention(prompt) for _, _, name in self.names.find(composed(text)))
        return tuple(dict.fromkeys(found))

    def _groups(self, text: str) -> Iterator[list[Token]]:
        """Tokens that must not be torn: one of the vocabulary, or all of an embedding."""
        text, last = composed(text), 0
        for start, end, name in self.names.find(text):
            yield from ([token] for token in tokens_of(text[last:start]))
            count = self.words[name]
            if count > CHUNK:
                raise InputError(f"The embedding {name!r} of {count} vectors does not fit into a prompt, which holds {CHUNK}.", "Take it out of the prompt.")
            yield [(name, i) for i in range(count)]
            last = end
        yield from ([token] for token in tokens_of(text[last:]))


class _Packer:
    """Fills one chunk after another, by A1111's rules."""

    def __init__(self, backtrack: int) -> None:
        self.backtrack = backtrack
        self.done: list[Chunk] = []
        self.chunk: Chunk = []
        self.comma = -1

    def add(self, group: list[Token], weight: float) -> None:
        """Put a token or an embedding behind the others; what follows the last comma of a full chunk comes along when that is near."""
        if group == [COMMA]:
            self.comma = len(self.chunk)
        elif len(self.chunk) == CHUNK and self.comma >= 0 and CHUNK - self.comma <= self.backtrack:
            tail = self.chunk[self.comma + 1 :]
            del self.chunk[self.comma + 1 :]
            self.end()
            self.chunk = tail
        if len(self.chunk) + len(group) > CHUNK:
            self.end()
        self.chunk += [(token, weight) for token in group]

    def end(self) -> None:
        """Begin a new chunk."""
        self.done.append(self.chunk)
        self.chunk, self.comma = [], -1

    def finish(self) -> list[Chunk]:
        """All chunks; an empty one at the end counts only when it is the only one."""
        return [*self.done, self.chunk] if self.chunk or not self.done else self.done
