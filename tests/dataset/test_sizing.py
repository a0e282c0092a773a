"""Whatever the size, shape and rules: pieces lie inside their picture, have the size that is promised, and hold no more than was asked for."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from studio.dataset.sizing import FLIPS, Piece, Sizing, needs_focus, pieces, size_of
from studio.errors import InputError
from studio.projects.cropping import AutoSize, Split, Weights, box_of
from studio.projects.facts import BINS, Crop, Facts
from studio.requests.preprocess import PreprocessRequest

SIDES = st.integers(16, 8192)
SIZES = st.tuples(SIDES, SIDES)
PROFILE = st.lists(st.integers(0, 255), min_size=BINS, max_size=BINS).map(tuple)
CROPS = st.none() | st.builds(Crop, st.floats(0, 1), st.floats(0, 1), st.floats(1, 20))
RULES = st.builds(
    Sizing,
    target=st.tuples(st.integers(64, 2048), st.integers(64, 2048)),
    sizing=st.sampled_from(["crop", "buckets", "keep"]),
    resize_mode=st.sampled_from(["Crop to fit", "Resize and fill", "Just resize"]),
    weights=st.none() | st.just(Weights()),
    buckets=st.just(((512, 512), (384, 640), (640, 384))),
    split=st.none() | st.builds(Split, st.floats(0, 1), st.floats(0, 0.9)),
    flips=st.sets(st.sampled_from(FLIPS)).map(tuple),
)


@settings(max_examples=300, deadline=None)
@given(SIZES, PROFILE, PROFILE, RULES, CROPS)
def test_pieces_lie_inside_and_have_their_size(size: tuple[int, int], x: tuple[int, ...], y: tuple[int, ...], rules: Sizing, crop: Crop | None) -> None:
    facts = Facts(width=size[0], height=size[1], detail_x=x, detail_y=y, edges_x=x, edges_y=y)
    made = pieces(facts, rules, crop)
    assert len(made) % (1 + len(rules.flips)) == 0
    assert made
    for piece in made:
        left, top, right, bottom = piece.box
        assert 0 <= left < right <= size[0]
        assert 0 <= top < bottom <= size[1]
        assert piece.size == size_of(size, rules)
    if rules.sizing == "keep" or rules.resize_mode != "Crop to fit":
        assert {piece.box for piece in made} == {(0, 0, *size)}


def test_each_piece_is_followed_by_its_copies_in_one_order() -> None:
    rules = Sizing((64, 64), flips=("Both", "Horizontal"), split=Split(0.9, 0.2))
    made = pieces(Facts(width=256, height=64), rules)
    assert [piece.flip for piece in made] == ["", "Horizontal", "Both"] * (len(made) // 3)
    assert len({piece.box for piece in made}) == len(made) // 3 >= 4


def test_a_persons_crop_comes_before_splitting_and_suggesting() -> None:
    crop = Crop(0.9, 0.5, 2)
    made = pieces(Facts(width=1000, height=100), Sizing((64, 64), weights=Weights(), split=Split(1, 0)), crop)
    assert made == [Piece(box_of((1000, 100), (64, 64), crop), (64, 64))]


def test_detail_draws_the_crop_and_the_middle_is_taken_without_weights() -> None:
    facts = Facts(width=200, height=100, edges_x=(0,) * 48 + (255,) * 16, edges_y=(1,) * 64)
    drawn, middle = (pieces(facts, Sizing((64, 64), weights=weights))[0].box for weights in (Weights(), None))
    assert middle == (50, 0, 150, 100)
    assert drawn[0] > 80


@pytest.mark.parametrize(
    ("size", "rules", "needed"),
    [
        ((200, 100), Sizing((64, 64), weights=Weights()), True),
        ((200, 100), Sizing((64, 64)), False),
        ((200, 100), Sizing((64, 64), weights=Weights(0, 0, 0)), False),
        ((100, 100), Sizing((64, 64), weights=Weights()), False),
        ((200, 100), Sizing((64, 64), "keep", weights=Weights()), False),
        ((200, 100), Sizing((64, 64), resize_mode="Just resize", weights=Weights()), False),
        ((200, 100), Sizing((64, 64), weights=Weights(), split=Split(1, 0.2)), False),
        ((200, 100), Sizing((64, 64), "buckets", weights=Weights(), buckets=((128, 64),)), False),
        ((210, 100), Sizing((64, 64), "buckets", weights=Weights(), buckets=((128, 64),)), True),
    ],
)
def test_a_picture_is_measured_only_when_it_matters(size: tuple[int, int], rules: Sizing, needed: bool) -> None:
    assert needs_focus(size, rules) is needed


def test_an_auto_sized_crop_that_finds_no_size_is_told() -> None:
    rules = Sizing((64, 64), "auto", auto=AutoSize())
    assert size_of((1200, 800), rules)[0] % 64 == 0
    with pytest.raises(InputError, match="5000x100"):
        pieces(Facts(width=5000, height=100), rules)


def test_the_rules_of_a_request() -> None:
    request = PreprocessRequest(source="a", destination="b", width=512, height=512, sizing="buckets", split=True, flip=True, flips=("Vertical",), face_weight=0.3)
    rules = Sizing.of(request, True, request.splitting, request.mirrored)
    assert rules.target == (512, 512)
    assert (512, 512) in rules.buckets
    assert min(min(size) for size in rules.buckets) >= 256
    assert rules.weights == Weights(0.3, 0.15, 0.5)
    assert (rules.split, rules.flips) == (Split(0.5, 0.2), ("Vertical",))
    assert Sizing.of(request, focal=False).weights is None


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"sizing": "buckets", "bucket_smallest": 1024}, "Buckets from 1024"),
        ({"sizing": "auto", "auto_smallest": 1024}, "lower bounds"),
        ({"overlap_ratio": 0.95}, "Overlap ratio"),
        ({"background_colour": "red"}, "Background colour"),
        ({"flips": ["Sideways"]}, "Flips|0"),
    ],
)
def test_rules_that_leave_nothing_are_refused_at_the_door(values: dict[str, object], words: str) -> None:
    with pytest.raises(InputError, match=words):
        PreprocessRequest.check({"source": "a", "destination": "b", **values})
