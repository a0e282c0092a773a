"""Prompts and embeddings to what the UNet is conditioned on: chunks of 75 tokens, weights, the splice of words, and a guide for every step."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from studio.diffusion.denoiser import Guidance, Guide
from studio.diffusion.emphasis import weighed
from studio.diffusion.families import FAMILIES
from studio.diffusion.model import Conditioning, Model
from studio.errors import InputError
from studio.prompts.chunks import BACKTRACK, CHUNK, Chunk, Chunker
from studio.prompts.parts import Part, negative, positive
from studio.prompts.vocabulary import END, START

CHUNK_LIMIT = 2048
"""Chunks that all texts of a prompt may have together: half a gigabyte of contexts for SD1."""
AT_ONCE = 16
"""Chunks that visit the text encoders together."""


@dataclass(frozen=True)
class Reading:
    """How prompts are read: clip skip, what weights do, how far back a chunk may end at a comma, and the picture's (width, height) for families that want to know.

    `old_editing` reads prompt editing as A1111 did before 1.6.
    """

    clip_skip: int = 1
    emphasis: str = "Original"
    comma_backtrack: int = BACKTRACK
    size: tuple[int, int] | None = None
    old_editing: bool = False


PLAIN = Reading()


def condition(model: Model, prompts: Sequence[str], words: Mapping[str, Tensor], reading: Reading = PLAIN) -> Conditioning:
    """Encode prompts with embeddings `words` (name to [n, width]); gradients flow into them. Attention and BREAK are read, all else is text. Raises InputError on a wrong width."""
    reader = _Reader(model, words, reading)
    page = reader.page(prompts)
    hidden, pooled = model.encode(page.ids.flatten(0, 1), reader.vectors, reading.clip_skip)
    hidden = weighed(hidden.unflatten(0, page.ids.shape[:2]), page.weights, reading.emphasis, model.widths)
    pooled = None if pooled is None else pooled.unflatten(0, page.ids.shape[:2])[:, 0]
    sizes = _sizes(model, reading)
    return Conditioning(hidden.flatten(1, 2), tuple(reader.offsets), pooled, None if sizes is None else sizes.expand(len(prompts), -1))


@torch.no_grad()
def guidance(model: Model, prompts: tuple[str, str], words: Mapping[str, Tensor], reading: Reading, steps: int, hires_steps: int = 0) -> Guidance:
    """The guide of every step from a prompt with editing and AND and a negative prompt with editing; each chunk of each text is encoded once, before the first step.

    `hires_steps` above 0 means the second pass of a hires fix, after `steps` of the first. As in A1111, parts that AND joins are made equally long by repeating the last vector
    of shorter ones, while the negative prompt keeps its own length. Raises InputError.
    """
    parts = positive(prompts[0], steps, hires_steps, reading.old_editing)
    against = negative(prompts[1], steps, hires_steps, reading.old_editing)
    encoded = _scheduled(model, (*parts, against), words, reading)
    if all(text == "" for _, text in against.texts):
        encoded[-1] = {text: _silent(one) for text, one in encoded[-1].items()}
    guides: dict[tuple[str, ...], Guide] = {}

    def guide(step: int) -> Guide:
        key = (*(part.at(step) for part in parts), against.at(step))
        if key not in guides:
            *joined, alone = (texts[text] for texts, text in zip(encoded, key, strict=True))
            guides[key] = Guide(tuple(zip(_levelled(joined), (part.weight for part in parts), strict=True)), alone)
        return guides[key]

    return guide


def used_embeddings(prompts: tuple[str, str], words: Iterable[str], steps: int, hires_steps: int = 0) -> tuple[str, ...]:
    """Names of the embeddings that a prompt and a negative prompt use at any step, in the order they first appear."""
    chunker = Chunker(dict.fromkeys(words, 1))
    parts = (*positive(prompts[0], steps, hires_steps), negative(prompts[1], steps, hires_steps))
    texts = dict.fromkeys(text for part in parts for _, text in part.texts)
    return tuple(dict.fromkeys(name for text in texts for name in chunker.used(text)))


@dataclass(frozen=True)
class _Page:
    """Prompts as ids [p, c, 77] and weights [p, c, 77], made equally long by empty chunks."""

    ids: Tensor
    weights: Tensor


class _Reader:
    """Cuts prompts into chunks and gives the vectors of the embeddings in them places behind the vocabulary."""

    def __init__(self, model: Model, words: Mapping[str, Tensor], reading: Reading) -> None:
        self.model, self.words = model, words
        self.chunker = Chunker({name: len(vectors) for name, vectors in words.items()}, reading.comma_backtrack)
        self.offsets: dict[str, int] = {}
        self._next = len(model.token_table)
        self._chunks = 0

    @property
    def vectors(self) -> Tensor | None:
        """The vectors [n, width] of every embedding that was met; None when there was none."""
        return torch.cat([self.words[name].to(self.model.device) for name in self.offsets]) if self.offsets else None

    def page(self, prompts: Sequence[str]) -> _Page:
        """Prompts as one page; raises InputError when they are too long together, or when an embedding fits neither the prompt nor the checkpoint."""
        chunked = [self._cut(prompt) for prompt in prompts]
        count = max(map(len, chunked))
        rows = [[self._row(chunk) for chunk in (chunks + [[]] * count)[:count]] for chunks in chunked]
        ids = torch.tensor([[row[0] for row in chunks] for chunks in rows], device=self.model.device)
        weights = torch.tensor([[row[1] for row in chunks] for chunks in rows], device=self.model.device)
        return _Page(ids, weights)

    def _cut(self, prompt: str) -> list[Chunk]:
        """The chunks of one more prompt."""
        chunks = self.chunker.chunks(prompt)
        self._chunks += len(chunks)
        if self._chunks > CHUNK_LIMIT:
            raise InputError(f"The prompt has more than {CHUNK_LIMIT:,} chunks of {CHUNK} tokens over all its steps, which is more than can be kept.", "Shorten it, or let it change less often.")
        return chunks

    def _row(self, chunk: Chunk) -> tuple[list[int], list[float]]:
        """One chunk as 77 ids and weights: start, tokens, end, padding with end."""
        ids = [token if isinstance(token, int) else self._offset(token[0]) + token[1] for token, _ in chunk]
        pad = CHUNK + 1 - len(ids)
        return [START, *ids, *[END] * pad], [1.0, *(weight for _, weight in chunk), *[1.0] * pad]

    def _offset(self, name: str) -> int:
        """The place of an embedding's first vector."""
        if name not in self.offsets:
            _check_width(self.model, name, self.words[name])
            self.offsets[name] = self._next
            self._next += len(self.words[name])
        return self.offsets[name]


def _check_width(model: Model, name: str, vectors: Tensor) -> None:
    """Raise InputError when an embedding was made for another family, and say for which."""
    if vectors.ndim == 2 and vectors.shape[1] == model.width:
        return
    width = int(vectors.shape[-1])
    made_for = next((family.name for family in FAMILIES if family.context_width == width), "")
    raise InputError(
        f"The embedding {name!r} has vectors of width {width}{made_for and f', as {made_for} has them'}, but {model.checkpoint} ({model.family.name}) needs {model.width}.",
        f"Choose {'an' if made_for[:1] == 'S' else 'another'} {made_for or 'kind of'} checkpoint, or take {name!r} out of the prompt.",
    )


def _scheduled(model: Model, parts: Sequence[Part], words: Mapping[str, Tensor], reading: Reading) -> list[dict[str, Conditioning]]:
    """For each part its texts with their conditionings. The texts of one part are read side by side as A1111 does: equally long by empty chunks, their weights balanced together."""
    reader = _Reader(model, words, reading)
    shares = [Counter(text for _, text in part.texts) for part in parts]
    pages = [reader.page(list(texts)) for texts in shares]
    rows, places = torch.cat([page.ids.flatten(0, 1) for page in pages]).unique(dim=0, return_inverse=True)
    vectors = reader.vectors
    encoded = [model.encode(some, vectors, reading.clip_skip) for some in rows.split(AT_ONCE)]
    hidden = torch.cat([context for context, _ in encoded])
    pooled = torch.cat([text for _, text in encoded]) if encoded[0][1] is not None else None
    sizes = _sizes(model, reading)
    found: list[dict[str, Conditioning]] = []
    for texts, page, place in zip(shares, pages, places.split([page.ids.shape[:2].numel() for page in pages]), strict=True):
        place = place.unflatten(0, page.ids.shape[:2])
        contexts = weighed(hidden[place], page.weights, reading.emphasis, model.widths, torch.tensor(list(texts.values()), device=model.device)).flatten(1, 2)
        heads = [None] * len(texts) if pooled is None else pooled[place[:, 0]].split(1)
        found.append({text: Conditioning(context, reader.chunker.used(text), head, sizes) for text, context, head in zip(texts, contexts.split(1), heads, strict=True)})
    return found


def _sizes(model: Model, reading: Reading) -> Tensor | None:
    """What a family with micro conditions wants to know of the picture [1, 6]."""
    return model.micro_conditions(reading.size or (model.native_size, model.native_size))


def _silent(one: Conditioning) -> Conditioning:
    """An empty negative prompt where the pooled text conditions too (SDXL): all zeros, as in its training and in A1111."""
    return one if one.pooled is None else replace(one, context=torch.zeros_like(one.context), pooled=torch.zeros_like(one.pooled))


def _levelled(parts: Sequence[Conditioning]) -> list[Conditioning]:
    """Conditionings made equally long: shorter ones repeat their last vector."""
    length = max(one.context.shape[1] for one in parts)
    return [one if one.context.shape[1] == length else replace(one, context=torch.cat([one.context, one.context[:, -1:].expand(-1, length - one.context.shape[1], -1)], 1)) for one in parts]
