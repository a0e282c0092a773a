"""The prompts of a picture as the trainer uses them, token by token."""

import unicodedata
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from studio.errors import InputError
from studio.projects.final_prompts import caption_warnings, final_prompt, final_prompts, places
from studio.prompts.chunks import CHUNK, Chunker
from studio.prompts.vocabulary import tokens_of

BITS = ["red hat", ", ", "，", "(", ")", "[", "]", ":1.3)", "\\", "BREAK", " ", "gnarl", "猫", "e\u0301", "\u0301", "B\\REAK", "(B\\REAK:-1)", "😀", "\n", "\ud800", "[name]"]
CAPTIONS = st.lists(st.sampled_from(BITS) | st.text(max_size=5), max_size=20).map("".join)
LINES = st.sampled_from(["[filewords]", "a photo of [name], [filewords]", "[name]", "x [filewords] [name] [filewords]", ""])


@given(LINES, CAPTIONS, st.integers(1, 75))
def test_tokens_are_those_of_the_trainers_chunks(line: str, caption: str, vectors: int) -> None:
    found = final_prompt(line, "gnarl", caption, {"gnarl": vectors})
    chunks = Chunker({"gnarl": vectors}).chunks(found.text)
    assert [sum(token.chunk == i for token in found.tokens) for i in range(len(chunks))] == [len(chunk) for chunk in chunks]
    assert sum(token.embedding for token in found.tokens) == sum(isinstance(token, tuple) for chunk in chunks for token, _ in chunk)
    assert all(found.text[token.start : token.end] == token.text for token in found.tokens)
    assert [token.start for token in found.tokens] == sorted(token.start for token in found.tokens)


def test_a_prompt_is_filled_and_every_token_stands_where_it_is_written() -> None:
    (found,) = final_prompts(["a photo of [name], [filewords]"], "gnarl", 3, "red hat, 猫")
    assert found.text == "a photo of gnarl, red hat, 猫"
    assert [t.text for t in found.tokens] == ["a", "photo", "of", *["gnarl"] * 3, ",", "red", "hat", ",", *["猫"] * len(tokens_of("猫"))]
    assert [t.embedding for t in found.tokens].count(True) == 3
    assert found.count == len(found.tokens)
    assert (found.cut_at, found.warnings) == (None, ())
    assert [found.text[a:b] for a, b in (*found.name_spans, *found.filewords_spans)] == ["gnarl", "red hat, 猫"]


def test_brackets_are_left_out_and_places_stay_right() -> None:
    found = final_prompt("[filewords]", "x", "a (red:1.3) \\(hat\\) [big] BREAK end", {})
    assert [(t.text, t.chunk) for t in found.tokens] == [("a", 0), ("red", 0), ("(", 0), ("hat", 0), (")", 0), ("big", 0), ("end", 1)]
    assert found.text[found.cut_at :] == "end"
    assert found.count == CHUNK + 1


def test_the_cut_is_where_the_second_chunk_begins() -> None:
    caption = ", ".join(["tree"] * 60)
    found = final_prompt("[name], [filewords]", "gnarl", caption, {"gnarl": 8})
    first = [t for t in found.tokens if t.chunk == 0]
    assert len(first) <= CHUNK
    assert found.cut_at == next(t for t in found.tokens if t.chunk == 1).start
    assert found.text[first[-1].end : found.cut_at].strip() == ""
    assert any("chunks of 75" in warning and "begins at" in warning for warning in found.warnings)
    assert final_prompt("[filewords]", "gnarl", "tree " * 75, {}).cut_at is None
    assert final_prompt("[filewords]", "gnarl", "tree " * 76, {}).cut_at == 75 * 5


def test_letters_typed_in_two_ways_are_one_and_spans_follow() -> None:
    found = final_prompt("cafe\u0301 [name], [filewords]", "gnarl", "re\u0301d hat", {"gnarl": 1})
    assert found.text == unicodedata.normalize("NFC", found.text)
    assert [found.text[a:b] for a, b in (*found.name_spans, *found.filewords_spans)] == ["gnarl", "réd hat"]


def test_only_different_lines_are_shown_up_to_the_limit() -> None:
    lines = ["a [name]", "b [name]", "a [name]", "c [name]", "d [name]"]
    assert [p.line for p in final_prompts(lines, "gnarl", 1, "", limit=3)] == ["a [name]", "b [name]", "c [name]"]
    assert Counter(p.text for p in final_prompts(lines, "gnarl", 1, "", limit=99)) == Counter(["a gnarl", "b gnarl", "c gnarl", "d gnarl"])


def test_a_word_that_is_no_embedding_takes_its_own_tokens_and_other_embeddings_theirs() -> None:
    (found,) = final_prompts(["[name], [filewords]"], "gnarl", 0, "by moss", words={"moss": 5})
    assert [t.text for t in found.tokens if t.embedding] == ["moss"] * 5
    assert "".join(t.text for t in found.tokens[:2]) == "gnarl"


def test_a_name_that_is_not_met_as_a_word_is_told() -> None:
    assert "stands inside another word" in final_prompt("a [name]y cat", "gnarl", "", {"gnarl": 2}).warnings[0]
    assert "is not in the prompt" in final_prompt("a cat", "gnarl", "", {"gnarl": 2}).warnings[0]
    assert final_prompt("a cat by [name]", "gnarl", "", {"gnarl": 2}).warnings == ()


def test_an_embedding_that_no_prompt_can_hold_is_refused() -> None:
    with pytest.raises(InputError, match="76 vectors"):
        final_prompts(["[name]"], "gnarl", 76, "")


@pytest.mark.parametrize(
    ("caption", "told"),
    [
        ("(red:1.3), hat", '"red" counts 1.3 times'),
        ("[red], hat", '"red" counts 0.909 times'),
        ("(red:1.0), hat", "left out"),
        ("saber (fate)", '"fate" counts 1.1 times'),
        ("red BREAK blue", "new chunk"),
        ("red <lora:x:1>", "plain text"),
        ("red AND blue", "plain text"),
    ],
)
def test_syntax_in_a_caption_is_told(caption: str, told: str) -> None:
    assert told in " ".join(caption_warnings(caption))


@pytest.mark.parametrize("caption", ["", "red hat, smile", r"saber \(fate\)", "3:4 and BREAKFAST", "a :) smile", "红，圆（大）"])
def test_plain_captions_are_not_warned_about(caption: str) -> None:
    assert caption_warnings(caption) == ()


def test_places_of_a_caption() -> None:
    assert places("") == 0
    assert places("a red hat, (smile:1.2)") == len(tokens_of("a red hat, smile"))
    assert places("red BREAK blue") == CHUNK + 1


@given(
    CAPTIONS | st.text(alphabet=st.characters(codec="utf-8"), max_size=60) | st.lists(st.sampled_from([" ", "\u3000", "\t", "'s", "'", "a", "ΑΣ", "1", ",", ", ", "é", "́"]), max_size=90).map("".join)
)
def test_places_are_those_of_the_chunks(caption: str) -> None:
    chunks = Chunker({}).chunks(caption)
    assert places(caption) == (len(chunks) - 1) * CHUNK + len(chunks[-1])
