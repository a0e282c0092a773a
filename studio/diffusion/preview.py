"""Latents to a small picture, cheap: a linear map fitted to the loaded VAE itself."""

import weakref

import torch
from PIL import Image
from torch import Tensor

from studio.diffusion.model import Model

_maps: "weakref.WeakKeyDictionary[torch.nn.Module, Tensor]" = weakref.WeakKeyDictionary()


@torch.no_grad()
def latent_map(model: Model) -> Tensor:
    """Matrix [5, 3] from (latent channels, 1) to colour in -1..1, by least squares on smooth random pictures."""
    if model.vae not in _maps:
        generator = torch.Generator().manual_seed(0)
        colours = torch.rand(8, 3, 4, 4, generator=generator) * 2 - 1
        pictures = torch.nn.functional.interpolate(colours, size=(64, 64), mode="bilinear")
        mean, _ = model.encode_images(pictures)
        small = torch.nn.functional.adaptive_avg_pool2d(pictures, mean.shape[-2:])
        x = mean.float().cpu().permute(0, 2, 3, 1).reshape(-1, mean.shape[1])
        y = small.permute(0, 2, 3, 1).reshape(-1, 3)
        _maps[model.vae] = torch.linalg.lstsq(torch.cat([x, torch.ones(len(x), 1)], 1), y).solution
    return _maps[model.vae]


def small_pictures(model: Model, latents: Tensor) -> list[Image.Image]:
    """Latents [b, 4, h, w] as pictures of w x h pixels."""
    x = latents.float().cpu().permute(0, 2, 3, 1)
    colours = torch.cat([x, torch.ones(*x.shape[:3], 1)], -1) @ latent_map(model)
    return [Image.fromarray(((c.clamp(-1, 1) + 1) * 127.5).byte().numpy()) for c in colours]
