"""What one step looks at: prompts from templates, tags shuffled and left out, latents encoded once; all of it a pure function of (seed, step, sample)."""

from dataclasses import dataclass
from functools import cached_property
from math import gcd
from pathlib import Path

import torch
from torch import Tensor

from studio.dataset.buckets import Rota
from studio.dataset.dice import BARE, FLIP, ITEM, LATENT, MIRROR, NOISE, TIME, WORDS, dice, normal
from studio.dataset.latents import CELL, Encode, Latent, LatentStore, Sample, cover, pixels
from studio.projects.captions import decode_caption
from studio.projects.facts import Size
from studio.projects.filling import fill, parse_template, vary

__all__ = ["ITEM", "LATENT", "NOISE", "TIME", "TIMES", "WORDS", "Batch", "Batches", "Encode", "Latent", "LatentStore", "Sample", "cover", "dice", "normal", "pixels", "read_template"]

TIMES = 1000
"""Noise levels of Stable Diffusion."""


def read_template(path: Path) -> tuple[str, ...]:
    """The prompts of a template file. Raises InputError for a file without any."""
    return parse_template(decode_caption(path.read_bytes()), path.name)


@dataclass(frozen=True)
class Batch:
    """Latents and noise [b, 4, h, w], timesteps [b] and one prompt for each, on the CPU; `weights` [b, 1, h, w] say how much each cell counts, None = all alike; `prior` keeps a class."""

    latents: Tensor
    noise: Tensor
    times: Tensor
    prompts: tuple[str, ...]
    weights: Tensor | None = None
    prior: bool = False

    @property
    def size(self) -> Size:
        """Width and height in pixels of its pictures."""
        return self.latents.shape[-1] * CELL, self.latents.shape[-2] * CELL


@dataclass(frozen=True)
class Batches:
    """All batches of a run; `at` gives any one of them. A step looks at `parts` batches of `size` pictures; a batch holds pictures of one size only."""

    samples: tuple[Sample, ...]
    templates: tuple[str, ...]
    name: str
    size: int
    seed: int
    parts: int = 1
    shuffle: bool = False
    drop_out: float = 0.0
    latent_sampling: str = "once"
    flip: bool = False
    caption_dropout: float = 0.0

    def at(self, step: int, part: int = 0) -> Batch:
        """One part of a step: every picture comes as often as its repeats say before a new round begins, in a new order each time."""
        places = range(part * self.size, (part + 1) * self.size)
        taken = list(zip(self._rota.at(step * self.parts + part), places, strict=True))
        latents = [self._latent(number, step, place) for number, place in taken]
        prompts = [self._prompt(number, step, place) for number, place in taken]
        noise = [normal(latent.shape, dice(self.seed, NOISE, step, place)) for latent, place in zip(latents, places, strict=True)]
        return Batch(torch.stack(latents), torch.stack(noise), self._times(step, places), tuple(prompts), self._weights(taken, step))

    @cached_property
    def _rota(self) -> Rota:
        """Which pictures stand in which batch; pictures of one shape share a bucket.

        A picture stands in a round as often as its repeats say, divided by what all have in common: repeats of 10 for every picture only make an epoch ten rounds long.
        """
        common = gcd(*(sample.repeats for sample in self.samples))
        groups: dict[tuple[int, ...], list[int]] = {}
        for number, sample in enumerate(self.samples):
            groups.setdefault(tuple(sample.mean.shape), []).extend([number] * (sample.repeats // common))
        return Rota(tuple(tuple(groups[shape]) for shape in sorted(groups)), self.size, self.seed)

    @cached_property
    def _masked(self) -> bool:
        """Whether any picture has a mask."""
        return any(sample.weight is not None for sample in self.samples)

    def _mirrored(self, number: int, step: int, place: int) -> bool:
        """Whether a picture is shown mirrored this time."""
        return self.flip and self.samples[number].mirrored is not None and dice(self.seed, FLIP, step, place).random() < 0.5

    def _latent(self, number: int, step: int, place: int) -> Tensor:
        """A picture's latent, mirrored or not: its mean, one draw that stays, or a new draw."""
        sample, mirrored = self.samples[number], self._mirrored(number, step, place)
        mean, std = sample.mirrored if mirrored and sample.mirrored is not None else (sample.mean, sample.std)
        if self.latent_sampling == "deterministic":
            return mean
        draw = dice(self.seed, LATENT, step + 1, place) if self.latent_sampling == "random" else dice(self.seed, MIRROR if mirrored else LATENT, 0, number)
        return mean + std * normal(mean.shape, draw)

    def _weights(self, taken: list[tuple[int, int]], step: int) -> Tensor | None:
        """How much each cell of the pictures counts, mirrored as they are; None when no picture of the run has a mask."""
        if not self._masked:
            return None
        found = []
        for number, place in taken:
            sample = self.samples[number]
            weight = torch.ones(sample.mean.shape[1:]) if sample.weight is None else sample.weight
            found.append(weight.flip(-1) if self._mirrored(number, step, place) else weight)
        return torch.stack(found)[:, None]

    def _times(self, step: int, places: range) -> Tensor:
        """Timesteps spread evenly over all pictures of a step from one draw: each is uniform, together they cover the range, which steadies the gradient."""
        first, count = dice(self.seed, TIME, step).random(), self.size * self.parts
        return torch.tensor([int((first + place / count) % 1.0 * TIMES) for place in places])

    def _prompt(self, number: int, step: int, place: int) -> str:
        """A template line drawn for this picture, filled with its caption as varied for this time, or with none."""
        draw = dice(self.seed, WORDS, step, place)
        line = self.templates[int(draw.integers(len(self.templates)))]
        if self.caption_dropout and dice(self.seed, BARE, step, place).random() < self.caption_dropout:
            return fill(line, self.name, "")
        return fill(line, self.name, vary(self.samples[number].caption, self.shuffle, self.drop_out, draw))

    def naming(self) -> tuple[int, int]:
        """How many (template, caption) pairs hold the name, and how many there are."""
        texts = [fill(line, self.name, sample.caption).lower() for line in self.templates for sample in self.samples]
        return sum(self.name.lower() in text for text in texts), len(texts)
