"""The loop: its first losses, and that what saves memory or time learns the same as what does not."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import torch
from torch import Tensor

from studio.dataset.batches import Batches, Sample
from studio.diffusion.families import SDXL
from studio.diffusion.model import Model
from studio.errors import StudioError
from studio.formats.embedding import Embedding
from studio.training import passes
from studio.training.loop import Plan, train
from studio.training.methods.textual_inversion import TextualInversion
from studio.training.optim import build
from studio.training.passes import Passes, draw, drawn, losses
from studio.training.preparation import Compiled, prepared
from tests.diffusion.small import made

FIRST = (1.880689, 1.862976, 1.775831)
"""Losses of the first steps on the tiny world, as they were when the loop was first written."""


@dataclass
class Quiet:
    """A watch of few steps that keeps what it hears."""

    end: int = 3
    step: int = 0
    scale: float = 1.0
    heard: list[Any] = field(default_factory=list)
    said: list[tuple[str, str]] = field(default_factory=list)

    def rate(self) -> float:
        """Always the same."""
        return 0.005

    def stopping(self) -> bool:
        """Nobody stops it."""
        return False

    def stepped(self, step: Any) -> None:
        """Keep the step."""
        self.step = step.done
        self.heard.append(step)

    def note(self, kind: str, text: str) -> None:
        """Keep what was said."""
        self.said.append((kind, text))


def plan(size: int = 2, parts: int = 2, edge: int = 16, **knobs: Any) -> Plan:
    """Three made-up latents with captions."""
    draw = torch.Generator().manual_seed(1)
    captions = ("a red circle", "blue square, (big:1.2)", "dog")
    samples = tuple(Sample(str(i), c, torch.randn(4, edge, edge, generator=draw), torch.rand(4, edge, edge, generator=draw)) for i, c in enumerate(captions))
    return Plan(Batches(samples, ("a photo of [name], [filewords]", "[name]"), "gnarl", size, 7, parts), **knobs)


def word(model: Model) -> TextualInversion:
    """Two vectors that learn."""
    return TextualInversion(model, Embedding("gnarl", torch.randn(2, model.width, generator=torch.Generator().manual_seed(3)) * 0.1))


def gradient(model: Model, plan: Plan, scale: float = 1.0, at_once: int = 0) -> Tensor:
    """What the first step adds up [2, width]."""
    learner = word(model)
    all_ = Passes(model, learner, plan, lambda _kind, _text: None, at_once)
    for part in range(plan.batches.parts):
        all_.add(draw(plan, 0, part), scale)
    assert learner.vectors.grad is not None
    return learner.vectors.grad


def near(found: Tensor, wanted: Tensor) -> None:
    """A millionth of the largest number apart, at most."""
    torch.testing.assert_close(found, wanted, rtol=0, atol=2e-6 * float(wanted.abs().max()))


@pytest.fixture(scope="module")
def small() -> Model:
    """A small random model of SD1's kind."""
    return made()


def test_the_first_losses_are_what_they_always_were(tiny: Model) -> None:
    knobs = plan(min_snr_gamma=5.0)
    draw = torch.Generator().manual_seed(1)
    for _ in range(3):
        torch.randn(4, 16, 16, generator=draw), torch.rand(4, 16, 16, generator=draw)
    learner = TextualInversion(tiny, Embedding("gnarl", torch.randn(2, tiny.width, generator=draw) * 0.1))
    watch = Quiet()
    assert train(tiny, learner, build("AdamW", learner.parameters(), 0.005), knobs, watch)
    assert [step.loss for step in watch.heard] == pytest.approx(FIRST, rel=1e-5)


def test_smaller_portions_come_to_the_same_gradients(small: Model) -> None:
    knobs = plan(size=3, parts=1, edge=8, min_snr_gamma=5.0)
    whole = gradient(small, knobs)
    near(gradient(small, knobs, at_once=1), whole)
    near(gradient(small, knobs, at_once=2), whole)


def test_small_parts_of_a_step_pass_together_with_the_same_gradients(small: Model) -> None:
    apart, knobs = gradient(small, plan(size=1, parts=4, edge=8, noise_offset=0.1)), plan(size=1, parts=4, edge=8, noise_offset=0.1)
    (batch,) = drawn(knobs, 0)
    assert batch.prompts == tuple(draw(knobs, 0, part).prompts[0] for part in range(4))
    learner = word(small)
    loss = Passes(small, learner, knobs, lambda _kind, _text: None).add(batch, 1.0)
    near(learner.vectors.grad, apart)
    parts = [Passes(small, word(small), knobs, lambda _kind, _text: None).add(draw(knobs, 0, part), 1.0) for part in range(4)]
    assert loss == pytest.approx(sum(parts), rel=1e-5)
    assert [len(batch.prompts) for batch in drawn(plan(size=1, parts=5, edge=32), 0)] == [2, 2, 1]


def test_a_batch_that_does_not_fit_is_halved_once_and_told_once(small: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    knobs, sizes = plan(size=4, parts=1, edge=8), []
    whole = gradient(small, knobs)

    def short(model: Model, learner: Any, plan: Plan, batch: Any) -> Any:
        sizes.append(len(batch.prompts))
        if len(batch.prompts) > 2 or sizes == [4, 2, 2]:  # the second portion fails once too: what the first one added must be gone
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return losses(model, learner, plan, batch)

    monkeypatch.setattr(passes, "losses", short)
    watch, learner = Quiet(end=1), word(small)
    train(small, learner, torch.optim.SGD(learner.parameters(), 1.0), knobs, watch)
    torch.testing.assert_close(word(small).vectors.detach() - learner.vectors.detach(), 0.005 * whole, rtol=1e-3, atol=2e-8)
    assert sizes == [4, 2, 2, 1, 1, 1, 1]
    assert [kind for kind, _ in watch.said] == ["warning", "warning"]
    assert "A batch of 4 pictures does not fit into memory: it is now looked at 2 at a time" in watch.said[0][1]


def test_one_picture_that_does_not_fit_is_told_in_words(small: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(passes, "losses", never)
    with pytest.raises(StudioError, match="one picture at a time") as raised:
        gradient(small, plan(size=2, parts=1, edge=8))
    assert raised.value.code == "out_of_memory"
    assert "gradient checkpointing" in raised.value.hint


def test_other_errors_are_not_taken_for_a_lack_of_memory(small: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> Any:
        raise RuntimeError("shapes do not match")

    monkeypatch.setattr(passes, "losses", broken)
    with pytest.raises(RuntimeError, match="shapes"):
        gradient(small, plan(size=2, parts=1, edge=8))


@pytest.fixture
def kept_bytes() -> Callable[[Model, Plan], int]:
    """Counts the bytes that are kept for the way back beside the weights."""

    def count(model: Model, plan: Plan) -> int:
        weights = {p.untyped_storage().data_ptr() for part in (model.unet, *model.text_encoders) for p in part.parameters()}
        sizes: dict[int, int] = {}

        def pack(x: Tensor) -> Tensor:
            storage = x.untyped_storage()
            if storage.data_ptr() not in weights:
                sizes[storage.data_ptr()] = storage.nbytes()
            return x

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
            errors, _ = losses(model, word(model), plan, draw(plan, 0, 0))
        assert errors.requires_grad
        return sum(sizes.values())

    return count


def test_feed_forwards_are_computed_again_on_a_cpu_with_the_same_bits(tiny: Model, kept_bytes: Callable[[Model, Plan], int]) -> None:
    knobs = plan(size=2, parts=1)
    whole, kept = gradient(tiny, knobs), kept_bytes(tiny, knobs)
    with prepared(tiny) as network:
        assert torch.equal(gradient(network, knobs), whole)
        assert kept_bytes(network, knobs) < 0.8 * kept
    assert torch.equal(gradient(tiny, knobs), whole)
    assert kept_bytes(tiny, knobs) == pytest.approx(kept, rel=0.02)  # counted by address, some of which are used twice


@pytest.mark.parametrize("family", ["small", "tiny", "xl"])
def test_checkpointing_keeps_far_less_and_gives_the_same_gradients(family: str, request: pytest.FixtureRequest, kept_bytes: Callable[[Model, Plan], int]) -> None:
    model = made(SDXL, 40) if family == "xl" else request.getfixturevalue(family)
    knobs = plan(edge=16)
    wanted, kept = gradient(model, knobs), kept_bytes(model, knobs)
    sparing = replace(knobs, checkpointing=True)
    with prepared(model, checkpointing=True) as network:
        near(gradient(network, sparing), wanted)
        assert kept_bytes(network, sparing) < 0.35 * kept, kept
    assert kept_bytes(model, knobs) > 0.9 * kept


def test_nothing_but_the_words_asks_for_gradients(small: Model) -> None:
    gradient(small, plan(edge=8))
    assert all(p.grad is None and not p.requires_grad for part in (small.unet, small.vae, *small.text_encoders) for p in part.parameters())


def test_the_loss_scale_is_taken_out_before_gradients_are_clipped(small: Model) -> None:
    moved = []
    for scale in (1.0, 1024.0):
        watch, learner = Quiet(end=1, scale=scale), word(small)
        train(small, learner, torch.optim.SGD(learner.parameters(), 1.0), plan(edge=8, clip=("norm", 1e-4)), watch)
        moved.append(learner.vectors.detach() - word(small).vectors.detach())
    assert float(moved[0].norm()) == pytest.approx(0.005 * 1e-4, rel=1e-2)
    torch.testing.assert_close(moved[1], moved[0], rtol=0, atol=2e-8)


def test_noise_offset_shifts_whole_channels_by_its_own_dice(small: Model) -> None:
    still, shifted = plan(size=2), plan(size=2, noise_offset=0.1)
    first, other = draw(still, 4, 1), draw(shifted, 4, 1)
    shift = (other.noise - first.noise) / 0.1
    assert torch.equal(first.latents, other.latents)
    assert float(shift.std(dim=(2, 3)).max()) < 1e-5
    assert len({round(float(x), 4) for x in shift.mean(dim=(2, 3)).flatten()}) == 8
    assert torch.equal(draw(shifted, 4, 1).noise, other.noise)
    assert not torch.allclose(draw(shifted, 5, 1).noise - draw(still, 5, 1).noise, other.noise - first.noise)


def test_places_that_are_masked_off_teach_nothing(small: Model) -> None:
    knobs = plan(size=2, edge=8)
    batch = draw(knobs, 0, 0)
    mask = torch.zeros(2, 1, 8, 8)
    mask[..., :4] = 2.0
    with_mask = replace(batch, weights=mask)
    errors, _ = losses(small, word(small), knobs, with_mask)
    spoilt, _ = losses(small, word(small), knobs, replace(with_mask, weights=torch.ones(2, 1, 8, 8)))
    plain, _ = losses(small, word(small), knobs, batch)
    torch.testing.assert_close(spoilt, plain)
    assert not torch.allclose(errors, plain)


@pytest.fixture
def compilers(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[str, str]]]:
    """Lets the CPU count as a device with a compiler; what is said lands in the list."""
    monkeypatch.setattr("studio.training.preparation.COMPILERS", ("cpu",))
    yield []
    torch._dynamo.reset()


def test_a_compiler_that_fails_is_told_and_done_without(small: Model, compilers: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise RuntimeError("no compiler was found\nand more")

    monkeypatch.setattr(torch, "compile", lambda *_, **__: broken)
    wanted = gradient(small, plan(edge=8))
    with prepared(small, compile=True, note=lambda *said: compilers.append(said)) as network:
        assert isinstance(network.unet, Compiled)
        assert torch.equal(gradient(network, plan(edge=8)), wanted)
    assert not isinstance(small.unet, Compiled)
    assert [said for _, said in compilers] == ["The network could not be compiled (RuntimeError: no compiler was found); training goes on without, only slower."]


def test_a_cpu_is_not_compiled_for_and_says_so(small: Model) -> None:
    said: list[tuple[str, str]] = []
    with prepared(small, compile=True, note=lambda *words: said.append(words)) as network:
        assert network is small
    assert said == [("log", "The network is not compiled: that helps on graphics cards only, and this run is on cpu.")]
