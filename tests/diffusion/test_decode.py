"""Decoding on a device that is too small, and an autoencoder that overflows: told in words, and never a black picture."""

import math
from dataclasses import dataclass, field

import pytest
import torch
from torch import Tensor, nn

from studio.diffusion.decode import decode
from studio.diffusion.model import Model
from studio.errors import StudioError, Unreadable


@dataclass
class Limited:
    """Stands before a VAE's decode and has room for so many cells at once."""

    decode: object
    cells: int
    error: type[Exception] = torch.OutOfMemoryError
    calls: list[tuple[int, int, int]] = field(default_factory=list)

    def __call__(self, z: Tensor, *rest: object, **named: object) -> object:
        """Decode, or say that memory ran out."""
        self.calls.append((z.shape[0], *z.shape[-2:]))
        if z.shape[0] * z.shape[-1] * z.shape[-2] > self.cells:
            raise self.error("CUDA out of memory. Tried to allocate 9.00 GiB.")
        return self.decode(z, *rest, **named)


@dataclass
class Freed:
    """A room that remembers how often it was asked."""

    asked: int = 0

    def make_room(self, wanted: int | None = None) -> int:
        """Free nothing."""
        self.asked += 1
        return 0


def latents(count: int = 2, side: int = 32) -> Tensor:
    """Random latents."""
    return torch.randn(count, 4, side, side, generator=torch.Generator().manual_seed(0)) * 0.5


def test_with_enough_memory_it_is_the_models_own_decoding(tiny: Model) -> None:
    said: list[str] = []
    assert torch.equal(decode(tiny, latents(), tell=said.append), tiny.decode(latents()).cpu())
    assert said == []


@pytest.mark.parametrize("error", [torch.OutOfMemoryError, RuntimeError])
def test_pictures_are_decoded_one_by_one_before_any_of_them_is_cut(tiny: Model, monkeypatch: pytest.MonkeyPatch, error: type[Exception]) -> None:
    wanted = tiny.decode(latents()).cpu()
    limited, said, room = Limited(tiny.vae.decode, 1024, error), [], Freed()
    monkeypatch.setattr(tiny.vae, "decode", limited)
    found = decode(tiny, latents(), room, said.append)
    assert torch.allclose(found, wanted, atol=1e-3)
    assert limited.calls == [(2, 32, 32), (2, 32, 32), (1, 32, 32), (1, 32, 32)]
    assert room.asked == 2
    assert said == []


@pytest.mark.parametrize(("side", "cells"), [(40, 400), (24, 256)])
def test_then_tiles_are_halved_and_that_is_said(tiny: Model, monkeypatch: pytest.MonkeyPatch, side: int, cells: int) -> None:
    wanted = tiny.decode(latents(1, side)).cpu()
    limited, said = Limited(tiny.vae.decode, cells), []
    monkeypatch.setattr(tiny.vae, "decode", limited)
    found = decode(tiny, latents(1, side), tell=said.append)
    assert found.shape == wanted.shape
    assert (found - wanted).abs().mean() < 0.15
    edge = math.isqrt(cells)
    assert f"tiles of {edge * tiny.scale} pixels" in said[-1]
    assert max(h * w for _, h, w in limited.calls[-4:]) <= cells


def test_when_nothing_fits_it_is_told_in_words_with_what_to_do(tiny: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiny.vae, "decode", Limited(tiny.vae.decode, 10))
    with pytest.raises(StudioError, match=r"out of memory: 9\.00 GiB") as caught:
        decode(tiny, latents())
    assert caught.value.code == "out_of_memory"
    assert "smaller" in caught.value.hint


def test_after_a_failure_the_model_decodes_as_before(tiny: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = tiny.decode(latents())
    with monkeypatch.context() as patch:
        patch.setattr(tiny.vae, "decode", Limited(tiny.vae.decode, 10))
        with pytest.raises(StudioError):
            decode(tiny, latents())
    assert torch.equal(tiny.decode(latents()), wanted)


def test_another_error_is_not_taken_for_a_lack_of_memory(tiny: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("shapes do not match")

    monkeypatch.setattr(tiny.vae, "decode", broken)
    with pytest.raises(RuntimeError, match="shapes"):
        decode(tiny, latents())


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_latents_that_are_not_finite_are_told_before_decoding(tiny: Model, monkeypatch: pytest.MonkeyPatch, value: float) -> None:
    z, limited = latents(), Limited(tiny.vae.decode, 10**9)
    z[1, 2, 3, 4] = value
    monkeypatch.setattr(tiny.vae, "decode", limited)
    with pytest.raises(Unreadable, match="not finite") as caught:
        decode(tiny, z)
    assert limited.calls == []
    assert caught.value.hint


class Overflowing(nn.Module):
    """A VAE whose halves overflow, as SDXL's first one does; with `always` its full precision does too."""

    def __init__(self, inner: nn.Module, always: bool) -> None:
        super().__init__()
        self.inner, self.always, self.narrow, self.calls = inner, always, True, 0

    @property
    def dtype(self) -> torch.dtype:
        """The precision it believes it has."""
        return torch.float16 if self.narrow else torch.float32

    @property
    def config(self) -> object:
        """What it is made of."""
        return self.inner.config

    def to(self, *args: object, **named: object) -> "Overflowing":
        """Change the precision it believes it has."""
        self.narrow = torch.float32 not in (*args, *named.values())
        return self

    def decode(self, z: Tensor) -> object:
        """Decode, with what its precision makes of it."""
        self.calls += 1
        output = self.inner.decode(z.float())
        if self.narrow or self.always:
            output.sample.fill_(math.nan)
        return output


def test_an_autoencoder_that_overflows_in_halves_is_tried_once_in_full_precision(tiny: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted, vae = tiny.decode(latents()).cpu(), Overflowing(tiny.vae, always=False)
    monkeypatch.setattr(tiny, "vae", vae)
    assert torch.equal(decode(tiny, latents()), wanted)
    assert vae.calls == 2


def test_one_that_overflows_in_full_precision_too_is_told_in_words(tiny: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    vae = Overflowing(tiny.vae, always=True)
    monkeypatch.setattr(tiny, "vae", vae)
    with pytest.raises(Unreadable, match="autoencoder") as caught:
        decode(tiny, latents())
    assert vae.calls == 2
    assert "VAE" in caught.value.hint
