"""SD upscale: an image made larger by an upscaler, then repainted tile by tile in img2img, the tiles blended where they overlap."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from PIL import Image
from torch import Tensor

from studio import shelves
from studio.diffusion.conversion import from_image, to_image
from studio.diffusion.inpaint import sketch
from studio.diffusion.mosaic import in_tiles, tile_count
from studio.diffusion.resize import flattened, open_image
from studio.diffusion.upscale import enlarged
from studio.jobs import Lane
from studio.requests.generate import GenerateRequest
from studio.requests.sd_upscale import SdUpscaleRequest
from studio.services import generation
from studio.services.desk import Desk
from studio.services.generation import Painter, Work


def run(request: SdUpscaleRequest, lane: Lane, desk: Desk) -> dict[str, Any]:
    """Upscale, repaint every tile, save; batch count and size give several results, each with the next seed. Raises StudioError in words."""
    image = flattened(open_image(request.base.init_image), request.base.background_color)
    if request.base.sketch:
        image, _ = sketch(image, open_image(request.base.sketch, "Sketch"))
    upscaler = next((name for name in shelves.upscalers(desk.paths, latent=False) if name.lower() == request.upscaler.lower()), request.upscaler)
    if upscaler != "None":
        image = enlarged(image, (round(image.width * request.scale), round(image.height * request.scale)), upscaler, desk.cache)
    tile = _tile(request.base, image.size)

    def painted(painter: Painter, asked: GenerateRequest) -> list[Image.Image]:
        with TemporaryDirectory(prefix="sd-upscale-") as folder:
            name = "variation_seed" if asked.variation_strength else "seed"
            each = [asked.model_copy(update={name: getattr(asked, name) + i, "batch_size": 1, "sketch": ""}) for i in range(asked.batch_size)]
            return [_repainted(painter, one, image, request.overlap, Path(folder)) for one in each]

    facts = {"SD upscale overlap": str(request.overlap), "SD upscale upscaler": upscaler}
    runs = tile_count((image.height, image.width), (tile[1], tile[0]), request.overlap) * request.base.batch_size
    return generation.run(request.base.model_copy(update={"width": tile[0], "height": tile[1]}), lane, desk, Work(painted, runs, facts))


def _tile(base: GenerateRequest, size: tuple[int, int]) -> tuple[int, int]:
    """Width and height of a tile: as asked for, no larger than the image, in multiples of 8."""
    width, height = (max(64, min(wanted or 512, side // 8 * 8)) for wanted, side in zip((base.width, base.height), size, strict=True))
    return width, height


def _repainted(painter: Painter, request: GenerateRequest, image: Image.Image, overlap: int, folder: Path) -> Image.Image:
    """The image with every tile repainted; raises Stopped."""

    def repaint(part: Tensor) -> Tensor:
        tile, path = to_image(part[0]), folder / "tile.png"
        tile.save(path)
        (done,) = generation.paint_batch(painter, request.model_copy(update={"init_image": str(path)}))
        return from_image(done if done.size == tile.size else done.resize(tile.size, Image.Resampling.LANCZOS))

    return to_image(in_tiles(from_image(image), repaint, (request.height, request.width), overlap, 1)[0])
