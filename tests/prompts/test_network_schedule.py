"""Which networks of a prompt are active at which look, by prompt editing and alternation around their tags."""

import pytest

from studio.prompts.editing import schedule
from studio.prompts.network_schedule import PromptPass, network_schedule, networks_key


def active(prompt: str, looks: int = 4, hires_looks: int = 0) -> list[str]:
    """The names of the active networks with their strengths, look by look."""
    found = network_schedule(PromptPass(prompt, looks, hires_looks))
    sets = found.active if found.changes else found.active * looks
    return [" ".join(f"{found.networks[n].name}{found.networks[n].strengths[0]:g}" for n in sorted(one)) for one in sets][: hires_looks or looks]


@pytest.mark.parametrize(
    ("prompt", "wanted"),
    [
        ("a cat", ["", "", "", ""]),
        ("<lora:x:1> a [cat:dog:0.5]", ["x1"] * 4),
        ("[<lora:x:1>:0.5]", ["", "", "", "x1"]),  # as A1111 counts, the first text lasts one look longer than it says
        ("[<lora:x:1>::0.5]", ["x1", "x1", "x1", ""]),
        ("[<lora:x:0.3>:<lora:x:1>:0.25]", ["x0.3", "x0.3", "x1", "x1"]),
        ("[a <lora:x:1>|b]", ["x1", "x1", "", "x1"]),
        ("[<lora:x:1>|<lora:y:1>|]", ["x1", "x1", "y1", ""]),
        ("[[<lora:x:1>:<lora:y:1>:1]:<lora:z:1>:2] <lora:w:1>", ["x1 w1", "x1 w1", "y1 w1", "z1 w1"]),
        ("[<lora:x:1>:2] AND b [<lora:y:1>::1] :0.5", ["y1", "y1", "", "x1"]),
        ("([<lora:x:1>:0.5]:1.2)", ["", "", "", "x1"]),
        ("[<lora:x:1>]", ["x1"] * 4),  # brackets that switch nothing
        ("[<lora:x:1>:soon]", ["x1"] * 4),
        ("[<lora:x:1>::0]", [""] * 4),
        ("# [<lora:x:1>:0.5]\n<lora:y:1>", ["y1"] * 4),
        ("\U000f0000 [<lora:x:1>:0.5] \U000f0001", ["", "", "", "x1"]),
        ("<hypernet:h:1> [<hypernet:g:1>:0.5]", ["h1", "h1", "h1", "h1 g1"]),
    ],
)
def test_a_network_is_active_while_the_prompt_shows_it(prompt: str, wanted: list[str]) -> None:
    assert active(prompt) == wanted


def test_the_second_pass_counts_on_from_the_first() -> None:
    assert active("[<lora:x:1>:0.5]", 4, 4) == ["x1"] * 4
    assert active("[<lora:x:1>:1.5]", 4, 4) == ["", "", "", "x1"]
    assert active("[<lora:x:1>:6]", 4, 4) == ["", "", "", "x1"] and active("[<lora:x:1>:6]", 4) == [""] * 4


@pytest.mark.parametrize("steps", [1, 7, 20])
def test_a_tag_is_shown_exactly_where_the_text_beside_it_is(steps: int) -> None:
    for when in ("0.1", "0.5", "3", "0.99", "1.0"):
        texts = schedule(f"[W:{when}]", steps)
        shown = [next((text for until, text in texts if look <= until), texts[-1][1]) for look in range(steps)]
        assert active(f"[W<lora:x:1>:{when}]", steps) == ["x1" if text else "" for text in shown]


def test_prompts_that_use_networks_alike_have_one_key() -> None:
    assert networks_key("a <lora:x:1>") == networks_key("b <lora:x:1> c") != networks_key("a <lora:x:0.5>")
    assert networks_key("a") == networks_key("[b:c:0.5]") == ""
    assert networks_key("[<lora:x:1>:0.5]") != networks_key("<lora:x:1>")
