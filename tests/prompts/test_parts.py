"""Comments, AND, weights, and the text of every part at every step."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from studio.errors import InputError
from studio.prompts.parts import LETTER_LIMIT, Part, negative, parts, positive, without_comments

TABLE = [
    ("a AND b", [("a", 1.0), (" b", 1.0)]),
    ("a :1.2 AND b :0.5", [("a", 1.2), (" b", 0.5)]),
    ("cat AND dog:-1", [("cat", 1.0), (" dog", -1.0)]),
    ("foo:1.5", [("foo", 1.5)]),
    ("sAND", [("sAND", 1.0)]),
    ("a and b", [("a and b", 1.0)]),
    ("a AND", [("a", 1.0), ("", 1.0)]),
    ("a:b:2", [("a:b", 2.0)]),
    ("a:.5", [("a", 0.5)]),
    ("a:5.", [("a", 5.0)]),
    ("a:+2 ", [("a", 2.0)]),
    ("a:1e2", [("a:1e2", 1.0)]),
    ("(a:1.5)", [("(a:1.5)", 1.0)]),
    ("a\nAND\nb:2", [("a", 1.0), ("\nb", 2.0)]),
    ("a AND AND b", [("a", 1.0), ("", 1.0), (" b", 1.0)]),
    ("红AND蓝", [("红AND蓝", 1.0)]),
    ("a:" + "9" * 400, [("a:" + "9" * 400, 1.0)]),
    ("", [("", 1.0)]),
]


@pytest.mark.parametrize(("text", "wanted"), TABLE, ids=[repr(t)[:30] for t, _ in TABLE])
def test_parts_and_their_weights_are_read_as_a1111_reads_them(text: str, wanted: list[tuple[str, float]]) -> None:
    assert parts(text) == wanted


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("a # b", "a \n"),
        ("a\n# b\nc", "a\nc"),
        ("# a", "\n"),
        ("a, # one\nb, # two\nc", "a, \nb, \nc"),
        ("a # b # c\nd", "a \nd"),
        ("no comment", "no comment"),
        ("", ""),
    ],
)
def test_comments_are_taken_out_line_by_line(text: str, wanted: str) -> None:
    assert without_comments(text) == wanted


@given(st.text(max_size=80))
def test_no_text_keeps_a_comment_and_any_text_is_read(text: str) -> None:
    assert "#" not in without_comments(text)
    assert parts(text)


@given(st.text(alphabet="ab ,\n_-0123456789。红", max_size=80))
def test_plain_text_is_one_part_without_the_space_at_its_end(text: str) -> None:
    assert without_comments(text) == text
    assert parts(text) == [(text.rstrip(), 1.0)]


def test_a_text_lasts_while_the_step_from_0_is_not_above_its_end() -> None:
    (part,) = positive("[a:b:3]", 10)
    assert [part.at(step) for step in range(10)] == ["a"] * 4 + ["b"] * 6


def test_alternation_begins_with_its_first_word_twice_as_in_a1111() -> None:
    (part,) = positive("[a|b]", 6)
    assert [part.at(step) for step in range(6)] == ["a", "a", "b", "a", "b", "a"]


def test_a_step_beyond_the_last_keeps_the_last_text() -> None:
    assert Part(1.0, ((2, "a"), (4, "b"))).at(5) == "b"


def test_each_part_has_its_own_weight_and_texts() -> None:
    found = positive("a [b:c:2]:0.7 AND d", 4)
    assert found == (Part(0.7, ((2, "a b"), (4, "a c"))), Part(1.0, ((4, " d"),)))


def test_a_negative_prompt_is_edited_but_has_neither_parts_nor_a_weight() -> None:
    assert negative("[a:b:2] AND c:2", 4) == Part(1.0, ((2, "a AND c:2"), (4, "b AND c:2")))


def test_the_second_pass_counts_on() -> None:
    assert positive("[a:b:1.5]", 10, 4) == (Part(1.0, ((2, "a"), (4, "b"))),)
    assert positive("[a:b:1.5]", 10) == (Part(1.0, ((10, "a"),)),)


@pytest.mark.parametrize("read", [positive, negative])
def test_a_prompt_too_long_to_be_read_at_once_is_refused_in_words(read: object) -> None:
    read("(" * LETTER_LIMIT, 20)
    with pytest.raises(InputError, match="1,000,000 letters"):
        read("(" * 1_000_000, 20)
