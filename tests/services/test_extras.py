"""Extras: the size asked for, and what the image was: transparency stays, by every upscaler and in every mode of file."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from studio.diffusion.cache import ModelCache
from studio.jobs import SilentLane
from studio.requests.extras import ExtrasRequest
from studio.services.desk import Desk
from studio.services.extras import run
from studio.settings import Paths
from tests.diffusion.test_upscale import compact_weights, stored


@pytest.fixture
def desk(root: Paths) -> Desk:
    """A desk with one upscaler model."""
    stored(root.esrgan, {"params": compact_weights()}, "2x-small.pth")
    return Desk(root, ModelCache(root, device="cpu"))


def layer() -> Image.Image:
    """A red disc with a soft opacity on transparency."""
    image = Image.new("RGBA", (40, 30), (0, 0, 0, 0))
    ImageDraw.Draw(image).ellipse((8, 4, 30, 26), fill=(220, 20, 30, 200))
    return image


@pytest.mark.parametrize("knobs", [{}, {"second_upscaler": "Nearest", "second_visibility": 0.5}, {"resize": "Scale to", "width": 64, "height": 64}], ids=["one", "two", "crop"])
@pytest.mark.parametrize("upscaler", ["None", "Lanczos", "Nearest", "2x-small"])
@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparency_stays(desk: Desk, tmp_path: Path, mode: str, upscaler: str, knobs: dict) -> None:
    path = tmp_path / "layer.png"
    source = layer().quantize(8) if mode == "P" else layer().convert(mode)
    source.save(path)
    found = Image.open(run(ExtrasRequest(images=(str(path),), upscaler=upscaler, **knobs), SilentLane(), desk)["images"][0])
    assert found.mode == "RGBA"
    alpha = np.asarray(found)[..., 3]
    assert alpha[:4].max() <= 8
    assert abs(int(alpha[alpha.shape[0] // 2, alpha.shape[1] // 2]) - 200) <= 8
    if mode != "LA":
        red, green, _, _ = found.getpixel((found.width // 2, found.height // 2))
        assert red > green + 60


@pytest.mark.parametrize("mode", ["RGB", "L", "1", "CMYK"])
def test_an_opaque_image_stays_opaque(desk: Desk, tmp_path: Path, mode: str) -> None:
    path = tmp_path / "plain.tif"
    layer().convert("RGB").convert(mode).save(path)
    request = ExtrasRequest(images=(str(path),), upscaler="2x-small", second_upscaler="Lanczos", second_visibility=0.3)
    found = Image.open(run(request, SilentLane(), desk)["images"][0])
    assert (found.mode, found.size) == ("RGB", (80, 60))
