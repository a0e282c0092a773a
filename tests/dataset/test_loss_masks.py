"""Loss weights: mean 1 whatever the mask's size, a constant mask is no mask, and they lie where the picture lies."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image, ImageDraw

from studio.dataset.folder import open_upright
from studio.dataset.latents import cover, pixels
from studio.dataset.loss_masks import is_black, mask_of, packed, unpacked, weights
from studio.dataset.masks import ORIENTATION, mask_file

GREYS = arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9)))


@given(GREYS, st.floats(0, 1))
def test_weights_have_mean_one_and_keep_the_order_of_the_greys(greys: np.ndarray, floor: float) -> None:
    weight = weights(greys, floor)
    assert weight.shape == greys.shape
    assert float(weight.double().mean()) == pytest.approx(1, abs=1e-5)
    assert float(weight.min()) >= 0
    by_grey = weight.flatten()[torch.from_numpy(np.argsort(greys, axis=None, kind="stable"))]
    assert bool((by_grey.diff() >= -1e-6).all())


@pytest.mark.parametrize("grey", [0, 128, 255])
def test_a_mask_of_one_grey_means_weight_one_everywhere(grey: int) -> None:
    assert torch.equal(weights(np.full((3, 5), grey, np.uint8)), torch.ones(3, 5))
    assert is_black(np.full((3, 5), grey, np.uint8)) == (grey == 0)


@pytest.mark.parametrize(("floor", "ratio"), [(0.0, 0.0), (0.25, 0.25), (1.0, 1.0)])
def test_the_floor_is_what_black_counts_of_white(floor: float, ratio: float) -> None:
    weight = weights(np.array([[0, 255], [255, 255]], np.uint8), floor)
    assert float(weight[0, 0] / weight[0, 1]) == pytest.approx(ratio)


@given(GREYS)
def test_a_mask_comes_back_from_its_text(greys: np.ndarray) -> None:
    assert np.array_equal(unpacked(packed(greys), (greys.shape[1] * 8, greys.shape[0] * 8)), greys)


@pytest.mark.parametrize("text", ["", "hello", "aGVsbG8="])
def test_what_is_no_mask_is_told_as_a_value_error(text: str) -> None:
    with pytest.raises(ValueError, match=r"incorrect|cannot|Incorrect|incomplete"):
        unpacked(text, (64, 64))


def painted(folder: Path, size: tuple[int, int], where: str, turn: int = 1) -> Path:
    """A black picture whose white strokes are its mask beside it, or one of black strokes on nothing whose alpha is its mask."""
    mark = Image.new("L", size, 0)
    ImageDraw.Draw(mark).rectangle((size[0] // 8, size[1] // 3, size[0] // 2, size[1] // 2), fill=255)
    ImageDraw.Draw(mark).ellipse((size[0] * 5 // 8, 1, size[0] * 7 // 8, size[1] // 3), fill=255)
    path, exif = folder / "a.png", Image.Exif()
    exif[ORIENTATION] = turn
    if where == "alpha":
        Image.merge("RGBA", (*[Image.new("L", size, 0)] * 3, mark)).save(path, exif=exif)
        return path
    mark.convert("RGB").save(path, exif=exif)
    mark.save(mask_file(path))
    return path


@pytest.mark.parametrize("where", ["beside", "alpha"])
@pytest.mark.parametrize(("size", "target", "turn"), [((400, 130), (64, 64), 1), ((130, 400), (128, 64), 1), ((96, 40), (64, 128), 6), ((30, 20), (64, 64), 1), ((201, 333), (64, 192), 1)])
def test_a_mask_lies_where_the_picture_lies(tmp_path: Path, where: str, size: tuple[int, int], target: tuple[int, int], turn: int) -> None:
    picture = painted(tmp_path, size, where, turn)
    light = (pixels(cover(open_upright(picture), *target))[0] + 1) / 2
    shown = torch.nn.functional.avg_pool2d((1 - light if where == "alpha" else light)[None, None], 8)[0, 0]
    greys = torch.from_numpy(mask_of(picture, target) / 255).float()
    assert greys.shape == (target[1] // 8, target[0] // 8)
    assert 0 < float(greys.mean()) < 1
    assert float((greys - shown).abs().mean()) < 0.03
    others = (greys.flip(-1), greys.flip(-2), greys.flip(-1, -2))
    assert all(float((other - shown).abs().mean()) > 0.1 for other in others)


def test_a_picture_without_a_mask_has_none(tmp_path: Path) -> None:
    Image.new("RGB", (80, 64)).save(tmp_path / "a.png")
    assert mask_of(tmp_path / "a.png", (64, 64)) is None
