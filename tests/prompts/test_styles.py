"""Styles: files as A1111 writes them, files as people break them, and what a style adds."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from studio.errors import InputError, NotFound, StudioError, Unreadable
from studio.prompts.parts import LETTER_LIMIT
from studio.prompts.styles import Style, apply_styles, chosen_styles, read_styles, write_styles

A1111 = b'\xef\xbb\xbfname,prompt,negative_prompt\r\nFilm,"{prompt}, grain, ""35mm""",digital\r\n\xe6\xb2\xb9\xe7\x94\xbb,"oil,\r\ncanvas",\r\n'


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Where styles are kept."""
    return tmp_path / "styles.csv"


def test_a_file_of_a1111_is_read_with_its_quotes_lines_and_byte_order_mark(file: Path) -> None:
    file.write_bytes(A1111)
    assert read_styles(file) == [Style("Film", '{prompt}, grain, "35mm"', "digital"), Style("油画", "oil,\r\ncanvas", "")]


def test_what_is_written_is_what_a1111_writes(file: Path) -> None:
    file.write_bytes(A1111)
    write_styles(file, read_styles(file))
    assert file.read_bytes() == A1111
    assert list(file.parent.iterdir()) == [file]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("", []),
        ("name,prompt,negative_prompt\n", []),
        ("name,text\nold,words\n", [Style("old", "words")]),
        ("name, prompt, negative_prompt\na, b, c\n", [Style("a", "b", "c")]),
        ("negative_prompt,name,prompt\nn,a,p\n", [Style("a", "p", "n")]),
        ("name,prompt,negative_prompt,colour\na,b,c,red,more\n", [Style("a", "b", "c")]),
        ("name,prompt,negative_prompt\na\n\n,lost,\nb,x\n", [Style("a"), Style("b", "x")]),
        ("name,prompt\na,one\na,two\n", [Style("a", "two")]),
        ('name,prompt\na,"open\nto the end', [Style("a", "open\nto the end")]),
    ],
)
def test_older_shorter_and_stranger_tables_are_read(file: Path, text: str, wanted: list[Style]) -> None:
    file.write_text(text, encoding="utf-8", newline="")
    assert read_styles(file) == wanted


def test_without_a_file_there_are_no_styles(file: Path) -> None:
    assert read_styles(file) == []


@pytest.mark.parametrize("data", [b"\xff\xfe\x00n", b"prompt,negative_prompt\na,b\n", b"\x00\x00\x00", b'name,prompt\na,"' + b"x" * 200_000 + b'"\n', b"PK\x03\x04\x99"])
def test_a_file_that_is_no_such_table_is_refused_in_words(file: Path, data: bytes) -> None:
    file.write_bytes(data)
    with pytest.raises(Unreadable, match=r"styles\.csv") as caught:
        read_styles(file)
    assert caught.value.hint


def test_a_style_without_a_name_is_refused_and_the_file_stays(file: Path) -> None:
    write_styles(file, [Style("a", "b")])
    with pytest.raises(InputError, match="needs a name"):
        write_styles(file, [Style(" ", "b")])
    assert read_styles(file) == [Style("a", "b")]


def test_a_folder_that_is_missing_is_said_in_words(tmp_path: Path) -> None:
    with pytest.raises(StudioError, match=r"styles\.csv was not written"):
        write_styles(tmp_path / "nowhere" / "styles.csv", [Style("a")])


@given(st.lists(st.tuples(*[st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)] * 3), max_size=5))
def test_every_style_comes_back_as_it_was_saved(tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str, str]]) -> None:
    path = tmp_path_factory.getbasetemp() / "saved.csv"
    styles = list({name: Style(name, *rest) for name, *rest in rows if name.strip() and name == name.lstrip(" ")}.values())
    write_styles(path, styles)
    assert [style.name for style in read_styles(path)] == [style.name for style in styles]
    assert [style.prompt.lstrip(" ") for style in read_styles(path)] == [style.prompt.lstrip(" ") for style in styles]


@pytest.mark.parametrize(
    ("prompt", "style", "wanted"),
    [
        ("a cat", "grain", "a cat, grain"),
        ("a cat ", " grain ", "a cat, grain"),
        ("a cat", "film of {prompt}, grain", "film of a cat, grain"),
        ("a cat", "{prompt} and {prompt}", "a cat and a cat"),
        ("", "grain", "grain"),
        ("a cat", "", "a cat"),
        ("", "film of {prompt}", "film of "),
        ("a {prompt} cat", "grain", "a {prompt} cat, grain"),
    ],
)
def test_a_style_takes_the_prompt_in_or_follows_it(prompt: str, style: str, wanted: str) -> None:
    assert apply_styles(prompt, "", [Style("s", style)]) == (wanted, "")
    assert apply_styles("", prompt, [Style("s", "", style)]) == ("", wanted)


def test_styles_are_added_one_after_another() -> None:
    styles = [Style("one", "x", "bad"), Style("two", "[{prompt}]", "worse")]
    assert apply_styles("a", "", styles) == ("[a, x]", "bad, worse")
    assert apply_styles("a", "b", []) == ("a", "b")


def test_styles_that_multiply_the_prompt_beyond_reading_are_refused_in_words() -> None:
    with pytest.raises(InputError, match="'doubling'"):
        apply_styles("word", "", [Style("doubling", "{prompt}{prompt}")] * 60)
    assert len(apply_styles("a" * LETTER_LIMIT, "", [Style("s", "{prompt}")])[0]) == LETTER_LIMIT


def test_names_choose_styles_in_their_order_and_missing_ones_are_named() -> None:
    styles = [Style("a"), Style("b"), Style("c")]
    assert chosen_styles(styles, ["c", "a"]) == [Style("c"), Style("a")]
    with pytest.raises(NotFound, match="'x', 'y'") as caught:
        chosen_styles(styles, ["a", "x", "y"])
    assert "a, b, c" in caught.value.hint
    with pytest.raises(NotFound):
        chosen_styles([], ["a"])
