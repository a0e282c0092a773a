"""Extra networks in a prompt: found, taken out, and their strengths read."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from studio.errors import InputError
from studio.prompts.networks import Network, networks


@pytest.mark.parametrize(
    ("text", "left", "found"),
    [
        ("a <lora:x> b", "a  b", [Network("lora", ("x",))]),
        ("<lora:x:0.8>", "", [Network("lora", ("x", "0.8"))]),
        ("<lora:x:0.8:0.5:lbw=1,0,0.5>", "", [Network("lora", ("x", "0.8", "0.5"), {"lbw": "1,0,0.5"})]),
        ("<lora:x:te=0.1:unet=0.9:dyn=4>", "", [Network("lora", ("x",), {"te": "0.1", "unet": "0.9", "dyn": "4"})]),
        ("<hypernet:h:1>, <lora:x>", ", ", [Network("hypernet", ("h", "1")), Network("lora", ("x",))]),
        ("<lora:a=b=c>", "", [Network("lora", ("a=b=c",))]),
        ("<lora:红 圈:1>", "", [Network("lora", ("红 圈", "1"))]),
        ("<lora:a<b>", "", [Network("lora", ("a<b",))]),
        ("<lora:../../x:1>", "", [Network("lora", ("../../x", "1"))]),
        ("<a-b:c>", "<a-b:c>", []),
        ("< lora:x>", "< lora:x>", []),
        ("<lora:>", "<lora:>", []),
        ("<lora>", "<lora>", []),
        ("<lora:x", "<lora:x", []),
        ("a > b <lora:x", "a > b <lora:x", []),
    ],
)
def test_networks_are_found_and_taken_out(text: str, left: str, found: list[Network]) -> None:
    assert networks(text) == (left, found)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("<lora:x>", (1.0, 1.0)),
        ("<lora:x:0.5>", (0.5, 0.5)),
        ("<lora:x:0.5:0.2>", (0.5, 0.2)),
        ("<lora:x:unet=0.2>", (1.0, 0.2)),
        ("<lora:x:te=0.3>", (0.3, 0.3)),
        ("<lora:x:0.5:te=0:unet=-1>", (0.0, -1.0)),
    ],
)
def test_one_number_is_both_strengths_and_names_come_first(text: str, wanted: tuple[float, float]) -> None:
    assert networks(text)[1][0].strengths == wanted


@pytest.mark.parametrize("text", ["<lora:x:much>", "<lora:x:>", "<lora:x:nan>", "<lora:x:1:1e999>", "<lora:x:te=a>", "<hypernet:x:1,5>"])
def test_a_strength_that_is_no_number_is_refused_in_words(text: str) -> None:
    with pytest.raises(InputError, match="is no number") as caught:
        assert networks(text)[1][0].strengths
    assert ":x:0.8>" in caught.value.hint


def test_the_name_and_the_block_weights_are_at_hand() -> None:
    (found,) = networks("<lora: my lora :1:lbw=MIDD>")[1]
    assert (found.name, found.blocks) == ("my lora", "MIDD")
    assert (Network("lora", ()).name, Network("lora", ("x",)).blocks) == ("", "")


@given(st.text(alphabet="<>:=abc ", max_size=60))
def test_any_text_is_read_and_nothing_is_found_in_what_is_left_but_new_neighbours(text: str) -> None:
    left, found = networks(text)
    assert len(left) <= len(text)
    assert bool(found) == (left != text)


@given(st.text(alphabet="ab ,()[]:\n_-0123456789。红", max_size=80))
def test_text_without_angle_brackets_is_unchanged(text: str) -> None:
    assert networks(text) == (text, [])


@pytest.mark.parametrize("text", ["<" * 1_000_000, "<lora:" * 200_000, "<a" * 500_000, "<lora:x" * 100_000 + ">", "<lora:x>" * 10_000, ">" + "<lora:" * 200_000])
def test_a_million_letters_of_openings_are_read(text: str) -> None:
    left, found = networks(text)
    assert (not found and left == text) or left == ""


def test_twice_the_networks_are_twice_the_work(work: Callable[..., int]) -> None:
    one, two = (work(networks, "<lora:x:1>" * count) for count in (1_000, 2_000))
    assert 1_000 < one < two < 2.1 * one
