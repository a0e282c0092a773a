"""Advice of the data set's check: the preset's values for the same case, over all methods, families, numbers of images and batch sizes; each with its reason."""

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from studio.errors import InputError
from studio.presets.intents import FAMILIES, preset
from studio.presets.seen import EACH, SEEN, Batching, batching_of
from studio.projects.advice import METHODS, bounds, recommend
from studio.projects.doctor import Aim, as_json, examine_set
from studio.projects.facts import Choices, Facts, Item
from studio.projects.room import family_of_size
from studio.requests.train import CONFIGS, check_schedule

COUNTS = st.integers(0, 20_000)
METHOD = st.sampled_from(sorted(METHODS))
FAMILY = st.sampled_from(["sd1", "sd2", "sdxl"])


def test_every_method_has_its_bounds() -> None:
    assert set(METHODS) == {cls.method for cls in CONFIGS} == set(SEEN)


def test_check_and_presets_say_the_same() -> None:
    for method, family, count, captions, faces in product(METHODS, FAMILIES, (0, 1, 4, 15, 16, 20, 39, 40, 100, 3000), (True, False), (True, False)):
        said = recommend(count, method, family.lower(), captions, faces)
        made = preset("person" if faces else "object", family, method, count, captions)
        values = {**made.values, **made.beside}
        assert (said.steps, said.learning_rate, said.batch, said.accumulation) == tuple(values[name] for name in ("steps", "learn_rate", "batch_size", "gradient_accumulation"))
        assert said.vectors == values.get("vectors", 0)


def test_steps_and_rate_follow_the_batch_so_that_each_picture_is_looked_at_as_often() -> None:
    for method, family, count, batch, accumulation in product(METHODS, FAMILIES, (4, 20, 100), (1, 2, 4, 8), (1, 4)):
        case = preset("object", family, method, count, batching=Batching(batch, accumulation)).case
        least, most = SEEN[method]
        if method == "textual_inversion":
            assert case.steps == min(max(count * EACH, least), most), "a word's steps are counted, not its looks"
        else:
            assert case.steps == max(50, round(min(max(count * EACH, least), most) / (batch * accumulation) / 50) * 50)
        if case.small_networks:
            assert float(preset("object", family, method, count, batching=Batching(batch, accumulation)).values["learn_rate"]) == pytest.approx(1e-4 * (batch * accumulation) ** 0.5, rel=0.05)
    lora = preset("object", "SD1", "lora", 20)
    assert (lora.values["batch_size"], lora.values["steps"]) == (2, 1000)
    assert preset("object", "SD1", "lora", 20, batching=Batching(4, 1)).values["steps"] == 500
    assert batching_of({"batch_size": 4, "gradient_accumulation": 2.0}) == Batching(4, 2)
    assert batching_of({"batch_size": None, "gradient_accumulation": "x"}) == Batching()


def test_repeats_make_epochs_longer_and_are_said() -> None:
    plain, repeated = recommend(20, "lora"), recommend(20, "lora", epoch_images=200)
    assert (plain.steps, plain.batch) == (repeated.steps, repeated.batch) == (1000, 2)
    assert any("are 10 epochs of 200 images with repeats" in reason.sentence for reason in repeated.reasons)
    items = [Item(f"{n}.png", caption="x", captioned=True, facts=Facts(512, 512), choices=Choices(repeats=10)) for n in range(20)]
    shown = as_json(examine_set(items, Aim(method="lora", family="sdxl")))["advice"]
    assert (shown["family"], shown["steps"], shown["batch"]) == ("SDXL", 2000, 1)
    assert any("10 epochs of 200 images" in reason["sentence"] for reason in shown["reasons"])


def test_the_family_is_the_one_that_pictures_are_prepared_for() -> None:
    assert [family_of_size(*size) for size in ((128, 128), (512, 512), (512, 768), (768, 768), (832, 1216), (1024, 1024))] == ["sd1", "sd1", "sd1", "sd2", "sdxl", "sdxl"]


@given(COUNTS, COUNTS, METHOD, FAMILY, st.booleans(), st.booleans())
def test_more_pictures_never_mean_less(one: int, other: int, method: str, family: str, captions: bool, faces: bool) -> None:
    few, many = (recommend(count, method, family, captions, faces) for count in sorted((one, other)))
    assert few.vectors <= many.vectors and few.batch <= many.batch
    assert few.steps * few.batch * few.accumulation <= many.steps * many.batch * many.accumulation + 50 * many.batch * many.accumulation


@given(COUNTS, METHOD, FAMILY, st.booleans(), st.booleans())
def test_values_stay_within_what_works(count: int, method: str, family: str, captions: bool, faces: bool) -> None:
    advice = recommend(count, method, family, captions, faces)
    (rate, until), *more = check_schedule(advice.learning_rate)
    assert (until, more, advice.batch in (1, 2, 3, 4)) == (-1, [], True)
    assert 1e-7 <= rate <= 5e-3 and 50 <= advice.steps <= 40_000
    assert (1 <= advice.vectors <= 8) == (method in ("textual_inversion", "together"))


@given(COUNTS, METHOD, FAMILY, st.booleans(), st.booleans())
def test_every_value_has_its_reason(count: int, method: str, family: str, captions: bool, faces: bool) -> None:
    advice = recommend(count, method, family, captions, faces)
    said = " ".join(reason.sentence for reason in advice.reasons)
    assert "{" not in said
    assert f"{advice.steps} steps" in said and f"Batch {advice.batch}" in said and advice.learning_rate in said
    assert not advice.vectors or f"{advice.vectors} vectors" in said


def test_missing_captions_are_mentioned() -> None:
    assert any("Without captions" in reason.sentence for reason in recommend(20, captions=False).reasons)
    assert not any("Without captions" in reason.sentence for reason in recommend(20).reasons)


@pytest.mark.parametrize("ask", [bounds, lambda method: recommend(10, method)])
def test_an_unknown_method_is_refused_with_those_there_are(ask) -> None:
    with pytest.raises(InputError, match="magic") as caught:
        ask("magic")
    assert "textual_inversion" in caught.value.hint
