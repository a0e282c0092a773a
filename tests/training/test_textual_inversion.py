"""Textual inversion keeps its vectors as long as words are, where that is wanted."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from studio.diffusion.families import SD1, SDXL
from studio.diffusion.model import Model
from studio.formats.embedding import Embedding, write_embedding
from studio.requests.train import TextualInversionConfig
from studio.training.methods import METHODS
from studio.training.methods.textual_inversion import TextualInversion
from tests.diffusion.small import made

LONG = 3.0


def vectors(width: int) -> Tensor:
    """Three vectors, one of them zero."""
    made_up = torch.randn(3, width, generator=torch.Generator().manual_seed(2)) * LONG
    made_up[1] = 0
    return made_up


def learner(model: Model, strength: float) -> TextualInversion:
    """The three vectors as something that learns."""
    return TextualInversion(model, Embedding("word", vectors(model.width)), strength)


@pytest.fixture(scope="module")
def sdxl() -> Model:
    """A small model of two text encoders, whose second has words twice as long."""
    model = made(SDXL)
    model.text_encoders[1].get_input_embeddings().weight.data.mul_(2)
    return model


def test_every_encoder_has_a_usual_length_of_its_own(sdxl: Model) -> None:
    for encoder, usual in zip(sdxl.text_encoders, sdxl.median_norms, strict=True):
        lengths = encoder.get_input_embeddings().weight.float().pow(2).sum(1).sqrt()
        assert float((lengths < usual).float().mean()) == pytest.approx(0.5, abs=1e-4)
    assert sdxl.median_norms[1] > 1.5 * sdxl.median_norms[0]
    assert made(SD1).median_norms == (made(SD1).median_norm,)


@pytest.mark.parametrize(("strength", "rate", "share"), [(1.0, 0.005, 0.5), (0.5, 0.005, 0.25), (1.0, 7.0, 1.0), (0.25, 0.01, 0.25), (0.0, 0.005, 0.0)])
def test_lengths_go_their_share_toward_those_of_words_and_directions_stay(sdxl: Model, strength: float, rate: float, share: float) -> None:
    word = learner(sdxl, strength)
    before = word.vectors.detach().clone()
    word.after_step(rate)
    at = 0
    for width, usual in zip(sdxl.widths, sdxl.median_norms, strict=True):
        old, new = before[:, at : at + width], word.vectors.detach()[:, at : at + width]
        at += width
        n = old.norm(dim=1)
        expected = torch.where(n > 0, n + share * (usual - n), 0.0)
        torch.testing.assert_close(new.norm(dim=1), expected)
        torch.testing.assert_close(new * n[:, None], old * expected[:, None])
    if not share:
        assert torch.equal(word.vectors.detach(), before)


def test_the_strength_comes_from_the_form(sdxl: Model, tmp_path: Path) -> None:
    write_embedding(tmp_path / "word.safetensors", Embedding("word", vectors(sdxl.width)))
    config = TextualInversionConfig(embedding="word", data="x", norm_relaxation=1.0)
    kept, drawn = (METHODS[0].attach(sdxl, tmp_path / "word.safetensors", *knobs) for knobs in ((), (config,)))
    for word in (kept, drawn):
        word.after_step(1.0)
    assert float(kept.vectors.detach()[0, : sdxl.widths[0]].norm()) > LONG
    assert float(drawn.vectors.detach()[0, : sdxl.widths[0]].norm()) == pytest.approx(sdxl.median_norms[0], rel=1e-5)
