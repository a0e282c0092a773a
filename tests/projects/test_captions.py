"""Captions are read in whatever encoding they were saved, and merged as the person chose."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from studio.projects.captions import caption_file, caption_of, decode_caption, existing_caption, merge_captions, split_tags

CHINESE = "一只猫坐在窗台上，水墨画"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "gbk", "gb18030"])
def test_chinese_in_any_usual_encoding_is_read(encoding: str) -> None:
    assert decode_caption(f"{CHINESE}\r\n".encode(encoding)) == CHINESE


@pytest.mark.parametrize(("mark", "encoding"), [(b"\xff\xfe", "utf-16-le"), (b"\xfe\xff", "utf-16-be")])
def test_both_byte_orders_of_utf16_are_read(mark: bytes, encoding: str) -> None:
    assert decode_caption(mark + CHINESE.encode(encoding)) == CHINESE


def test_a_byte_order_mark_is_no_part_of_the_caption() -> None:
    assert decode_caption(b"\xef\xbb\xbfa cat") == "a cat"
    assert decode_caption(b"\xef\xbb\xbf") == ""


def test_signs_that_only_gb18030_knows_are_read() -> None:
    assert decode_caption("㐀𠀀 猫".encode("gb18030")) == "㐀𠀀 猫"


def test_bytes_of_no_encoding_are_read_with_replacement_marks() -> None:
    text = decode_caption(b"a cat \xff\xff\x80 on a mat")
    assert text.startswith("a cat ")
    assert text.endswith(" on a mat")
    assert "�" in text


def test_nul_characters_are_dropped() -> None:
    assert decode_caption(b"a\0 cat\0") == "a cat"


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_give_a_text_without_nul_and_outer_space(data: bytes) -> None:
    text = decode_caption(data)
    assert "\0" not in text
    assert text == text.strip()
    text.encode("utf-8")


@settings(deadline=None)
@given(st.text(st.characters(codec="utf-8", exclude_characters="\0\ufeff"), max_size=60))
def test_what_was_written_as_utf8_is_read_back(text: str) -> None:
    assert decode_caption(text.encode()) == text.strip()


def test_the_text_beside_a_picture_is_its_caption(tmp_path: Path) -> None:
    picture = tmp_path / "00012-0-cat.png"
    caption_file(picture).write_bytes(CHINESE.encode("gbk"))
    assert caption_file(picture) == tmp_path / "00012-0-cat.txt"
    assert caption_of(picture) == existing_caption(picture) == CHINESE


@pytest.mark.parametrize(
    ("name", "caption"),
    [("a red cat.png", "a red cat"), ("00012-0-cat.png", "cat"), ("7 cats.jpg", "cats"), ("-- x.png", "x"), ("123.png", ""), ("水墨.png", "水墨"), ("v1.2 cat.png", "v1.2 cat")],
)
def test_a_picture_without_a_text_is_called_by_its_name_without_leading_numbers(tmp_path: Path, name: str, caption: str) -> None:
    assert caption_of(tmp_path / name) == caption
    assert existing_caption(tmp_path / name) == ""


def test_an_empty_text_means_no_caption_and_not_the_file_name(tmp_path: Path) -> None:
    (tmp_path / "cat.txt").write_text(" \n")
    assert caption_of(tmp_path / "cat.png") == ""


def test_a_folder_named_like_the_text_is_no_caption(tmp_path: Path) -> None:
    (tmp_path / "cat.txt").mkdir()
    assert caption_of(tmp_path / "cat.png") == "cat"
    assert existing_caption(tmp_path / "cat.png") == ""


def test_a_picture_with_dots_in_its_name_has_its_own_text(tmp_path: Path) -> None:
    (tmp_path / "v1.2.txt").write_text("second")
    assert existing_caption(tmp_path / "v1.2.png") == "second"
    assert existing_caption(tmp_path / "v1.3.png") == ""


@pytest.mark.parametrize(
    ("action", "old", "new", "merged"),
    [
        ("ignore", "old", "new", "new"),
        ("ignore", "old", "", ""),
        ("copy", "old", "new", "old"),
        ("copy", "", "new", "new"),
        ("copy", "old", "", "old"),
        ("prepend", "old", "new", "old new"),
        ("prepend", "", "new", "new"),
        ("prepend", "old", "", "old"),
        ("append", "old", "new", "new old"),
        ("append", "", "new", "new"),
        ("append", "old", "", "old"),
        ("append", "", "", ""),
    ],
)
def test_old_and_new_captions_are_merged_as_chosen(action: str, old: str, new: str, merged: str) -> None:
    assert merge_captions(action, old, new) == merged


def test_tags_are_split_at_western_and_chinese_commas() -> None:
    assert split_tags(" red hair, blue eyes，猫、 狗,, ,") == ["red hair", "blue eyes", "猫", "狗"]
    assert split_tags("") == []
