"""Changes of many captions: what each does, what it leaves alone, and how it speaks of mistakes."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from studio.config import controls
from studio.errors import InputError
from studio.projects.bulk import KINDS, SHOWN, BulkPlan, BulkRequest, chosen, differences, edit_of, label_of, plan
from studio.projects.captions import clean_caption, split_tags
from studio.projects.facts import Change, Choices, Item
from studio.projects.project import Project
from studio.projects.tagged import Tagged


def items(*captions: str | None) -> list[Item]:
    """Pictures with these captions; None is a picture without a caption file."""
    return [Item(f"{i}.png", caption or "", caption is not None, f"{i}.txt") for i, caption in enumerate(captions)]


def planned(kind: str, *captions: str | None, **fields: Any) -> BulkPlan:
    """What a change would do."""
    return plan(edit_of({"kind": kind, **fields}), items(*captions))


def become(kind: str, caption: str, **fields: Any) -> str | None:
    """A caption after a change."""
    found = planned(kind, caption, **fields)
    return found.changes[0].after if found.changes else caption


@pytest.mark.parametrize(
    ("kind", "fields", "caption", "wanted"),
    [
        ("replace", {"find": "red", "replace": "blue"}, "Red hat, a red，reddish", "blue hat, a blue，bluedish"),
        ("replace", {"find": "red", "replace": "blue", "match_case": True}, "Red hat, red", "Red hat, blue"),
        ("replace", {"find": "a.b", "replace": r"\1"}, "a.b axb", r"\1 axb"),
        ("replace", {"find": "猫", "replace": "狗"}, "红猫，猫", "红狗，狗"),
        ("replace", {"find": ", hat"}, "red, hat, big", "red, big"),
        ("replace", {"find": r"(\w+) hat", "replace": r"hat of \1", "mode": "regex"}, "red hat, smile", "hat of red, smile"),
        ("replace", {"find": r"(?P<c>red|blue) hat", "replace": r"\g<c>", "mode": "regex"}, "Red hat", "Red"),
        ("replace", {"find": r"^", "replace": "x ", "mode": "regex"}, "red", "x red"),
        ("replace", {"find": "RED", "replace": "x", "mode": "regex", "match_case": True}, "red RED", "red x"),
        ("replace", {"find": "red", "replace": "blue", "mode": "tag"}, "red, red hat，RED、big", "blue, red hat、big"),
        ("replace", {"find": "red", "mode": "tag"}, "big，red, smile", "big, smile"),
        ("replace", {"find": "a red cat.", "replace": "a blue cat.", "mode": "tag"}, "A red cat.", "a blue cat."),
        ("add_tag", {"tag": "gnarl", "where": "start"}, "red, big", "gnarl, red, big"),
        ("add_tag", {"tag": "gnarl"}, "红，大", "红，大，gnarl"),
        ("add_tag", {"tag": "gnarl"}, "red, big,", "red, big, gnarl"),
        ("add_tag", {"tag": "gnarl"}, "red, Gnarl", "red, Gnarl"),
        ("add_tag", {"tag": "red", "unless_present": False}, "red", "red, red"),
        ("add_tag", {"tag": "a, b", "where": "start"}, "c", "a, b, c"),
        ("add_tag", {"tag": "a, b"}, "c, a", "c, a, b"),
        ("add_tag", {"tag": "gnarl", "where": "start"}, "A man in a red coat.", "gnarl, A man in a red coat."),
        ("prefix", {"text": "photo of "}, "a cat", "photo of a cat"),
        ("prefix", {"text": "photo of "}, "photo of a cat", "photo of a cat"),
        ("suffix", {"text": ", 4k"}, "a cat", "a cat, 4k"),
        ("suffix", {"text": ", 4k"}, "a cat, 4k", "a cat, 4k"),
        ("remove_tag", {"tag": "red"}, "Red，big,  hat", "big,  hat"),
        ("remove_tag", {"tag": "hat, big"}, "red，big,  hat", "red"),
        ("remove_tag", {"tag": "red"}, "red", ""),
        ("remove_tag", {"tag": "red"}, "a red cat", "a red cat"),
        ("rename_tag", {"tag": "red", "to": "scarlet"}, "big，Red, hat", "big，scarlet, hat"),
        ("rename_tag", {"tag": "red", "to": "big"}, "big，red, hat, hat", "big, hat, hat"),
        ("sort", {}, "c，B, a", "a，B, c"),
        ("sort", {"keep_first": 1}, "trigger, c, a", "trigger, a, c"),
        ("sort", {}, "A man.  In a hat.", "A man.  In a hat."),
        ("reverse", {"keep_first": 1}, "x, a, b，c", "x, c, b，a"),
        ("move_to_front", {"tag": "b"}, "a, b，c", "b, a，c"),
        ("move_to_front", {"tag": "c, b"}, "a, b, B, c", "c, b, B, a"),
        ("dedupe", {}, "a, b，A, b、 c", "a, b、 c"),
        ("tidy_spaces", {}, " a  b ，c、、d,, \n e ,", "a b, c, d, e"),
        ("tidy_spaces", {}, "A man  in a hat.\nHe sits.", "A man in a hat. He sits."),
        ("brackets", {}, r"saber (fate), [x], \(ok\)", r"saber \(fate\), \[x\], \(ok\)"),
        ("brackets", {"direction": "unescape"}, r"saber \(fate\), \[x\], a\b", r"saber (fate), [x], a\b"),
        ("underscores", {}, "blue_eyes, ^_^, 0_0, >_<, (o)_(o), long_hair，红_圆", "blue eyes, ^_^, 0_0, >_<, (o)_(o), long hair，红 圆"),
        ("clear", {}, "red", ""),
        ("clear", {"remove_file": True}, "red", None),
        ("set_caption", {"text": " new "}, "red", "new"),
    ],
)
def test_a_change_does_what_it_says_and_leaves_the_rest(kind: str, fields: dict, caption: str, wanted: str | None) -> None:
    assert become(kind, caption, **fields) == wanted


def test_the_count_is_the_number_of_places_and_unchanged_captions_are_no_changes() -> None:
    found = planned("replace", "red, red", "green", "a red hat", None, find="red", replace="blue")
    assert (found.matches, len(found.changes)) == (3, 2)
    assert found.changes[0] == Change("0.png", "caption", "red, red", "blue, blue")
    assert (found.name, found.note) == ('Replace "red" with "blue" (2)', "")


def test_a_change_that_changes_nothing_says_so() -> None:
    found = planned("replace", "a", "b", find="red", replace="blue")
    assert (found.changes, found.matches, found.preview) == ((), 0, ())
    assert found.note == "Nothing would change: all 2 captions would stay as they are."
    assert planned("replace", "red", find="red", replace="red").note == "Nothing would change: the caption would stay as it is."
    assert planned("dedupe").note == "Nothing would change: no picture is chosen."


def test_pictures_without_a_caption_file_get_one_only_when_there_is_something_to_write() -> None:
    assert planned("add_tag", None, tag="gnarl").changes == (Change("0.png", "caption", None, "gnarl"),)
    for kind, fields in [("clear", {}), ("clear", {"remove_file": True}), ("tidy_spaces", {}), ("set_caption", {"text": ""}), ("sort", {})]:
        assert planned(kind, None, **fields).changes == ()
    assert planned("clear", "", remove_file=True).changes == (Change("0.png", "caption", "", None),)


def test_pictures_that_share_a_caption_file_are_changed_once() -> None:
    pair = [Item("a.png", "red", True, "a.txt"), Item("a.jpg", "red", True, "a.txt")]
    assert [c.item for c in plan(edit_of({"kind": "prefix", "text": "x "}), pair).changes] == ["a.png"]


def test_sorting_by_frequency_counts_the_whole_data_set() -> None:
    everyone = items("b, a, c", "a, c", "c")
    found = plan(edit_of({"kind": "sort", "order": "frequency"}), everyone[:1], everyone)
    assert found.changes[0].after == "c, a, b"


def test_shuffling_follows_from_seed_and_picture() -> None:
    caption = ", ".join("abcdefgh")
    first, second = (change.after for change in planned("shuffle", caption, caption, seed=3).changes)
    assert first != second
    assert [c.after for c in planned("shuffle", caption, caption, seed=3).changes] == [first, second]
    assert planned("shuffle", caption, seed=4).changes[0].after != first


def test_the_preview_shows_the_first_twenty_with_their_differences() -> None:
    found = planned("replace", *["a red hat, red"] * 30, find="red", replace="blue")
    assert len(found.preview) == SHOWN
    shown = found.preview[0]
    assert [(shown.before[d.before_start : d.before_end], shown.after[d.after_start : d.after_end]) for d in shown.spans] == [("red", "blue"), ("red", "blue")]


@pytest.mark.parametrize(
    ("find", "replace", "told"),
    [
        ("(red", "", r"'\(red' is not a valid regular expression: missing \) at character 5"),
        ("a[", "", "at character"),
        ("*", "", "nothing to repeat at character 1"),
        (r"\L<words>", "", "is not a valid regular expression"),
        ("red", r"\1", r"0 groups in round brackets, so there is no \\1"),
        ("(a)(b)", r"\3", "2 groups"),
        ("(a)", r"\g<b>", "cannot be filled in"),
        ("a{1000}{1000}", "", "multiply to too many"),
        ("(" * 900, "", "is not a valid regular expression"),
        ("a" * 1500, "", "1,500 characters"),
    ],
)
def test_a_pattern_that_cannot_be_used_is_told_with_its_place(find: str, replace: str, told: str) -> None:
    with pytest.raises(InputError, match=told):
        planned("replace", "red ab", find=find, replace=replace, mode="regex")


@pytest.mark.parametrize(("pattern", "caption"), [("(a+)+$", "a" * 5000 + "b"), ("(a|aa)+$", "a" * 5000 + "b"), (r"(\w|\w\w|\s)+$", "word " * 500 + "!")])
def test_a_pattern_that_would_never_end_is_stopped(pattern: str, caption: str) -> None:
    with pytest.raises(InputError, match=r"takes too long on 0\.png"):
        planned("replace", caption, find=pattern, mode="regex")


def test_a_change_that_would_write_millions_of_letters_is_refused() -> None:
    with pytest.raises(InputError, match="would become"):
        planned("replace", "a" * 10_000, find="a", replace="b" * 1000)
    with pytest.raises(InputError, match="millions"):
        planned("replace", "a" * 10_000, find="(?=(.*))", replace=r"\1" * 100, mode="regex")


def test_captions_that_are_very_long_are_left_alone_and_told() -> None:
    found = planned("replace", "a" * 30_000, "a", find="a", replace="b")
    assert [c.item for c in found.changes] == ["1.png"]
    assert "1 caption is left alone" in found.note
    assert planned("clear", "a" * 30_000).changes[0].after == ""


def test_kinds_are_listed_with_labels_and_help_and_unknown_ones_refused() -> None:
    assert len(KINDS) == len(dict(KINDS)) == 16
    for kind, cls in KINDS:
        assert label_of(cls)
        assert cls.__doc__
        assert all(control.help for control in controls(cls) if control.name != "kind"), kind
    with pytest.raises(InputError, match="no change called 'explode'"):
        edit_of({"kind": "explode"})
    with pytest.raises(InputError, match="Find"):
        edit_of({"kind": "replace", "find": ""})
    assert BulkRequest.check({"edit": {"kind": "sort"}, "scope": "filtered", "filter": "red"}).edit == edit_of({"kind": "sort"})


def test_the_scope_says_which_pictures() -> None:
    some = [*items("red", "blue"), Item("x.png", "red", True, "x.txt", choices=Choices(left_out=True))]
    assert [i.name for i in chosen(some, "all")] == ["0.png", "1.png", "x.png"]
    assert [i.name for i in chosen(some, "filtered", "red NOT is:leftout")] == ["0.png"]
    assert [i.name for i in chosen(some, "selected", names=["x.png", "gone.png"])] == ["x.png"]
    with pytest.raises(InputError, match="at character"):
        chosen(some, "filtered", "(")


BITS = ["red", "Red", "big hat", "a_b", "(x)", "\\(", "红", ",", ", ", "，", "、", " ", "\n", "."]
CAPTIONS = st.lists(st.sampled_from(BITS) | st.text(max_size=4), max_size=14).map(lambda bits: clean_caption("".join(bits)).strip())
EDITS = st.sampled_from(
    [
        {"kind": "replace", "find": "red", "replace": "blue"},
        {"kind": "replace", "find": "(r)(.)", "replace": r"\2\1", "mode": "regex"},
        {"kind": "replace", "find": "red", "replace": "big hat", "mode": "tag"},
        *({"kind": kind} for kind in ("sort", "shuffle", "reverse", "dedupe", "tidy_spaces", "brackets", "underscores", "clear")),
        {"kind": "sort", "order": "frequency", "keep_first": 1},
        {"kind": "add_tag", "tag": "red", "where": "start"},
        {"kind": "remove_tag", "tag": "red"},
        {"kind": "rename_tag", "tag": "red", "to": "红"},
        {"kind": "move_to_front", "tag": "红"},
        {"kind": "prefix", "text": " x "},
        {"kind": "suffix", "text": ", "},
    ]
)


@given(EDITS, st.lists(CAPTIONS, max_size=5))
def test_before_and_after_are_true_so_that_a_step_can_be_taken_back(edit: dict, captions: list[str]) -> None:
    found = plan(edit_of(edit), items(*captions))
    for change in found.changes:
        assert change.before == captions[int(change.item.split(".")[0])] != change.after
        assert change.after == change.after.strip()
    assert found.matches >= len(found.changes) or not found.changes
    assert bool(found.note) == (not found.changes)


@given(CAPTIONS)
def test_a_caption_taken_apart_comes_together_again(caption: str) -> None:
    tagged = Tagged.of(caption)
    assert tagged.text == caption
    assert list(tagged.tags) == split_tags(caption)


@given(CAPTIONS, st.sampled_from(["sort", "shuffle", "reverse"]), st.integers(0, 3))
def test_a_new_order_keeps_every_tag_and_what_joins_them(caption: str, kind: str, keep: int) -> None:
    after = become(kind, caption, keep_first=keep)
    assert Counter(split_tags(after)) == Counter(split_tags(caption))
    assert split_tags(after)[:keep] == split_tags(caption)[:keep]
    assert Tagged.of(after).joins == Tagged.of(caption).joins


@given(CAPTIONS, st.sampled_from(["dedupe", "tidy_spaces", "sort", "brackets", "underscores"]))
def test_doing_it_again_changes_nothing(caption: str, kind: str) -> None:
    once = become(kind, caption)
    assert become(kind, once) == once


@given(CAPTIONS)
def test_escaping_and_unescaping_brackets_is_a_way_there_and_back(caption: str) -> None:
    plain = become("brackets", caption, direction="unescape")
    if "\\" not in plain:
        assert become("brackets", become("brackets", plain), direction="unescape") == plain


@given(CAPTIONS, CAPTIONS)
def test_differences_turn_one_text_into_the_other(before: str, after: str) -> None:
    built, last = "", 0
    for d in differences(before, after):
        built += before[last : d.before_start] + after[d.after_start : d.after_end]
        last = d.before_end
    assert built + before[last:] == after


def test_differences_of_long_texts_are_one() -> None:
    before, after = "x " + "a " * 5000 + "y", "x " + "b " * 5000 + "y"
    assert [(d.before_start, d.before_end) for d in differences(before, after)] == [(2, 10_001)]


def test_a_change_of_a_real_folder_is_one_step_that_can_be_taken_back(tmp_path: Path) -> None:
    for name, caption in [("a", "red，big"), ("b", "a red cat"), ("c", None)]:
        Image.new("RGB", (8, 8)).save(tmp_path / f"{name}.png")
        if caption is not None:
            (tmp_path / f"{name}.txt").write_text(caption, encoding="utf-8")
    project = Project(tmp_path)
    step = plan(edit_of({"kind": "replace", "find": "red", "replace": "blue"}), project.items())
    assert project.edit(step.name, step.changes).count == 2
    assert [item.caption for item in project.items()] == ["blue，big", "a blue cat", ""]
    added = plan(edit_of({"kind": "prefix", "text": " gnarl, "}), project.items())
    project.edit(added.name, added.changes)
    assert [item.caption for item in project.items()] == ["gnarl, blue，big", "gnarl, a blue cat", "gnarl,"]
    assert project.undo().name == 'Put " gnarl, " before (3)'
    assert project.undo().name == 'Replace "red" with "blue" (2)'
    assert [(item.caption, item.captioned) for item in project.items()] == [("red，big", True), ("a red cat", True), ("", False)]
