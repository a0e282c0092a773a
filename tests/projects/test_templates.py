"""Prompt templates: own ones over shipped ones, which stay as they are."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from studio import shelves
from studio.errors import Conflict, InputError, NotFound
from studio.projects import templates
from studio.projects.templates import SHIPPED, TRASH, copy, delete, listing, preview, read, warnings, write
from studio.settings import Paths


@pytest.fixture
def clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Paths:
    """A studio whose own folder is the one that templates are shipped in."""
    paths = Paths(tmp_path / "clone").prepare()
    for name in SHIPPED:
        (paths.templates / f"{name}.txt").write_text(f"{name} of [name]\n", encoding="utf-8")
    monkeypatch.setattr(Paths, "shipped", property(lambda self: paths))
    return paths


def files(folder: Path) -> dict[str, str]:
    """What lies in a folder."""
    return {path.name: path.read_text(encoding="utf-8") for path in folder.glob("*.txt")}


def test_the_shipped_templates_are_those_that_are_known(root: Paths) -> None:
    assert {path.stem for path in root.shipped.templates.glob("*.txt")} >= SHIPPED
    assert {one.name for one in listing(root)} >= SHIPPED
    assert not any(one.own for one in listing(root))
    assert all(one.lines for one in listing(root))


def test_writing_over_a_shipped_template_makes_an_own_one_and_deleting_that_brings_it_back(root: Paths) -> None:
    before = files(root.shipped.templates)
    made = write(root, "style", "mine by [name]\r\n\r\nzwei, 猫 [filewords]")
    assert (made.name, made.own, made.lines) == ("style", True, ("mine by [name]", "zwei, 猫 [filewords]"))
    assert (root.templates / "style.txt").read_bytes() == "mine by [name]\n\nzwei, 猫 [filewords]\n".encode()
    assert read(root, "style") == made
    gone = delete(root, "style")
    assert gone.parent == root.templates / TRASH
    assert gone.read_text(encoding="utf-8").startswith("mine by [name]")
    assert not read(root, "style").own
    assert files(root.shipped.templates) == before


def test_where_both_share_a_folder_a_shipped_template_is_kept_under_a_new_name(clone: Paths) -> None:
    before = files(clone.templates)
    assert not any(one.own for one in listing(clone))
    assert [write(clone, "style", "mine [name]").name for _ in range(2)] == ["style-own", "style-own-2"]
    assert read(clone, "style-own").own
    assert write(clone, "style-own", "more [name]").name == "style-own"
    assert {name: text for name, text in files(clone.templates).items() if name in before} == before
    with pytest.raises(Conflict, match="comes with the program"):
        delete(clone, "style")


def test_a_shipped_template_is_not_deleted(root: Paths) -> None:
    with pytest.raises(Conflict, match="'style' comes with the program"):
        delete(root, "style")
    assert read(root, "style").path.is_file()


def test_copies_have_names_of_their_own(root: Paths) -> None:
    made = copy(root, "style", "my style.txt")
    assert (made.name, made.own, made.lines) == ("my style", True, read(root, "style").lines)
    with pytest.raises(Conflict, match="'My Style' already"):
        copy(root, "style", "My Style")
    with pytest.raises(Conflict, match="'STYLE' already"):
        copy(root, "none", "STYLE")
    with pytest.raises(NotFound, match="no prompt template 'nothing'"):
        copy(root, "nothing", "x")


def test_names_that_some_systems_take_for_one_do_not_meet(root: Paths) -> None:
    write(root, "mine", "a [name]")
    with pytest.raises(Conflict, match="'mine' already"):
        write(root, "Mine", "b [name]")
    assert files(root.templates) == {"mine.txt": "a [name]\n"}


def test_what_is_deleted_twice_lies_in_the_trash_twice(root: Paths) -> None:
    kept = set()
    for text in ("a [name]", "b [name]", "c [name]"):
        write(root, "mine", text)
        kept.add(delete(root, "mine").read_text(encoding="utf-8"))
    assert kept == {"a [name]\n", "b [name]\n", "c [name]\n"}
    assert len(list((root.templates / TRASH).iterdir())) == 3
    assert "mine" not in shelves.templates(root)
    with pytest.raises(NotFound):
        delete(root, "mine")


@pytest.mark.parametrize("name", ["", " ", "../evil", "a/b", "a\\b", "..", ".hidden", "con", "x" * 200, "a\nb", "\0", "\ud800", "a:b", "C:\\x"])
def test_names_that_are_paths_or_no_file_names_are_refused(root: Paths, name: str) -> None:
    before = sorted(path for path in root.root.rglob("*"))
    with pytest.raises(InputError, match="Name of the template"):
        write(root, name, "a [name]")
    with pytest.raises(InputError, match="Name of the template"):
        copy(root, "style", name)
    with pytest.raises(NotFound):
        read(root, name)
    assert sorted(path for path in root.root.rglob("*")) == before


def test_texts_that_are_no_template_are_refused_and_the_old_one_stays(root: Paths) -> None:
    write(root, "mine", "a [name]")
    for text, told in [("  \n\n", "holds no line"), ("", "holds no line"), ("a" * 200_001, "200,001 letters")]:
        with pytest.raises(InputError, match=told):
            write(root, "mine", text)
    assert read(root, "mine").text == "a [name]"


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "gb18030"])
def test_templates_of_other_programs_are_read_in_any_usual_encoding(root: Paths, encoding: str) -> None:
    (root.templates / "other.txt").write_bytes("一张照片 [name]\r\n水墨画，风格 [name]\r\n".encode(encoding))
    assert read(root, "other.txt").lines == ("一张照片 [name]", "水墨画，风格 [name]")


@given(st.text(max_size=200))
def test_any_text_is_kept_as_its_prompts_or_refused(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    paths = Paths(tmp_path_factory.getbasetemp() / "any").prepare()
    assert all(isinstance(sentence, str) for sentence in warnings(text))
    try:
        made = write(paths, "any", text)
    except InputError as error:
        assert "holds no line" in error.message
    else:
        wanted = templates.parse_template(templates.clean_caption(text))
        assert made.lines == wanted


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a [name]\na cat", "no [name] in line 2, so that prompt does not"),
        ("a\nb\nc\nd\ne\nf\n[name]", "no [name] in lines 1, 2, 3, 4, 5 and more"),
        ("a [name]\n\nb [name]", "A blank line is left out here; A1111 would train"),
        ("\na [name]\n\n", "2 blank lines are left out"),
        ("# mine\na [name]", "A # begins line 1"),
        ("a [name]\nb [name]\na [name]", "Said before: line 3"),
        ("a [name], [caption]", "[caption] is no place to fill in"),
        ("a [Name]", "[Name] is no place to fill in"),
        ("\n", "holds no line"),
    ],
)
def test_what_is_odd_is_told(text: str, told: str) -> None:
    assert told in " ".join(warnings(text))


def test_a_good_template_is_not_warned_about(root: Paths) -> None:
    assert warnings("a photo of [name], [filewords]\na [[name]] (big:1.2)\n") == []
    assert [warnings(one.text) for one in listing(root) if one.name in SHIPPED - {"none", "filewords"}] == [[]] * 4


def test_the_preview_fills_every_caption_into_the_first_lines() -> None:
    found = preview("a [name], [filewords]\n\nb [name]\nc [name]", "gnarl", 2, ["red", "猫"], limit=2)
    assert [prompt.text for prompt in found] == ["a gnarl, red", "b gnarl", "a gnarl, 猫", "b gnarl"]
    with pytest.raises(InputError, match="holds no line"):
        preview("\n", "gnarl", 2, ["red"])
