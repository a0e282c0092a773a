"""Sentences that the worker writes about prompts are shown in the language of the page."""

import re

import pytest

from studio.prompts import notices
from studio.prompts.notices import NOTICES
from studio.prompts.problems import problems
from studio.ui.notices import translated, warnings


def test_every_sentence_of_the_module_is_listed() -> None:
    assert set(NOTICES) == {value for name, value in vars(notices).items() if name.isupper() and isinstance(value, str)}


@pytest.mark.parametrize("text", NOTICES)
def test_a_sentence_is_translated_with_what_was_filled_in(text: str) -> None:
    values = {name: f"{name} (1) 红" for name in re.findall(r"\{(\w+)\}", text)}
    shown = translated("zh", text.format(**values))
    assert translated("en", text.format(**values)) == text.format(**values)
    assert re.search(r"[\u4e00-\u9fff]{2}", shown) and all(value in shown for value in values.values())
    assert "the" not in shown.split()


def test_what_is_said_of_a_prompt_is_shown_in_chinese() -> None:
    found = problems("<lora:gost:1> <hypernet:x:1> foo (v2) __colour__", {"foo (v2)": ""}, {"lora": ["ghost"]})
    assert len(found) == 4
    shown = [translated("zh", sentence) for sentence in found]
    assert shown[0] == "找不到名为“gost”的LoRA；是不是“ghost”？" and shown[1] == "找不到名为“x”的超网络。"
    assert r"foo \(v2\)" in shown[2] and "通配符" in shown[3]
    assert "&lt;b&gt;" in warnings("zh", ["<b>"]) and translated("zh", "Something else.") == "Something else."
