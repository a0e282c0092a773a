"""Aspect buckets: sizes of about the asked area, batches of one bucket, and every picture as often as any other."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from studio.dataset.buckets import STEP, Rota, bucket_sizes
from studio.dataset.dice import ITEM, dice
from studio.errors import InputError
from studio.projects.cropping import nearest_bucket

COUNTS = st.lists(st.integers(1, 12), min_size=1, max_size=5)


def rota(counts: list[int], size: int, seed: int = 7) -> Rota:
    """A rota of buckets of so many pictures."""
    numbers = iter(range(sum(counts)))
    return Rota(tuple(tuple(next(numbers) for _ in range(count)) for count in counts), size, seed)


@pytest.mark.parametrize(("width", "height"), [(512, 512), (768, 768), (1024, 1024), (512, 768), (128, 128), (520, 520)])
def test_sizes_are_multiples_of_64_within_the_area(width: int, height: int) -> None:
    sizes = bucket_sizes(width, height)
    assert all(w % STEP == h % STEP == 0 and w * h <= width * height for w, h in sizes)
    assert nearest_bucket((width, height), sizes) == (width // 64 * 64, height // 64 * 64)
    if width == height and width >= 512:
        assert all(w * h >= 0.8 * width * height for w, h in sizes)
        assert nearest_bucket((3000, 2000), sizes)[0] > nearest_bucket((2000, 3000), sizes)[0]


def test_an_area_without_a_bucket_is_told() -> None:
    with pytest.raises(InputError, match="No bucket"):
        bucket_sizes(32, 32)


@given(COUNTS, st.integers(1, 5), st.integers(0, 1000))
@settings(max_examples=60)
def test_a_batch_is_of_one_bucket_and_no_picture_runs_ahead(counts: list[int], size: int, seed: int) -> None:
    made, seen = rota(counts, size, seed), Counter()
    bucket_of = {number: group for group, numbers in enumerate(made.groups) for number in numbers}
    for round_ in range(1, 4):
        batches = sum(-(-round_ * count // size) for count in counts)
        taken = [made.at(batch) for batch in range(batches)]
        assert all(len(batch) == size and len({bucket_of[number] for number in batch}) == 1 for batch in taken)
        seen = Counter(number for batch in taken for number in batch)
        for numbers in made.groups:
            often = [seen[number] for number in numbers]
            padding = -(-round_ * len(numbers) // size) * size - round_ * len(numbers)
            assert min(often) >= round_
            assert sum(often) == round_ * len(numbers) + padding
            assert max(often) - min(often) <= 1
    assert set(seen) == set(bucket_of)


@given(COUNTS, st.integers(1, 4))
@settings(max_examples=20)
def test_batches_can_be_asked_in_any_order(counts: list[int], size: int) -> None:
    forwards = [rota(counts, size).at(batch) for batch in range(30)]
    made = rota(counts, size)
    assert [made.at(batch) for batch in reversed(range(30))] == forwards[::-1]


def test_buckets_come_in_a_new_order_each_round_that_follows_from_the_seed() -> None:
    def buckets_of(seed: int) -> list[tuple[int, ...]]:
        made = rota([4, 4, 4], 2, seed)
        return [tuple(made.at(batch)[0] // 4 for batch in range(start, start + 6)) for start in range(0, 60, 6)]

    assert all(sorted(round_) == [0, 0, 1, 1, 2, 2] for round_ in buckets_of(7))
    assert len(set(buckets_of(7))) > 3
    assert buckets_of(7) == buckets_of(7)
    assert buckets_of(7) != buckets_of(8)


@given(st.integers(1, 9), st.integers(1, 5), st.integers(0, 99))
@settings(max_examples=30)
def test_one_bucket_is_one_endless_deal(count: int, size: int, seed: int) -> None:
    dealt = [number for round_ in range(size) for number in dice(seed, ITEM, round_).permutation(count)]
    assert [number for batch in range(count) for number in rota([count], size, seed).at(batch)] == dealt


def test_a_step_far_along_is_found_at_once() -> None:
    made, seen = rota([3, 1, 5], 4), Counter()
    for batch in range(9_000_000_000, 9_000_000_900):
        seen.update(made.at(batch))
    assert max(seen.values()) - min(seen.values()) <= 4
