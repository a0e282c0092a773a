"""File names: every system can keep them, and no two collide in case, composition, caption or mask."""

import tempfile
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from studio.errors import InputError
from studio.projects.names import LONGEST, Names, clean, data_set_name, key, safe_name, stem_of

PIECES = st.sampled_from(
    [
        "a",
        "A",
        "é",
        "e\u0301",
        "猫",
        "😀",
        "👩\u200d👩",
        ".",
        " ",
        "-",
        "CON",
        "nul",
        "aux",
        "\n",
        "/",
        "\\",
        ":",
        "\x00",
        "\ud800",
        '"',
        "'",
        ".png",
        ".jpg",
        ".txt",
        "-masklabel",
        "..",
        "n" * 90,
        "字" * 80,
    ]
)
NAMES = st.one_of(st.text(max_size=300), st.lists(PIECES, max_size=8).map("".join), st.lists(PIECES, max_size=5).map(lambda parts: "".join(parts) + ".png"))


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("猫咪.png", "猫咪.png"),
        ("👩\u200d👩\u200d👧 tea.jpg", "👩\u200d👩\u200d👧 tea.jpg"),
        ("CON.png", "CON_.png"),
        ("nul.tar.png", "nul_.tar.png"),
        ("com1 .png", "com1_.png"),
        ("Console.png", "Console.png"),
        ("a.png ", "a.png"),
        ("a.png.", "a.png"),
        ("a .png", "a.png"),
        ("-rf.png", "rf.png"),
        (".hidden.png", "hidden.png"),
        (".png", "picture.png"),
        ("", "picture"),
        ("two\nlines.png", "two_lines.png"),
        ("a\"b'.png", "a_b'.png"),
        ("a:b*c?d<e>f|g.png", "a_b_c_d_e_f_g.png"),
        ("a\x00b.png", "a_b.png"),
        ("gnp\u202egpj.png", "gnp_gpj.png"),
        ("\udcff.png", "_.png"),
        ("e\u0301.png", "\u00e9.png"),
        ("x-MaskLabel.png", "x_masklabel.png"),
    ],
)
def test_a_name_is_cleaned_and_otherwise_kept(name: str, kept: str) -> None:
    assert safe_name(name, []) == kept


@pytest.mark.parametrize(
    ("name", "taken", "given"),
    [
        ("a.png", ["a.jpg"], "a-2.png"),
        ("A.PNG", ["a.png"], "A-2.PNG"),
        ("e\u0301.png", ["\u00e9.png"], "\u00e9-2.png"),
        ("a.png", ["a.png", "a-2.jpg"], "a-3.png"),
        ("a.png", ["a.txt"], "a-2.png"),
        ("a.png", ["a-masklabel.png"], "a-2.png"),
        ("a.png", ["a.png.jpg"], "a-2.png"),
        ("a.png.jpg", ["a.png"], "a.png-2.jpg"),
        ("straße.png", ["STRASSE.jpg"], "straße-2.png"),
        ("b.png", ["a.png"], "b.png"),
        ("猫.png", ["狗.png"], "猫.png"),
    ],
)
def test_a_name_collides_with_nothing_that_would_share_its_caption_or_mask(name: str, taken: list[str], given: str) -> None:
    assert safe_name(name, taken) == given


@given(NAMES)
@settings(max_examples=300, deadline=None)
def test_a_clean_name_can_be_written_with_its_caption_and_mask_and_stays(name: str) -> None:
    found = safe_name(name, [])
    assert safe_name(found, []) == found
    assert len(f"{found}.txt".encode()) <= LONGEST
    assert len(f"{stem_of(found)}-masklabel.png".encode()) <= LONGEST
    assert found[0] not in " .-"
    assert found[-1] not in " ."
    assert not any(unicodedata.category(letter) in {"Cc", "Cs"} for letter in found)
    with tempfile.TemporaryDirectory() as folder:
        for file in (found, f"{found}.txt", f"{stem_of(found)}-masklabel.png"):
            (Path(folder) / file).write_bytes(b"x")
        assert {found, f"{found}.txt"} <= {p.name for p in Path(folder).iterdir()}


@given(st.lists(NAMES, max_size=12))
@settings(max_examples=200, deadline=None)
def test_names_given_one_after_another_share_no_name_and_no_stem(wanted: list[str]) -> None:
    names = Names()
    found = [names.give(name) for name in wanted]
    assert len({key(name) for name in found}) == len(found)
    assert len({key(stem_of(name)) for name in found}) == len(found)
    assert all(len(f"{stem_of(name)}-masklabel.png".encode()) <= LONGEST for name in found)


def test_ten_thousand_pictures_of_one_name_are_all_told_apart() -> None:
    names = Names()
    assert len({names.give("image.png") for _ in range(10_000)}) == 10_000


def test_a_long_name_is_cut_between_letters_and_leaves_room_for_a_number() -> None:
    long = "字" * 200 + ".png"
    names = Names()
    first, second = names.give(long), names.give(long)
    assert first != second
    assert second.endswith("-2.png")
    assert set(stem_of(first)) == {"字"}
    assert clean(long)[0] == stem_of(first)


@pytest.mark.parametrize(("text", "name"), [(" my cat ", "my cat"), ("猫の写真", "猫の写真"), ("e\u0301", "\u00e9"), ("v1.5", "v1.5"), ("cat\n", "cat"), ("👩\u200d👩 ", "👩\u200d👩")])
def test_a_data_set_is_called_as_typed(text: str, name: str) -> None:
    assert data_set_name(text) == name


@pytest.mark.parametrize("text", ["", "  ", ".", "..", ".hidden", "-x", "~abc", "a.", "CON", "aux.x", "a/b", "a\\b", "../x", "a:b", "a\0b", "a\nb", "\ud800", "字" * 41, "C:", "*"])
def test_a_name_that_no_folder_can_have_everywhere_is_refused_in_words(text: str) -> None:
    with pytest.raises(InputError) as caught:
        data_set_name(text)
    assert caught.value.hint
