"""Prompts and embeddings to what the UNet is conditioned on: chunks of 75 tokens, weights, and the splice of words."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from studio.diffusion.model import Conditioning, Model
from studio.diffusion.prompt import BREAK, attention
from studio.diffusion.tokenizer import END, START, tokens_of
from studio.errors import InputError

CHUNK = 75


@dataclass(frozen=True)
class Reading:
    """How prompts are read: clip skip, what weights do, how far back a chunk may end at a comma, and the picture's (width, height) for families that want to know."""

    clip_skip: int = 1
    emphasis: str = "Original"
    comma_backtrack: int = 20
    size: tuple[int, int] | None = None


PLAIN = Reading()


def condition(model: Model, prompts: Sequence[str], words: Mapping[str, Tensor], reading: Reading = PLAIN) -> Conditioning:
    """Encode prompts with embeddings `words` (name to [n, d]); gradients flow into them. Raises InputError on a wrong width."""
    used: list[str] = []
    offsets: dict[str, int] = {}
    rows: list[Tensor] = []
    matcher = _Matcher(words)
    chunked = [_chunks(matcher, prompt, used) for prompt in prompts]
    for name in dict.fromkeys(used):
        vectors = words[name]
        if vectors.shape[1] != model.width:
            raise InputError(
                f"The embedding {name!r} has vectors of width {vectors.shape[1]}, but {model.checkpoint} needs {model.width}.",
                "It was made for another kind of checkpoint; choose that one, or take the word out of the prompt.",
            )
        offsets[name] = model.token_table.shape[0] + sum(len(r) for r in rows)
        rows.append(vectors.to(model.device))
    count = max(len(c) for c in chunked)
    blank: list[tuple[int | tuple[str, int], float]] = []
    table = [[_row(chunk, offsets) for chunk in [*chunks, *[blank] * (count - len(chunks))]] for chunks in chunked]
    ids = torch.tensor([[r[0] for r in row] for row in table], device=model.device)
    weights = torch.tensor([[r[1] for r in row] for row in table], device=model.device)
    hidden, _ = model.encode(ids.flatten(0, 1), torch.cat(rows) if rows else None, reading.clip_skip)
    if bool((weights != 1).any()):
        hidden = _weigh(hidden, weights.flatten(0, 1))
    return Conditioning(hidden.reshape(len(prompts), count * (CHUNK + 2), -1), tuple(dict.fromkeys(used)))


def _weigh(hidden: Tensor, weights: Tensor) -> Tensor:
    """A1111's "Original" emphasis: scale each token's output, then restore the mean of the chunk. Raises InputError on weights too large."""
    scaled = hidden * weights[..., None].to(hidden.dtype)
    before, after = hidden.mean((1, 2), keepdim=True), scaled.mean((1, 2), keepdim=True)
    weighed = torch.where(after.abs() > 1e-8, scaled * (before / after), scaled)
    if bool(torch.isfinite(hidden).all()) and not bool(torch.isfinite(weighed).all()):
        raise InputError(f"A weight in the prompt is too large ({float(weights.abs().max()):g}).", "Weights between 0.5 and 1.5 are usual; take some brackets out of the prompt.")
    return weighed


def _row(chunk: list[tuple[int | tuple[str, int], float]], offsets: Mapping[str, int]) -> tuple[list[int], list[float]]:
    """One chunk as 77 ids and weights: start, tokens, end, padding with end."""
    ids = [token if isinstance(token, int) else offsets[token[0]] + token[1] for token, _ in chunk]
    weights = [weight for _, weight in chunk]
    pad = CHUNK + 1 - len(ids)
    return [START, *ids, *[END] * pad], [1.0, *weights, *[1.0] * pad]


class _Matcher:
    """Finds embedding names in text: whole words, longest first, upper and lower case alike."""

    def __init__(self, words: Mapping[str, Tensor]) -> None:
        self.words = words
        self.names = {name.lower(): name for name in words}
        ordered = sorted(self.names, key=len, reverse=True)
        body = "|".join(re.escape(name) for name in ordered)
        self.pattern = re.compile(rf"(?<![\w-])(?:{body})(?![\w-])", re.I) if ordered else None

    def tokens(self, text: str, used: list[str]) -> list[list[int | tuple[str, int]]]:
        """Tokens of a text in groups that must not be torn: a group is one token or one whole embedding."""
        if self.pattern is None:
            return [[t] for t in tokens_of(text)]
        groups: list[list[int | tuple[str, int]]] = []
        last = 0
        for match in self.pattern.finditer(text):
            groups += [[t] for t in tokens_of(text[last : match.start()])]
            name = self.names[match.group(0).lower()]
            used.append(name)
            groups.append([(name, i) for i in range(len(self.words[name]))])
            last = match.end()
        return groups + [[t] for t in tokens_of(text[last:])]


def _chunks(matcher: _Matcher, prompt: str, used: list[str]) -> list[list[tuple[int | tuple[str, int], float]]]:
    """A prompt as chunks of at most 75 (token, weight); BREAK begins a new one."""
    chunks: list[list[tuple[int | tuple[str, int], float]]] = [[]]
    for text, weight in attention(prompt):
        if text == BREAK and weight == -1.0:
            chunks.append([])
            continue
        for group in matcher.tokens(text, used):
            if len(group) > CHUNK:
                raise InputError(f"An embedding of {len(group)} vectors does not fit into a prompt, which holds {CHUNK}.")
            if len(chunks[-1]) + len(group) > CHUNK:
                chunks.append([])
            chunks[-1] += [(token, weight) for token in group]
    return chunks
