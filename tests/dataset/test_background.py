"""The classical cut finds subjects of known outline, says when it cannot, and compositing is exact where a mask is black or white."""

from collections.abc import Callable
from random import Random

import numpy as np
import pytest
from PIL import Image, ImageDraw
from skimage import data

from studio.dataset.background import LEAST, Cut, Seed, as_rgba, checked, cut_out, on_background, seed_of
from studio.dataset.examine import measure
from studio.dataset.masks import alpha_of
from studio.projects.facts import Choices, Crop, Facts
from studio.tinyworld import backgrounds, monsters

SIDE = 256
Ground = Callable[[np.random.Generator], Image.Image]


def flat(rng: np.random.Generator) -> Image.Image:
    """One colour."""
    return Image.new("RGB", (SIDE, SIDE), tuple(int(v) for v in rng.integers(0, 256, 3)))


def gradient(rng: np.random.Generator) -> Image.Image:
    """From one colour to another, in one of four directions."""
    first, second = rng.integers(0, 256, (2, 3))
    t = np.linspace(0, 1, SIDE)[:, None, None]
    return Image.fromarray(np.broadcast_to(first * (1 - t) + second * t, (SIDE, SIDE, 3)).astype(np.uint8)).rotate(90 * int(rng.integers(4)))


def texture(rng: np.random.Generator) -> Image.Image:
    """Coloured noise, four pixels coarse."""
    grains = np.clip(rng.integers(40, 216, 3) + rng.normal(0, 25, (SIDE // 4, SIDE // 4, 3)), 0, 255).astype(np.uint8)
    return Image.fromarray(grains).resize((SIDE, SIDE), Image.Resampling.BICUBIC)


def pattern(rng: np.random.Generator) -> Image.Image:
    """Stripes, checks or dots of the tiny world."""
    return backgrounds.patterned(Random(int(rng.integers(1_000_000)))).image.convert("RGB").resize((SIDE, SIDE))


def scene(ground: Ground, rng: np.random.Generator) -> tuple[Image.Image, Image.Image]:
    """A monster somewhere on a ground, and where it is."""
    image, dice = ground(rng), Random(int(rng.integers(1_000_000)))
    side = int(rng.integers(SIDE // 3, SIDE * 8 // 10))
    monster = monsters.draw(monsters.random_monster(dice), dice).resize((side, side), Image.Resampling.LANCZOS)
    place = tuple(int(v) for v in rng.integers(0, SIDE - side, 2))
    truth = Image.new("L", image.size)
    image.paste(monster, place, monster)
    truth.paste(monster.getchannel("A"), place)
    return image, truth


def overlap(one: Image.Image, other: Image.Image) -> float:
    """Intersection over union."""
    a, b = (np.asarray(mask) >= 128 for mask in (one, other))
    return float((a & b).sum() / max(1, (a | b).sum()))


@pytest.mark.parametrize(("ground", "least"), [(flat, 0.9), (gradient, 0.9), (texture, 0.85), (pattern, 0.7)], ids=["flat", "gradient", "texture", "pattern"])
def test_subjects_are_found_without_a_hint(ground: Ground, least: float) -> None:
    rng = np.random.default_rng(11)
    scores = [overlap(cut_out(image).mask, truth) for image, truth in (scene(ground, rng) for _ in range(7))]
    assert np.mean(scores) >= least, scores


@pytest.mark.parametrize("ground", [flat, gradient])
def test_subjects_are_found_from_measured_facts(ground: Ground) -> None:
    rng = np.random.default_rng(12)
    scores = [overlap(cut_out(image, seed_of(measure(image))).mask, truth) for image, truth in (scene(ground, rng) for _ in range(6))]
    assert np.mean(scores) >= 0.85, scores


def test_a_shape_reaching_the_border_and_one_with_a_hole() -> None:
    for shape in ("down to the border", "ring"):
        image, truth = Image.new("RGB", (200, 150), (200, 210, 190)), Image.new("L", (200, 150))
        for target, fill in ((image, (150, 30, 40)), (truth, 255)):
            pen = ImageDraw.Draw(target)
            if shape == "ring":
                pen.ellipse((50, 30, 140, 120), fill=fill)
            else:
                pen.rectangle((70, 40, 130, 150), fill=fill)
        if shape == "ring":
            ImageDraw.Draw(image).ellipse((80, 60, 110, 90), fill=(200, 210, 190))
        assert overlap(cut_out(image).mask, truth) > 0.95, shape


def test_the_astronauts_face_is_in_the_mask_and_the_sky_is_not() -> None:
    photo = Image.fromarray(data.astronaut())
    facts = measure(photo)
    assert facts.faces
    cut = cut_out(photo, seed_of(facts))
    left, top, right, bottom = (round(v * 512) for v in facts.faces[0])
    greys = np.asarray(cut.mask)
    assert (greys[top:bottom, left:right] >= 128).mean() > 0.9
    assert (greys[:60, 300:360] < 128).all(), "the wall behind her"
    assert cut.problem == "" and 0 < cut.confidence < 1


def strokes(size: tuple[int, int], *boxes: tuple[int, int, int, int]) -> Image.Image:
    """Painted rectangles."""
    layer = Image.new("L", size)
    for box in boxes:
        ImageDraw.Draw(layer).rectangle(box, fill=255)
    return layer


def test_strokes_choose_the_subject_and_are_certain() -> None:
    image = Image.new("RGB", (240, 160), (230, 230, 230))
    ImageDraw.Draw(image).ellipse((20, 40, 90, 110), fill=(200, 30, 30))
    ImageDraw.Draw(image).ellipse((150, 40, 220, 110), fill=(30, 30, 200))
    left, right = (np.s_[70:80, 50:60], np.s_[70:80, 180:190])
    both = np.asarray(cut_out(image).mask)
    assert both[left].min() == 255 and both[right].min() == 255
    one = np.asarray(cut_out(image, Seed(subject=strokes(image.size, (40, 60, 70, 90)), background=strokes(image.size, (160, 50, 210, 100)))).mask)
    assert one[left].min() == 255 and one[right].max() == 0
    assert one[62:98, 162:208].max() == 0, "what is painted as background is black"
    half = cut_out(image, Seed(subject=strokes((120, 80), (2, 2, 6, 6)))).mask
    assert np.asarray(half)[6:12, 6:12].min() == 255, "strokes of another size are scaled, and belong to the subject whatever their colour"


def test_a_box_shuts_out_what_is_beside_it() -> None:
    image = Image.new("RGB", (240, 160), (230, 230, 230))
    ImageDraw.Draw(image).ellipse((20, 40, 90, 110), fill=(200, 30, 30))
    ImageDraw.Draw(image).ellipse((150, 40, 220, 110), fill=(200, 30, 30))
    mask = np.asarray(cut_out(image, Seed(box=(0.55, 0.1, 1.0, 0.9))).mask)
    assert mask[75, 185] == 255 and mask[:, :120].max() == 0


def test_the_same_picture_gives_the_same_mask_and_large_ones_keep_fine_edges() -> None:
    rng = np.random.default_rng(3)
    image, truth = scene(texture, rng)
    large, outline = image.resize((1400, 1400), Image.Resampling.LANCZOS), truth.resize((1400, 1400), Image.Resampling.LANCZOS)
    first, second = cut_out(large), cut_out(large)
    assert first.mask.tobytes() == second.mask.tobytes() and first.confidence == second.confidence
    assert first.mask.size == large.size and overlap(first.mask, outline) > 0.9
    greys = np.asarray(first.mask)
    assert ((greys > 8) & (greys < 247)).mean() < 0.05, "soft only along the edge"


@pytest.mark.parametrize("size", [(1, 1), (7, 300), (16, 8192), (8192, 16), (9, 9)])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_odd_pictures_give_a_mask_of_their_size(size: tuple[int, int], mode: str) -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)).convert(mode)
    cut = cut_out(noise, Seed(point=(7.0, -3.0), box=(-1.0, 2.0, 9.0, 1.5), faces=((1.2, 1.2, 1.1, 1.4),)))
    assert cut.mask.size == size and cut.mask.mode == "L"
    share = (np.asarray(cut.mask) >= 128).mean()
    assert cut.problem or share >= LEAST, "an empty mask says so"


def test_faces_all_over_the_rim_leave_enough_of_it_to_learn_the_background() -> None:
    image, truth = scene(flat, np.random.default_rng(4))
    for faces in (((0.0, 0.0, 1.0, 1.0),), tuple((x / 4, y / 4, x / 4 + 0.25, y / 4 + 0.25) for x in range(4) for y in range(4))):
        cut = cut_out(image, Seed(faces=faces))
        assert cut.mask.size == truth.size and (cut.problem or (np.asarray(cut.mask)[truth.height // 2] >= 128).any())


@pytest.mark.parametrize("colour", ["black", "white", (90, 120, 30)])
def test_a_picture_of_one_colour_has_no_subject(colour: object) -> None:
    cut = cut_out(Image.new("RGB", (64, 64), colour), Seed(point=(0.5, 0.5)))
    assert cut.confidence == 0 and "one colour" in cut.problem
    assert "too small" in cut_out(Image.new("RGB", (3, 90))).problem


def test_empty_full_and_contradicted_masks_are_told() -> None:
    assert "No subject" in checked(Image.new("L", (50, 50), 0), 0.9).problem
    assert "told apart" in checked(Image.new("L", (50, 50), 255), 0.9).problem
    mask = strokes((50, 50), (0, 0, 20, 20))
    assert "painted" in checked(mask, 0.9, Seed(subject=strokes((50, 50), (40, 40, 45, 45)))).problem
    assert checked(mask, 1.7) == Cut(mask, 1.0)


def test_a_seed_comes_from_faces_and_the_crop_a_person_has_set() -> None:
    face = (0.1, 0.2, 0.3, 0.4)
    assert seed_of(None) == Seed()
    assert seed_of(Facts(faces=(face,)), Choices(crop=Crop(0.3, 0.6))) == Seed(point=(0.3, 0.6), faces=(face,))


def test_compositing_is_exact_where_the_mask_is_black_or_white() -> None:
    rng = np.random.default_rng(1)
    image = Image.fromarray(rng.integers(0, 256, (40, 60, 3), dtype=np.uint8))
    greys = rng.choice(np.array([0, 255, 100], np.uint8), (40, 60))
    mask = Image.fromarray(greys)
    shown = np.asarray(on_background(image, mask, (12, 200, 77)))
    assert np.array_equal(shown[greys == 255], np.asarray(image)[greys == 255])
    assert (shown[greys == 0] == (12, 200, 77)).all()
    for value, expected in ((0, np.broadcast_to((12, 200, 77), shown.shape)), (255, np.asarray(image))):
        assert np.array_equal(np.asarray(on_background(image, Image.new("L", image.size, value), (12, 200, 77))), expected)


def test_no_rim_of_the_old_background_is_left() -> None:
    truth = Image.new("L", (800, 800))
    ImageDraw.Draw(truth).ellipse((200, 200, 600, 600), fill=255)
    truth = truth.resize((200, 200), Image.Resampling.BOX)
    image = Image.composite(Image.new("RGB", (200, 200), (220, 40, 40)), Image.new("RGB", (200, 200), (0, 200, 0)), truth)
    ideal = Image.composite(Image.new("RGB", (200, 200), (220, 40, 40)), Image.new("RGB", (200, 200), "white"), truth)
    naive = Image.composite(image, Image.new("RGB", (200, 200), "white"), truth)
    ours, plain = (np.abs(np.asarray(shown).astype(int) - np.asarray(ideal)).max() for shown in (on_background(image, truth), naive))
    assert plain > 35 and ours <= 6


def test_as_rgba_is_read_back_as_the_same_mask() -> None:
    image = Image.fromarray(data.astronaut()).resize((96, 96))
    mask = Image.fromarray(np.linspace(0, 255, 96 * 96).astype(np.uint8).reshape(96, 96))
    layered = as_rgba(image, mask)
    assert layered.mode == "RGBA" and np.array_equal(np.asarray(alpha_of(layered)), np.asarray(mask))
    solid = np.asarray(mask) == 255
    assert np.array_equal(np.asarray(layered)[..., :3][solid], np.asarray(image)[solid])
    assert on_background(image, mask.resize((24, 24))).size == image.size, "a mask of another size is scaled"
    assert on_background(Image.new("RGB", (1, 1), "red"), Image.new("L", (1, 1), 128)).size == (1, 1)
