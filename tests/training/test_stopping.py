"""Rules that end a training: when they do, when they do not, and what they say."""

import math

import pytest

from studio.training.probe import Reading
from studio.training.stopping import flat, out_of_patience, stop


def readings(train: list[float], held: list[float] | None = None) -> list[Reading]:
    """Measurements every 25 steps."""
    return [Reading(25 * i, t, t, t, held[i] if held else None, t, t, t, 0.0) for i, t in enumerate(train)]


def falling(count: int) -> list[float]:
    """A curve that falls to -30 as trainings do."""
    return [30 * (math.exp(-i / 5) - 1) for i in range(count)]


def test_dvar_ends_a_curve_that_went_flat_and_no_other() -> None:
    assert flat(readings([-1.0 * i for i in range(40)])) is None, "an even fall is not flat, though its newest part varies less than the whole"
    assert flat(readings(falling(12))) is None, "fewer than two windows"
    ends = next(n for n in range(60) if flat(readings(falling(n))))
    assert 16 <= ends <= 30
    reason = flat(readings(falling(40)))
    assert reason is not None
    assert reason.sentence.startswith("Early stopping at step 975: plateaued. The variance of the last 8 measurements is 0.")


def test_dvar_is_the_ratio_of_variances() -> None:
    values = [0.0] * 8 + [10.0] * 4 + [14.0] * 4
    mean = sum(values) / 16
    share = 4 / (sum((v - mean) ** 2 for v in values) / 16)
    assert flat(readings(values), limit=share * 1.001) is not None
    assert flat(readings(values), limit=share * 0.999) is None


def test_a_curve_that_never_moves_is_flat() -> None:
    assert flat(readings([0.0] * 16)) is not None


def test_patience_counts_measurements_without_a_better_one_on_the_held_line() -> None:
    train = [-1.0 * i for i in range(9)]
    held = [0, -2, -5, -5.1, -4, -4, -4, -4, -4]  # smoothed: 0, -2, -4.25, -4.89, -4.22 and on toward -4
    assert out_of_patience(readings(train), 5) is None
    assert out_of_patience(readings(train[:8], held[:8]), 5) is None
    reason = out_of_patience(readings(train, held), 5)
    assert reason is not None
    assert reason.values == {"step": 200, "count": 5, "best": 75, "gain": "4.9"}


def test_patience_is_not_lost_on_a_slow_but_steady_fall() -> None:
    assert out_of_patience(readings([-0.1 * i for i in range(40)]), 5) is None


@pytest.mark.parametrize(("rule", "ends"), [("never", False), ("flat", True), ("patience", True)])
def test_the_rule_that_is_switched_on_decides(rule: str, ends: bool) -> None:
    assert (stop(rule, readings([*falling(30), *[-30.0] * 10]), 5) is not None) is ends
