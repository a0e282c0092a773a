"""Seamless pictures: a shifted input gives a shifted output, and afterwards the model is what it was."""

import pytest
import torch
from torch import Tensor, nn

from studio.diffusion.model import Conditioning, Model
from studio.diffusion.tiling import tiled

SHIFT = (16, 8)


def latents(seed: int = 0) -> Tensor:
    """Random latents of 32x16 cells."""
    return torch.randn(1, 4, 32, 16, generator=torch.Generator().manual_seed(seed))


def shifted(x: Tensor, factor: int = 1) -> Tensor:
    """Pushed over the edge and in again at the other side."""
    return x.roll((SHIFT[0] * factor, SHIFT[1] * factor), (-2, -1))


def predicted(model: Model, x: Tensor) -> Tensor:
    """The UNet's output under any condition."""
    context = torch.randn(1, 77, model.width, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        return model.predict(x, torch.tensor(500), Conditioning(context))


def state(model: Model) -> list[object]:
    """All that tiling might leave behind."""
    modules = [m for part in (model.unet, model.vae) for m in part.modules()]
    return [(type(m), getattr(m, "padding_mode", None), len(m._forward_pre_hooks), len(m._forward_hooks), sorted(vars(m))) for m in modules]


def far(one: Tensor, two: Tensor) -> float:
    """The largest difference, in standard deviations."""
    return float((one - two).abs().max() / two.std())


def test_the_unet_no_longer_knows_where_the_edge_is(tiny: Model) -> None:
    x = latents()
    with tiled(tiny) as model:
        assert far(predicted(model, shifted(x)), shifted(predicted(model, x))) < 1e-3
    assert far(predicted(tiny, shifted(x)), shifted(predicted(tiny, x))) > 1e-2


def test_a_decoded_picture_continues_over_its_edges(tiny: Model) -> None:
    x = latents() * 0.3
    with tiled(tiny):
        assert far(tiny.decode(shifted(x)), shifted(tiny.decode(x), tiny.scale)) < 1e-3
    assert far(tiny.decode(shifted(x)), shifted(tiny.decode(x), tiny.scale)) > 1e-2


def test_so_does_what_is_encoded(tiny: Model) -> None:
    picture = torch.rand(1, 3, 32 * tiny.scale, 16 * tiny.scale, generator=torch.Generator().manual_seed(1)) * 2 - 1
    with tiled(tiny):
        assert far(tiny.encode_images(shifted(picture, tiny.scale))[0], shifted(tiny.encode_images(picture)[0])) < 1e-3
    assert far(tiny.encode_images(shifted(picture, tiny.scale))[0], shifted(tiny.encode_images(picture)[0])) > 1e-2


def test_afterwards_nothing_is_left_of_it(tiny: Model) -> None:
    before, wanted = state(tiny), predicted(tiny, latents())
    with tiled(tiny):
        assert state(tiny) != before
        assert all(m.padding_mode == "circular" for part in (tiny.unet, tiny.vae) for m in part.modules() if isinstance(m, nn.Conv2d))
        assert not torch.equal(predicted(tiny, latents()), wanted)
    assert state(tiny) == before
    assert torch.equal(predicted(tiny, latents()), wanted)


def test_nothing_is_left_after_an_error_and_after_one_inside_another(tiny: Model) -> None:
    before = state(tiny)
    with pytest.raises(RuntimeError, match="stop"), tiled(tiny), tiled(tiny):
        raise RuntimeError("stop")
    assert state(tiny) == before
