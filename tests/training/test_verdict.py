"""The verdict on made-up measurements: each kind where it is right, the alarm within its steps, and sentences whose places are filled."""

import json
import math
import re
from collections.abc import Sequence

import pytest

from studio.runs.sentences import SENTENCES, STOPS
from studio.training.probe import Reading
from studio.training.verdict import Lag, Movement, Verdict, alarm, judge, line, slope

MOVED = Movement(norm=1.2, distance=0.8, ordinary=0.4, rate=0.005, steps=200)


def readings(train: Sequence[float], held: Sequence[float | None] = (), spread: float = 1.0) -> list[Reading]:
    """Measurements every 25 steps, the first of them at the start."""
    seen = list(held) or [None] * len(train)
    return [Reading(25 * i, t, t - spread * (i > 0), t + spread * (i > 0), h, t, t, t, 0.0) for i, (t, h) in enumerate(zip(train, seen, strict=True))]


def said(train: Sequence[float], held: Sequence[float | None] = (), lag: Lag | None = None) -> Verdict:
    """The verdict on them by a word that moved; `lag` is of the held line where there is one."""
    return judge(readings(train, held), MOVED, *([None, lag] if held else [lag]))


def test_before_two_measurements_nothing_is_said() -> None:
    assert said([0]).sentence == "Too early to say: 0 of the 2 measurements that a first word needs are made. Let it go on."
    assert said([0, -9]).kind == "early"
    assert said([0, -9, -12]).kind == "learning"


def test_a_falling_line_is_learning_with_its_pace() -> None:
    verdict = said([0, -2, -4, -6, -8])
    assert (verdict.kind, verdict.values) == ("learning", {"rate": 8, "gain": 8})
    assert verdict.sentence.startswith("Still learning: 8 % better in 100 steps, and 8 % better than at the start.")


def test_a_line_that_stays_is_flat_since_the_step_from_which_it_stays() -> None:
    verdict = said([0, -5, -10, -15, -20, -20.1, -19.9, -20.1, -20, -20.1])
    assert (verdict.kind, verdict.since) == ("flat", 100)
    assert said([0, -5, -10, -15, -20, -25, -30, -35]).kind == "learning"


def test_held_out_pictures_that_get_worse_are_memorising_since_their_best() -> None:
    train, held = [0, -10, -20, -25, -30], [0, -8, -9, -6, -4]
    verdict = said(train, held, Lag(50, 5.5, 1.0))
    assert (verdict.kind, verdict.since, verdict.values) == ("memorising", 50, {"loss": 5.5, "since": 50})
    assert said(train, held, Lag(50, 5.5, 5.0)).kind == "learning", "within chance"
    assert said([0, -10, -20, -15, -12], held, Lag(50, 5.5, 1.0)).kind != "memorising", "those learned from get worse too"
    assert said([*train, -31], [0, -8, -9, 20, 22, 25], Lag(50, 34.0, 40.0)).kind == "memorising", "far and long, whatever its items"


def test_a_train_line_that_rises_again_is_losing_what_it_learned() -> None:
    verdict = said([0, -20, -15, -10], lag=Lag(25, 12.5, 2.0))
    assert (verdict.kind, verdict.since) == ("diverging", 25)
    assert verdict.sentence.startswith("Losing what it learned: the best was step 25")


@pytest.mark.parametrize("train", [[0, 30], [0, 5, 6], [0, math.nan]])
def test_worse_than_the_start_is_diverging(train: list[float]) -> None:
    assert said(train).kind == "diverging"
    assert said([0, 5]).kind == "early", "once and a little is no divergence"


def test_a_word_that_stays_or_is_not_named_or_gains_nothing_is_not_learning() -> None:
    still = judge(readings([0, 0]), Movement(0.4, 0.0, 0.4, 1e-30, 40))
    assert (still.kind, still.values) == ("not_learning", {"steps": 40, "rate": 1e-30})
    assert judge(readings([0]), Movement(0.4, 0.0, 0.4, 0.005, 5, (0, 12))).values == {"count": 12}
    assert said([0, 0.2, -0.3, 0.1]).kind == "early"
    idle = said([0, 0.2, -0.3, 0.1, -0.2])
    assert (idle.kind, idle.values) == ("not_learning", {"steps": 100, "change": -0.2})
    assert judge(readings([0, -0.02, -0.04, -0.05, -0.06], spread=0.001), MOVED).kind == "not_learning"


def test_the_alarm_hears_vectors_without_measure_and_errors_out_of_proportion_within_twenty_steps() -> None:
    usual = [0.1, 0.4, 0.05, 0.2, 0.15, 0.3, 0.1, 0.25, 0.5, 0.02]
    assert alarm(usual * 5, MOVED) is None
    assert alarm([*usual, *(v * 2 for v in usual)], MOVED) is None, "twice as much for a while happens"
    high = alarm([*usual, *(v * 5 for v in usual)], MOVED)
    assert high is not None
    assert (high.kind, high.values["times"]) == ("diverging", 5)
    assert alarm([*usual, math.nan, 0.2, math.nan, math.inf], MOVED) is not None
    long = alarm([], Movement(1000.0, 1000.0, 0.4, 1000.0, 1))
    assert long is not None
    assert long.sentence.startswith("Diverging: the vectors are 2500 times as long as an ordinary word's (1000 against 0.4).")
    spoilt = alarm([], Movement(math.nan, math.nan, 0.4, 0.1, 1))
    assert spoilt is not None
    assert json.loads(json.dumps(spoilt.values, allow_nan=False))["norm"] == "nan"


def test_the_slope_has_the_interval_of_least_squares() -> None:
    found = line([0, 100, 200, 300], [0.0, -1.1, -1.9, -3.0])
    assert found.rate == pytest.approx(-0.98)
    assert (found.high - found.low) / 2 == pytest.approx(2.92 * math.sqrt(0.018 / 2 / 5), rel=1e-6)
    assert slope(readings([0, -1])).high == math.inf
    assert found.span == 300


def test_every_sentence_names_its_kind_and_no_place_stays_open() -> None:
    kinds = {"early", "learning", "flat", "memorising", "diverging", "not_learning"}
    assert set(SENTENCES.values()) == kinds
    assert set(STOPS.values()) == {"flat", "patience"}
    cases = [said([0]), said([0, 0.2, -0.3]), said([0, -2, -4]), said([0, -9, -8]), said([0, -20, *[-20] * 6]), said([0, 30])]
    assert [re.findall(r"[{}]", verdict.sentence) for verdict in cases] == [[]] * len(cases)
