"""CLIP's tokens, from the vocabulary that open_clip carries: nothing is fetched, and neither torch nor open_clip is imported."""

import gzip
import importlib.util
from functools import lru_cache
from pathlib import Path

from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers

from studio.errors import NotFound, Unreadable

START, END, COMMA = 49406, 49407, 267
"""Ids of <|startoftext|>, <|endoftext|> and a comma that ends a word."""
_MERGES = 49152 - 256 - 2
_WORDS = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"


@lru_cache(maxsize=1)
def vocabulary() -> tuple[dict[str, int], list[tuple[str, str]]]:
    """CLIP's 49,408 tokens with their ids, and its byte-pair merges in order (Radford et al. 2021). Raises NotFound when open_clip is not installed, Unreadable when its file is damaged."""
    spec = importlib.util.find_spec("open_clip")
    if spec is None or spec.origin is None:
        raise NotFound("The package open_clip_torch is missing, and with it CLIP's vocabulary.", "Run launch.py again to install it.")
    path = Path(spec.origin).parent / "bpe_simple_vocab_16e6.txt.gz"
    try:
        with gzip.open(path, "rt", encoding="utf-8") as file:
            lines = file.read().split("\n")
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise Unreadable(f"CLIP's vocabulary {path.name} cannot be read ({error}).", "Install open_clip_torch again.") from error
    merges = [(left, right) for left, _, right in (line.partition(" ") for line in lines[1 : _MERGES + 1])]
    letters = _byte_letters()
    words = [*letters, *(letter + "</w>" for letter in letters), *(left + right for left, right in merges), "<|startoftext|>", "<|endoftext|>"]
    return {word: i for i, word in enumerate(words)}, merges


def _byte_letters() -> list[str]:
    """The printable letter that stands for each byte, in the order of GPT-2's table (Radford et al. 2019)."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    return [chr(b) for b in plain] + [chr(256 + i) for i in range(256 - len(plain))]


@lru_cache(maxsize=1)
def _tokenizer() -> Tokenizer:
    """CLIP's tokenizer. It knows no special tokens, so that <|endoftext|> written in a prompt stays text."""
    words, merges = vocabulary()
    tokenizer = Tokenizer(models.BPE(vocab=words, merges=merges, continuing_subword_prefix="", end_of_word_suffix="</w>", fuse_unk=False, unk_token="<|endoftext|>"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(_WORDS), behavior="removed", invert=True), pre_tokenizers.ByteLevel(add_prefix_space=False)])
    return tokenizer


def tokens_of(text: str) -> list[int]:
    """Token ids of a text without start and end; halves of characters (lone surrogates), which no file can hold, become question marks."""
    return list(_tokenizer().encode(text.encode("utf-8", "replace").decode("utf-8"), add_special_tokens=False).ids)


def spelled(text: str) -> list[tuple[int, int, int]]:
    """Tokens of a text as (id, begin, end), where they stand in it; a letter that takes several tokens gives each the same place."""
    found = _tokenizer().encode(text.encode("utf-8", "replace").decode("utf-8"), add_special_tokens=False)
    return [(token, *place) for token, place in zip(found.ids, found.offsets, strict=True)]
