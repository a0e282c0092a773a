"""CLIP's tokenizer, built from the vocabulary that open_clip carries: nothing is fetched."""

import gzip
import importlib.util
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from studio.errors import NotFound

if TYPE_CHECKING:
    from transformers import CLIPTokenizer

START, END = 49406, 49407
"""Ids of <|startoftext|> and <|endoftext|>."""
_MERGES = 49152 - 256 - 2


def _byte_letters() -> list[str]:
    """The printable letter that stands for each byte, in the order of GPT-2's table (Radford et al. 2019)."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    return [chr(b) for b in plain] + [chr(256 + i) for i in range(256 - len(plain))]


@lru_cache(maxsize=1)
def clip_tokenizer() -> "CLIPTokenizer":
    """CLIP's byte-pair tokenizer with its 49,408 tokens; raises NotFound when open_clip is not installed."""
    from transformers import CLIPTokenizer

    spec = importlib.util.find_spec("open_clip")
    if spec is None or spec.origin is None:
        raise NotFound("The package open_clip_torch is missing, and with it CLIP's vocabulary.", "Run launch.py again to install it.")
    with gzip.open(Path(spec.origin).parent / "bpe_simple_vocab_16e6.txt.gz", "rt", encoding="utf-8") as file:
        merges = [tuple(line.split()) for line in file.read().split("\n")[1 : _MERGES + 1]]
    letters = _byte_letters()
    words = [*letters, *(w + "</w>" for w in letters), *("".join(m) for m in merges), "<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer(vocab={w: i for i, w in enumerate(words)}, merges=merges, pad_token="<|endoftext|>", model_max_length=77)


def tokens_of(text: str) -> list[int]:
    """Token ids of a text without start and end; special tokens written in the text stay text."""
    return list(clip_tokenizer()(text, add_special_tokens=False, split_special_tokens=True, verbose=False).input_ids)
