"""Masks on the latent grid, what is under them at first, and what checkpoints made for inpainting see."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from diffusers import UNet2DConditionModel
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor

from studio.diffusion.masked_latents import blank_conditioning, first_content, latent_mask, mask_tensor, masked_conditioning
from studio.diffusion.model import Conditioning, Model
from studio.errors import InputError


def boxed(box: tuple[int, int, int, int], size: tuple[int, int] = (64, 64), value: int = 255) -> Image.Image:
    """A black mask with one lighter box."""
    mask = Image.new("L", size, 0)
    mask.paste(value, box)
    return mask


def picture(seed: int = 0, count: int = 1) -> Tensor:
    """Pictures of 64x64 random pixels in -1..1."""
    return torch.rand(count, 3, 64, 64, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def test_cells_more_than_half_painted_are_repainted() -> None:
    cells = latent_mask(boxed((16, 8, 48, 32)), (8, 8))
    wanted = torch.zeros(1, 1, 8, 8)
    wanted[..., 1:4, 2:6] = 1
    assert torch.equal(cells, wanted)


@given(st.integers(1, 200), st.integers(1, 200), st.integers(1, 30), st.integers(1, 30), st.data())
@settings(deadline=None, max_examples=80)
def test_the_grid_is_as_asked_for_rounded_to_nought_and_one_and_no_mask_is_lost(width: int, height: int, rows: int, columns: int, data: st.DataObject) -> None:
    x, y = data.draw(st.integers(0, width - 1)), data.draw(st.integers(0, height - 1))
    mask = boxed((x, y, data.draw(st.integers(x + 1, width)), data.draw(st.integers(y + 1, height))), (width, height))
    for rounded in (True, False):
        cells = latent_mask(mask, (rows, columns), rounded)
        assert (tuple(cells.shape), cells.dtype) == ((1, 1, rows, columns), torch.float32)
        assert 0 <= cells.min() <= cells.max() <= 1
        assert cells.any()
        assert not rounded or set(cells.unique().tolist()) <= {0.0, 1.0}


def test_soft_cells_keep_their_greys_and_an_empty_mask_stays_empty() -> None:
    soft = latent_mask(Image.new("L", (64, 64), 51), (8, 8), rounded=False)
    assert torch.allclose(soft, torch.full((1, 1, 8, 8), 0.2))
    assert not latent_mask(Image.new("L", (64, 64), 0), (8, 8)).any()
    assert latent_mask(Image.new("L", (64, 64), 255), (8, 8)).all()


def test_a_faint_mask_repaints_the_cells_it_touches() -> None:
    cells = latent_mask(boxed((9, 17, 11, 18), value=40), (8, 8))
    assert cells.nonzero().tolist() == [[0, 0, 2, 1]]


@pytest.mark.parametrize("kind", ["fill", "original", "latent noise", "latent nothing"])
def test_the_first_content_is_what_was_chosen_under_the_mask_and_the_known_elsewhere(kind: str) -> None:
    known, noise = torch.full((1, 4, 8, 8), 3.0), torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    cells = torch.zeros(1, 1, 8, 8)
    cells[..., :4, :] = 1
    found = first_content(kind, known, cells, noise)
    assert found.shape == (2, 4, 8, 8)
    assert (found[..., 4:, :] == 3).all()
    inside = {"latent noise": noise, "latent nothing": torch.zeros_like(noise)}.get(kind, known.expand(2, -1, -1, -1))
    assert torch.equal(found[..., :4, :], inside[..., :4, :])


def test_the_first_content_is_a_tensor_of_its_own() -> None:
    known = torch.zeros(1, 4, 8, 8)
    first_content("original", known, torch.ones(1, 1, 8, 8), torch.zeros(2, 4, 8, 8)).add_(1)
    assert not known.any()


def test_an_unknown_content_is_refused_with_its_name() -> None:
    with pytest.raises(InputError, match="latent dreams"):
        first_content("latent dreams", torch.zeros(1, 4, 8, 8), torch.ones(1, 1, 8, 8), torch.zeros(1, 4, 8, 8))


def test_a_mask_pixel_by_pixel() -> None:
    mask = boxed((0, 0, 32, 64), value=128)
    assert torch.equal(mask_tensor(mask), torch.from_numpy(np.asarray(mask) > 0)[None, None].float())
    assert mask_tensor(mask, rounded=False).max() == pytest.approx(128 / 255)


def test_what_is_masked_is_hidden_wholly_at_full_weight(tiny: Model) -> None:
    one, two, mask = picture(1), picture(1), mask_tensor(boxed((16, 16, 48, 48)))
    two[..., 16:48, 16:48] = 0.9
    assert torch.equal(masked_conditioning(tiny, one, mask), masked_conditioning(tiny, two, mask))
    grey = one * (1 - mask)
    assert torch.equal(masked_conditioning(tiny, one, mask)[:, 1:], tiny.encode_images(grey)[0])
    assert not torch.equal(masked_conditioning(tiny, one, mask, 0.7), masked_conditioning(tiny, two, mask, 0.7))


def test_the_picture_is_shown_whole_at_no_weight_and_by_degrees_between(tiny: Model) -> None:
    image, mask = picture(1), mask_tensor(boxed((16, 16, 48, 48)))
    assert torch.equal(masked_conditioning(tiny, image, mask, 0)[:, 1:], tiny.encode_images(image)[0])
    hidden, whole = masked_conditioning(tiny, image, mask, 1), masked_conditioning(tiny, image, mask, 0)
    away = [float((masked_conditioning(tiny, image, mask, w) - whole).norm()) for w in (0.0, 0.3, 0.7, 1.0)]
    assert away == sorted(away)
    assert away[-1] == pytest.approx(float((hidden - whole).norm()))
    assert away[0] == 0


def test_the_mask_comes_first_on_the_latent_grid_whatever_the_weight(tiny: Model) -> None:
    mask = mask_tensor(boxed((16, 8, 48, 32)))
    for weight in (0.0, 1.0):
        found = masked_conditioning(tiny, picture(1, 3), mask, weight)
        side = 64 // tiny.scale
        assert found.shape == (3, 5, side, side)
        assert torch.equal(found[:, :1], mask[..., :: tiny.scale, :: tiny.scale].expand(3, -1, -1, -1))


def test_without_a_mask_everything_is_masked(tiny: Model) -> None:
    assert torch.equal(masked_conditioning(tiny, picture(1), None), blank_conditioning(tiny, (64 // tiny.scale, 64 // tiny.scale)))


def test_txt2img_shows_a_grey_picture_wholly_masked(tiny: Model) -> None:
    found = blank_conditioning(tiny, (6, 9))
    assert found.shape == (1, 5, 6, 9)
    assert (found[:, 0] == 1).all()
    assert torch.equal(found[:, 1:], tiny.encode_images(torch.zeros(1, 3, 6 * tiny.scale, 9 * tiny.scale))[0])


def test_a_network_of_nine_channels_takes_it_for_a_whole_batch(tiny: Model) -> None:
    torch.manual_seed(0)
    model = replace(tiny, unet=UNet2DConditionModel.from_config(dict(tiny.unet.config) | {"in_channels": 9}))
    x, context = torch.randn(2, 4, 8, 8), torch.randn(1, 77, tiny.unet.config.cross_attention_dim)
    with torch.no_grad():
        blank, shown = (
            model.predict(x, torch.tensor(500), Conditioning(context), extra)
            for extra in (
                blank_conditioning(model, (8, 8)),
                masked_conditioning(model, torch.ones(1, 3, 8 * model.scale, 8 * model.scale), mask_tensor(Image.new("L", (8 * model.scale, 8 * model.scale), 0))),
            )
        )
    assert blank.shape == (2, 4, 8, 8)
    assert not torch.allclose(blank, shown)
