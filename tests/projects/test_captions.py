"""Captions are read in whatever encoding they were saved, and merged as the person chose."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from studio.projects.captions import (
    LONGEST,
    TROUBLES,
    caption_file,
    caption_of,
    caption_trouble,
    clean_caption,
    decode_caption,
    existing_caption,
    merge_captions,
    own_caption_name,
    sharing,
    split_tags,
)
from studio.projects.facts import Item

CHINESE = "一只猫坐在窗台上，水墨画"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "gbk", "gb18030"])
def test_chinese_in_any_usual_encoding_is_read(encoding: str) -> None:
    assert decode_caption(f"{CHINESE}\r\n".encode(encoding)) == CHINESE


@pytest.mark.parametrize(("mark", "encoding"), [(b"\xff\xfe", "utf-16-le"), (b"\xfe\xff", "utf-16-be")])
def test_both_byte_orders_of_utf16_are_read(mark: bytes, encoding: str) -> None:
    assert decode_caption(mark + CHINESE.encode(encoding)) == CHINESE


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("text", [CHINESE, "a red cat, sitting", "1girl, 红色头发", "猫\r\n狗", "东方龙，白色，云"])
def test_utf16_without_a_mark_is_read(text: str, encoding: str) -> None:
    assert decode_caption(text.encode(encoding)) == text


@pytest.mark.parametrize("text", ["红色", "一只猫，窗台", "水墨画，山水", "東方龍，白色", "㐀𠀀 猫"])
def test_gb18030_of_even_length_is_not_taken_for_utf16(text: str) -> None:
    data = text.encode("gb18030")
    assert decode_caption(data) == text
    assert decode_caption(data + b" ") == text


@pytest.mark.parametrize(
    ("data", "trouble"),
    [
        (b"", ""),
        (b"   \r\n", ""),
        (CHINESE.encode(), ""),
        (b"a cat \x81\x98 \xff on a mat", "undecodable"),
        (b"\xef\xbb\xbfa \xff", "undecodable"),
        (b"a\0 cat", "nul"),
        (b"\xef\xbb\xbfa cat", "encoding"),
        (CHINESE.encode("gbk"), "legacy"),
        (CHINESE.encode("utf-16"), "encoding"),
        (CHINESE.encode("utf-16-be"), "encoding"),
        (b"a" * LONGEST, ""),
        (b"a" * (LONGEST + 1), "long"),
        ("猫".encode() * LONGEST, "long"),
    ],
)
def test_the_trouble_with_a_caption_is_named(data: bytes, trouble: str) -> None:
    assert caption_trouble(data) == trouble
    assert trouble == "" or TROUBLES[trouble].endswith(".")


def test_a_caption_of_a_gigabyte_is_not_read_whole(tmp_path: Path) -> None:
    with (tmp_path / "a.txt").open("wb") as file:
        file.write("猫".encode() * (LONGEST // 3 + 10))
        file.truncate(2**30)
    assert existing_caption(tmp_path / "a.png") == caption_of(tmp_path / "a.png") == "猫" * (LONGEST // 3)


def test_a_text_named_after_the_whole_file_belongs_to_that_picture_alone(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("both")
    assert existing_caption(tmp_path / "a.png") == existing_caption(tmp_path / "a.jpg") == "both"
    (tmp_path / own_caption_name("a.png")).write_text("the png")
    assert existing_caption(tmp_path / "a.png") == caption_of(tmp_path / "a.png") == "the png"
    assert existing_caption(tmp_path / "a.jpg") == "both"


def test_names_of_any_length_and_any_bytes_have_a_caption_file(tmp_path: Path) -> None:
    for name in ("猫" * 83 + "aa.png", "a\nb.png", "-a.png", "\udcff.png", "a\"b'.png"):
        assert len(name.encode("utf-8", "surrogateescape")) <= 255
        assert existing_caption(tmp_path / name) == ""
        caption_file(tmp_path / name).write_text("here")
        assert existing_caption(tmp_path / name) == "here"
    assert existing_caption(tmp_path / "a\0.png") == ""


def test_pictures_that_share_a_caption_are_told() -> None:
    items = [Item("a.jpg", caption_name="a.txt"), Item("a.png", caption_name="a.txt"), Item("b.png", caption_name="b.txt")]
    assert sharing(items) == {"a.txt": ["a.jpg", "a.png"]}


def test_what_no_file_can_hold_is_taken_out_of_a_caption() -> None:
    assert clean_caption("a\0 \ud800cat \r\n猫 ") == "a cat \r\n猫 "


def test_a_byte_order_mark_is_no_part_of_the_caption() -> None:
    assert decode_caption(b"\xef\xbb\xbfa cat") == "a cat"
    assert decode_caption(b"\xef\xbb\xbf") == ""


def test_signs_that_only_gb18030_knows_are_read() -> None:
    assert decode_caption("㐀𠀀 猫".encode("gb18030")) == "㐀𠀀 猫"


def test_bytes_of_no_encoding_are_read_with_replacement_marks() -> None:
    text = decode_caption(b"a cat \x81\x98 \xff on a mat")
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
        ("prepend", "old", "new", "old, new"),
        ("prepend", "", "new", "new"),
        ("prepend", "old", "", "old"),
        ("append", "old", "new", "new, old"),
        ("append", "tall", "red hat,", "red hat, tall"),
        ("prepend", "A red cat.", "A dog", "A red cat. A dog"),
        ("prepend", "红色，", "长发", "红色, 长发"),
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
