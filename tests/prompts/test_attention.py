"""The attention grammar, against A1111's own examples and the facts that were measured on it."""

import re
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from studio.prompts.attention import BREAK, attention, placed

TABLE = [
    ("normal text", [("normal text", 1.0)]),
    ("an (important) word", [("an ", 1.0), ("important", 1.1), (" word", 1.0)]),
    ("(unbalanced", [("unbalanced", 1.1)]),
    (r"\(literal\]", [("(literal]", 1.0)]),
    ("(unnecessary)(parens)", [("unnecessaryparens", 1.1)]),
    (
        "a (((house:1.3)) [on] a (hill:0.5), sun, (((sky))).",
        [("a ", 1.0), ("house", 1.573), (" ", 1.1), ("on", 1.0), (" a ", 1.1), ("hill", 0.55), (", sun, ", 1.1), ("sky", 1.4641), (".", 1.1)],
    ),
    ("", [("", 1.0)]),
    ("()", [("", 1.0)]),
    ("a)", [("a)", 1.0)]),
    ("a]", [("a]", 1.0)]),
    ("(a:1.5", [("a:1.5", 1.1)]),
    ("(a:b:1.5)", [("a:b", 1.5)]),
    ("(a: 1.5 )", [("a", 1.5)]),
    ("(a:-1)", [("a", -1.0)]),
    ("(a:+2)", [("a", 2.0)]),
    ("(a:.5)", [("a", 0.5)]),
    ("(a:1e2)", [("a:1e2", 1.1)]),
    ("a BREAK b", [("a", 1.0), (BREAK, -1.0), ("b", 1.0)]),
    ("aBREAKb", [("aBREAKb", 1.0)]),
    ("a break b", [("a break b", 1.0)]),
    ("(a BREAK b:1.2)", [("a", 1.2), (BREAK, -1.0), ("b", 1.2)]),
]

MORE = [
    ("[a]", [("a", 1 / 1.1)]),
    ("[[a]]", [("a", 1 / 1.1**2)]),
    ("[a", [("a", 1 / 1.1)]),
    ("((a", [("a", 1.1**2)]),
    ("([a])", [("a", 1.0)]),
    ("(a:1.5)]", [("a", 1.5), ("]", 1.0)]),
    ("a:1.5)", [("a:1.5)", 1.0)]),
    ("[a:1.5]", [("a:1.5", 1 / 1.1)]),
    ("(a (b:2) c:3)", [("a ", 3.0), ("b", 6.0), (" c", 3.0)]),
    (r"\\", [("\\", 1.0)]),
    ("\\", [("", 1.0)]),
    (r"\a", [("a", 1.0)]),
    (r"\m/", [("m/", 1.0)]),
    (r"\[a\]", [("[a]", 1.0)]),
    (r"\\(a)", [("\\", 1.0), ("a", 1.1)]),
    (r"(a\))", [("a)", 1.1)]),
    (r"tower_\(city\)", [("tower_(city)", 1.0)]),
    ("时:间", [("时:间", 1.0)]),
    ("(a:1.2.3)", [("a:1.2.3)", 1.1)]),
]


def same(found: list[tuple[str, float]], wanted: list[tuple[str, float]]) -> None:
    """Pieces equal, weights equal but for rounding."""
    assert [text for text, _ in found] == [text for text, _ in wanted]
    assert [weight for _, weight in found] == pytest.approx([weight for _, weight in wanted])


@pytest.mark.parametrize(("text", "wanted"), TABLE, ids=[repr(t) for t, _ in TABLE])
def test_every_example_of_a1111_is_read_as_a1111_reads_it(text: str, wanted: list[tuple[str, float]]) -> None:
    same(attention(text), wanted)


@pytest.mark.parametrize(("text", "wanted"), MORE, ids=[repr(t) for t, _ in MORE])
def test_escapes_nesting_and_stray_brackets_are_read(text: str, wanted: list[tuple[str, float]]) -> None:
    same(attention(text), wanted)


def test_two_breaks_in_a_row_are_two_breaks() -> None:
    assert [p for p in attention("a BREAK BREAK b") if p == (BREAK, -1.0)] == [(BREAK, -1.0)] * 2


def test_a_break_swallows_the_space_around_it() -> None:
    assert attention("a  \n BREAK \t b") == [("a", 1.0), (BREAK, -1.0), ("b", 1.0)]


def test_deep_nesting_multiplies_once_a_level() -> None:
    same(attention("(" * 20 + "a" + ")" * 20), [("a", 1.1**20)])


@pytest.mark.parametrize("text", ["a" * 10_000, "red, " * 2_000, "(a)" * 3_333, "(" * 10_000, ")" * 10_000, "[(" * 5_000, " " * 10_000, "\\" * 10_000, ":" * 10_000])
def test_ten_thousand_characters_are_read_without_losing_letters(text: str) -> None:
    letters = re.compile(r"[a-z]")
    assert letters.findall("".join(piece for piece, _ in attention(text))) == letters.findall(text)


@given(st.text(alphabet=" ab,\n_-0123456789。红", max_size=80))
def test_text_without_brackets_comes_back_as_it_was(text: str) -> None:
    assert attention(text) == [(text, 1.0)]


@given(st.text(alphabet="ab ,()[]\\", max_size=60))
def test_escaped_text_comes_back_letter_for_letter_at_weight_one(text: str) -> None:
    escaped = re.sub(r"([()\[\]\\])", r"\\\1", text)
    assert attention(escaped) == [(text, 1.0)]


@given(st.text(max_size=60))
def test_any_text_is_read_and_its_pieces_are_never_empty(text: str) -> None:
    found = attention(text)
    assert found == [("", 1.0)] or all(piece for piece, _ in found)


@pytest.mark.parametrize("text", ["red " * 250_000, " " * 500_000 + "x BREAK " + " " * 500_000, "(" * 100_000 + "a" + ")" * 100_000, "[(" * 50_000 + "a"], ids=["words", "spaces", "nested", "open"])
def test_a_million_letters_and_brackets_nested_100000_times_are_read(text: str) -> None:
    assert "".join(piece for piece, _ in attention(text)).split()[0] in ("red", "xBREAK", "a")


@pytest.mark.parametrize("piece", ["(", "[", "(a", "(a)", "[a:", "(a:1.1)", "\\(", ":", "BREAK ", "([)]"])
def test_twice_the_text_is_twice_the_work(piece: str, work: Callable[..., int]) -> None:
    one, two = (work(attention, "(a)" + piece * count) for count in (1_000, 2_000))
    assert 30 < one <= two < 2.1 * one


def test_brackets_that_cross_weigh_what_they_hold() -> None:
    same(attention("a (b [c) d] e"), [("a ", 1.0), ("b ", 1.1), ("c", 1.0), (" d", 1 / 1.1), (" e", 1.0)])


@given(st.text(alphabet="ab :1.[]()\\BREAK\n", max_size=60) | st.lists(st.sampled_from(["BREAK", " ", "(", ")", "[", "]", "\\", ":1.2)", "red", "红"]), max_size=20).map("".join))
def test_every_piece_is_found_where_it_is_said_to_begin(text: str) -> None:
    found = placed(text)
    assert [("".join(bit for bit, _ in bits), weight) for bits, weight in found] == attention(text)
    assert all(text[at : at + len(bit)] == bit for bits, _ in found for bit, at in bits)
    places = [at for bits, _ in found for _, at in bits]
    assert places == sorted(set(places))
