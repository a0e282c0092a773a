"""The diagnosis of a curve: each state where it is right, the best step, what a run that has ended is told, and numbers that are the curve's own."""

import math
import re
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from studio.runs import sentences as say
from studio.runs.diagnosis import Progress, Rise, Verdict, diagnose, sentence_of
from studio.runs.smoothing import Point, best_of, figure, line, shown, signed, smoothed
from studio.ui.catalogue import ZH
from tests.bench.verdict_curves import CURVES, Simulated

RUNNING = Progress(0.005, 0.005, 0.5)
ENDED = replace(RUNNING, left=0.0, ended=True)
DECAYED = Progress(1.5e-9, 0.005, 0.0, True)


def points(train: Sequence[float], held: Sequence[float | None] = (), spread: float = 1.0) -> list[Point]:
    """Measurements every 25 steps, the first of them at the start."""
    seen = list(held) or [None] * len(train)
    return [Point(25 * i, t, t - spread * (i > 0), t + spread * (i > 0), h) for i, (t, h) in enumerate(zip(train, seen, strict=True))]


def said(train: Sequence[float], held: Sequence[float | None] = (), progress: Progress = RUNNING, rise: Rise | None = None) -> Verdict:
    """The diagnosis of them; `rise` is of the held line where there is one."""
    return diagnose(points(train, held), progress, *([None, rise] if held else [rise]))


def test_before_two_measurements_nothing_is_said() -> None:
    assert said([0]).sentence == "Too early: 0 of 2 measurements. Keep training."
    assert said([0, -9]).state == "too_early"
    assert said([0, -9], progress=ENDED).sentence == "Too early: 1 of 2 measurements. Compare the previews, or train further."
    assert said([0, -9, -12]).state == "improving"


def test_improving_names_two_points_of_the_curve_and_never_extrapolates() -> None:
    found = said([0, -4.5])
    assert "100" not in found.sentence, "at step 25 nothing can be said of 100 steps"
    found = said([0, -2, -4, -6, -8])
    curve = smoothed([0, -2, -4, -6, -8])
    assert found.sentence == f"Still improving: {shown(-curve[4])} % from step 0 to step 100. Keep training."
    assert (found.state, found.span, found.change) == ("improving", (0, 100), pytest.approx(curve[4]))
    assert (found.best_step, found.advised_step, found.learning_rate, found.ended) == (100, 100, 0.005, False)


def test_an_ended_run_is_told_which_step_to_use() -> None:
    falling = [0, -2, -4, -6, -8]
    assert said(falling, progress=ENDED).sentence.endswith("Use step 100 (best), or train further.")
    decayed = said(falling, progress=DECAYED)
    assert decayed.sentence.startswith("Ended: improved by") and "decayed to 1.5e-9. Use step 100 (best). Extending the run restores" in decayed.sentence
    spent = said(falling, progress=replace(DECAYED, ended=False))
    assert "the learning rate is down to 1.5e-9" in spent.sentence and spent.sentence.endswith("Use step 100 (best).")


def test_a_plateau_names_the_best_step_that_is_not_the_last() -> None:
    train = [0, -12, -20, -19.7, -20.2, -20.1, -19.9, -20.6, -20.5, -20.0, -19.8]
    running, ended = said(train), said(train, progress=ENDED)
    assert (running.state, ended.state, ended.best_step, ended.advised_step) == ("plateau", "plateau", 200, 200)
    assert running.advice == say.STOP_OR_LOWER
    assert re.fullmatch(r"Plateaued since step \d+\. Use step 200 \(best\)\.", ended.sentence)
    assert ended.since is not None and ended.since <= 200
    assert said([0, -5, -10, -15, -20, -25, -30, -35]).state == "improving"


def test_held_out_images_that_get_worse_are_overfitting_since_their_best() -> None:
    train, held = [0, -10, -20, -25, -30], [0, -8, -9, -6, -4]
    found = said(train, held, rise=Rise(50, 5.5, 1.0))
    curve = smoothed(held)
    assert (found.state, found.since, found.best_step) == ("overfitting", 50, 50)
    assert found.values == {"since": 50, "best": 50, "low": signed(curve[2]), "now": signed(curve[4])}
    assert found.sentence.endswith("Stop and use step 50 (best).")
    assert said(train, held, ENDED, Rise(50, 5.5, 1.0)).advice == say.USE_MORE_IMAGES
    assert said(train, held, rise=Rise(50, 5.5, 5.0)).state != "overfitting", "within chance"
    assert said([0, -10, -20, -15, -12], held, rise=Rise(50, 5.5, 1.0)).state != "overfitting", "training images get worse too"
    assert said([*train, -31], [0, -8, -9, 20, 22, 25], rise=Rise(50, 34.0, 40.0)).state == "overfitting", "far and long, whatever its items"
    never = said([0, -10, -20, -25, -30], [0, 1, 2, 3, 4])
    assert (never.state, never.best_step, never.advised_step) == ("overfitting", None, None)


def test_a_curve_that_rises_again_is_getting_worse_and_names_its_best() -> None:
    found = said([0, -20, -15, -10, -8], rise=Rise(25, 12.5, 2.0))
    assert (found.state, found.best_step) == ("diverging", 25)
    assert found.sentence.startswith(f"Getting worse since step 25: the loss rose from -20 % to {signed(smoothed([0, -20, -15, -10, -8])[-1])} %")


@pytest.mark.parametrize("train", [[0, 30], [0, 5, 6], [0, math.nan]])
def test_worse_than_the_start_is_diverging(train: list[float]) -> None:
    found = said(train)
    assert (found.state, found.advised_step) == ("diverging", None)
    assert found.sentence.endswith("Start again with a learning rate of 0.0005 (was 0.005).")
    assert said([0, 5]).state == "too_early", "once and a little is no divergence"


def test_nothing_gained_is_not_learning() -> None:
    assert said([0, 0.2, -0.3, 0.1]).state == "too_early"
    idle = said([0, 0.2, -0.3, 0.1, -0.2])
    assert (idle.state, idle.advised_step) == ("not_learning", None)
    assert diagnose(points([0, -0.02, -0.04, -0.05, -0.06], spread=0.001), RUNNING).state == "not_learning"
    assert diagnose(points([0, -0.01, -0.02, -0.03], spread=0.001), ENDED).state == "not_learning", "no more will come"


def test_a_best_step_without_weights_is_not_advised() -> None:
    train = [0, -12, -20, -19.7, -20.2, -20.1, -19.9, -20.6, -20.5, -20.0, -19.8]
    assert said(train, progress=replace(ENDED, keeps=False)).advice == say.NOT_KEPT
    assert said([0, -2, -4, -6, -8], progress=replace(ENDED, keeps=False)).advice == say.USE_OR_EXTEND, "the last step is what was saved"


def test_the_slope_has_the_interval_of_least_squares() -> None:
    found = line([0, 100, 200, 300], [0.0, -1.1, -1.9, -3.0])
    assert found.rate == pytest.approx(-0.98)
    assert (found.high - found.low) / 2 == pytest.approx(2.92 * math.sqrt(0.018 / 2 / 5), rel=1e-6)
    assert line([0, 25], [0.0, -1.0]).high == math.inf
    assert found.span == 300


def test_numbers_are_written_once_for_page_terminal_and_http() -> None:
    assert [shown(v) for v in (5.149, 0.28, 31.46, 40.0, 1.5e-9, 1e-5, 0.005, 225, math.nan)] == ["5.1", "0.28", "31.5", "40", "1.5e-9", "1e-5", "0.005", 225, "nan"]
    assert [signed(v) for v in (-9.0, 0.52, 0.0)] == ["-9", "+0.52", "0"]


@pytest.mark.parametrize("curve", CURVES, ids=lambda curve: curve.name)
def test_simulated_trainings_are_named_and_advised_rightly(curve: Simulated) -> None:
    found = curve.judged()
    assert found.state in curve.right, found.sentence
    best = curve.distance(curve.true_best([p.step for p in curve.points()]))
    assert curve.distance(found.advised_step or 0) <= 1.05 * best


@st.composite
def curves(draw: st.DrawFn) -> list[Point]:
    """Any curve that a training may leave: a fall, a rise, noise, gaps between measurements, with or without held-out images."""
    count, noise = draw(st.integers(0, 30)), draw(st.floats(0, 3))
    depth, pace, rise = draw(st.floats(0, 60)), draw(st.floats(0.1, 15)), draw(st.floats(-5, 60))
    gap, held = draw(st.integers(1, 200)), draw(st.booleans())
    found = [Point(0, 0.0, 0.0, 0.0, 0.0 if held else None)]
    for place in range(1, count + 1):
        share = place / max(1, count)
        value = depth * (math.exp(-pace * share) - 1)
        jitter = [draw(st.floats(-1, 1)) * noise for _ in range(2)]
        train = value + jitter[0]
        found.append(Point(gap * place, train, train - 2, train + 2, value + rise * share**2 + jitter[1] if held else None))
    return found


@settings(max_examples=30, deadline=None, derandomize=True)
@given(curves(), st.floats(1e-9, 1), st.floats(0, 1), st.booleans(), st.floats(0, 1))
def test_no_curve_gets_a_diagnosis_that_contradicts_it(measured: list[Point], peak: float, decay: float, ended: bool, left: float) -> None:
    progress = Progress(peak * decay, peak, left, ended)
    found, curve = diagnose(measured, progress), smoothed([figure(p) for p in measured])
    lowest = min(curve)
    at = best_of(measured)
    assert (at is None) == (lowest >= 0)
    assert found.best_step == (None if at is None else measured[curve.index(lowest)].step)
    assert found.advised_step in (None, found.best_step)
    if ended or progress.spent:
        assert found.advice != say.KEEP_TRAINING
    if ended:
        assert found.advice in say.ENDED_ADVICE and "eep training" not in found.sentence
    if found.span is not None and found.change is not None:
        places = [next(i for i, p in enumerate(measured) if p.step == step) for step in found.span]
        assert found.change == pytest.approx(curve[places[1]] - curve[places[0]])
        if "from" in found.values:
            assert (found.values["from"], found.values["to"]) == found.span
        if found.state == "improving":
            assert found.values["change"] == shown(-found.change) and found.change < 0
        if {"low", "now"} <= set(found.values):
            assert (found.values["low"], found.values["now"]) == (signed(curve[places[0]]), signed(curve[places[1]]))
    assert not re.search(r"[{}]", found.sentence) and found.sentence == sentence_of(found.facts)
    chinese = "".join(ZH[text] for text in (found.text, found.advice)).format(**found.values)
    assert sorted(re.findall(r"\d[\d.e-]*", chinese)) == sorted(re.findall(r"\d[\d.e-]*", found.sentence.replace(". ", " ").rstrip("."))), "the same numbers in both languages"
