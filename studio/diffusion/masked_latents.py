"""What a mask means on the latent grid: its cells, what they hold at first, and what a checkpoint made for inpainting is shown."""

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from studio.diffusion.model import Model
from studio.errors import InputError
from studio.requests.generate import MaskedContent


def latent_mask(mask: Image.Image, grid: tuple[int, int], rounded: bool = True) -> Tensor:
    """A soft mask (L) on a grid of (height, width) cells, [1, 1, h, w] in 0..1 with 1 = repaint; `rounded` to 0 and 1.

    A mask too small to fill half of any cell repaints every cell it touches, so that it never does nothing.
    """
    cells = np.asarray(mask.convert("L").resize((grid[1], grid[0]), Image.Resampling.BICUBIC), dtype=np.float32) / 255
    if rounded:
        cells = (cells >= 0.5).astype(np.float32)
    if not cells.any() and mask.getbbox():
        rows, columns = np.nonzero(np.asarray(mask.convert("L")))
        cells = np.zeros(grid, dtype=np.float32)
        cells[rows * grid[0] // mask.height, columns * grid[1] // mask.width] = 1
    return torch.from_numpy(cells)[None, None].clone()


def first_content(kind: MaskedContent, known: Tensor, cells: Tensor, noise: Tensor) -> Tensor:
    """What the walk begins from: known latents [1 or b, c, h, w], under the mask [1, 1, h, w] replaced by noise [b, c, h, w] or nothing where that is asked for.

    For "fill" the picture itself was filled before it was encoded, so its latents are taken as they are.
    """
    known = known.expand(len(noise), -1, -1, -1)
    if kind == "latent noise":
        return known * (1 - cells) + noise * cells
    if kind == "latent nothing":
        return known * (1 - cells)
    if kind in ("fill", "original"):
        return known.clone()
    raise InputError(f"There is no masked content {kind!r}.", "Choose fill, original, latent noise or latent nothing.")


def mask_tensor(mask: Image.Image, rounded: bool = True) -> Tensor:
    """A mask (L) pixel by pixel, [1, 1, H, W] in 0..1; `rounded` to 0 and 1."""
    values = torch.from_numpy(np.array(mask.convert("L"), dtype=np.float32))[None, None] / 255
    return (values >= 0.5).float() if rounded else values


def masked_conditioning(model: Model, picture: Tensor, mask: Tensor | None, weight: float = 1.0) -> Tensor:
    """What a 9-channel checkpoint is shown, [b, 5, h, w]: the mask on the latent grid, then the latents of the picture with its masked part grey.

    `picture` [b, 3, H, W] in -1..1; `mask` [1 or b, 1, H, W], 1 = repaint, None = everything. `weight` from 0 (the picture is shown whole) to 1 (what is
    masked is hidden wholly).
    """
    mask = torch.ones_like(picture[:1, :1]) if mask is None else mask.to(picture)
    latents = model.encode_images(picture * (1 - mask * weight))[0]
    cells = F.interpolate(mask, size=latents.shape[-2:], mode="nearest").to(latents)
    return torch.cat([cells.expand(len(latents), -1, -1, -1), latents], 1)


def blank_conditioning(model: Model, grid: tuple[int, int]) -> Tensor:
    """What a 9-channel checkpoint is shown when nothing is given (txt2img), [1, 5, h, w] for a grid of (height, width): all is masked, the picture is grey."""
    return masked_conditioning(model, torch.zeros(1, 3, grid[0] * model.scale, grid[1] * model.scale, device=model.device), None)
