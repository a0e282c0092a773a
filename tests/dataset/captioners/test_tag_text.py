"""Tags become text by rule, and what several captioners say becomes one caption."""

from typing import Any

import pytest

from studio.dataset.tag_text import Saying, Tag, chosen, excluded, joined, out_of_world_warning, text_of_tags, with_trigger
from studio.requests.caption import CaptionOptions

TAGS = (Tag("long_hair", 0.7), Tag("1girl", 0.98765), Tag("hat_(black)", 0.6), Tag("blue_eyes", 0.9))


def text(**options: Any) -> str:
    """The tags above by some options."""
    return text_of_tags(TAGS, CaptionOptions(**options))


def test_by_default_tags_are_in_alphabetical_order_with_spaces_and_escaped_brackets() -> None:
    assert text() == r"1girl, blue eyes, hat \(black\), long hair"


def test_the_surest_can_come_first() -> None:
    assert text(tag_sort="score") == r"1girl, blue eyes, long hair, hat \(black\)"


def test_tags_of_one_score_are_in_alphabetical_order() -> None:
    assert text_of_tags((Tag("b", 0.5), Tag("a", 0.5)), CaptionOptions(tag_sort="score")) == "a, b"


def test_underscores_and_brackets_can_stay() -> None:
    assert text(tag_spaces=False) == r"1girl, blue_eyes, hat_\(black\), long_hair"
    assert text(tag_escape=False) == "1girl, blue eyes, hat (black), long hair"


def test_backslashes_are_escaped_before_brackets() -> None:
    assert text_of_tags((Tag("\\m/", 1.0), Tag(":)", 1.0)), CaptionOptions()) == r":\), \\m/"


def test_scores_stand_in_prompt_weights_with_three_digits() -> None:
    assert text(tag_scores=True) == r"(1girl:0.988), (blue eyes:0.900), (hat \(black\):0.600), (long hair:0.700)"


def test_a_limit_keeps_the_surest_whatever_the_order() -> None:
    assert text(tag_limit=2) == "1girl, blue eyes"
    assert text(tag_limit=3) == "1girl, blue eyes, long hair"


@pytest.mark.parametrize("entry", ["long_hair", "long hair", " LONG hair ", "long*", "*_hair", "*ng*a*", "x, long_hair", "x，long_hair", "x\nlong_hair"])
def test_a_tag_is_left_out_however_it_is_written(entry: str) -> None:
    assert text(tag_exclude=entry) == r"1girl, blue eyes, hat \(black\)"


@pytest.mark.parametrize("entry", ["hair", "long", "long_hairs", "", " , ", "l.ng_hair", "[a-z]*"])
def test_a_tag_that_is_only_like_it_stays(entry: str) -> None:
    assert "long hair" in text(tag_exclude=entry)


def test_an_escaped_bracket_excludes_the_bracket() -> None:
    assert excluded("hat_(black)", r"hat \(black\)")
    assert excluded("hat_(black)", "hat_(*)")


def test_many_stars_take_no_time() -> None:
    assert not excluded("a" * 200, "a*" * 100 + "b")  # as a regular expression this would not end


def test_a_star_alone_excludes_everything() -> None:
    assert text(tag_exclude="*") == ""


def test_what_is_excluded_does_not_count_for_the_limit() -> None:
    assert text(tag_limit=1, tag_exclude="1girl") == "blue eyes"


def test_a_face_of_signs_keeps_its_underscore() -> None:
    assert text_of_tags((Tag("^_^", 1.0, literal=True), Tag("a_b", 0.5)), CaptionOptions()) == "^_^, a b"


def test_several_captioners_are_joined_with_a_comma() -> None:
    said = [Saying("a girl with a hat"), Saying(tags=TAGS[:2]), Saying(), Saying(tags=(Tag("smile", 0.5),))]
    assert joined(said, CaptionOptions()) == "a girl with a hat, 1girl, long hair, smile"


def test_a_tag_that_an_earlier_one_said_is_not_said_again() -> None:
    said = [Saying(tags=(Tag("long_hair", 0.6), Tag("hat", 0.9))), Saying(tags=(Tag("Long hair", 0.9), Tag("smile", 0.8), Tag("hat", 0.9)))]
    assert joined(said, CaptionOptions()) == "hat, long hair, smile"


def test_a_sentence_that_was_said_is_not_said_again() -> None:
    assert joined([Saying("a cat"), Saying("a cat"), Saying("a dog")], CaptionOptions()) == "a cat, a dog"


def test_the_limit_counts_the_tags_of_all() -> None:
    said = [Saying(tags=(Tag("a", 0.5), Tag("b", 0.9))), Saying(tags=(Tag("c", 0.8), Tag("d", 0.1)))]
    assert joined(said, CaptionOptions(tag_limit=2)) == "b, c"


def test_nothing_said_is_no_text() -> None:
    assert joined([], CaptionOptions()) == joined([Saying(), Saying(tags=())], CaptionOptions()) == ""
    assert chosen([], CaptionOptions()) == []


@pytest.mark.parametrize(
    ("trigger", "caption", "expected"),
    [
        ("", "a, b", "a, b"),
        ("ohwx", "a, b", "ohwx, a, b"),
        ("ohwx", "", "ohwx"),
        ("ohwx", "a, ohwx, b", "ohwx, a, b"),
        ("ohwx", "ohwx, a", "ohwx, a"),
        ("ohwx", "ohwx，a", "ohwx，a"),
        (" ohwx, ", "a", "ohwx, a"),
        ("ohwx", "the ohwx thing", "ohwx, the ohwx thing"),
    ],
)
def test_the_trigger_word_stands_first_and_once(trigger: str, caption: str, expected: str) -> None:
    assert with_trigger(trigger, caption) == expected


def test_a_captioner_that_is_unsure_of_most_images_is_told() -> None:
    sure, unsure, other = Saying("a cat", confidence=0.93), Saying("a brown robot", confidence=0.75), Saying("a photo")
    assert out_of_world_warning("x", [sure, sure, unsure, other]) == out_of_world_warning("x", [other]) == out_of_world_warning("x", []) == ""
    assert "(confidence 0.75" in out_of_world_warning("x", [sure, unsure, unsure])
