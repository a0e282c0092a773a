"""CLIP's tokenizer for the makers: the studio's own tokens, and transformers' class over the same vocabulary where its padding or decoding is needed."""

from functools import lru_cache
from typing import TYPE_CHECKING

from studio.prompts.vocabulary import COMMA, END, START, tokens_of, vocabulary

if TYPE_CHECKING:
    from transformers import CLIPTokenizer

__all__ = ["COMMA", "END", "START", "clip_tokenizer", "tokens_of"]


@lru_cache(maxsize=2)
def clip_tokenizer(pad: int = END) -> "CLIPTokenizer":
    """CLIP's byte-pair tokenizer with its 49,408 tokens, which fills up with the token `pad` (END, or 0 for OpenCLIP); raises NotFound when open_clip is not installed."""
    from transformers import CLIPTokenizer

    words, merges = vocabulary()
    return CLIPTokenizer(vocab=words, merges=merges, pad_token=next(word for word, token in words.items() if token == pad), model_max_length=77)
