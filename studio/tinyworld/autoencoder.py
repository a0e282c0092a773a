"""The autoencoder: 128 x 128 pictures to 4 x 16 x 16 latents and back, in AutoencoderKL's own layout."""

import random
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from studio.tinyworld.study import Plan, study
from studio.tinyworld.world import picture

SEEN, FRESH = 10_000_000, 900_000
BATCH = 8
KL = 1e-6
"""Weight of the pull towards a normal distribution, as in Rombach et al. 2022."""


def make() -> Any:
    """A new autoencoder of the world's size."""
    from diffusers import AutoencoderKL

    channels = (16, 32, 64, 128)
    down, up = ("DownEncoderBlock2D",) * 4, ("UpDecoderBlock2D",) * 4
    return AutoencoderKL(
        down_block_types=down,
        up_block_types=up,
        block_out_channels=channels,
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=4,
        scaling_factor=1.0,
        sample_size=128,
        mid_block_add_attention=False,
    )


def difference(painted: Tensor, right: Tensor) -> Tensor:
    """Absolute and squared error, errors of neighbours against each other (edges), and errors of coarser and coarser copies."""
    error = painted - right
    edges = (error[..., 1:] - error[..., :-1]).abs().mean() + (error[..., 1:, :] - error[..., :-1, :]).abs().mean()
    loss = error.abs().mean() + error.square().mean() + 0.7 * edges
    for _ in range(2):
        error = F.avg_pool2d(error, 2)
        loss = loss + 0.4 * error.abs().mean()
    return loss


def pixels(numbers: range) -> Tensor:
    """Pictures of the world [n, 3, 128, 128] in -1..1."""
    images = np.stack([np.asarray(picture(n).image) for n in numbers])
    return torch.from_numpy(images).permute(0, 3, 1, 2).float() / 127.5 - 1


def train(folder: Path, state: Path, seconds: float) -> None:
    """Learn, going on from what `folder` holds; only the decoder learns then, so that latents keep their meaning."""
    network, known = make(), (folder / "config.json").is_file()
    if known:
        network = type(network).from_pretrained(folder).float()
        network.encoder.requires_grad_(False)
        network.quant_conv.requires_grad_(False)
    fresh = pixels(range(FRESH, FRESH + 32))

    def loss_of(step: int) -> Tensor:
        first = SEEN + random.Random(step).randrange(80_000_000)
        right = pixels(range(first, first + BATCH))
        latents = network.encode(right).latent_dist
        spread = latents.sample() if not known else latents.mean + 0.05 * torch.rand(BATCH, 1, 1, 1) * torch.randn_like(latents.mean)
        loss = difference(network.decode(spread).sample, right)
        return loss if known else loss + KL * latents.kl().mean()

    @torch.no_grad()
    def save(average: nn.Module) -> None:
        half = make()
        factor = network.config.scaling_factor if known else float(1 / average.encode(fresh).latent_dist.mean.std())
        half.register_to_config(scaling_factor=factor)
        half.load_state_dict(average.state_dict())
        half.half().save_pretrained(folder)

    study(network, loss_of, Plan(state, seconds, 4e-4 if known else 1e-3, lambda average: f"{psnr(average, fresh):.2f} dB", save, decay=1e-4))


@torch.no_grad()
def psnr(network: Any, right: Tensor) -> float:
    """Peak signal to noise ratio of pictures that went through the autoencoder, in dB."""
    painted = network.decode(network.encode(right).latent_dist.mean).sample.clamp(-1, 1)
    return float((10 * torch.log10(4 / (painted - right).square().mean((1, 2, 3)))).mean())
