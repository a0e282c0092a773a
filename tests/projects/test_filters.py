"""The filter language: what it lets through, and how it speaks of mistakes."""

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from studio.errors import InputError
from studio.projects.facts import Choices, Crop, Facts, Item
from studio.projects.filters import STATES, Context, compile_filter, quoted
from studio.projects.wildcards import Wildcard, folded


def item(name: str, caption: str = "", facts: Facts | None = None, mask: str = "", **choices: object) -> Item:
    """A picture."""
    return Item(name, caption, bool(caption), mask_name=mask, facts=facts, choices=Choices(**choices))


ITEMS = [
    item("cat-1.png", "red hat, smile, blue eyes", Facts(1920, 1080, faces=((0.1, 0.1, 0.5, 0.5),))),
    item("IMG 2.jpg", "Red, blueish sky，远山、saber_(fate)", Facts(512, 768), left_out=True),
    item("猫.webp", "一只红猫坐在窗台上", Facts(1366, 768), mask="猫-masklabel.png", repeats=3),
    item("4.png", "", Facts(problem="is not a picture")),
    item("5.png", "tree, " * 40, None, held_out=True, flipped=True, crop=Crop()),
]
CONTEXT = Context("/data/people", "smile", frozenset({"4.png", "5.png"}), frozenset({"cat-1.png"}))


def found(text: str) -> list[int]:
    """Numbers of the pictures a filter lets through."""
    return [i for i, one in enumerate(ITEMS, 1) if compile_filter(text).matches(one, CONTEXT)]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("", [1, 2, 3, 4, 5]),
        ("   ", [1, 2, 3, 4, 5]),
        ("red", [1, 2]),
        ("RED", [1, 2]),
        ("png", [1, 4, 5]),
        ("tag:red", [2]),
        ("tag:RED", [2]),
        ("tag:blue*", [1, 2]),
        ("tag:*sky", [2]),
        ("tag:?ed", [2]),
        ("tag:r*d", [2]),
        ("tag:*", [1, 2, 3, 5]),
        ("caption:blue", [1, 2]),
        ("caption:b*eyes", [1]),
        ("caption:re?", [1, 2, 5]),
        ("name:img", [2]),
        ('name:"img 2"', [2]),
        ("path:people", [1, 2, 3, 4, 5]),
        ("path:people/cat", [1]),
        ('tag:"red hat"', [1]),
        ("tag:'red hat'", [1]),
        ("tag:“red hat”", [1]),
        ('"red hat"', [1]),
        ("tag:远山", [2]),
        ("红", [3]),
        ("猫", [3]),
        ("tag:saber_(fate)", [2]),
        (r"tag:saber_\(fate\)", [2]),
        ("tag:saber_(fate) tag:red", [2]),
        ("(tag:saber_(fate))", [2]),
        ("tags:3", [1]),
        ("tags:=3", [1]),
        ("tags:>3", [2, 5]),
        ("tags:!=3", [2, 3, 4, 5]),
        ("tags>=4", [2, 5]),
        ("tags: > 3", [2, 5]),
        ("chars:<=9", [3, 4]),
        ("tokens:>75", [5]),
        ("tokens:0", [4]),
        ("width:>512", [1, 3]),
        ("height:768", [2, 3]),
        ("megapixels:>2", [1]),
        ("megapixels:2.07", [1]),
        ("ratio:16:9", [1, 3]),
        ("ratio:>=16/9", [1, 3]),
        ("ratio:<1", [2]),
        ("faces:0", [2, 3]),
        ("faces:>=1", [1]),
        ("repeats:3", [3]),
        ("size:512x768", [2]),
        ("size:512:768", [2]),
        ("is:uncaptioned", [4]),
        ("is:captioned", [1, 2, 3, 5]),
        ("is:leftout", [2]),
        ("is:left_out", [2]),
        ("is:heldout", [5]),
        ("is:masked", [3]),
        ("is:flipped", [5]),
        ("is:cropped", [5]),
        ("is:over", [5]),
        ("is:examined", [1, 2, 3, 4]),
        ("is:problem", [1, 4]),
        ("is:duplicate", [4, 5]),
        ("is:triggered", [1]),
        ("NOT is:examined", [5]),
        ("NOT width:>0", [4, 5]),
        ("red blue", [1, 2]),
        ("red AND NOT hat", [2]),
        ("red and not hat", [2]),
        ("tag:smile OR tag:red", [1, 2]),
        ("tag:smile OR tag:red name:cat", [1]),
        ("(tag:smile OR tag:red) name:cat", [1]),
        ("NOT tag:smile tag:red", [2]),
        ("NOT (tag:smile OR tag:red)", [3, 4, 5]),
        ("NOT(tag:smile)", [2, 3, 4, 5]),
        ("NOT NOT NOT red", [3, 4, 5]),
        ("（tag：smile OR tag：red）", [1, 2]),
        ("tags：＞３", [2, 5]),
        ("tags：≥４", [2, 5]),
        ("tokens：＞＝７５", [5]),
        ("ratio：１６：９", [1, 3]),
        ("tag:blue＊", [1, 2]),
        ("red\u3000hat", [1]),
        ('"NOT"', []),
        ("16:9", []),
        ('tag:red)OR(tag:smile"', None),
    ],
)
def test_a_filter_lets_through_what_it_says(text: str, wanted: list[int] | None) -> None:
    if wanted is None:
        with pytest.raises(InputError):
            found(text)
    else:
        assert found(text) == wanted


@pytest.mark.parametrize(
    ("text", "told", "place"),
    [
        ("tag:red tag:", "after `tag:` a word is missing", 13),
        ("tag: red", "after `tag:` a word is missing", 5),
        ("tag:(red)", "after `tag:` a word is missing", 5),
        ('red tag:""', "after `tag:` a word is missing", 9),
        ('""', "nothing between the quotes", 1),
        ('red "hat', 'quote " is not closed', 5),
        ("(red", "the bracket is not closed", 1),
        ("red)", "closed that was not opened", 4),
        ("()", "after the bracket a term is missing", 2),
        ("red AND", "after AND a term is missing", 8),
        ("NOT", "after NOT a term is missing", 4),
        ("OR red", "before OR a term is missing", 1),
        ("red OR OR hat", "after OR a term is missing", 8),
        ("tokens:many", "after `tokens:` a number is missing", 8),
        ("tokens:>5x", "after `tokens:` a number is missing", 8),
        ("tokens:=!5", "after `tokens:` a number is missing", 8),
        ("tokens:5:5", "after `tokens:` a number is missing", 8),
        ("ratio:1:0", "divided by 0", 9),
        ("size:512", "a width and a height are missing", 6),
        ("is:nice", "there is no `is:nice`", 1),
        ("red colour:blue", "there is no `colour:`", 5),
        ("(" * 60 + "red" + ")" * 60, "more than 50 brackets", 51),
    ],
)
def test_a_mistake_is_told_with_its_place(text: str, told: str, place: int) -> None:
    with pytest.raises(InputError) as error:
        compile_filter(text)
    assert told in error.value.message
    assert error.value.message.endswith(f"at character {place}.")


def test_filters_that_are_too_long_are_refused_in_words() -> None:
    with pytest.raises(InputError, match="1,000,000 letters"):
        compile_filter("a" * 1_000_000)
    with pytest.raises(InputError, match="more than 200 terms"):
        compile_filter("a " * 201)
    assert compile_filter("NOT " * 900 + "a").matches(item("a.png"))


WORDS = [
    "(",
    ")",
    "（",
    "AND",
    "or",
    "NOT",
    "tag:",
    "tag:a",
    "tags:>1",
    "tokens：＞7",
    '"a b"',
    '"',
    "'",
    "\\",
    "\\(",
    "*",
    "?",
    "is:over",
    "is:x",
    "ratio:16:9",
    "size:1x2",
    "a_(b)",
    "红",
    " ",
    "\u3000",
    "x:y",
]


@given(st.lists(st.sampled_from(WORDS) | st.text(max_size=3), max_size=12).map(" ".join) | st.text(max_size=40) | st.lists(st.sampled_from(WORDS), max_size=12).map("".join))
def test_any_text_is_a_filter_or_told_about(text: str) -> None:
    try:
        chosen = compile_filter(text)
    except InputError as error:
        assert "Filter: " in error.message
    else:
        assert all(chosen.matches(one) in (True, False) for one in ITEMS)


TERMS = st.sampled_from(["red", "tag:red", "tags:>3", "is:leftout", "width:>512", "tokens:>75", "caption:*sky", "faces:0", "is:problem", "红"])
FILTERS = st.recursive(TERMS, lambda inner: st.tuples(inner, st.sampled_from([" ", " AND ", " OR "]), inner).map(lambda t: f"({t[0]}{t[1]}{t[2]})") | inner.map("NOT {}".format), max_leaves=8)


@given(FILTERS, FILTERS)
def test_the_laws_of_logic_hold(a: str, b: str) -> None:
    everything = set(range(1, len(ITEMS) + 1))
    assert found(f"NOT NOT {a}") == found(a)
    assert set(found(f"NOT {a}")) == everything - set(found(a))
    assert found(f"NOT ({a} AND {b})") == found(f"NOT {a} OR NOT {b}")
    assert found(f"NOT ({a} OR {b})") == found(f"NOT {a} AND NOT {b}")
    assert found(f"{a} {b}") == found(f"{a} AND {b}") == sorted(set(found(a)) & set(found(b)))


@given(st.text(min_size=1, max_size=20))
def test_a_quoted_text_means_exactly_itself(text: str) -> None:
    one = item("x", text)
    chosen = compile_filter(f"caption:{quoted(text)}")
    assert chosen.matches(one)
    assert not chosen.matches(item("x", ""))
    if not set(text) & set(",，、") and text.strip() == text:
        assert compile_filter(f"tag:{quoted(text)}").choose([one, item("y", text + "x"), item("z", f"a, {text}")]) == [one, item("z", f"a, {text}")]


def slow(pattern: str, text: str) -> bool:
    """Whether a pattern of *, ? and letters is a text, by trying everything."""
    if not pattern:
        return not text
    if pattern[0] == "*":
        return any(slow(pattern[1:], text[i:]) for i in range(len(text) + 1))
    return bool(text) and pattern[0] in ("?", text[0]) and slow(pattern[1:], text[1:])


@given(st.text(alphabet="ab*?", max_size=8), st.text(alphabet="ab\n", max_size=8))
def test_wildcards_match_as_trying_everything_does(pattern: str, text: str) -> None:
    wanted = Wildcard([(letter, letter in "*?") for letter in pattern])
    assert wanted.whole(text) == slow(pattern, text)
    assert wanted.within(text) == slow(f"*{pattern}*", text)


def test_many_stars_on_a_long_caption_end() -> None:
    letters = [(letter, letter == "*") for letter in "*a" * 300 + "*b"]
    assert not Wildcard(letters).whole("a" * 20_000)
    assert not compile_filter("tag:" + "*a" * 300 + "*b").matches(item("x", "a" * 20_000))


def test_folding_is_unicodes() -> None:
    assert folded("STRASSE") == folded("straße")
    assert compile_filter("tag:CAFE\u0301").matches(item("x", "café"))
    assert compile_filter("tag:*" + string.ascii_uppercase).matches(item("x", "1" + string.ascii_lowercase))


def test_every_state_is_understood() -> None:
    for state in STATES:
        assert len(found(f"is:{state}")) + len(found(f"NOT is:{state}")) == len(ITEMS)
