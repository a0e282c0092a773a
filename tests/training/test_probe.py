"""The probe and the appraiser on the tiny world: the same questions each time, nothing of a run is touched, and a run that goes on measures the same."""

import json
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from studio.dataset.batches import Batches, Sample
from studio.diffusion.model import Model
from studio.training import probe as probing
from studio.training.appraisal import SHARE, Appraiser, Rules, afford
from studio.training.loop import train
from studio.training.optim import build
from studio.training.passes import Plan
from studio.training.probe import Errors, Material, Probe, band, changes, draw, unseen
from tests.bench.staged import NAMELESS, STAGES, Small, Stage, staged, start

NAMED = ("a photo of [name], [filewords]", "a photo of [filewords]")


def pictures(count: int, first: int = 0, shape: tuple[int, int] = (8, 8)) -> tuple[Sample, ...]:
    """Small latents that mean nothing."""
    dice = torch.Generator().manual_seed(first)
    return tuple(Sample(str(i), f"thing {i}", torch.randn(4, *shape, generator=dice), torch.ones(4, *shape)) for i in range(count))


def material(**changed: Any) -> Material:
    """Ten pictures and a word."""
    return replace(Material(pictures(10), (), NAMED, "gnarl", 5), **changed)


@pytest.fixture
def words(tiny: Model) -> dict[str, Tensor]:
    """The word as it starts."""
    return dict(start(tiny, 2).words())


def test_timesteps_are_one_of_each_stratum_and_each_noise_comes_with_its_negative(tiny: Model) -> None:
    items = draw(tiny, material(), 32).train
    assert len(items) == 32
    assert all(torch.equal(a.noise, -b.noise) and a.time == b.time and torch.equal(a.latent, b.latent) and a.prompt == b.prompt for a, b in zip(items[::2], items[1::2], strict=True))
    strata = [int((item.time - 50) / 112.5) for item in items[::2]]
    assert sorted(strata) == sorted([*range(8)] * 2)
    assert [item.band for item in items[:16:2]] == ["detail"] * 3 + ["shape"] * 2 + ["composition"] * 3
    assert len({item.latent.sum().item() for item in items}) == 10, "sixteen pairs see all ten pictures"
    assert all("gnarl" in item.prompt for item in items), "lines without the word tell nothing of it"
    assert {item.band for item in draw(tiny, material(), 8).train} == {"detail", "shape", "composition"}, "also with the fewest items"


def test_the_same_run_draws_the_same_probe_and_another_seed_another(tiny: Model, words: dict[str, Tensor]) -> None:
    one, same, other = (draw(tiny, material(seed=seed), 8).measure(words) for seed in (5, 5, 6))
    assert one == same
    assert one != other


def test_errors_are_those_of_each_item_alone(tiny: Model, words: dict[str, Tensor]) -> None:
    weight = torch.cat([torch.zeros(8, 4), torch.full((8, 4), 2.0)], 1)
    mixed = (*pictures(2), *pictures(2, 3, (8, 16)), replace(pictures(1, 9)[0], weight=weight))
    probe = draw(tiny, material(train=mixed), 16)
    together = probe.measure(words).train
    alone = [replace(probe, train=(item,)).measure(words).train[0] for item in probe.train]
    assert together == pytest.approx(alone, rel=1e-4)
    item = next(item for item in probe.train if item.weight is not None)
    assert item.weight is not None
    answer = probing.ask(tiny, [item], words, 1)[0]
    signal = tiny.alphas_cumprod[item.time]
    wanted = signal.sqrt() * item.noise - (1 - signal).sqrt() * item.latent if tiny.prediction_type == "v_prediction" else item.noise
    assert together[probe.train.index(item)] == pytest.approx(float((answer - wanted).detach()[..., 4:].square().mean()), rel=1e-4)


def test_changes_are_of_each_pair_against_its_own_start_and_the_band_holds_their_mean() -> None:
    found = changes((1.0, 1.0, 0.3, 0.1), (1.0, 3.0, 0.4, 0.4))
    assert found.tolist() == pytest.approx([-50, -50])
    values = np.random.default_rng(1).normal(3, 1, 24)
    low, high = band(values, 1, 25)
    assert (low, high) == band(values, 1, 25)
    assert low < values.mean() < high
    assert high - low == pytest.approx(2 * 1.645 * values.std() / math.sqrt(24), rel=0.2)


def test_mirror_images_are_held_out_only_where_pictures_are_few_and_not_learned_mirrored() -> None:
    few = tuple(replace(s, mirrored=(s.mean.flip(-1), s.std)) for s in pictures(3))
    kept = pictures(2, 50)
    assert [torch.equal(a.mean, b.mean.flip(-1)) for a, b in zip(unseen(material(train=few)), few, strict=True)] == [True] * 3
    assert unseen(material(train=few, mirrored=True)) == ()
    assert unseen(material(train=pictures(3))) == ()
    assert unseen(material(train=few, held=kept)) is kept
    assert unseen(material(train=tuple(few[i % 3] for i in range(8)))) == ()


def test_drift_is_zero_for_words_and_tells_of_a_changed_network(tiny: Model, words: dict[str, Tensor]) -> None:
    probe = draw(tiny, material(), 8, changes_network=True)
    assert all("gnarl" not in item.prompt for item in probe.generic)
    assert probe.measure(words).drift == 0
    assert draw(tiny, material(), 8).evaluations == 8
    kept = tiny.unet.conv_out.bias.detach().clone()
    try:
        tiny.unet.conv_out.bias.data += 0.1
        assert 0 < probe.measure(words).drift < 100
    finally:
        tiny.unet.conv_out.bias.data.copy_(kept)


def test_measuring_takes_under_a_tenth_by_count_and_comes_less_often_where_it_must() -> None:
    assert afford(25, 1) == (8, 25)
    assert afford(25, 1, lines=2) == (8, 50)
    assert afford(25, 1, 4) == (32, 25)
    assert afford(25, 8) == (32, 25)
    assert afford(25, 64, 64) == (48, 25)
    assert afford(1, 1)[1] == 25
    assert afford(0, 1)[1] == 0
    for every, size, parts, lines in [(1, 3, 2, 3), (10, 1, 1, 1), (25, 2, 1, 2), (100, 1, 3, 2)]:
        count, steps = afford(every, size, parts, lines)
        assert count * lines <= steps * size * parts * (4 if size == 1 else 2.5) * SHARE
        assert steps % every == 0


def small(tiny: Model, seen: bool, steps: int) -> tuple[Small, Appraiser | None]:
    """A short training on noise, with or without an appraiser."""
    learner = start(tiny, 2)
    plan = Plan(Batches(pictures(4), NAMED[:1], "gnarl", 1, 0, latent_sampling="random"))
    appraiser = replace(Appraiser.of(tiny, learner, plan, pictures(3, 20), Rules(2, steps)), rules=Rules(2, steps)) if seen else None
    watch = Small(appraiser, learner, steps, 0.01)
    if appraiser:
        watch.looks.append(appraiser.begin(0))  # type: ignore[arg-type]
    train(tiny, learner, build("AdamW", learner.parameters(), 0.01), plan, watch)  # type: ignore[arg-type]
    return watch, appraiser


def test_training_with_the_probe_is_bit_equal_to_training_without_it(tiny: Model) -> None:
    state = torch.get_rng_state()
    with_probe, _ = small(tiny, True, 4)
    without, _ = small(tiny, False, 4)
    assert torch.equal(with_probe.learner.vectors, without.learner.vectors)
    assert with_probe.losses == without.losses
    assert torch.equal(torch.get_rng_state(), state)
    assert with_probe.looks[0].reading == replace(with_probe.looks[0].reading, train=0.0, low=0.0, high=0.0, held=0.0, composition=0.0, shape=0.0, detail=0.0)
    assert [look.reading.step for look in with_probe.looks] == [0, 2, 4]
    assert with_probe.looks[-1].reading.train != 0


def test_an_appraiser_that_was_restored_goes_on_as_if_nothing_had_been(tiny: Model, words: dict[str, Tensor]) -> None:
    watch, whole = small(tiny, True, 4)
    assert whole is not None
    taken, again = whole.state(), replace(whole, history=[], _start=None, _best={}, _losses=type(whole._losses)(maxlen=60), _movement=None)
    again.restore(json.loads(json.dumps(taken)))
    assert again.begin(4) is None
    assert again.state() == taken
    watch.learner.vectors.data.mul_(1.5)
    one, two = whole.look(6), again.look(6)
    assert (one.reading, one.verdict, one.best) == (two.reading, two.verdict, two.best)
    assert json.loads(json.dumps(one.event))["step"] == 6


class Told(Probe):
    """A probe that is told what to find."""

    def measure(self, words: Any) -> Errors:
        """The next of the errors it was told."""
        return Errors(*words)


def test_the_best_is_the_lowest_of_the_held_line_and_only_below_the_start(tiny: Model) -> None:
    probe = draw(tiny, material(held=pictures(2, 30)), 8)
    told = iter([(1.0, 1.0), (0.9, 1.1), (0.8, 0.7), (0.7, 0.85), (0.6, 0.9), (0.5, 0.4)])
    appraiser = Appraiser(Told(tiny, probe.train, probe.held), lambda: tuple((v,) * 8 for v in next(told)), Rules(10, 45, "patience", 2), 0.5)  # type: ignore[arg-type,return-value]
    looks = [appraiser.begin(0), *(appraiser.look(step) for step in (10, 20, 30, 40))]
    assert [look.best for look in looks if look] == [False, False, True, False, False]
    assert appraiser.best == (20, pytest.approx(-30))
    assert looks[-1] is not None
    assert looks[-1].stop == "Early stopping at step 40: no improvement in 2 measurements since step 20 (20 % better than step 0)."
    assert [appraiser.due(step) for step in (40, 45, 50, 51)] == [False, True, True, False]
    appraiser.change(end=51)
    assert appraiser.due(51)
    assert appraiser.look(45).best


BRIEF = [replace(stage, steps=3, pictures=2, held=1) for stage in (STAGES[1], replace(STAGES[0], name="prompts without the word", templates=NAMELESS))]


@pytest.mark.parametrize("stage", BRIEF, ids=lambda stage: stage.name)
def test_staged_trainings_get_their_verdict(tiny: Model, stage: Stage) -> None:
    watch = staged(tiny, stage)
    assert watch.looks[-1].verdict.state in stage.right
    assert [step for step, _ in watch.alarms] == ([1] if "diverging" in stage.right else [])
