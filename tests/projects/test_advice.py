"""Advice: more pictures never mean less, values stay within what works, and each has its reason."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from studio.errors import InputError
from studio.projects.advice import METHODS, bounds, recommend
from studio.requests.train import check_schedule

COUNTS = st.integers(0, 20_000)
METHOD = st.sampled_from(sorted(METHODS))
FAMILY = st.sampled_from(["sd1", "sd2", "sdxl"])


@given(COUNTS, COUNTS, METHOD, FAMILY, st.booleans(), st.booleans())
def test_more_pictures_never_mean_less(one: int, other: int, method: str, family: str, captions: bool, faces: bool) -> None:
    few, many = (recommend(count, method, family, captions, faces) for count in sorted((one, other)))
    assert few.steps <= many.steps and few.vectors <= many.vectors and few.batch <= many.batch


@given(COUNTS, METHOD, FAMILY, st.booleans(), st.booleans())
def test_values_stay_within_what_works(count: int, method: str, family: str, captions: bool, faces: bool) -> None:
    advice = recommend(count, method, family, captions, faces)
    rates = check_schedule(advice.learning_rate)
    assert [rate for rate, _ in rates] == sorted((rate for rate, _ in rates), reverse=True)
    assert all(until < advice.steps for _, until in rates) and rates[-1][1] == -1
    assert advice.batch in (1, 2, 4)
    if method == "textual_inversion":
        assert 1 <= advice.vectors <= 8 and 1500 <= advice.steps <= 6000
        assert 1e-3 <= rates[0][0] <= 5e-3 and [until for _, until in rates[:-1]] == sorted({until for _, until in rates[:-1]})
    else:
        assert advice.vectors == 0 and 1000 <= advice.steps <= 20_000 and 1e-7 <= rates[0][0] <= 1e-3


@given(COUNTS, METHOD, FAMILY, st.booleans(), st.booleans())
def test_every_value_has_its_reason(count: int, method: str, family: str, captions: bool, faces: bool) -> None:
    advice = recommend(count, method, family, captions, faces)
    said = " ".join(reason.sentence for reason in advice.reasons)
    assert "{" not in said
    assert f"{advice.steps} steps" in said and f"Batch {advice.batch}" in said and advice.learning_rate.partition(":")[0] in said
    assert not advice.vectors or f"{advice.vectors} vector" in said


@pytest.mark.parametrize(
    ("count", "faces", "vectors", "steps"),
    [(1, False, 1, 1500), (4, True, 2, 1500), (15, False, 2, 1500), (20, False, 4, 2000), (20, True, 6, 2000), (60, True, 8, 6000), (5000, True, 8, 6000)],
)
def test_what_is_said_of_some_numbers(count: int, faces: bool, vectors: int, steps: int) -> None:
    advice = recommend(count, faces=faces)
    assert (advice.vectors, advice.steps) == (vectors, steps)


def test_more_vectors_and_two_encoders_take_less_rate() -> None:
    first = [check_schedule(recommend(count, family=family).learning_rate)[0][0] for count, family in ((10, "sd1"), (60, "sd1"), (60, "sdxl"))]
    assert first == sorted(first, reverse=True) and len(set(first)) == 3


def test_the_rate_of_a_network_follows_the_root_of_the_batch() -> None:
    assert recommend(5, "lora").learning_rate == "0.0001"
    assert recommend(50, "lora").learning_rate == "0.0002"


def test_missing_captions_are_mentioned() -> None:
    assert any("Without captions" in reason.sentence for reason in recommend(20, captions=False).reasons)
    assert not any("Without captions" in reason.sentence for reason in recommend(20).reasons)


@pytest.mark.parametrize("ask", [bounds, lambda method: recommend(10, method)])
def test_an_unknown_method_is_refused_with_those_there_are(ask) -> None:
    with pytest.raises(InputError, match="magic") as caught:
        ask("magic")
    assert "textual_inversion" in caught.value.hint
