"""Crops stay in the picture and have the target's shape; suggestions keep the subject; tiles, sizes and buckets keep their limits."""

import math
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from studio.errors import InputError
from studio.projects.cropping import (
    AutoSize,
    Split,
    Weights,
    auto_size,
    box_of,
    buckets,
    center,
    crop_size,
    nearest_bucket,
    shape_error,
    split_boxes,
    suggest,
    window,
)
from studio.projects.facts import BINS, Box, Crop, Facts, Size

SIDE = st.integers(16, 8192) | st.sampled_from((16, 17, 8191, 8192))
SIZES = st.tuples(SIDE, SIDE)
TARGETS = st.tuples(st.integers(64, 2048), st.integers(64, 2048))
SHARE = st.floats(-2, 3) | st.sampled_from((0.0, 0.5, 1.0, -1e300, 1e300, math.inf, -math.inf, math.nan))
ZOOM = st.floats(0.1, 100) | st.sampled_from((0.0, -1.0, 1.0, 1e300, math.inf, math.nan))
CROPS = st.builds(Crop, SHARE, SHARE, ZOOM)


def inside(box: Box, size: Size) -> bool:
    """Whether a box lies in the picture and holds a pixel."""
    return 0 <= box[0] < box[2] <= size[0] and 0 <= box[1] < box[3] <= size[1]


def bump(at: float, width: float = 0.1) -> tuple[int, ...]:
    """A profile with one hill."""
    return tuple(round(255 * math.exp(-((((i + 0.5) / BINS - at) / width) ** 2))) for i in range(BINS))


FLAT = (0,) * BINS
PROFILES = ("detail_x", "detail_y", "edges_x", "edges_y")


def seen(size: Size, **known: object) -> Facts:
    """Facts of a picture in which nothing was found but `known`."""
    return replace(Facts(size[0], size[1], detail_x=FLAT, detail_y=FLAT, edges_x=FLAT, edges_y=FLAT), **known)


@settings(deadline=None, max_examples=400)
@given(size=SIZES, target=TARGETS, crop=CROPS)
def test_a_crop_never_leaves_the_picture_and_is_never_empty(size: Size, target: Size, crop: Crop) -> None:
    assert inside(box_of(size, target, crop), size)


@settings(deadline=None, max_examples=400)
@given(size=SIZES, target=TARGETS, crop=CROPS)
def test_a_crop_has_the_shape_of_the_target_as_near_as_whole_pixels_allow(size: Size, target: Size, crop: Crop) -> None:
    left, top, right, bottom = box_of(size, target, crop)
    width, height = right - left, bottom - top
    if target[0] >= target[1]:
        assert height == max(1, round(width * target[1] / target[0])) or height == size[1]
    else:
        assert width == max(1, round(height * target[0] / target[1])) or width == size[0]
    assert abs(width * target[1] - height * target[0]) <= max(target) or min(width, height) == 1


@settings(deadline=None)
@given(size=SIZES, target=TARGETS)
def test_the_largest_window_touches_two_opposite_sides(size: Size, target: Size) -> None:
    width, height = crop_size(size, target)
    assert width == size[0] or height == size[1]


@pytest.mark.parametrize("size", [(16, 8192), (8192, 16), (1, 1), (1, 500), (500, 1)])
@pytest.mark.parametrize("target", [(512, 512), (2048, 64), (64, 2048)])
@pytest.mark.parametrize("zoom", [0.1, 1, 7, 100])
def test_the_thinnest_pictures_have_crops(size: Size, target: Size, zoom: float) -> None:
    assert inside(box_of(size, target, Crop(0.99, 0.01, zoom)), size)


def test_zoom_takes_a_part_of_the_side() -> None:
    assert box_of((1000, 800), (512, 512), Crop()) == (100, 0, 900, 800)
    assert box_of((1000, 800), (512, 512), Crop(zoom=2)) == (300, 200, 700, 600)
    assert box_of((1000, 800), (512, 512), Crop(zoom=0.3)) == (100, 0, 900, 800)
    assert box_of((1000, 800), (512, 512), Crop(1, 0, 4)) == (800, 0, 1000, 200)


@pytest.mark.parametrize(("size", "target"), [((800, 600), (768, 512)), ((700, 600), (768, 512))])
def test_a_target_more_extreme_than_the_picture_gives_no_black_bar(size: Size, target: Size) -> None:
    box = window(size, target, (0, 0))
    assert inside(box, size)
    assert abs((box[2] - box[0]) / (box[3] - box[1]) - 1.5) < 0.005


@settings(deadline=None)
@given(size=SIZES, target=TARGETS)
def test_a_window_around_the_middle_leaves_equal_margins(size: Size, target: Size) -> None:
    left, top, right, bottom = window(size, target, center(size))
    assert abs(left - (size[0] - right)) <= 1
    assert abs(top - (size[1] - bottom)) <= 1


@settings(deadline=None)
@given(size=SIZES, target=TARGETS, focus=st.tuples(st.floats(0, 1), st.floats(0, 1)))
def test_a_focus_in_the_picture_lies_in_the_window(size: Size, target: Size, focus: tuple[float, float]) -> None:
    x, y = focus[0] * size[0], focus[1] * size[1]
    left, top, right, bottom = window(size, target, (x, y))
    assert left - 1 <= x <= right + 1
    assert top - 1 <= y <= bottom + 1


@pytest.mark.parametrize("at", [0.1, 0.3, 0.5, 0.64, 0.9])
@pytest.mark.parametrize("kind", ["detail", "edges"])
@pytest.mark.parametrize("tall", [False, True])
def test_a_hill_of_detail_or_edges_is_brought_to_the_middle(at: float, kind: str, tall: bool) -> None:
    size, key = ((400, 1600), f"{kind}_y") if tall else ((1600, 400), f"{kind}_x")
    box = box_of(size, (512, 512), suggest(seen(size, **{key: bump(at, 0.05)}), (512, 512), Weights()))
    middle = (box[tall] + box[2 + tall]) / 2 / 1600
    assert middle == pytest.approx(min(0.875, max(0.125, at)), abs=0.03)


@pytest.mark.parametrize("weights", [Weights(0, 0, 0), Weights(-1, -1, -1)])
def test_without_weights_the_middle_is_kept(weights: Weights) -> None:
    facts = seen((1600, 400), faces=((0.0, 0.2, 0.1, 0.6),), detail_x=bump(0.1), edges_x=bump(0.1))
    assert suggest(facts, (512, 512), weights) == Crop()


@pytest.mark.parametrize("level", [0, 1, 200, 255])
def test_a_picture_that_is_the_same_everywhere_is_cut_in_the_middle(level: int) -> None:
    even = (level,) * BINS
    facts = seen((1600, 400), detail_x=even, edges_x=even)
    assert suggest(facts, (512, 512), Weights()) == Crop()


@pytest.mark.parametrize("facts", [Facts(), Facts(problem="It is damaged."), Facts(300, 200), Facts(300, 200, detail_x=(1, 2, 3))])
def test_unknown_facts_mean_the_middle(facts: Facts) -> None:
    assert suggest(facts, (512, 512), Weights()) == Crop()


def test_a_weight_of_zero_takes_its_kind_out() -> None:
    facts = seen((1600, 400), detail_x=bump(0.2), edges_x=bump(0.8))
    assert suggest(facts, (512, 512), Weights(entropy=1, edges=0)).x == pytest.approx(0.2, abs=0.03)
    assert suggest(facts, (512, 512), Weights(entropy=0, edges=1)).x == pytest.approx(0.8, abs=0.03)
    assert suggest(facts, (512, 512), Weights(entropy=0.1, edges=0.9)).x == pytest.approx(0.8, abs=0.05)


def test_a_face_draws_the_crop_away_from_edges() -> None:
    facts = seen((1600, 400), faces=((0.1, 0.2, 0.18, 0.5),), edges_x=bump(0.9))
    assert suggest(facts, (512, 512), Weights()).x == pytest.approx(0.14, abs=0.06)
    assert suggest(facts, (512, 512), Weights(face=0)).x > 0.8


@pytest.mark.parametrize("left", [0.0, 0.02, 0.3, 0.61, 0.85])
def test_a_face_that_fits_is_whole(left: float) -> None:
    facts = seen((1200, 500), faces=((left, 0.3, left + 0.15, 0.66),), edges_x=bump(0.5, 0.3), detail_x=bump(0.5, 0.3))
    box = box_of(facts.size, (512, 512), suggest(facts, (512, 512), Weights()))
    assert box[0] <= left * 1200 + 1
    assert box[2] >= (left + 0.15) * 1200 - 1


def test_eyes_are_brought_to_the_upper_third() -> None:
    facts = seen((500, 1500), faces=((0.3, 0.4, 0.7, 0.5),))
    box = box_of(facts.size, (512, 512), suggest(facts, (512, 512), Weights()))
    eyes = (0.4 + 0.4 * 0.1) * 1500
    assert (eyes - box[1]) / (box[3] - box[1]) == pytest.approx(1 / 3, abs=0.05)


def test_of_two_faces_that_do_not_fit_together_the_larger_is_whole() -> None:
    facts = seen((2000, 500), faces=((0.7, 0.1, 0.85, 0.7), (0.05, 0.3, 0.1, 0.5)))
    box = box_of(facts.size, (512, 512), suggest(facts, (512, 512), Weights()))
    assert box[0] <= 1400
    assert box[2] >= 1700


def test_two_faces_that_fit_together_are_both_whole() -> None:
    facts = seen((1500, 1000), faces=((0.1, 0.3, 0.2, 0.45), (0.55, 0.3, 0.65, 0.45)))
    box = box_of(facts.size, (512, 512), suggest(facts, (512, 512), Weights()))
    assert box[0] <= 150
    assert box[2] >= 975


PROFILE = st.lists(st.integers(0, 255), min_size=BINS, max_size=BINS).map(tuple)
FACE = st.tuples(st.floats(0, 0.8), st.floats(0, 0.8), st.floats(0, 0.2), st.floats(0, 0.2)).map(lambda f: (f[0], f[1], f[0] + f[2], f[1] + f[3]))


@settings(deadline=None, max_examples=200)
@given(size=SIZES, target=TARGETS, lines=st.tuples(PROFILE, PROFILE, PROFILE, PROFILE), faces=st.lists(FACE, max_size=3), weights=st.builds(Weights, *(st.floats(0, 1),) * 3))
def test_any_facts_give_a_place_in_the_picture_and_always_the_same(size: Size, target: Size, lines: tuple, faces: list, weights: Weights) -> None:
    facts = Facts(*size, faces=tuple(faces), detail_x=lines[0], detail_y=lines[1], edges_x=lines[2], edges_y=lines[3])
    crop = suggest(facts, target, weights)
    assert 0 <= crop.x <= 1
    assert 0 <= crop.y <= 1
    assert crop.zoom == 1
    assert suggest(Facts.from_json(facts.as_json()), target, weights) == crop


def test_the_auto_size_with_the_largest_area_is_found() -> None:
    assert auto_size((1000, 1000), AutoSize()) == (640, 640)
    assert auto_size((1600, 900), AutoSize()) == (768, 448)
    assert auto_size((900, 1600), AutoSize()) == (448, 768)


def test_the_auto_size_with_the_smallest_error_is_found() -> None:
    best = auto_size((1500, 1000), AutoSize(objective="Minimize error"))
    assert best == (768, 512)
    assert shape_error((1500, 1000), best) == 0


def test_an_auto_size_that_nothing_fits_is_none() -> None:
    assert auto_size((4000, 300), AutoSize()) is None
    assert auto_size((1000, 1000), AutoSize(most_area=64 * 64)) is None
    assert auto_size((1000, 1000), AutoSize(smallest=700, largest=600)) is None


def test_an_unknown_objective_is_refused() -> None:
    with pytest.raises(InputError, match="Maximize area"):
        auto_size((100, 100), AutoSize(objective="Best"))


@settings(deadline=None)
@given(size=SIZES, low=st.integers(64, 1024), span=st.integers(0, 1024), threshold=st.floats(0, 1), objective=st.sampled_from(("Maximize area", "Minimize error")))
def test_an_auto_size_keeps_every_limit(size: Size, low: int, span: int, threshold: float, objective: str) -> None:
    auto = AutoSize(low, low + span, objective=objective, threshold=threshold)
    found = auto_size(size, auto)
    if found is not None:
        assert all(low <= side <= low + span and side % 64 == 0 for side in found)
        assert auto.least_area <= found[0] * found[1] <= auto.most_area
        assert shape_error(size, found) <= threshold


def auto_size_by_hand(size: Size, auto: AutoSize) -> Size | None:
    """Every pair of sides tried in exact fractions, as A1111's script is described: the first of the best."""
    best: tuple[tuple[Fraction, Fraction], Size] | None = None
    for width in range(auto.smallest, auto.largest + 1, 64):
        for height in range(auto.smallest, auto.largest + 1, 64):
            ratio = Fraction(size[0] * height, size[1] * width)
            error, area = 1 - min(ratio, 1 / ratio), Fraction(width * height)
            if not auto.least_area <= area <= auto.most_area or error > Fraction(auto.threshold):
                continue
            key = (area, -error) if auto.objective == "Maximize area" else (-error, area)
            if best is None or key > best[0]:
                best = key, (width, height)
    return best and best[1]


@settings(deadline=None, max_examples=150)
@given(
    size=SIZES,
    low=st.integers(1, 12),
    span=st.integers(0, 12),
    area=st.tuples(st.integers(64, 1400), st.integers(64, 1400)),
    threshold=st.sampled_from((0.0, 0.03125, 0.125, 0.25, 0.5, 1.0)),
    objective=st.sampled_from(("Maximize area", "Minimize error")),
)
def test_an_auto_size_is_what_trying_all_sizes_finds(size: Size, low: int, span: int, area: Size, threshold: float, objective: str) -> None:
    auto = AutoSize(64 * low, 64 * (low + span), min(area) ** 2, max(area) ** 2, objective, threshold)
    assert auto_size(size, auto) == auto_size_by_hand(size, auto)


def test_of_equally_good_auto_sizes_the_narrowest_is_taken_as_by_a1111() -> None:
    auto = AutoSize(most_area=640 * 576, threshold=0.2)
    assert auto_size((1000, 1000), auto) == auto_size_by_hand((1000, 1000), auto) == (576, 640)


@settings(deadline=None, max_examples=300)
@given(size=SIZES, target=TARGETS, split=st.builds(Split, st.floats(0, 1), st.floats(0, 0.9)))
def test_tiles_cover_the_length_with_their_overlap_and_stay_inside(size: Size, target: Size, split: Split) -> None:
    boxes = split_boxes(size, target, split)
    if not boxes:
        return
    assert len(boxes) >= 2
    axis = 0 if boxes[0][3] - boxes[0][1] == size[1] and boxes[0][2] - boxes[0][0] < size[0] else 1
    assert all(inside(box, size) for box in boxes)
    assert boxes[0][axis] == 0
    assert boxes[-1][axis + 2] == size[axis]
    tile = boxes[0][axis + 2] - boxes[0][axis]
    for one, other in pairwise(boxes):
        assert other[axis] > one[axis]
        assert one[axis + 2] - other[axis] >= min(tile - 1, split.overlap * tile) - 1


def test_a_picture_is_split_when_one_crop_keeps_no_more_than_the_threshold() -> None:
    assert split_boxes((1000, 400), (512, 512), Split(threshold=0.5)) == [(0, 0, 400, 400), (300, 0, 700, 400), (600, 0, 1000, 400)]
    assert split_boxes((400, 1000), (512, 512), Split(threshold=0.4)) == [(0, 0, 400, 400), (0, 300, 400, 700), (0, 600, 400, 1000)]
    assert split_boxes((1000, 400), (512, 512), Split(threshold=0.39)) == []
    assert split_boxes((1000, 1000), (512, 512), Split(threshold=1)) == []


def test_the_number_of_tiles_is_that_of_a1111() -> None:
    assert len(split_boxes((5000, 500), (512, 512), Split(overlap=0.2))) == math.ceil((5000 - 500 * 0.2) / (500 * 0.8))
    assert len(split_boxes((5000, 500), (512, 512), Split(overlap=0))) == 10


@pytest.mark.parametrize("size", [(513, 512), (512, 513), (511, 512), (2047, 2048)])
@pytest.mark.parametrize("overlap", [0.0, 0.9, 1.0])
def test_a_nearly_exact_shape_at_threshold_one_is_split_without_a_fault(size: Size, overlap: float) -> None:
    boxes = split_boxes(size, (512, 512), Split(threshold=1, overlap=overlap))
    assert len(boxes) == 2
    assert all(inside(box, size) for box in boxes)


@settings(deadline=None)
@given(side=st.integers(256, 2048), step=st.sampled_from((8, 32, 64)), largest=st.integers(512, 2048))
def test_buckets_keep_area_sides_and_step(side: int, step: int, largest: int) -> None:
    try:
        found = buckets((side, side), step, 256, largest)
    except InputError:
        assert side < 256 + step
        return
    assert len(set(found)) == len(found)
    for width, height in found:
        assert width * height <= side * side
        assert width % step == height % step == 0
        assert 256 <= min(width, height) <= max(width, height) <= largest
        assert (height, width) in found
    assert found == sorted(found, key=lambda size: size[0] / size[1])


def test_buckets_of_512_are_those_of_kohya() -> None:
    tall = [(256, 1024), (256, 960), (256, 896), (256, 832), (320, 768), (320, 704), (384, 640), (448, 576)]
    assert buckets((512, 512)) == [*tall, (512, 512), *((height, width) for width, height in reversed(tall))]


@pytest.mark.parametrize("wrong", [{"smallest": 600}, {"smallest": 512, "largest": 256}, {"step": 0}])
def test_buckets_that_cannot_be_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(InputError):
        buckets((512, 512), **wrong)


@settings(deadline=None)
@given(size=SIZES, side=st.integers(320, 2048), step=st.sampled_from((8, 32, 64)))
def test_no_bucket_cuts_off_less_than_the_nearest(size: Size, side: int, step: int) -> None:
    sizes = buckets((side, side), step, 256, 2048)
    nearest = nearest_bucket(size, sizes)
    assert nearest in sizes
    assert shape_error(size, nearest) <= min(shape_error(size, other) for other in sizes) + 1e-8


def test_five_thousand_pictures_get_the_same_suggestions_again() -> None:
    dice = Random(4)
    many = [
        Facts(dice.randint(16, 8192), dice.randint(16, 8192), faces=((0.1, 0.2, 0.3, 0.4),) * dice.randint(0, 1), **{name: tuple(dice.choices(range(256), k=BINS)) for name in PROFILES})
        for _ in range(5000)
    ]
    found = [suggest(facts, (512, 512), Weights()) for facts in many]
    assert [suggest(facts, (512, 512), Weights()) for facts in reversed(many)] == found[::-1]
    assert all(inside(box_of(facts.size, (512, 512), crop), facts.size) for facts, crop in zip(many, found, strict=True))
    assert len(set(found)) > 4000


def test_the_nearest_bucket_has_the_nearest_shape() -> None:
    sizes = buckets((512, 512))
    assert nearest_bucket((3000, 3000), sizes) == (512, 512)
    assert nearest_bucket((1600, 900), sizes) == (640, 384)
    assert nearest_bucket((900, 1600), sizes) == (384, 640)
    assert nearest_bucket((8192, 16), sizes) == (1024, 256)
    assert nearest_bucket((100, 100), [(256, 256), (512, 512)]) == (512, 512)
