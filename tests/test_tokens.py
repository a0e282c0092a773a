"""The counter under a prompt."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from studio.tokens import counts, tokens_of


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("", (0, 75)),
        ("a red circle", (3, 75)),
        ("red " * 75, (75, 75)),
        ("red " * 76, (76, 150)),
        ("red " * 60 + ", " + "a " * 20, (95, 150)),
        ("a BREAK b", (76, 150)),
        ("a BREAK", (1, 75)),
        ("(a:1.3) [b]", (2, 75)),
        ("a # not this", (1, 75)),
        ("a <lora:some name:1>", (1, 75)),
        ("[red|red blue green]", (3, 75)),
        ("[red red:blue:0.5] a", (3, 75)),
        ("red AND red blue:2", (2, 75)),
        ("word word", (16, 75)),
        ("password", (1, 75)),
        ("long", (75, 75)),
    ],
)
def test_what_is_counted_is_what_will_be_encoded(text: str, wanted: tuple[int, int]) -> None:
    assert counts(text, {"word": 8, "long": 90}) == wanted


@given(st.text(max_size=80))
def test_any_text_is_counted(text: str) -> None:
    used, limit = counts(text, {"a": 3})
    assert 0 <= used <= limit
    assert limit % 75 == 0
    assert limit >= 75


@given(st.text(alphabet="ab, \n红", max_size=60))
def test_plain_text_has_the_tokens_of_its_text(text: str) -> None:
    assert counts(text, {}) == (len(tokens_of(text)), 75)


@pytest.mark.parametrize("text", ["(" * 50_000, "[a|b|c]" * 20_000, "[a:b:1e309]" * 5_000, "<" * 100_000])
def test_prompts_far_too_long_to_paint_are_still_counted(text: str) -> None:
    used, limit = counts(text, {})
    assert 0 <= used <= limit
