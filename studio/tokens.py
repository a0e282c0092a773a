"""Counting the tokens of a prompt, for the counter under it; needs neither torch nor a model."""

from collections.abc import Mapping

from studio.errors import InputError
from studio.prompts.chunks import CHUNK, Chunker
from studio.prompts.networks import networks
from studio.prompts.parts import positive, without_comments
from studio.prompts.vocabulary import tokens_of

__all__ = ["counts", "tokens_of"]


def counts(text: str, words: Mapping[str, int], steps: int = 20) -> tuple[int, int]:
    """Places used and places there are in the chunks of a prompt: of its longest text, when it changes on the way or AND joins several.

    `words` says how many vectors each embedding has. A full chunk, and one that BREAK ends, counts 75, as in A1111.
    """
    plain, _ = networks(without_comments(text))
    try:
        parts = positive(plain, steps)
    except InputError:
        texts = {plain}
    else:
        texts = {shown for part in parts for _, shown in part.texts}
    chunker = Chunker({name: min(count, CHUNK) for name, count in words.items()})
    found = [chunker.chunks(shown) for shown in texts]
    return max((len(chunks) - 1) * CHUNK + len(chunks[-1]) for chunks in found), max(map(len, found)) * CHUNK
