"""A template line and a caption become the prompt that is trained on, and it is known where each stands in it."""

import re
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from studio.errors import InputError
from studio.projects.filling import fill, filled, parse_template, vary

LINES = st.lists(st.sampled_from(["[name]", "[filewords]", ", ", ",", " ", "a photo of", "红", "[", "name]", "]"]), max_size=9).map("".join)
CAPTIONS = st.one_of(st.just(""), st.text(alphabet="ab,， []name红", max_size=20), st.just("a [name] here"))


@given(LINES, st.sampled_from(["gnarl", "x", "猫 cat", "[filewords]"]), CAPTIONS)
def test_the_rule_is_two_replacements_and_no_hanging_comma(line: str, name: str, caption: str) -> None:
    text = line.replace("[filewords]", caption).replace("[name]", name)
    if not caption:
        text = re.sub(r"^[\s,]+|[\s,]+$", "", re.sub(r",(\s*,)+", ",", text))
    assert fill(line, name, caption) == text


@given(LINES, st.sampled_from(["", "a", "red, 红，round", "a [name] here", "[name]"]))
def test_spans_hold_the_name_and_the_caption(line: str, caption: str) -> None:
    found = filled(line, "gnarl", caption)
    assert [found.text[a:b] for a, b in found.name_spans] == ["gnarl"] * line.replace("[filewords]", caption).count("[name]")
    assert [found.text[a:b] for a, b in found.filewords_spans] == [caption.replace("[name]", "gnarl")] * (line.count("[filewords]") if caption else 0)


def test_a_name_inside_the_caption_is_part_of_both() -> None:
    found = filled("[filewords] by [name]", "gnarl", "a [name] here")
    assert (found.text, found.name_spans, found.filewords_spans) == ("a gnarl here by gnarl", ((2, 7), (16, 21)), ((0, 12),))


def test_the_name_is_found_after_commas_went() -> None:
    found = filled(", [filewords], , a [name], [filewords]", "gnarl", "")
    assert (found.text, found.name_spans, found.filewords_spans) == ("a gnarl", ((2, 7),), ())


def test_lines_of_a_template() -> None:
    assert parse_template("\n a [name] \r\n\n# b\n") == ("a [name]", "# b")
    with pytest.raises(InputError, match=r"Prompt template: mine\.txt holds no line"):
        parse_template(" \n\t\n", "mine.txt")


def test_the_page_can_vary_a_caption_with_numbers_of_its_own() -> None:
    shuffled = vary("红，圆、大, far", True, 0.0, Random(3))
    assert sorted(shuffled.split(", ")) == sorted(["红", "圆", "大", "far"])
    assert vary("a, b", True, 1.0, Random(0)) == ""
    assert vary(" a,b ", False, 0.0, Random(0)) == " a,b "
