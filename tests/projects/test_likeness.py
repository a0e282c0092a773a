"""Likeness: what differs in few bits is found and nothing else, mirror images and parallel vectors too, and groups are whole."""

import base64
import random
import struct
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from studio.projects.facts import BINS, Facts
from studio.projects.likeness import MIRROR, NEAR, SURE, alike, near, same, unpacked

CENTERS = [0, (1 << 64) - 1, 0x0123_4567_89AB_CDEF]
NEIGHBOURS = st.builds(lambda center, flips: center ^ sum(1 << bit for bit in flips), st.sampled_from(CENTERS), st.sets(st.integers(0, 63), max_size=8))


@given(st.lists(NEIGHBOURS, max_size=40, unique=True), st.integers(0, NEAR))
def test_pairs_are_those_that_a_plain_search_finds(values: list[int], distance: int) -> None:
    expected = {frozenset((i, j)): (values[i] ^ values[j]).bit_count() for i, j in combinations(range(len(values)), 2) if (values[i] ^ values[j]).bit_count() <= distance}
    assert {frozenset((i, j)): bits for i, j, bits in near(list(enumerate(values)), distance)} == expected


def test_equal_hashes_are_paired_with_their_first() -> None:
    assert sorted(near([(5, 9), (6, 9), (7, 9)])) == [(5, 6, 0), (5, 7, 0)]


def picture(value: int, ramp: int = 0, clip: str = "") -> Facts:
    """A picture of a hash, with more detail to the right or to the left."""
    line = tuple(i * ramp if ramp >= 0 else (i - BINS) * ramp for i in range(BINS))
    flat = (100,) * BINS
    return Facts(64, 64, perceptual=f"{value:016x}", detail_x=line, detail_y=flat, edges_x=line, edges_y=flat, clip=clip)


def groups(*pictures: Facts) -> list[str]:
    """Groups as strings of one-letter names."""
    return ["".join(group) for group in alike(tuple((chr(97 + i), one) for i, one in enumerate(pictures)))]


HASH = 0x5A5A_1234_8765_0FF0


@pytest.mark.parametrize(
    ("changed", "other_ramp", "expected"),
    [(0, 0, ["ab"]), ((1 << SURE) - 1, 4, ["ab"]), ((1 << NEAR) - 1, 0, ["ab"]), ((1 << NEAR) - 1, 4, []), ((1 << NEAR + 1) - 1, 0, [])],
)
def test_the_profiles_decide_where_the_hash_is_unsure(changed: int, other_ramp: int, expected: list[str]) -> None:
    assert groups(picture(HASH), picture(HASH ^ changed, other_ramp)) == expected


def test_without_profiles_the_hash_decides_alone() -> None:
    assert groups(Facts(perceptual=f"{HASH:016x}"), Facts(perceptual=f"{HASH ^ 63:016x}")) == ["ab"]


def test_mirror_images_are_alike() -> None:
    assert groups(picture(HASH, 3), picture(HASH ^ MIRROR, -3)) == ["ab"]
    assert groups(picture(HASH, 3), picture(HASH ^ MIRROR ^ 63, -3)) == ["ab"]
    assert groups(picture(HASH, 3), picture(HASH ^ MIRROR ^ 63, 3)) == []


def test_likeness_is_passed_on() -> None:
    chain = [picture(HASH ^ ((1 << 4 * i) - 1)) for i in range(5)]
    assert groups(*chain, picture(~HASH & (1 << 64) - 1)) == ["abcde"]


def test_the_same_file_is_alike_whatever_was_measured() -> None:
    assert groups(Facts(digest="one"), Facts(digest="two"), Facts(digest="one")) == ["ac"]


def test_nothing_measured_is_like_nothing() -> None:
    assert groups(Facts(), Facts()) == [] and same([("a", ""), ("b", "")]) == []


def vector(values: list[float]) -> str:
    """As the examination keeps it."""
    return base64.b64encode(struct.pack(f"<{len(values)}e", *values)).decode()


def test_a_vector_comes_back_with_length_one() -> None:
    assert unpacked(vector([3, 0, 4])) == pytest.approx((0.6, 0, 0.8), abs=1e-3)
    assert unpacked(vector([0, 0])) == ()


@pytest.mark.parametrize("count", [20, 400])
def test_parallel_vectors_are_alike(count: int) -> None:
    draw = random.Random(count)
    usual = [draw.gauss(0, 1) for _ in range(64)]
    vectors = [[u + draw.gauss(0, 0.7) for u in usual] for _ in range(count)]
    vectors.append([v * 2 + draw.gauss(0, 0.1) for v in vectors[3]])
    found = alike(tuple((str(i), Facts(perceptual=f"{draw.getrandbits(64):016x}", clip=vector(values))) for i, values in enumerate(vectors)))
    assert found == (("3", str(count)),)


def test_vectors_of_another_model_are_not_compared() -> None:
    assert groups(picture(HASH, clip=vector([1, 0])), picture(~HASH & (1 << 64) - 1, clip=vector([1, 0, 0]))) == []
