"""Embeddings that a prompt misses by their spelling are named, and ordinary words are not taken for them."""

import unicodedata

import pytest

from studio.prompts.near import near_misses
from studio.prompts.problems import missed, used_in

NAMES = ("foo (v2)", "easynegative", "my_embed", "café style", "photo", "bad-hands-5", "studios")


@pytest.mark.parametrize(
    ("text", "name", "form"),
    [
        ("a foo (v2), red", "foo (v2)", r"foo \(v2\)"),
        ("(foo (v2):1.2)", "foo (v2)", r"foo \(v2\)"),
        ("foo_v2", "foo (v2)", r"foo \(v2\)"),
        ("my embed", "my_embed", "my_embed"),
        ("My-Embed", "my_embed", "my_embed"),
        ("bad hands 5", "bad-hands-5", "bad-hands-5"),
        ("ｅａｓｙｎｅｇａｔｉｖｅ", "easynegative", "easynegative"),
        ("(easynegatve:1.2)", "easynegative", "easynegative"),
        ("easynnegative", "easynegative", "easynegative"),
        ("eaysnegative", "easynegative", "easynegative"),
        ("café_style", "café style", "café style"),
    ],
)
def test_a_name_that_is_missed_by_its_spelling_is_told(text: str, name: str, form: str) -> None:
    assert used_in(text, NAMES) == ()
    (sentence,) = missed(text, NAMES, ())
    assert f"the embedding '{name}'" in sentence and sentence.endswith(f"write {form}")


@pytest.mark.parametrize("name", ["photo.pt", "photo.safetensors", r"foo \(v2\).png"])
def test_a_file_extension_behind_a_name_is_told(name: str) -> None:
    (sentence,) = missed(name, NAMES, used_in(name, NAMES))
    assert sentence.startswith(f"'{name}'") and "without the file extension" in sentence


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a photo of a studio, my hands",  # `studio` is one letter away from `studios`, and an ordinary word
        "foo, v2",
        "my, embed",
        "photograph",
        "a-photo_b",
        r"foo \(v2\), my_embed, easynegative, EASYNEGATIVE",
        unicodedata.normalize("NFD", "café style"),
        "photos. Pt",
    ],
)
def test_what_is_no_miss_is_left_in_peace(text: str) -> None:
    assert missed(text, NAMES, used_in(text, NAMES)) == []


def test_a_long_prompt_with_many_names_is_looked_through() -> None:
    names = [f"embedding_{i}_of_many" for i in range(3000)]
    assert len(near_misses("word " * 3000 + "embedding 7 of many", names, ())) == 1
