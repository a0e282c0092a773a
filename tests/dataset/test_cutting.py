"""What an order asks for reaches whoever cuts, and the mask that comes of it."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

from studio.dataset.background import Cut
from studio.dataset.cutting import Order, masked
from studio.dataset.masks import mask_png
from studio.diffusion.cache import ModelCache
from studio.jobs import SilentLane
from studio.projects.facts import Choices
from studio.requests.mask import MaskRequest
from studio.services import masking
from studio.services.desk import Desk
from studio.settings import Paths


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    """A red disc on grey."""
    path = tmp_path / "set" / "a.png"
    path.parent.mkdir()
    image = Image.new("RGB", (96, 80), (200, 200, 200))
    ImageDraw.Draw(image).ellipse((20, 15, 75, 65), fill=(200, 30, 30))
    image.save(path)
    return path


def ring() -> Image.Image:
    """A mask with a hole."""
    mask = Image.new("L", (96, 80))
    ImageDraw.Draw(mask).ellipse((20, 15, 75, 65), fill=255)
    ImageDraw.Draw(mask).ellipse((40, 30, 55, 50), fill=0)
    return mask


def test_words_reach_the_network_and_holes_are_filled_when_asked(picture: Path) -> None:
    asked: list[str] = []

    def segment(image: Image.Image, seed: Any) -> Cut:
        asked.append(seed.words)
        return Cut(ring(), 0.5)

    assert masked(Order(picture, None, Choices(), words="a dog"), segment).png == mask_png(ring())
    whole = masked(Order(picture, None, Choices(), fill_holes=True), segment)
    assert asked == ["a dog", ""]
    (picture.parent / "made.png").write_bytes(whole.png)
    with Image.open(picture.parent / "made.png") as made:
        assert made.getpixel((47, 40)) == 255 and np.asarray(made).mean() > np.asarray(ring()).mean()


@pytest.mark.parametrize("words", ["", "a disc"])
def test_automatic_works_with_what_is_there(picture: Path, root: Paths, words: str) -> None:
    request = MaskRequest(folder=str(picture.parent), segmenter="Automatic", words=words)
    assert masking.run(request, SilentLane(), Desk(root, ModelCache(root, device="cpu")))["masks"] == 1
    assert (picture.parent / "a-masklabel.png").is_file()
