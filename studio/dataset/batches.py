"""What one step looks at: prompts from templates, tags shuffled and left out, latents encoded once; all of it a pure function of (seed, step, sample)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load as from_safetensors
from safetensors.torch import save_file
from torch import Tensor

from studio.dataset.crop import center, cut, window
from studio.dataset.folder import open_upright
from studio.files import atomic_write
from studio.projects.captions import decode_caption
from studio.projects.filling import fill, parse_template, vary

ITEM, WORDS, LATENT, NOISE, TIME = range(1, 6)
"""Purposes of randomness: each has numbers of its own, so that one more draw here moves nothing there."""
TIMES = 1000
"""Noise levels of Stable Diffusion."""

Encode = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Pictures [b, 3, H, W] in -1..1 to mean and standard deviation of their latents, each [b, 4, H/8, W/8]."""


def dice(seed: int, purpose: int, step: int = 0, sample: int = 0) -> np.random.Generator:
    """Random numbers that depend on nothing but these four (Philox, Salmon et al. 2011): a resumed run needs no saved state."""
    return np.random.Generator(np.random.Philox(key=seed, counter=[0, sample, step, purpose]))


def normal(shape: Sequence[int], draw: np.random.Generator) -> Tensor:
    """Standard normal numbers of `shape` in fp32, the same on every device."""
    return torch.from_numpy(draw.standard_normal(tuple(shape), dtype=np.float32))


def read_template(path: Path) -> tuple[str, ...]:
    """The prompts of a template file. Raises InputError for a file without any."""
    return parse_template(decode_caption(path.read_bytes()), path.name)


def cover(image: Image.Image, width: int, height: int) -> Image.Image:
    """The largest middle part of the picture's shape width x height, brought to that size; never stretched."""
    return cut(image, window(image.size, (width, height), center(image.size)), (width, height))


def pixels(image: Image.Image) -> Tensor:
    """An RGB picture as [3, H, W] in -1..1."""
    return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1).float().div(127.5).sub(1)


@dataclass(frozen=True)
class Sample:
    """One picture to learn from: its caption, and mean and standard deviation of its latent, each [4, h, w]."""

    key: str
    caption: str
    mean: Tensor
    std: Tensor


@dataclass(frozen=True)
class LatentStore:
    """Encoded pictures on disk, keyed by the picture's bytes, the size and the model that encoded them."""

    folder: Path
    encode: Encode
    model: str
    width: int
    height: int

    def get(self, image: Path) -> tuple[str, Tensor, Tensor]:
        """Key, mean and deviation of a picture's latent; raises Unreadable for what is not a picture."""
        key = sha256(f"{self.model} {self.width}x{self.height} ".encode() + image.read_bytes()).hexdigest()
        kept = self.find(key)
        if kept is None:
            with torch.no_grad():
                mean, std = self.encode(pixels(cover(open_upright(image), self.width, self.height))[None])
            kept = mean[0].float().cpu().contiguous(), std[0].float().cpu().contiguous()
            with atomic_write(self._path(key)) as temporary:
                save_file({"mean": kept[0], "std": kept[1]}, temporary)
        return key, *kept

    def find(self, key: str) -> tuple[Tensor, Tensor] | None:
        """A latent by its key; None when it is not there or damaged, so that it is encoded again."""
        try:
            kept = from_safetensors(self._path(key).read_bytes())
            return kept["mean"], kept["std"]
        except (OSError, KeyError, ValueError, SafetensorError):
            return None

    def _path(self, key: str) -> Path:
        """Where a key lies; two letters of it spread the files over folders."""
        return self.folder / key[:2] / f"{key}.safetensors"


@dataclass(frozen=True)
class Batch:
    """Latents and noise [b, 4, h, w], timesteps [b] and one prompt for each, on the CPU."""

    latents: Tensor
    noise: Tensor
    times: Tensor
    prompts: tuple[str, ...]


@dataclass(frozen=True)
class Batches:
    """All batches of a run; `at` gives any one of them. A step looks at `parts` batches of `size` pictures."""

    samples: tuple[Sample, ...]
    templates: tuple[str, ...]
    name: str
    size: int
    seed: int
    parts: int = 1
    shuffle: bool = False
    drop_out: float = 0.0
    latent_sampling: str = "once"

    def at(self, step: int, part: int = 0) -> Batch:
        """One part of a step: every picture comes once before any comes again, in a new order each time."""
        places = range(part * self.size, (part + 1) * self.size)
        numbers = [self._number(step, place) for place in places]
        latents = [self._latent(number, step, place) for number, place in zip(numbers, places, strict=True)]
        prompts = [self._prompt(number, step, place) for number, place in zip(numbers, places, strict=True)]
        noise = [normal(latent.shape, dice(self.seed, NOISE, step, place)) for latent, place in zip(latents, places, strict=True)]
        return Batch(torch.stack(latents), torch.stack(noise), self._times(step, places), tuple(prompts))

    def _number(self, step: int, place: int) -> int:
        """Which picture stands at a place of a step."""
        round_, at = divmod(step * self.size * self.parts + place, len(self.samples))
        return _order(self.seed, round_, len(self.samples))[at]

    def _latent(self, number: int, step: int, place: int) -> Tensor:
        """A picture's latent: its mean, one draw that stays, or a new draw."""
        sample = self.samples[number]
        if self.latent_sampling == "deterministic":
            return sample.mean
        draw = dice(self.seed, LATENT, step + 1, place) if self.latent_sampling == "random" else dice(self.seed, LATENT, 0, number)
        return sample.mean + sample.std * normal(sample.mean.shape, draw)

    def _times(self, step: int, places: range) -> Tensor:
        """Timesteps spread evenly over all pictures of a step from one draw: each is uniform, together they cover the range, which steadies the gradient."""
        first, count = dice(self.seed, TIME, step).random(), self.size * self.parts
        return torch.tensor([int((first + place / count) % 1.0 * TIMES) for place in places])

    def _prompt(self, number: int, step: int, place: int) -> str:
        """A template line drawn for this picture, filled with its caption as varied for this time."""
        draw = dice(self.seed, WORDS, step, place)
        line = self.templates[int(draw.integers(len(self.templates)))]
        return fill(line, self.name, vary(self.samples[number].caption, self.shuffle, self.drop_out, draw))

    def naming(self) -> tuple[int, int]:
        """How many (template, caption) pairs hold the name, and how many there are."""
        texts = [fill(line, self.name, sample.caption).lower() for line in self.templates for sample in self.samples]
        return sum(self.name.lower() in text for text in texts), len(texts)


@lru_cache(maxsize=8)
def _order(seed: int, round_: int, count: int) -> tuple[int, ...]:
    """The order of the pictures in one round."""
    return tuple(int(i) for i in dice(seed, ITEM, round_).permutation(count))
