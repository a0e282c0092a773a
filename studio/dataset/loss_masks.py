"""Masks as loss weights: what of a picture shall be learned, on the grid of its latent, cut as the picture is."""

import zlib
from base64 import b64decode, b64encode
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from studio.dataset.crop import center, window
from studio.dataset.latents import CELL
from studio.dataset.masks import read_mask
from studio.projects.facts import Size


def mask_of(picture: Path, size: Size) -> np.ndarray | None:
    """Greys [h, w] of a picture's mask, each the average over a cell of the latent of `size` pixels; None without a mask. Raises Unreadable.

    The mask is the file beside the picture, else the picture's own alpha, and is cut where the picture is.
    """
    mask = read_mask(picture)
    if mask is None:
        return None
    box = window(mask.size, size, center(mask.size))
    return np.asarray(mask.resize((size[0] // CELL, size[1] // CELL), Image.Resampling.BOX, box=box))


def is_black(greys: np.ndarray) -> bool:
    """Whether a mask leaves nothing to learn."""
    return not greys.any()


def weights(greys: np.ndarray, floor: float = 0.0) -> Tensor:
    """How much each cell [h, w] counts: from `floor` for black to 1 for white, then brought to mean 1, so that the mask's size does not change the loss's scale.

    A mask of one grey singles nothing out: all cells count alike.
    """
    if greys.min() == greys.max():
        return torch.ones(greys.shape)
    weight = floor + (1 - floor) * torch.from_numpy(greys.astype(np.float64)) / 255
    return (weight / weight.mean()).float()


def packed(greys: np.ndarray) -> str:
    """A mask as text that JSON can hold."""
    return b64encode(zlib.compress(np.ascontiguousarray(greys).tobytes(), 9)).decode("ascii")


def unpacked(text: str, size: Size) -> np.ndarray:
    """Greys [h, w] of a mask for `size` pixels, from its text; raises ValueError for what is not one."""
    try:
        return np.frombuffer(zlib.decompress(b64decode(text)), np.uint8).reshape(size[1] // CELL, size[0] // CELL)
    except zlib.error as error:
        raise ValueError(str(error)) from error
