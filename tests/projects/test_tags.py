"""Tags of a data set: counted, set side by side, and completed as a person types."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from studio.projects.captions import split_tags
from studio.projects.facts import Item
from studio.projects.tags import Alike, TagCount, alike, complete, everywhere, once, tag_counts, together


def items(*captions: str) -> list[Item]:
    """Pictures with these captions."""
    return [Item(f"{i}.png", caption, bool(caption)) for i, caption in enumerate(captions)]


SET = items("gnarl, red hat, smile", "gnarl，Red hat、frown", "gnarl, red hat, red hat", "", "  ,  ")


def test_tags_are_counted_by_the_captions_they_stand_in() -> None:
    assert tag_counts(SET)[:2] == [TagCount("gnarl", 3, 1.0), TagCount("red hat", 2, 2 / 3)]
    assert [one.tag for one in tag_counts(SET, "alphabet")] == ["frown", "gnarl", "Red hat", "red hat", "smile"]
    assert tag_counts([]) == tag_counts(items("")) == []


def test_tags_of_every_caption_are_named_whatever_their_case() -> None:
    assert everywhere(SET) == ["gnarl", "red hat"]
    assert everywhere(items("a, b")) == []
    assert everywhere(items("a", "b")) == []


def test_tags_that_stand_once() -> None:
    assert once(SET) == ["frown", "smile"]


def test_tags_that_stand_together() -> None:
    assert together(SET, " RED hat ") == [TagCount("gnarl", 3, 1.0), TagCount("frown", 1, 1 / 3), TagCount("smile", 1, 1 / 3)]
    assert together(SET, "unknown") == []


@pytest.mark.parametrize(
    ("more", "less", "why"),
    [
        ("smile", "Smile", "case"),
        ("blue eyes", "blue_eyes", "spelling"),
        ("semi-rimmed", "semi rimmed", "spelling"),
        ("saber (fate)", r"saber \(fate\)", "spelling"),
        ("hat", "ｈａｔ", "spelling"),
        ("red hat", "red hats", "plural"),
        ("boxes", "box", "plural"),
        ("smile", "smlie", "letter"),
        ("receive", "recieve", "letter"),
        ("receive", "recive", "letter"),
        ("outdoors", "outdoorz", "letter"),
    ],
)
def test_tags_that_may_be_one_are_named_the_frequent_one_first(more: str, less: str, why: str) -> None:
    assert alike(items(f"{more}, tree", more, less)) == [Alike(more, less, why)]
    assert alike(items(f"{less}, tree", less, more)) == [Alike(less, more, why)]


APART = ["1girl/2girl", "red cat/red hat", "红帽/蓝帽", "红帽子/红帽", "man/men", "size 10000/size 10001", "blue eyes/brown eyes", "a" * 50 + "/" + "a" * 50 + "s"]


@pytest.mark.parametrize("pair", APART)
def test_tags_that_are_two_stay_two(pair: str) -> None:
    assert alike(items(*pair.split("/"))) == []


def test_three_spellings_are_merged_into_one() -> None:
    assert alike(items("blue eyes", "blue eyes", "blue eyes", "Blue Eyes", "Blue Eyes", "blue_eyes", "blue eye")) == [
        Alike("blue eyes", "Blue Eyes", "case"),
        Alike("blue eyes", "blue eye", "plural"),
        Alike("blue eyes", "blue_eyes", "spelling"),
    ]


def test_many_numbered_tags_are_no_slips() -> None:
    assert alike(items(*(f"number {i:05}" for i in range(3000)))) == []


@given(st.lists(st.text(alphabet="abs _红", max_size=12), max_size=8))
def test_what_looks_alike_are_tags_of_the_set_each_pair_once(captions: list[str]) -> None:
    tags = {tag for caption in captions for tag in split_tags(caption)}
    found = alike(items(*captions))
    assert all({pair.keep, pair.drop} <= tags and pair.keep != pair.drop for pair in found)
    assert max(Counter(frozenset(pair[:2]) for pair in found).values(), default=0) <= 1


def test_completing_looks_at_the_beginnings_of_words() -> None:
    some = items("blue eyes, eyelashes", "blue eyes, green eyes, dog-ear, cat_ear", "year, 红色帽子, bear")
    assert [one.tag for one in complete("ey", some)] == ["eyelashes", "blue eyes", "green eyes"]
    assert [one.tag for one in complete("ear", some)] == ["cat_ear", "dog-ear"]
    assert [one.tag for one in complete("BLUE e", some)] == ["blue eyes"]
    assert [one.tag for one in complete("帽", some)] == ["红色帽子"]
    assert [one.tag for one in complete("e", some, 1)] == ["eyelashes"]
    assert complete("  ", some) == complete("zzz", some) == []


@given(st.lists(st.text(max_size=8), max_size=5), st.text(min_size=1, max_size=3))
def test_completions_hold_what_was_typed(captions: list[str], prefix: str) -> None:
    assert all(one.count >= 1 for one in complete(prefix, items(*captions)))
    assert {one.tag for one in complete(prefix, items(*captions))} <= {one.tag for one in tag_counts(items(*captions))}
