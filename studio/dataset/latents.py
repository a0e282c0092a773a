"""Latents: pictures encoded once and kept on disk by what is in them, and the sample that training takes of each."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
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
from studio.projects.facts import Size

CELL = 8
"""Pixels of a latent cell's side, in every Stable Diffusion."""

Encode = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Pictures [b, 3, H, W] in -1..1 to mean and standard deviation of their latents, each [b, 4, H/8, W/8]."""
Latent = tuple[Tensor, Tensor]
"""Mean and standard deviation of one picture, each [4, h, w]."""


def cover(image: Image.Image, width: int, height: int) -> Image.Image:
    """The largest middle part of the picture's shape width x height, brought to that size; never stretched."""
    return cut(image, window(image.size, (width, height), center(image.size)), (width, height))


def pixels(image: Image.Image) -> Tensor:
    """An RGB picture as [3, H, W] in -1..1."""
    return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1).float().div(127.5).sub(1)


@dataclass(frozen=True)
class Sample:
    """One picture to learn from: its caption, and mean and standard deviation of its latent, each [4, h, w].

    `mirrored` is the latent of the mirrored picture, `weight` [h, w] says how much each cell counts (mean 1), `name` is the picture's file name, below the chosen folder.
    `repeats` is how often it counts in an epoch.
    """

    key: str
    caption: str
    mean: Tensor
    std: Tensor
    mirrored: Latent | None = None
    weight: Tensor | None = None
    name: str = ""
    repeats: int = 1

    @property
    def size(self) -> Size:
        """Width and height in pixels of what was encoded."""
        return self.mean.shape[-1] * CELL, self.mean.shape[-2] * CELL


@dataclass(frozen=True)
class LatentStore:
    """Encoded pictures on disk, keyed by the picture's bytes, the size and the model that encoded them."""

    folder: Path
    encode: Encode
    model: str
    width: int
    height: int

    def key(self, data: bytes, size: Size | None = None, mirrored: bool = False) -> str:
        """What a picture of these bytes is kept under, cut to `size` (the store's own without one), as it is or mirrored."""
        width, height = size or (self.width, self.height)
        return sha256(f"{self.model} {width}x{height} {'mirrored ' if mirrored else ''}".encode() + data).hexdigest()

    def get(self, image: Path) -> tuple[str, Tensor, Tensor]:
        """Key, mean and deviation of a picture's latent; raises Unreadable for what is not a picture."""
        key = self.key(image.read_bytes())
        kept = self.find(key)
        return key, *(kept if kept is not None else self.keep([(key, pixels(cover(open_upright(image), self.width, self.height)))])[0])

    def find(self, key: str) -> Latent | None:
        """A latent by its key; None when it is not there or damaged, so that it is encoded again."""
        try:
            kept = from_safetensors(self._path(key).read_bytes())
            return kept["mean"], kept["std"]
        except (OSError, KeyError, ValueError, SafetensorError):
            return None

    def keep(self, pictures: Sequence[tuple[str, Tensor]]) -> list[Latent]:
        """Encode pictures [3, H, W] of one size together, keep each latent under its key and return them in order. Raises OutOfSpace."""
        alone = pictures[0][1][None]  # in the memory layout it came in, which decides about last bits
        with torch.no_grad():
            encoded = self.encode(alone if len(pictures) == 1 else torch.stack([picture for _, picture in pictures]))
        means, stds = (part.float().cpu() for part in encoded)
        made = [(mean.clone(), std.clone()) for mean, std in zip(means, stds, strict=True)]
        for (key, _), (mean, std) in zip(pictures, made, strict=True):
            with atomic_write(self._path(key)) as temporary:
                save_file({"mean": mean.contiguous(), "std": std.contiguous()}, temporary)
        return made

    def _path(self, key: str) -> Path:
        """Where a key lies; two letters of it spread the files over folders."""
        return self.folder / key[:2] / f"{key}.safetensors"


@dataclass
class Encoder:
    """Encodes what the store has not, several pictures of one size together; `area` pixels at a time, 0 = always one by one.

    On a CPU several at once gain little, and differ from single ones in the last bits: a latent would depend on its neighbours.
    """

    store: LatentStore
    area: int = 0
    made: dict[str, Latent] = field(default_factory=dict)
    _waiting: dict[Size, list[tuple[str, Tensor]]] = field(default_factory=dict)

    def want(self, key: str, image: Path, size: Size, mirrored: bool = False) -> None:
        """See that the latent of a picture is in `made` after `flush`; raises Unreadable for what is not a picture."""
        waiting = self._waiting.setdefault(size, [])
        if key in self.made or any(key == other for other, _ in waiting):
            return
        kept = self.store.find(key)
        if kept is not None:
            self.made[key] = kept
            return
        picture = pixels(cover(open_upright(image), *size))
        waiting.append((key, picture.flip(-1) if mirrored else picture))
        if (len(waiting) + 1) * size[0] * size[1] > self.area:
            self._encode(size)

    def flush(self) -> None:
        """Encode what still waits."""
        for size in self._waiting:
            self._encode(size)

    def _encode(self, size: Size) -> None:
        """Encode what waits of a size; one by one where the memory is too small for all."""
        waiting, self._waiting[size] = self._waiting[size], []
        if not waiting:
            return
        try:
            latents = self.store.keep(waiting)
        except torch.OutOfMemoryError:
            if len(waiting) == 1:
                raise
            self.area = 0
            latents = [self.store.keep([one])[0] for one in waiting]
        self.made.update(zip((key for key, _ in waiting), latents, strict=True))
