"""CLIP's tokenizer for the makers: the studio's own tokens, and transformers' class over the same vocabulary where its padding or decoding is needed."""

from functools import lru_cache
from typing import TYPE_CHECKING

from studio.prompts.vocabulary import COMMA, END, START, tokens_of, vocabulary

if TYPE_CHECKING:
    from transformers import CLIPTokenizer

__all__ = ["COMMA", "END", "START", "clip_tokenizer", "tokens_of"]


@lru_cache(maxsize=1)
def clip_tokenizer() -> "CLIPTokenizer":
    """CLIP's byte-pair tokenizer with its 49,408 tokens; raises NotFound when open_clip is not installed."""
    from transformers import CLIPTokenizer

    words, merges = vocabulary()
    return CLIPTokenizer(vocab=words, merges=merges, pad_token="<|endoftext|>", model_max_length=77)
