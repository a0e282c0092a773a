"""Tokens: the same ids as transformers' CLIP tokenizer, for every kind of text."""

import subprocess
import sys
from functools import lru_cache
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from studio.diffusion import tokenizer
from studio.errors import NotFound, Unreadable
from studio.prompts import vocabulary as module
from studio.prompts.vocabulary import COMMA, END, START, spelled, tokens_of, vocabulary

CORPUS = [
    "a red circle",
    "",
    "   ",
    "masterpiece, best quality, (1girl:1.2), [from:to:0.5] <lora:x:1>",
    "don't I'LL We're she'd",
    "红圈 在 蓝色的 背景上。",
    "日本語テキスト, 한국어, हिन्दी, ไทย",
    "👩‍👩‍👧 🙂 ❤️",
    "café naïve cafe\u0301",
    "&amp; &lt;html&gt;",
    "ﬁle “quotes” it’s â€œmojibakeâ€\u009d",
    "tab\tline\n\u00a0nbsp\u3000wide",
    "İstanbul ΑΣ ß ÄÖÜ",
    "1234 12,5 ½ ²",
    "___---!!!,,,::))",
    "<|startoftext|> a <|endoftext|>",
    "a</w>b Ġa",
    "\x00\x07 a\x7f",
    "A" * 300,
]


@lru_cache(maxsize=1)
def reference() -> object:
    """Transformers' tokenizer over the same vocabulary."""
    return tokenizer.clip_tokenizer()


def expected(text: str) -> list[int]:
    """Ids by transformers."""
    return list(reference()(text, add_special_tokens=False, split_special_tokens=True, verbose=False).input_ids)


@pytest.mark.parametrize("text", CORPUS, ids=[repr(t)[:24] for t in CORPUS])
def test_ids_are_those_of_transformers(text: str) -> None:
    assert tokens_of(text) == expected(text)
    assert tokenizer.tokens_of(text) == tokens_of(text)


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=40))
def test_ids_of_any_text_are_those_of_transformers(text: str) -> None:
    assert tokens_of(text) == expected(text)


def test_ids_that_everybody_knows() -> None:
    assert tokens_of("a photo of a cat") == [320, 1125, 539, 320, 2368]
    assert tokens_of(",") == [COMMA]
    assert (START, END, len(vocabulary()[0])) == (49406, 49407, 49408)


def test_half_a_character_is_read_as_a_question_mark() -> None:
    assert tokens_of("a \ud800 b") == tokens_of("a ? b")


def test_special_tokens_written_in_a_prompt_stay_text() -> None:
    assert not {START, END} & set(tokens_of("a <|endoftext|> b <|startoftext|>"))


def test_counting_needs_neither_torch_nor_transformers() -> None:
    code = "import sys; from studio.tokens import counts; print(counts('a, b', {}), sorted({'torch', 'transformers', 'open_clip', 'diffusers'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=Path(module.__file__).parents[2], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "(3, 75) []", done.stderr


@pytest.fixture
def fresh() -> object:
    """The vocabulary is read anew, in this test and after it."""
    vocabulary.cache_clear()
    yield
    vocabulary.cache_clear()


def test_a_missing_open_clip_is_told_in_words(fresh: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(NotFound, match="open_clip_torch is missing"):
        vocabulary()


def test_a_damaged_vocabulary_is_told_in_words(fresh: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "bpe_simple_vocab_16e6.txt.gz").write_bytes(b"\x1f\x8b damaged")
    spec = type("Spec", (), {"origin": str(tmp_path / "__init__.py")})()
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda _: spec)
    with pytest.raises(Unreadable, match="cannot be read"):
        vocabulary()


@given(st.text(max_size=60))
def test_spelled_tokens_are_the_same_and_stand_one_behind_the_other(text: str) -> None:
    found = spelled(text)
    assert [token for token, _, _ in found] == tokens_of(text)
    assert all(0 <= begin <= end <= len(text) for _, begin, end in found)
    assert [begin for _, begin, _ in found] == sorted(begin for _, begin, _ in found)


def test_spelled_tokens_say_where_they_stand() -> None:
    text = "A  photo of 猫, Cafe\u0301"
    assert [text[a:b] for _, a, b in spelled(text)][:3] == ["A", "photo", "of"]
    assert {text[a:b] for _, a, b in spelled(text)[3:-2]} == {"猫"}
    assert text[spelled(text)[-1][1] :] == "Cafe\u0301"
