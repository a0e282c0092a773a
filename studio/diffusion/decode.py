"""Latents to pictures on any device: less at a time when memory runs out, never a black picture in silence."""

import gc
from collections.abc import Callable

import torch
from torch import Tensor

from studio.diffusion.model import Model
from studio.diffusion.mosaic import smaller_tiles
from studio.diffusion.offload import Room, with_room
from studio.errors import Unreadable

LEAST_TILE = 16
"""Edge of the smallest tile in latent cells."""


class Scraps:
    """Makes what room there is where no cache is at hand: what failed attempts left behind."""

    def make_room(self, wanted: int | None = None) -> int:
        """Give freed memory back to the device; how much it was is not known."""
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        return 0


def decode(model: Model, z: Tensor, room: Room | None = None, tell: Callable[[str], None] | None = None) -> Tensor:
    """Scaled latents [b, 4, h, w] to pictures [b, 3, H, W] in -1..1 on the CPU.

    When memory runs out, `room` is asked to free some; then one picture is decoded at a time, which changes nothing in it, then in ever smaller tiles,
    which `tell` hears of. Raises StudioError when even the smallest do not fit, Unreadable when the latents or the pictures are not finite.
    """
    if not bool(torch.isfinite(z).all()):
        raise Unreadable(
            f"{model.checkpoint} painted numbers that are not finite, so there is no picture.", "Use full precision, a lower CFG scale, or take the last embedding or LoRA out of the prompt."
        )

    def one_by_one(tile: int) -> Callable[[], Tensor]:
        def attempt() -> Tensor:
            if tile and tell is not None:
                tell(f"Memory ran out, so the picture is decoded in tiles of {tile * model.scale} pixels; it may differ slightly from one decoded at once.")
            return torch.cat([model.decode(part, tile).cpu() for part in z.split(1)])

        return attempt

    edge = max(z.shape[-2:])
    tiles = list(smaller_tiles(edge // 2, LEAST_TILE)) if edge > LEAST_TILE else []
    return with_room(room or Scraps(), lambda: model.decode(z).cpu(), *(one_by_one(tile) for tile in (0, *tiles)))
