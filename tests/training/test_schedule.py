"""Rates as A1111 writes them, risen and fallen over a run."""

import pytest

from studio.errors import InputError
from studio.training.schedule import Schedule

THREE = "0.005:100, 1e-3:1000, 1e-5"


@pytest.mark.parametrize(
    ("text", "max_steps", "start", "segments"),
    [
        ("0.005", 1000, 0, ((0.005, 1000),)),
        (THREE, 5000, 0, ((0.005, 100), (0.001, 1000), (1e-5, 5000))),
        (THREE, 5000, 500, ((0.001, 1000), (1e-5, 5000))),
        ("0.005:100, 1e-3:1000", 5000, 0, ((0.005, 100), (0.001, 1000))),
        ("0.005:100,1e-3:-1", 500, 0, ((0.005, 100), (0.001, 500))),
        ("1e-3,1e-4:100", 1000, 0, ((0.001, 1000),)),
        ("0.005:2000", 500, 0, ((0.005, 500),)),
        (", 0.005 ,,", 10, 0, ((0.005, 10),)),
        ("0.1:100, 0.2:200", 100, 0, ((0.1, 100),)),
    ],
)
def test_a_schedule_means_what_it_means_in_a1111(text: str, max_steps: int, start: int, segments: tuple) -> None:
    schedule = Schedule.parse(text, max_steps, start)
    assert schedule.segments == segments
    assert schedule.end == segments[-1][1]


@pytest.mark.parametrize("text", ["", "abc", "0.005:10.5", "-1", "0", "nan", "inf", "0.1:5:5", "0.1:200, 0.2:100"])
def test_a_schedule_that_cannot_be_read_is_refused_in_words(text: str) -> None:
    with pytest.raises(InputError) as refusal:
        Schedule.parse(text, 1000)
    assert "Learn rate" in str(refusal.value)


def test_a_schedule_that_is_over_before_it_begins_names_both_steps() -> None:
    with pytest.raises(InputError, match="ends at step 100, and the training begins at step 200"):
        Schedule.parse("0.005:100", 1000, 200)


def test_the_rate_changes_after_the_step_that_is_named() -> None:
    schedule = Schedule.parse("0.5:2, 0.25:4", 100)
    assert [schedule.at(done) for done in range(5)] == [0.5, 0.5, 0.25, 0.25, 0.25]


@pytest.mark.parametrize(
    ("shape", "rates"),
    [
        ("constant", [0.5, 1, 1, 1, 0.5, 0.5]),
        ("linear", [0.5, 1, 1, 0.75, 0.25, 0.125]),
        ("cosine", [0.5, 1, 1, 0.8535533905932737, 0.25, 0.07322330470336313]),
    ],
)
def test_a_warm_up_and_a_fall_multiply_what_is_written(shape: str, rates: list[float]) -> None:
    schedule = Schedule.parse("1:14, 0.5", 16, start=10, shape=shape, warmup=2)
    assert [schedule.at(done) for done in range(10, 16)] == pytest.approx(rates, abs=1e-15)


def test_a_warm_up_as_long_as_the_run_still_teaches() -> None:
    schedule = Schedule.parse("1", 4, shape="cosine", warmup=50)
    assert [schedule.at(done) for done in range(4)] == pytest.approx([0.02, 0.04, 0.06, 0.08])
