"""A1111's infotext: written, read back, and carried by a PNG."""

from pathlib import Path

import pytest
from PIL import Image

from studio.formats.infotext import infotext_of, png_info, read_infotext, write_infotext

FACTS = {"Steps": 20, "Sampler": "DPM++ 2M Karras", "CFG scale": "5", "Seed": 7, "Size": "128x128"}


def test_the_text_is_what_a1111_writes() -> None:
    text = write_infotext("a red monster", "blurry", FACTS)
    assert text == "a red monster\nNegative prompt: blurry\nSteps: 20, Sampler: DPM++ 2M Karras, CFG scale: 5, Seed: 7, Size: 128x128"


def test_without_a_negative_prompt_there_is_no_line_for_it() -> None:
    assert write_infotext("a red monster", "", {"Steps": 20}) == "a red monster\nSteps: 20"


@pytest.mark.parametrize(
    ("prompt", "negative"),
    [
        ("a red monster", "blurry"),
        ("", ""),
        ("", "blurry, ugly"),
        ("one, two: three, (four:1.2)", "five, six: seven"),
        ("first line\nsecond line", "third line\nfourth line"),
        ('quoted "words", and \\ more', 'say "no"'),
        ("møñster 獣 🐉", "ünscharf"),
    ],
)
def test_prompts_and_facts_come_back(prompt: str, negative: str) -> None:
    found = read_infotext(write_infotext(prompt, negative, FACTS))
    assert found == {"Prompt": prompt, "Negative prompt": negative, **{k: str(v) for k, v in FACTS.items()}}


@pytest.mark.parametrize("value", ["a, b", "key: value", 'he said "x", then left', "two\nlines", "back\\slash, comma", "ünï, çödé", "plain", "5e-05"])
def test_a_value_comes_back_whatever_is_in_it(value: str) -> None:
    found = read_infotext(write_infotext("p", "n", {**FACTS, "Model": value, "Clip skip": 2}))
    assert found["Model"] == value
    assert found["Clip skip"] == "2"
    assert found["Prompt"] == "p"


def test_only_values_that_would_break_the_line_are_quoted() -> None:
    assert write_infotext("p", "", {"A": "x y", "B": "x, y", "C": "x:y"}) == 'p\nA: x y, B: "x, y", C: "x:y"'


def test_a_text_of_a1111_itself_is_read() -> None:
    text = (
        "masterpiece, (monster:1.2), <lora:some:0.8>\n"
        "Negative prompt: lowres, bad anatomy\n"
        'Steps: 28, Sampler: Euler a, CFG scale: 7.5, Seed: 2688488731, Size: 512x768, Model hash: cc6cb27103, Model: v1-5-pruned, Lora hashes: "some: abcdef, other: 123456", Version: v1.10.1'
    )
    found = read_infotext(text)
    assert found["Prompt"] == "masterpiece, (monster:1.2), <lora:some:0.8>"
    assert found["Negative prompt"] == "lowres, bad anatomy"
    assert found["Sampler"] == "Euler a"
    assert found["Lora hashes"] == "some: abcdef, other: 123456"
    assert found["Version"] == "v1.10.1"


def test_a_text_without_facts_is_a_prompt() -> None:
    assert read_infotext("just a prompt, with commas") == {"Prompt": "just a prompt, with commas", "Negative prompt": ""}
    assert read_infotext("") == {"Prompt": "", "Negative prompt": ""}


@pytest.mark.parametrize("text", ["a red monster\nSteps: 20", "møñster 獣 🐉\nSteps: 20", "x" * 10_000])
def test_a_png_carries_the_text(tmp_path: Path, text: str) -> None:
    path = tmp_path / "picture.png"
    Image.new("RGB", (8, 8)).save(path, pnginfo=png_info(text))
    assert infotext_of(path) == text


def test_a_png_without_a_text_gives_nothing(tmp_path: Path) -> None:
    path = tmp_path / "picture.png"
    Image.new("RGB", (8, 8)).save(path)
    assert infotext_of(path) == ""
