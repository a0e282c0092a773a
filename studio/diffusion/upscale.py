"""What enlarges: latents by interpolation, pictures plainly or by a model of the ESRGAN family, in tiles so that memory is bounded."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from studio import shelves
from studio.diffusion.cache import ModelCache
from studio.diffusion.decode import Scraps
from studio.diffusion.mosaic import in_tiles, smaller_tiles
from studio.diffusion.offload import Room, with_room
from studio.diffusion.resize import eight_bits
from studio.errors import InputError, NotFound, Unreadable
from studio.formats.opening import PIXEL_LIMIT
from studio.formats.pickles import load_pickle

TILE, LEAST_TILE, OVERLAP = 192, 32, 32
"""Pixels: the edge of a tile at first and at least, and how much neighbours share."""
PASSES = 3
"""How often a model is used in a row when once is not large enough."""
_LATENT_MODES: Mapping[str, tuple[str, bool]] = {
    "Latent": ("bilinear", False),
    "Latent (antialiased)": ("bilinear", True),
    "Latent (bicubic)": ("bicubic", False),
    "Latent (bicubic antialiased)": ("bicubic", True),
    "Latent (nearest)": ("nearest", False),
    "Latent (nearest-exact)": ("nearest-exact", False),
}
_WRAPPINGS = ("params_ema", "params-ema", "params", "model_state_dict", "state_dict", "model", "net")
"""Under what training programs store the weights; the averaged ones first."""


def is_latent(name: str) -> bool:
    """Whether an upscaler works on latents."""
    return name in _LATENT_MODES


def enlarged_latents(z: Tensor, size: tuple[int, int], name: str) -> Tensor:
    """Latents [b, c, h, w] at (height, width) in cells by a latent upscaler; raises InputError for another name."""
    if name not in _LATENT_MODES:
        raise InputError(f"There is no latent upscaler {name!r}.", f"Choose one of {', '.join(_LATENT_MODES)}.")
    mode, antialias = _LATENT_MODES[name]
    return nn.functional.interpolate(z.float(), size=size, mode=mode, antialias=antialias).to(z.dtype)


@dataclass
class Upscaler:
    """A loaded model that makes pictures `scale` times larger; `run` maps [1, channels, h, w] in 0..1 to the larger map and belongs to `network`."""

    name: str
    scale: int
    channels: int
    network: nn.Module
    run: Callable[[Tensor], Tensor]
    whole: bool = False
    """Whether the model cuts pictures into tiles by itself."""

    @torch.inference_mode()
    def enlarge(self, image: Image.Image, room: Room | None = None) -> Image.Image:
        """A picture `scale` times larger, RGB; tiles are halved when memory runs out. Raises StudioError when the smallest do not fit."""
        size = image.width * self.scale, image.height * self.scale
        if size[0] * size[1] > PIXEL_LIMIT:
            raise InputError(f"{self.name} would make {size[0]}x{size[1]} pixels, more than can be held.", "Begin with a smaller picture, or use a model of a smaller scale, or Lanczos.")
        weight = next(self.network.parameters())
        x = _to_tensor(image, self.channels).to(weight.device, weight.dtype)

        def attempt(tile: int) -> Callable[[], Tensor]:
            return lambda: in_tiles(x, self.run, tile, min(OVERLAP, tile // 4), self.scale)

        first = max(image.size) if self.whole else TILE
        tiles = list(smaller_tiles(first, LEAST_TILE))
        y = with_room(room or Scraps(), *(attempt(tile) for tile in tiles))
        if not bool(torch.isfinite(y).all()):
            raise Unreadable(f"{self.name} returned numbers that are not finite.", "Use another upscaler; this file is damaged or needs full precision.")
        return _to_image(y)


def _to_tensor(image: Image.Image, channels: int) -> Tensor:
    """A picture as [1, channels, h, w] in 0..1: grey, colours, or colours with full opacity."""
    image = image.convert({1: "L", 3: "RGB", 4: "RGBA"}[channels])
    data = torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8).reshape(image.height, image.width, channels)
    return data.permute(2, 0, 1)[None].float().div(255)


def _to_image(y: Tensor) -> Image.Image:
    """[1, 1, h, w] or [1, 3 or 4, h, w] in 0..1 as an RGB picture."""
    y = y[0].expand(3, -1, -1) if y.shape[1] == 1 else y[0, :3]
    return Image.fromarray(y.clamp(0, 1).mul(255).round().byte().permute(1, 2, 0).contiguous().numpy())


def load_upscaler(path: Path, device: torch.device | str = "cpu") -> Upscaler:
    """Read a model that enlarges pictures; nothing in the file is run. Raises Unreadable for anything else, in words."""
    from spandrel import ImageModelDescriptor, ModelLoader, ModelTiling, UnsupportedModelError

    weights = _weights(path)
    refusal = f"{path.name} is not a model that enlarges pictures."
    hint = "In models/ESRGAN belong models such as ESRGAN, Real-ESRGAN, SwinIR or DAT."
    try:
        found = ModelLoader(device).load_from_state_dict(weights)
    except UnsupportedModelError as error:
        raise Unreadable(refusal, hint) from error
    except (RuntimeError, KeyError, ValueError, IndexError, TypeError, AttributeError, AssertionError, ZeroDivisionError) as error:
        raise Unreadable(
            f"{path.name} looks like a model that enlarges pictures, but its weights do not fit together ({str(error).splitlines()[0][:120] if str(error) else type(error).__name__}).",
            "Get the file again.",
        ) from error
    if not isinstance(found, ImageModelDescriptor) or found.purpose == "FaceSR" or found.input_channels not in (1, 3, 4):
        raise Unreadable(f"{path.name} is a {found.architecture.name} model, which does not enlarge pictures by itself.", hint)
    found.model.requires_grad_(False).eval()
    return Upscaler(path.stem, found.scale, found.input_channels, found.model, found, found.tiling is ModelTiling.INTERNAL)


def _weights(path: Path) -> dict[str, Tensor]:
    """The tensors of an upscaler's file, taken out of what training programs wrap around them; raises NotFound and Unreadable."""
    try:
        data = _read(path)
    except FileNotFoundError as error:
        raise NotFound(f"There is no upscaler at {str(path)!r}.", "Choose another one.") from error
    for name in _WRAPPINGS:
        if isinstance(data, dict) and isinstance(data.get(name), dict):
            data = data[name]
            break
    weights = {k: v for k, v in data.items() if isinstance(k, str) and isinstance(v, Tensor)} if isinstance(data, dict) else {}
    for prefix in ("module.", "netG."):
        if weights and all(k.startswith(prefix) for k in weights):
            weights = {k.removeprefix(prefix): v for k, v in weights.items()}
    return weights


def _read(path: Path) -> Any:
    """What a file holds, by its own look and not by its name; raises Unreadable."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if path.suffix.lower() != ".safetensors":
        return load_pickle(path)
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        if isinstance(error, FileNotFoundError):
            raise
        raise Unreadable(f"{path.name} is not a safetensors file, or is cut off.", "Get it again.") from error


def enlarged(image: Image.Image, size: tuple[int, int], name: str, cache: ModelCache) -> Image.Image:
    """A picture at (width, height) by the named upscaler: plainly, or by a model of models/ESRGAN lent by the cache. Raises NotFound for another name.

    A model is used again, at most three times, until the picture is large enough; what is too large then is brought down by Lanczos. Alpha is kept.
    """
    if size[0] * size[1] > PIXEL_LIMIT or min(size) < 1:
        raise InputError(f"A picture of {size[0]}x{size[1]} pixels cannot be made.", "Choose a smaller size.")
    image = eight_bits(image)
    if name in shelves.PLAIN_UPSCALERS:
        return _resized(image, size, Image.Resampling.NEAREST if name == "Nearest" else Image.Resampling.LANCZOS)
    files = shelves.upscaler_files(cache.paths)
    if name not in files:
        raise NotFound(f"There is no upscaler {name!r}.", f"Choose one of {', '.join((*shelves.PLAIN_UPSCALERS, *files))}.")
    with cache.lend_part("upscaler", files[name], lambda: load_upscaler(files[name], cache.device)) as upscaler:
        return by_model(image, size, upscaler, cache)


def by_model(image: Image.Image, size: tuple[int, int], upscaler: Upscaler, room: Room | None = None) -> Image.Image:
    """A picture at (width, height) by a loaded model, with its alpha enlarged beside it."""
    larger = image
    for number in range(PASSES):
        if larger.width >= size[0] and larger.height >= size[1] and (number or image.size != size):
            break
        larger = upscaler.enlarge(larger, room)
        if upscaler.scale == 1:
            break
    larger = _resized(larger, size, Image.Resampling.LANCZOS)
    if image.mode in ("RGBA", "LA"):
        larger = larger.convert("RGB")
        larger.putalpha(_resized(image.getchannel("A"), size, Image.Resampling.LANCZOS))
    return larger


def _resized(image: Image.Image, size: tuple[int, int], how: Image.Resampling) -> Image.Image:
    """A picture of its own at a size."""
    return image.copy() if image.size == size else image.resize(size, how)
