"""What is said about a prompt before it is painted."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from studio.prompts.problems import problems

WORDS = {"style": "", "whatever-200": "", "old": "It was made for SD2.", "Cat": "", "cat": "", "红圈": ""}
KNOWN = {"lora": ["watercolour", "Ink"], "hypernet": ["anime"]}


@pytest.mark.parametrize(
    "prompt",
    [
        "",
        "a plain prompt, (weighed:1.2) [from:to:0.5]",
        "style, whatever-200 <lora:watercolour:0.8> <hypernet:anime:1>",
        "<lora:ink:0.5:0.2:lbw=1,0,0>",
        "<lyco:Ink>",
        "# <lora:nowhere:1> old",
        "stylish styles older",
        "a AND b:0.5",
        "红圈2个",
        "folder-old2 a-style",
    ],
)
def test_a_good_prompt_is_left_in_peace(prompt: str) -> None:
    assert problems(prompt, WORDS, KNOWN) == []


@pytest.mark.parametrize(
    ("prompt", "wanted"),
    [
        ("<lora:watercolor:1>", "There is no LoRA called 'watercolor'; did you mean 'watercolour'?"),
        ("<lora:zzz:1>", "There is no LoRA called 'zzz'."),
        ("<lora:../../x:1>", "There is no LoRA called '../../x'."),
        ("<hypernet:ink:1>", "There is no hypernetwork called 'ink'."),
        ("<lora:ink:much>", "The strength 'much' of <lora:ink> is no number. Write it as <lora:ink:0.8>."),
        ("<loras:ink:1>", "<loras:...> is no kind of network and is left out; there is <lora:name:1> and <hypernet:name:1>."),
        ("an (old:1.2) one", "old: It was made for SD2."),
        ("a CAT", "Cat and cat differ in upper and lower case alone; Cat was taken."),
        ("a cat", "Cat and cat differ in upper and lower case alone; cat was taken."),
        ("whatever-2000", "'whatever-2000' is not the embedding 'whatever-200': a name counts only as a word of its own."),
        ("Style2, style2", "'style2' is not the embedding 'style': a name counts only as a word of its own."),
        ("红圈_2", "'红圈_2' is not the embedding '红圈': a name counts only as a word of its own."),
        ("score:9", "The prompt ends in a colon and a number, so that all of it counts 9 times; put brackets around what should be weighed."),
    ],
)
def test_each_problem_is_one_sentence(prompt: str, wanted: str) -> None:
    assert problems(prompt, WORDS, KNOWN) == [wanted]


def test_every_problem_is_said_and_none_twice() -> None:
    found = problems("<lora:a1:1> <lora:a1:1> <hypernet:b2:1> old old", WORDS, KNOWN)
    assert len(found) == 3


@given(st.text(max_size=60))
def test_any_text_is_judged(text: str) -> None:
    problems(text, WORDS, KNOWN)
    problems(text, {}, {})


@given(st.text(alphabet="<>:lora=1style-2 #AND", max_size=60))
def test_any_pile_of_signs_is_judged(text: str) -> None:
    problems(text, WORDS, KNOWN)


@pytest.mark.parametrize("piece", ["style2", "style-", "style2 ", "<lora:x:1>"])
def test_twice_the_prompt_is_twice_the_work(piece: str, work: Callable[..., int]) -> None:
    one, two = (work(problems, piece * count, WORDS, KNOWN) for count in (500, 1_000))
    assert 100 < one < two < 2.2 * one
