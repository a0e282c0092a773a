"""Editing and alternation: A1111's examples, what was measured on it, and texts made to break a reader."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from studio.errors import InputError
from studio.prompts.editing import schedule

TABLE = [
    ("test", [(10, "test")]),
    ("a [b:3]", [(3, "a "), (10, "a b")]),
    ("a [b: 3]", [(3, "a "), (10, "a b")]),
    ("a [[[b]]:2]", [(2, "a "), (10, "a [[b]]")]),
    ("[(a:2):3]", [(3, ""), (10, "(a:2)")]),
    ("a [b : c : 1] d", [(1, "a b  d"), (10, "a  c  d")]),
    ("a[b:[c:d:2]:1]e", [(1, "abe"), (2, "ace"), (10, "ade")]),
    ("a [unbalanced", [(10, "a [unbalanced")]),
    ("a [b:.5] c", [(5, "a  c"), (10, "a b c")]),
    ("a [{b|d{:.5] c", [(10, "a [{b|d{:.5] c")]),
    ("((a][:b:c [d:3]", [(3, "((a][:b:c "), (10, "((a][:b:c d")]),
    ("[a|(b:1.1)]", [(i, "a" if i % 2 else "(b:1.1)") for i in range(1, 11)]),
    ("[fe|]male", [(i, "female" if i % 2 else "male") for i in range(1, 11)]),
    ("[fe|||]male", [(i, "female" if i % 4 == 1 else "male") for i in range(1, 11)]),
    ("[a:b:0]", [(10, "b")]),
    ("[a:b:1.0]", [(10, "a")]),
    ("[a:b:1]", [(1, "a"), (10, "b")]),
    ("[a:b:-1]", [(10, "b")]),
    ("[a:b:100]", [(10, "a")]),
    ("[a:b]", [(10, "[a:b]")]),
    ("[a|b:0.5]", [(10, "[a|b:0.5]")]),
    ("[a:b:0.5:c]", [(10, "[a:b:0.5:c]")]),
    (r"\[a:b:0.5\]", [(10, r"\[a:b:0.5\]")]),
]
MORE = [
    ("[a::4]", [(4, "a"), (10, "")]),
    ("[:b:4]", [(4, ""), (10, "b")]),
    ("[:4]", [(4, ""), (10, "")]),
    ("[3:4]", [(4, ""), (10, "3")]),
    ("[a:b:+2]", [(2, "a"), (10, "b")]),
    ("[a:b:1e1]", [(10, "a")]),
    ("[a:b:1e309]", [(10, "a")]),
    ("[a:b:-1e309]", [(10, "b")]),
    ("[a:b:0.5e0 ]", [(5, "a"), (10, "b")]),
    ("[a:b:1.2.3]", [(10, "[a:b:1.2.3]")]),
    ("[a:b:时]", [(10, "[a:b:时]")]),
    ("[红:蓝:2]圈", [(2, "红圈"), (10, "蓝圈")]),
    ("([a:b:2]:1.3)", [(2, "(a:1.3)"), (10, "(b:1.3)")]),
    ("[[a:b:2]|c]", [(i, "c" if i % 2 == 0 else "a" if i <= 2 else "b") for i in range(1, 11)]),
    ("[|]", [(i, "") for i in range(1, 11)]),
    ("[a:(b:c:d):3]", [(10, "[a:(b:c:d):3]")]),
    ("[x:[a:b]:3]", [(10, "[x:[a:b]:3]")]),
    ("[x (:[a:b:3]", [(3, "[x (:a"), (10, "[x (:b")]),
    ("[a:b:3]]", [(3, "a]"), (10, "b]")]),
    ("[a:b:3] | c", [(10, "[a:b:3] | c")]),
    ("(a|b)", [(10, "(a|b)")]),
    ("[a:b:3]\\", [(10, "[a:b:3]\\")]),
    (r"[a\:b:c:3]", [(3, r"a\:b"), (10, "c")]),
    (r"[a\|b|c]", [(i, r"a\|b" if i % 2 else "c") for i in range(1, 11)]),
    ("[a:b:3][c:d:3]", [(3, "ac"), (10, "bd")]),
    ("[a:[b:c:4]:6]", [(4, "a"), (6, "a"), (10, "c")]),
]
HIRES = [
    ("a [b:.5] c", 10, 10, [(10, "a b c")]),
    ("a [b:1.5] c", 10, 10, [(5, "a  c"), (10, "a b c")]),
    ("[a:b:15]", 10, 20, [(5, "a"), (20, "b")]),
    ("[a:b:5]", 10, 20, [(20, "b")]),
    ("[a:b:1.25]", 10, 20, [(5, "a"), (20, "b")]),
    ("[a:b:12]", 10, 0, [(2, "a"), (10, "b")]),
    ("[a|b]", 10, 2, [(1, "a"), (2, "b")]),
    ("plain", 10, 20, [(20, "plain")]),
]


@pytest.mark.parametrize(("text", "wanted"), TABLE, ids=[repr(t) for t, _ in TABLE])
def test_every_example_of_a1111_is_read_as_a1111_reads_it(text: str, wanted: list[tuple[int, str]]) -> None:
    assert schedule(text, 10) == wanted


@pytest.mark.parametrize(("text", "wanted"), MORE, ids=[repr(t) for t, _ in MORE])
def test_nesting_escapes_numbers_and_stray_brackets_are_read(text: str, wanted: list[tuple[int, str]]) -> None:
    assert schedule(text, 10) == wanted


@pytest.mark.parametrize(("text", "steps", "hires", "wanted"), HIRES)
def test_the_second_pass_of_a_hires_fix_counts_on(text: str, steps: int, hires: int, wanted: list[tuple[int, str]]) -> None:
    assert schedule(text, steps, hires, second_pass=True) == wanted


@pytest.mark.parametrize(
    ("text", "hires", "wanted"),
    [
        ("[a:b:0.5]", None, [(5, "a"), (10, "b")]),
        ("[a:b:1.0]", None, [(1, "a"), (10, "b")]),
        ("[a:b:3.7]", None, [(3, "a"), (10, "b")]),
        ("[a:b:30]", None, [(10, "a")]),
        ("[a:b:0]", None, [(10, "b")]),
        ("[a:b:0.5]", 10, [(5, "a"), (10, "b")]),
        ("[a:b:0.5]", 6, [(5, "a"), (10, "b")]),
        ("[a:b:3]", 14, [(3, "a"), (10, "b"), (14, "a")]),
    ],
)
def test_old_timelines_are_read_as_a1111_reads_them(text: str, hires: int | None, wanted: list[tuple[int, str]]) -> None:
    assert schedule(text, 10, hires or 0, hires is not None, old=True) == wanted


def test_the_first_pass_knows_nothing_of_the_second() -> None:
    assert schedule("a [b:1.5] c", 10, 20) == [(10, "a  c")]


@pytest.mark.parametrize("steps", [1, 2, 150])
def test_the_last_text_lasts_until_the_last_step(steps: int) -> None:
    for text in ("a", "[a:b:1]", "[a:b:.5]", "[a|b|c]"):
        found = schedule(text, steps)
        assert found[-1][0] == steps
        assert [until for until, _ in found] == sorted({until for until, _ in found})


@given(st.text(max_size=60), st.integers(1, 30), st.integers(0, 30), st.booleans())
def test_any_text_is_read(text: str, steps: int, hires: int, second: bool) -> None:
    assert schedule(text, steps, hires, second)[-1][0] == ((hires or steps) if second else steps)


@given(st.text(alphabet="ab[]():|\\ .123", max_size=40))
def test_any_pile_of_brackets_is_read_and_no_letter_is_made_up(text: str) -> None:
    for _, shown in schedule(text, 10):
        assert not set(shown) - set(text)
        assert len(shown) <= len(text)


@given(st.text(alphabet="ab ,\n_-0123456789。红()", max_size=80))
def test_text_without_square_brackets_is_the_same_at_every_step(text: str) -> None:
    assert schedule(text, 10) == [(10, text)]


@given(st.text(alphabet="ab红 ,", max_size=20), st.text(alphabet="ab红 ,", max_size=20), st.integers(1, 9))
def test_an_edit_of_any_two_words_switches_at_its_step(before: str, after: str, when: int) -> None:
    assert schedule(f"x [{before}:{after}:{when}] y", 10) == [(when, f"x {before} y"), (10, f"x {after} y")]


@pytest.mark.parametrize(
    "text", ["[" * 100_000, "(" * 100_000, "[a:" * 30_000, "[a" * 10_000 + ":3]" * 10_000, "(" * 50_000 + ")" * 50_000, "[" * 1_000 + "a:b:3" + "]" * 1_000, "[a|b" * 1_000 + "]" * 1_000]
)
def test_brackets_nested_thousands_of_times_are_read(text: str) -> None:
    assert schedule(text, 10)[-1][0] == 10


def test_a_million_letters_are_read() -> None:
    assert schedule("a" * 1_000_000, 20) == [(20, "a" * 1_000_000)]


@pytest.mark.parametrize("piece", ["(", "[", "[a:", "[a:b:3]", "[a|b]", ":", "\\(", "[a|b", "(a]"])
def test_twice_the_text_is_twice_the_work(piece: str, work: Callable[..., int]) -> None:
    one, two = (work(schedule, "[a:b:1]" + piece * count, 10) for count in (1_000, 2_000))
    assert 1_000 < one < two < 2.1 * one


def test_a_schedule_that_would_fill_the_memory_is_refused_in_words() -> None:
    text = "".join(f"[a:b:{i}]" for i in range(150)) * 20
    with pytest.raises(InputError, match="changes in 3000 places"):
        schedule(text, 150)
    with pytest.raises(InputError, match="Take out"):
        schedule("a" * 1_000_000 + "[a|b|c|d|e|f|g|h|i|j|k|l]", 20)


def test_alternation_over_many_steps_shares_its_texts() -> None:
    found = schedule("[a|b]" * 4_000, 150)
    assert len({id(text) for _, text in found}) == 2
