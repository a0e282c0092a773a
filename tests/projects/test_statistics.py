"""Statistics: numbers of a data set, by hand."""

import json
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from studio.projects.case import Aim, Case, Surroundings
from studio.projects.facts import Choices, Facts, Item
from studio.projects.statistics import Spread, statistics

FACE = (0.1, 0.1, 0.3, 0.3)
ITEMS = [
    Item("a.png", "hero, red hat", True, "a.txt", "a-masklabel.png", bytes=1_000_000, facts=Facts(600, 400, "PNG", sharpness=10, faces=(FACE,))),
    Item("b.jpg", "hero, tall", True, "b.txt", bytes=500_000, facts=Facts(800, 800, "JPEG", sharpness=30, faces=(FACE, FACE)), choices=Choices(repeats=3, flipped=True)),
    Item("c.jpg", facts=Facts(1000, 1000, "JPEG", sharpness=20), choices=Choices(held_out=True)),
    Item("d.png", "hero", True, facts=Facts(9, 9, "PNG"), choices=Choices(left_out=True)),
    Item("e.png", facts=Facts(problem="e.png is not a picture.")),
    Item("f.png"),
]
AIM = Aim(trigger="hero", vectors=4, template=("a photo of [name], [filewords]",))


def test_the_numbers_of_a_set() -> None:
    found = statistics(Case(ITEMS, AIM, Surroundings(orphan_captions=("x.txt",), orphan_masks=("y-masklabel.png", "z-masklabel.png"))))
    assert found.pictures == 6
    assert found.states == {"learned": 3, "held_out": 1, "left_out": 1, "unreadable": 1, "not_examined": 1}
    assert found.width == Spread(600, 800, 1000) and found.height == Spread(400, 800, 1000)
    assert found.megapixels == Spread(0.24, 0.64, 1.0) and found.sharpness == Spread(10, 20, 30)
    assert found.letters == Spread(10, 11.5, 13) and found.captioned == 2
    assert found.tokens == Spread(7, 7, 15) and found.over == 0
    assert found.faces == {"0": 1, "1": 1, "2 or more": 1}
    assert found.buckets == ((512, 512, 2), (640, 384, 1))
    assert found.tags == (("hero", 2), ("red hat", 1), ("tall", 1)) and found.different_tags == 3
    assert (found.masked, found.bytes, found.shown) == (1, 1_500_000, 1 + 6 + 1)
    assert found.formats == {"JPEG": 2, "PNG": 1}
    rows = dict(found.rows())
    assert rows["Text files / masks without a picture"] == "1 / 2"
    assert rows["Width: least / middle / most (pixels)"] == "600 / 800 / 1000"
    assert json.loads(json.dumps(found.as_json()))["width"] == {"least": 600, "middle": 800, "most": 1000}


def test_an_empty_set_has_numbers_too() -> None:
    found = statistics(Case([], AIM, Surroundings()))
    assert found.pictures == 0 and found.buckets == () and found.width == Spread(0, 0, 0)
    assert all(value for _, value in found.rows())


def test_prompts_over_one_chunk_are_counted() -> None:
    long = Item("a.png", ", ".join(["hat"] * 60), True)
    assert statistics(Case([long, *ITEMS], AIM, Surroundings())).over == 1


SIDE = st.integers(1, 20_000)


@given(st.lists(st.tuples(SIDE, SIDE), max_size=20), st.integers(64, 2048), st.integers(64, 2048))
def test_every_picture_has_a_shape_at_any_size(sizes: list[tuple[int, int]], width: int, height: int) -> None:
    items = [Item(f"{i}.png", facts=Facts(*size)) for i, size in enumerate(sizes)]
    found = statistics(Case(items, replace(AIM, width=width, height=height), Surroundings()))
    assert sum(count for _, _, count in found.buckets) == len(sizes)


def test_a_tag_that_stands_twice_counts_once() -> None:
    found = statistics(Case([Item("a.png", "hat, hat", True)], AIM, Surroundings()))
    assert found.tags == (("hat", 1),)
