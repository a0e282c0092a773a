"""Names of embeddings in texts: whole words only, longest first, in every script."""

from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from studio.prompts.words import Names, fold


def found(names: list[str], text: str) -> list[str]:
    """Names found in a text, and a check that they stand where it is said."""
    hits = list(Names(names).find(text))
    assert all(fold(text[start:end]) == fold(name) for start, end, name in hits)
    assert all(a[1] <= b[0] for a, b in pairwise(hits))
    return [name for _, _, name in hits]


@pytest.mark.parametrize(
    ("names", "text", "wanted"),
    [
        (["style", "style-a"], "style-a and style", ["style-a", "style"]),
        (["style", "style-a"], "style-b", []),
        (["style", "style-a"], "style-ab", []),
        (["my", "my style"], "my style, my styles", ["my style", "my"]),
        (["whatever-200"], "whatever-2000", []),
        (["whatever-200", "whatever-2000"], "whatever-2000", ["whatever-2000"]),
        (["cat"], "concatenate cats cat's", ["cat"]),
        (["cat"], "(cat), cat. 'cat' cat/dog", ["cat"] * 4),
        (["cat"], "my_cat cat_1 cat2 2cat -cat cat-", []),
        (["红圈"], "一个红圈在蓝色上", ["红圈"]),
        (["红圈", "红圈子"], "红圈子和红圈", ["红圈子", "红圈"]),
        (["红圈"], "红圈_2 a-红圈", []),
        (["红圈"], "红圈cat 2红圈", ["红圈", "红圈"]),
        (["cat"], "一只cat坐着", ["cat"]),
        (["かわいい"], "とてもかわいい猫", ["かわいい"]),
        (["แมว"], "รูปแมวน่ารัก", ["แมว"]),
        (["고양이"], "고양이 귀여운고양이", ["고양이"]),
        (["кот"], "кот, котик", ["кот"]),
        (["a.b+"], "red a.b+ circle, axbb, a.b++", ["a.b+"]),
        (["c++"], "c++, c+++ c++!", ["c++", "c++"]),
        (["<cat-toy>"], "a <cat-toy> on<cat-toy>", ["<cat-toy>"] * 2),
        (["tower (city)"], "a tower (city) here", ["tower (city)"]),
        (["[]^$.*"], "x []^$.* y", ["[]^$.*"]),
        (["café"], "CAFÉ café cafés", ["café", "café"]),
        (["Straße"], "straße strasse", ["Straße"]),
        (["ΟΔΟΣ"], "οδος οδοσ", ["ΟΔΟΣ"] * 2),
        (["İx"], "İx i̇x", ["İx"]),
        (["Cat", "cat"], "cat Cat CAT", ["cat", "Cat", "Cat"]),
        (["🙂"], "a🙂b 🙂🙂", ["🙂"]),
        ([""], "anything", []),
        ([], "anything", []),
        (["x"], "", []),
    ],
)
def test_names_are_found_as_words_of_their_own(names: list[str], text: str, wanted: list[str]) -> None:
    assert found(names, text) == wanted


def test_a_letter_typed_as_two_is_the_same_letter() -> None:
    assert found(["cafe\u0301"], "caf\u00e9") == ["cafe\u0301"]


@given(st.lists(st.text(max_size=6), max_size=6), st.text(max_size=60))
def test_any_names_in_any_text_are_looked_for_without_a_fault(names: list[str], text: str) -> None:
    for start, end, name in Names(names).find(fold(text)):
        assert fold(text)[start:end] == fold(name)


@given(st.text(st.characters(categories=["Lu", "Ll", "Lo", "Nd"]), min_size=1, max_size=8))
def test_a_name_between_spaces_is_always_found(name: str) -> None:
    assert found([name], f"a, {fold(name)} ,b")


def test_a_thousand_names_cost_no_more_than_their_lengths(work: Callable[..., int]) -> None:
    text = "some words of a prompt, " * 200
    few, many = (Names([f"w{i:04}" for i in range(count)]) for count in (10, 10_000))
    assert work(lambda: list(many.find(text))) <= work(lambda: list(few.find(text))) + 10


def test_twice_the_text_is_twice_the_work(work: Callable[..., int]) -> None:
    names = Names(["aaaa", "aaaaab", "b"])
    one, two = (work(lambda text="a" * count: list(names.find(text))) for count in (2_000, 4_000))
    assert 1_000 < one < two < 2.1 * one
