"""Chunks of 75: where they begin, what commas do, and which places embeddings take."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from studio.errors import InputError
from studio.prompts.chunks import CHUNK, Chunker
from studio.prompts.vocabulary import COMMA, tokens_of

RED, A = tokens_of("red")[0], tokens_of("a")[0]


def sizes(prompt: str, words: dict[str, int] | None = None, backtrack: int = 20) -> list[int]:
    """Tokens in each chunk."""
    return [len(chunk) for chunk in Chunker(words or {}, backtrack).chunks(prompt)]


@pytest.mark.parametrize(("count", "wanted"), [(0, [0]), (1, [1]), (74, [74]), (75, [75]), (76, [75, 1]), (150, [75, 75]), (151, [75, 75, 1])])
def test_a_chunk_holds_75(count: int, wanted: list[int]) -> None:
    assert sizes("red " * count) == wanted


@pytest.mark.parametrize(
    ("prompt", "wanted"),
    [
        ("a BREAK a", [1, 1]),
        ("a BREAK", [1]),
        ("BREAK a", [0, 1]),
        ("BREAK", [0]),
        ("a BREAK BREAK a", [1, 0, 1]),
        ("(a BREAK a:1.2)", [1, 1]),
        ("red " * 75 + "BREAK a", [75, 1]),
        ("red " * 76 + "BREAK a", [75, 1, 1]),
    ],
)
def test_break_ends_a_chunk_and_an_empty_one_at_the_end_does_not_count(prompt: str, wanted: list[int]) -> None:
    assert sizes(prompt) == wanted


@pytest.mark.parametrize(
    ("before", "after", "backtrack", "wanted"),
    [
        (54, 40, 20, [75, 20]),  # the comma stands 21 from the end: too far
        (55, 40, 20, [56, 40]),  # 20 from the end: near enough
        (74, 10, 20, [75, 10]),  # the comma is the last of the chunk
        (75, 10, 20, [75, 11]),  # the comma itself begins the next
        (55, 19, 20, [75]),  # full, but nothing follows
        (55, 20, 20, [56, 20]),
        (55, 40, 19, [75, 21]),
        (55, 40, 0, [75, 21]),
        (1, 80, 74, [2, 75, 5]),
        (0, 75, 74, [75, 1]),  # a comma that begins the chunk is 75 away
    ],
)
def test_a_full_chunk_goes_back_to_a_near_comma(before: int, after: int, backtrack: int, wanted: list[int]) -> None:
    assert sizes("red " * before + ", " + "a " * after, backtrack=backtrack) == wanted


def test_the_tail_is_cut_at_the_last_comma_and_begins_the_next_chunk() -> None:
    chunks = Chunker({}).chunks("red " * 56 + ", " + "a " * 5 + ", (" + "a " * 11 + ":1.5) red red red")
    assert [len(chunk) for chunk in chunks] == [63, 14]
    assert chunks[0][-1] == (COMMA, 1.0)
    assert [token for token, _ in chunks[1]] == [A] * 11 + [RED] * 3
    assert [weight for _, weight in chunks[1]] == pytest.approx([1.5] * 11 + [1.0] * 3)


def test_an_embedding_behind_the_comma_moves_whole() -> None:
    chunks = Chunker({"word": 8}).chunks("red " * 60 + ", word " + "a " * 20)
    assert [len(chunk) for chunk in chunks] == [61, 28]
    assert [token for token, _ in chunks[1]][:8] == [("word", i) for i in range(8)]


def test_an_embedding_that_finds_no_room_begins_the_next_chunk() -> None:
    assert sizes("red " * 70 + "word", {"word": 8}) == [70, 8]
    assert sizes("red " * 67 + "word", {"word": 8}) == [75]


def test_an_embedding_longer_than_a_chunk_is_refused_only_where_it_is_used() -> None:
    assert sizes("a red", {"word": 76}) == [2]
    with pytest.raises(InputError, match="76 vectors"):
        sizes("a word", {"word": 76})


def test_an_embedding_has_the_weight_around_it() -> None:
    ((one, two, three),) = Chunker({"word": 2}).chunks("a (word:1.3)")
    assert (one, two, three) == ((A, 1.0), (("word", 0), 1.3), (("word", 1), 1.3))


def test_used_embeddings_are_named_once_in_the_order_they_appear() -> None:
    chunker = Chunker({"one": 1, "two": 1, "three": 99})
    assert chunker.used("TWO, (one) BREAK two [one]") == ("two", "one")
    assert chunker.used("someone") == ()


@given(st.lists(st.sampled_from(["red ", ", ", "word ", "BREAK ", "(a:1.2) "]), max_size=300), st.integers(0, 74))
def test_no_token_is_lost_or_doubled_and_no_chunk_is_too_long(pieces: list[str], backtrack: int) -> None:
    chunks = Chunker({"word": 5}, backtrack).chunks("".join(pieces))
    kinds = [token for chunk in chunks for token, _ in chunk]
    wanted: list[object] = []
    for piece in pieces:
        wanted += {"red ": [RED], ", ": [COMMA], "word ": [("word", i) for i in range(5)], "BREAK ": [], "(a:1.2) ": [A]}[piece]
    assert kinds == wanted
    assert all(len(chunk) <= CHUNK for chunk in chunks)


@given(st.text(max_size=80))
def test_any_text_is_cut(text: str) -> None:
    assert Chunker({"a": 2}).chunks(text)


def test_twice_the_prompt_is_twice_the_work(work: Callable[..., int]) -> None:
    tokens_of("a")
    one, two = (work(Chunker({"word": 3}).chunks, "red, (word), " * count) for count in (300, 600))
    assert 1_000 < one < two < 2.1 * one
