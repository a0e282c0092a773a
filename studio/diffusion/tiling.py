"""Seamless pictures: convolutions that see the opposite edge beyond each edge, for as long as a block lasts."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from diffusers.models.downsampling import Downsample2D
from torch import Tensor, nn

from studio.diffusion.model import Model


@contextmanager
def tiled(model: Model) -> Iterator[Model]:
    """Make a model's UNet and autoencoder treat pictures as if they were repeated without end; leaves no trace behind, also after an error.

    Adapters that bring convolutions of their own must be put on before.
    """
    with ExitStack() as stack:
        for part in (model.unet, model.vae):
            for module in part.modules():
                if isinstance(module, nn.Conv2d):
                    stack.callback(setattr, module, "padding_mode", module.padding_mode)
                    module.padding_mode = "circular"
                elif isinstance(module, Downsample2D) and module.padding == 0 and isinstance(module.conv, nn.Conv2d):
                    stack.callback(module.conv.register_forward_pre_hook(_wrap_one).remove)
        yield model


def _wrap_one(_module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    """Put the first row and column in the place of the zeros that an autoencoder's downsampling appends below and to the right."""
    x: Tensor = inputs[0].clone()
    x[..., -1, :] = x[..., 0, :]
    x[..., :, -1] = x[..., :, 0]
    return (x, *inputs[1:])
