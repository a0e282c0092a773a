"""SD upscale on the tiny world: tiles of the size asked for, joined without a seam, with its words in the infotext."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

from studio.diffusion.cache import ModelCache
from studio.errors import InputError, NotFound
from studio.formats.infotext import infotext_of, read_infotext
from studio.jobs import SilentLane
from studio.pasting import request_values
from studio.requests.sd_upscale import SdUpscaleRequest
from studio.services.desk import Desk
from studio.services.sd_upscale import run
from studio.settings import Paths


@pytest.fixture
def desk(root: Paths, tiny_cache: ModelCache) -> Desk:
    """A desk over an empty root."""
    return Desk(root, tiny_cache)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A 100x72 image of blocks of colour."""
    image = Image.new("RGB", (100, 72), (40, 90, 160))
    ImageDraw.Draw(image).rectangle((16, 20, 60, 60), fill=(220, 60, 40))
    image.save(tmp_path / "source.png")
    return tmp_path / "source.png"


def asked(source: Path, base: dict[str, Any], **values: Any) -> SdUpscaleRequest:
    """A request with quick tiles of 64x64."""
    quick = {"init_image": str(source), "prompt": "a red monster", "steps": 2, "seed": 5, "width": 64, "height": 64, "preview_every": 0}
    return SdUpscaleRequest.check({"base": {**quick, **base}, "overlap": 16, **values})  # type: ignore[return-value]


def test_the_image_is_enlarged_and_repainted_in_tiles_of_one_size(desk: Desk, source: Path) -> None:
    lane = SilentLane()
    result = run(asked(source, {"denoising_strength": 0.3, "batch_count": 2}, upscaler="lanczos", scale=1.5), lane, desk)
    pictures = [Image.open(path) for path in result["images"]]
    assert [picture.size for picture in pictures] == [(150, 108)] * 2
    assert result["seeds"] == [5, 6]
    enlarged = np.asarray(Image.open(source).resize((150, 108), Image.Resampling.LANCZOS)).astype(int)
    first, second = (np.asarray(picture).astype(int) for picture in pictures)
    assert 1 < np.abs(first - enlarged).mean() < 60
    assert np.abs(first - second).mean() > 0.5
    told = read_infotext(infotext_of(Path(result["images"][0])))
    assert (told["SD upscale overlap"], told["SD upscale upscaler"], told["Size"], told["Denoising strength"]) == ("16", "Lanczos", "64x64", "0.3")
    assert not [note for note in request_values(infotext_of(Path(result["images"][0])))[1] if "SD upscale" in note]
    steps = [data["step"] / data["total"] for kind, data in lane.events if kind == "progress"]
    assert steps == sorted(steps)
    assert steps[-1] == 1


def test_without_denoising_the_tiles_join_to_the_enlarged_image(desk: Desk, source: Path) -> None:
    result = run(asked(source, {"denoising_strength": 0.0}, upscaler="Nearest"), SilentLane(), desk)
    enlarged = Image.open(source).resize((200, 144), Image.Resampling.NEAREST)
    assert np.abs(np.asarray(Image.open(result["images"][0])).astype(int) - np.asarray(enlarged)).max() <= 1


def test_none_keeps_the_size_and_an_unknown_upscaler_is_told(desk: Desk, source: Path) -> None:
    assert Image.open(run(asked(source, {"denoising_strength": 0.0, "width": 0, "height": 0}), SilentLane(), desk)["images"][0]).size == (100, 72)
    with pytest.raises(NotFound, match="4x-Ultra"):
        run(asked(source, {}, upscaler="4x-Ultra"), SilentLane(), desk)


@pytest.mark.parametrize(("base", "values", "said"), [({"mask": "m.png"}, {}, "without a mask"), ({"init_image": ""}, {}, "use it in img2img"), ({}, {"overlap": 40}, "more than half of a tile")])
def test_mistakes_are_told(source: Path, base: dict[str, Any], values: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        asked(source, base, **values)
