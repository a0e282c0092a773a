"""What is said of a training that runs: prompts without the word, vectors that stay or run away, losses out of proportion; and of twelve real ones that were recorded."""

import json
import math

import pytest

from studio.requests.train import config_class
from studio.runs.diagnosis import Progress
from studio.runs.sentences import ADVICE, SENTENCES, STATES, STOPS
from studio.runs.smoothing import Point
from studio.training.course import Course
from studio.training.verdict import Movement, alarm, judge
from tests.bench.verdict import FARTHER, missed, real, recorded, simulated

MOVED = Movement(norm=1.2, distance=0.8, ordinary=0.4, rate=0.005, steps=200)
NOW = Progress(0.005, 0.005, 0.5)
START = [Point(0, 0.0, 0.0, 0.0)]


def test_a_word_that_stays_or_is_not_named_is_not_learning() -> None:
    still = judge([*START, Point(25, 0.0, 0.0, 0.0)], Movement(0.4, 0.0, 0.4, 1e-30, 40), Progress(1e-30, 1e-30))
    assert (still.state, still.values) == ("not_learning", {"steps": 40, "rate": "1e-30"})
    unnamed = judge(START, Movement(0.4, 0.0, 0.4, 0.005, 5, (0, 12)), NOW)
    assert unnamed.sentence == "Not learning: none of the 12 training prompts contains the word. Choose a template with [name]."
    assert judge([*START, *(Point(25 * i, -4.0 * i, -4.0 * i - 1, -4.0 * i + 1) for i in range(1, 5))], MOVED, NOW).state == "improving"


def test_the_alarm_hears_vectors_without_measure_and_errors_out_of_proportion_within_twenty_steps() -> None:
    usual = [0.1, 0.4, 0.05, 0.2, 0.15, 0.3, 0.1, 0.25, 0.5, 0.02]
    assert alarm(usual * 5, MOVED) is None
    assert alarm([*usual, *(v * 2 for v in usual)], MOVED) is None, "twice as much for a while happens"
    high = alarm([*usual, *(v * 5 for v in usual)], MOVED)
    assert high is not None
    assert (high.state, high.values["times"]) == ("diverging", "5")
    assert alarm([*usual, math.nan, 0.2, math.nan, math.inf], MOVED) is not None
    long = alarm([], Movement(1000.0, 1000.0, 0.4, 1000.0, 1))
    assert long is not None
    assert long.sentence == "Diverging: the vectors are 2500 times as long as an ordinary word's (1000 against 0.4). Start again with a learning rate of 100 (was 1000)."
    spoilt = alarm([], Movement(math.nan, math.nan, 0.4, 0.1, 1))
    assert spoilt is not None
    assert json.loads(json.dumps(spoilt.facts, allow_nan=False))["values"]["norm"] == "nan"


def test_every_sentence_names_its_state() -> None:
    assert set(SENTENCES.values()) == set(STATES)
    assert set(STOPS.values()) == {"flat", "patience"}
    assert not set(SENTENCES) & set(ADVICE)


@pytest.mark.parametrize("record", recorded(), ids=lambda record: record["name"])
def test_recorded_trainings_are_named_and_advised_rightly(record: dict) -> None:
    row = real(record)
    assert row.named, row.found.sentence
    assert row.farther <= FARTHER


def test_advised_steps_are_near_the_best_ones() -> None:
    rows = [*map(real, recorded()), *simulated()]
    assert len(rows) == 30 and missed(rows) == []


def test_the_schedule_says_what_is_left_of_the_rate() -> None:
    def course(**knobs: object) -> Course:
        return Course(config_class("textual_inversion").check({"embedding": "hero", "data": "x", "learn_rate": "0.01", "steps": 200, **knobs}), 0)

    even, falling, dropped = course(), course(rate_shape="cosine"), course(learn_rate="0.01:100, 1e-6:200")
    assert even.progress(150).left == pytest.approx(0.25)
    assert not even.progress(150).spent and not even.progress(199).spent
    assert falling.progress(150).left == pytest.approx(0.25 - math.sin(0.75 * math.pi) / math.pi, abs=0.002), "the area under the rest of the cosine"
    assert falling.progress(198).spent and falling.progress(200).decayed
    assert (dropped.progress(150).rate, dropped.progress(150).peak, dropped.progress(150).spent) == (1e-6, 0.01, True)
    assert even.progress(0).left == 1
