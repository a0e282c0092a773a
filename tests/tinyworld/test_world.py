"""The world: the same every time, with captions and tags that are true of it."""

from random import Random

import numpy as np
import pytest
from PIL import Image

from studio.shelves import sample_pictures
from studio.tinyworld.captioner import SPECIAL, ids_of, vocabulary
from studio.tinyworld.monsters import CHARACTERS, Monster, describe, draw, held_out, random_monster
from studio.tinyworld.palette import COLOURS, SIDE
from studio.tinyworld.sample_project import write
from studio.tinyworld.things import glyph
from studio.tinyworld.world import TAGS, monster_tags, picture, portrait


def test_a_number_is_always_the_same_picture() -> None:
    first, second = picture(123), picture(123)
    assert first.caption == second.caption
    assert np.array_equal(np.asarray(first.image), np.asarray(second.image))
    assert picture(124).caption != first.caption


def test_pictures_are_of_one_size_and_every_tag_is_known() -> None:
    for number in range(60):
        shown = picture(number)
        assert shown.image.size == (SIDE, SIDE)
        assert shown.image.mode == "RGB"
        assert set(shown.tags) <= set(TAGS)


def test_a_plain_background_has_the_colour_its_tag_says() -> None:
    seen = 0
    for number in range(200):
        shown = picture(number)
        named = [t.removesuffix(" background") for t in shown.tags if t.endswith(" background") and t.split(" ")[0] in COLOURS]
        if named and not {"monochrome", "sepia", "sketch"} & set(shown.tags):
            corner = np.asarray(shown.image)[:3, :3].reshape(-1, 3).mean(0)
            distance = {name: np.abs(corner - np.array(c)).sum() for name, c in COLOURS.items()}
            assert distance[named[0]] <= min(distance.values()) + 90
            seen += 1
    assert seen > 50


def test_the_monsters_parts_can_be_seen_and_said() -> None:
    plain = Monster("round", "blue", 2, "happy", legs=False, arms=False)
    hatted = Monster("round", "blue", 2, "happy", "top hat", "red", legs=False, arms=False)
    assert not np.array_equal(np.asarray(draw(plain, Random(1))), np.asarray(draw(hatted, Random(1))))
    assert describe(hatted, Random(1), always=True) == "happy round blue monster with two eyes and a red top hat"
    assert {"top hat", "red hat", "blue body", "two eyes"} <= set(monster_tags(hatted))


def test_the_characters_stay_unseen() -> None:
    dice = Random(0)
    assert all(held_out(character) for _, character in CHARACTERS)
    assert any(held_out(random_monster(dice)) for _ in range(3000))
    assert len({name for name, _ in CHARACTERS}) == 4


def test_a_portrait_names_the_character_and_its_background() -> None:
    shown = portrait(CHARACTERS[0][1], 3, "mo-teal")
    assert shown.caption.startswith("a mo-teal")
    assert {"monster", "teal body", "three eyes"} <= set(shown.tags)


@pytest.mark.parametrize("first", [0, 500])
def test_every_full_caption_can_be_said_by_the_captioner(first: int) -> None:
    words = vocabulary()
    ids = ids_of([picture(n).full for n in range(first, first + 80)], words)
    assert words[: len(SPECIAL)] == list(SPECIAL)
    assert not (ids == words.index("[UNK]")).any()
    assert ((ids == words.index("[SEP]")).sum(1) == 1).all()


def test_the_sample_project_is_what_its_program_writes(tmp_path_factory: pytest.TempPathFactory) -> None:
    made = write(tmp_path_factory.mktemp("sample"), 12)
    shipped = sorted(sample_pictures().glob("*.png"))
    assert [p.name for p in made] == [p.name for p in shipped]
    for new, old in zip(made, shipped, strict=True):
        assert np.array_equal(np.asarray(Image.open(new)), np.asarray(Image.open(old)))


def test_a_glyph_is_a_square_with_something_in_it() -> None:
    image = glyph("cat")
    assert image.width == image.height
    assert np.asarray(image)[..., 3].mean() > 40
