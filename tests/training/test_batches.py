"""Batches: the order of pictures, prompts from templates, timesteps, noise, and latents kept on disk."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from studio.dataset.batches import ITEM, NOISE, TIME, Batches, LatentStore, Sample, dice, normal, read_template
from studio.errors import InputError, Unreadable
from studio.projects.filling import fill, vary

TAGS = "red, round, horned, smiling, hairy"


def samples(count: int, caption: str = TAGS) -> tuple[Sample, ...]:
    """Samples whose mean tells their number."""
    return tuple(Sample(f"k{i}", f"{caption}, no{i}" if caption else "", torch.full((4, 2, 2), float(i)), torch.full((4, 2, 2), 0.1)) for i in range(count))


def batches(count: int = 5, size: int = 2, **rest: object) -> Batches:
    """Batches that show which picture was taken."""
    return Batches(samples(count), ("a photo of [name], [filewords]",), "gnarl", size, **{"seed": 7, "latent_sampling": "deterministic", **rest})


def numbers(made: Batches, steps: int) -> list[int]:
    """Which pictures were taken, in order."""
    return [int(x) for step in range(steps) for part in range(made.parts) for x in made.at(step, part).latents[:, 0, 0, 0]]


@pytest.mark.parametrize(("count", "size", "parts"), [(5, 1, 1), (5, 2, 1), (3, 4, 1), (7, 2, 3), (1, 3, 1)])
def test_every_picture_comes_once_before_any_comes_again(count: int, size: int, parts: int) -> None:
    taken = numbers(batches(count, size, parts=parts), steps=count)
    rounds = [taken[at : at + count] for at in range(0, len(taken), count)]
    assert len(rounds) == size * parts
    assert all(sorted(r) == list(range(count)) for r in rounds)


def test_each_round_has_an_order_of_its_own_that_follows_from_the_seed() -> None:
    taken = numbers(batches(6, 1), steps=30)
    rounds = {tuple(taken[at : at + 6]) for at in range(0, 30, 6)}
    assert len(rounds) > 1
    assert numbers(batches(6, 1), steps=30) == taken
    assert numbers(batches(6, 1, seed=8), steps=30) != taken


@pytest.mark.parametrize("sampling", ["once", "deterministic", "random"])
def test_a_batch_is_a_function_of_the_step_alone(sampling: str) -> None:
    made = batches(latent_sampling=sampling, shuffle=True, drop_out=0.3)
    before = [made.at(step) for step in range(4)]
    again = batches(latent_sampling=sampling, shuffle=True, drop_out=0.3).at(3)
    assert torch.equal(again.latents, before[3].latents)
    assert torch.equal(again.noise, before[3].noise)
    assert torch.equal(again.times, before[3].times)
    assert again.prompts == before[3].prompts


def test_noise_differs_between_steps_places_and_seeds() -> None:
    made, other = batches(), batches(seed=8)
    drawn = [made.at(0).noise[0], made.at(0).noise[1], made.at(1).noise[0], other.at(0).noise[0]]
    assert len({tuple(n.flatten().tolist()) for n in drawn}) == 4
    assert abs(float(torch.stack([made.at(s).noise for s in range(200)]).std()) - 1) < 0.05


def test_purposes_do_not_share_random_numbers() -> None:
    assert dice(1, NOISE, 2, 3).random() == dice(1, NOISE, 2, 3).random()
    drawn = [dice(seed, purpose, step, sample).random() for seed in (0, 1) for purpose in (ITEM, NOISE, TIME) for step in (0, 1) for sample in (0, 1)]
    assert len(set(drawn)) == len(drawn)


def test_the_pictures_of_a_step_cover_the_noise_levels_evenly() -> None:
    made = batches(8, 4, parts=2)
    for step in range(20):
        times = torch.cat([made.at(step, part).times for part in range(2)])
        assert sorted(int(t) // 125 for t in times) == list(range(8))
    seen = torch.cat([made.at(step).times for step in range(400)]).float()
    assert 0 <= seen.min() < 10
    assert 990 <= seen.max() <= 999
    assert abs(float(seen.mean()) - 500) < 20


def test_latents_are_the_mean_one_draw_or_a_new_draw() -> None:
    def latents(sampling: str) -> dict[int, set[bytes]]:
        made, seen = batches(3, 1, latent_sampling=sampling), {}
        for step in range(9):
            latent = made.at(step).latents[0]
            seen.setdefault(round(float(latent.mean())), set()).add(latent.numpy().tobytes())
        return seen

    assert latents("deterministic") == {i: {np.full((4, 2, 2), i, np.float32).tobytes()} for i in range(3)}
    once, random = latents("once"), latents("random")
    assert {i: len(s) for i, s in once.items()} == {0: 1, 1: 1, 2: 1}
    assert {i: len(s) for i, s in random.items()} == {0: 3, 1: 3, 2: 3}
    assert once != latents("deterministic")


def shaped(shapes: list[tuple[int, int]], masked: bool = True) -> tuple[Sample, ...]:
    """Samples of these latent heights and widths: channel 0 is the weight of each cell, channel 1 tells the number, and mirror images are true ones."""
    made = []
    for number, (height, width) in enumerate(shapes):
        weight = torch.rand(height, width, generator=torch.Generator().manual_seed(number)) if masked and number % 3 else None
        mean = torch.stack([torch.ones(height, width) if weight is None else weight, *[torch.full((height, width), float(number))] * 3])
        std = torch.full_like(mean, 0.1)
        made.append(Sample(f"k{number}", f"no{number}", mean, std, (mean.flip(-1), std), weight))
    return tuple(made)


SHAPES = [(2, 6), (4, 4), (4, 4), (6, 2), (4, 4), (2, 6), (4, 4)]


def test_weights_lie_where_the_latents_lie_mirrored_or_not() -> None:
    made = Batches(shaped(SHAPES), ("[name]",), "gnarl", 3, 5, parts=2, latent_sampling="deterministic", flip=True)
    mirrored = 0
    for step in range(30):
        for part in range(2):
            batch = made.at(step, part)
            assert batch.weights.shape == (3, 1, *batch.latents.shape[2:])
            assert torch.equal(batch.weights[:, 0], batch.latents[:, 0])
            numbers = batch.latents[:, 1, 0, 0].int().tolist()
            mirrored += sum(not torch.equal(latent, made.samples[number].mean) for latent, number in zip(batch.latents, numbers, strict=True) if number % 3)
    assert 0.35 < mirrored / (30 * 6 * 4 / 7) < 0.65


def test_without_masks_there_are_no_weights() -> None:
    assert Batches(shaped(SHAPES, masked=False), ("[name]",), "gnarl", 3, 5).at(0).weights is None


def test_a_batch_holds_one_shape_and_pictures_come_equally_often() -> None:
    made = Batches(shaped(SHAPES), ("[name]",), "gnarl", 2, 5, parts=3, latent_sampling="deterministic", flip=True)
    seen: Counter[int] = Counter()
    sizes = set()
    for step in range(70):
        for part in range(3):
            batch = made.at(step, part)
            numbers = batch.latents[:, 1, 0, 0].int().tolist()
            assert {(SHAPES[number][1] * 8, SHAPES[number][0] * 8) for number in numbers} == {batch.size}
            sizes.add(batch.size)
            seen.update(numbers)
    assert sizes == {(48, 16), (32, 32), (16, 48)}
    assert max(seen.values()) - min(seen.values()) <= 2


@pytest.mark.parametrize("sampling", ["once", "random"])
def test_any_batch_can_be_asked_first(sampling: str) -> None:
    def new() -> Batches:
        return Batches(shaped(SHAPES), ("a [name], [filewords]",), "gnarl", 2, 5, 2, True, 0.2, sampling, True, 0.4)

    made = new()
    forwards = [made.at(step, part) for step in range(15) for part in range(2)]
    backwards = [new().at(step, part) for step in reversed(range(15)) for part in reversed(range(2))][::-1]
    for one, other in zip(forwards, backwards, strict=True):
        assert one.prompts == other.prompts
        assert all(torch.equal(getattr(one, name), getattr(other, name)) for name in ("latents", "noise", "times", "weights"))


def test_drawn_once_stays_for_the_picture_and_for_its_mirror_image() -> None:
    made, seen = Batches(shaped([(4, 4)] * 3), ("[name]",), "gnarl", 1, 5, flip=True), {}
    for step in range(60):
        latent = made.at(step).latents[0]
        seen.setdefault(round(float(latent[1:].mean())), set()).add(latent.numpy().tobytes())
    assert {number: len(latents) for number, latents in seen.items()} == {0: 2, 1: 2, 2: 2}


def test_captions_are_dropped_whole_at_the_rate_that_was_asked_and_nothing_else_moves() -> None:
    made, plain = batches(caption_dropout=0.3, shuffle=True), batches(shuffle=True)
    dropped = 0
    for step in range(300):
        for prompt, other in zip(made.at(step).prompts, plain.at(step).prompts, strict=True):
            assert prompt in ("a photo of gnarl", other)
            dropped += prompt == "a photo of gnarl"
    assert abs(dropped / 600 - 0.3) < 0.05
    assert all(torch.equal(getattr(made.at(9), name), getattr(plain.at(9), name)) for name in ("latents", "noise", "times"))


def test_the_numbers_of_a_plain_run_are_those_of_earlier_versions() -> None:
    made = Batches(samples(5), ("a [name], [filewords]", "[name] x"), "gnarl", 2, 7, 2, True, 0.3, "deterministic")
    assert numbers(made, 4) == [4, 2, 1, 0, 3, 1, 3, 0, 2, 4, 1, 0, 2, 4, 3, 1]
    assert made.at(3, 1).times.tolist() == [850, 100]
    assert made.at(3, 1).prompts == ("gnarl x", "a gnarl, red, no1, round")
    assert made.at(3, 1).noise[0, 0].flatten().tolist() == pytest.approx([-0.16260869801044464, 0.6783386468887329, 1.1152598857879639, 0.6592713594436646])


def test_templates_are_filled_with_the_name_and_the_caption() -> None:
    assert fill("a photo of [name], [filewords]", "gnarl", "red, round") == "a photo of gnarl, red, round"
    assert fill("[name] and [name]", "gnarl", "") == "gnarl and gnarl"
    assert fill("a photo, [filewords], of [name], [filewords]", "gnarl", "") == "a photo, of gnarl"
    assert fill("[filewords]", "gnarl", "a [name] here") == "a gnarl here"


def test_every_template_is_used_and_every_prompt_belongs_to_its_picture() -> None:
    lines = ("one [name], [filewords]", "two [name], [filewords]", "three [name], [filewords]")
    made, seen = Batches(samples(4), lines, "gnarl", 2, 1, latent_sampling="deterministic"), Counter()
    for step in range(60):
        batch = made.at(step)
        for latent, prompt in zip(batch.latents, batch.prompts, strict=True):
            word, rest = prompt.split(" ", 1)
            assert rest == f"gnarl, {TAGS}, no{int(latent[0, 0, 0])}"
            seen[word] += 1
    assert set(seen) == {"one", "two", "three"}
    assert min(seen.values()) > 20


def test_shuffled_tags_are_the_same_tags_in_an_order_that_follows_from_the_seed() -> None:
    prompts = [batches(1, 1, shuffle=True).at(step).prompts[0] for step in range(12)]
    wanted = sorted([*TAGS.split(", "), "no0"])
    assert all(sorted(p.removeprefix("a photo of gnarl, ").split(", ")) == wanted for p in prompts)
    assert len(set(prompts)) > 6
    assert prompts == [batches(1, 1, shuffle=True).at(step).prompts[0] for step in range(12)]
    assert prompts != [batches(1, 1, shuffle=True, seed=8).at(step).prompts[0] for step in range(12)]


def test_tags_are_dropped_at_the_rate_that_was_asked() -> None:
    caption = ", ".join(f"t{i}" for i in range(50))
    kept = [vary(caption, shuffle=False, drop_out=0.3, draw=dice(1, 2, step)).split(", ") for step in range(40)]
    assert abs(sum(map(len, kept)) / (40 * 50) - 0.7) < 0.05
    assert all([int(t[1:]) for t in tags] == sorted(int(t[1:]) for t in tags) for tags in kept)
    assert kept[0] != kept[1]
    assert kept[3] == vary(caption, shuffle=False, drop_out=0.3, draw=dice(1, 2, 3)).split(", ")


def test_dropping_all_tags_leaves_a_clean_prompt_and_dropping_none_the_caption_as_it_is() -> None:
    assert batches(1, 1, drop_out=1.0).at(0).prompts == ("a photo of gnarl",)
    assert vary("  odd ,  spacing,,", shuffle=False, drop_out=0.0, draw=dice(1, 2)) == "  odd ,  spacing,,"


def test_naming_counts_the_prompts_that_hold_the_word() -> None:
    assert batches(3).naming() == (3, 3)
    assert Batches(samples(3), ("a photo", "[name]"), "gnarl", 1, 0).naming() == (3, 6)
    assert Batches(samples(2, "a Gnarl"), ("a photo", "[filewords]"), "gnarl", 1, 0).naming() == (2, 4)
    assert Batches(samples(2), ("a photo",), "gnarl", 1, 0).naming() == (0, 2)


def test_a_template_file_is_read_without_its_blank_lines(tmp_path: Path) -> None:
    path = tmp_path / "t.txt"
    path.write_bytes("\ufeffa photo of [name]\r\n\r\n   \r\n  a møñster [name]  ".encode())
    assert read_template(path) == ("a photo of [name]", "a møñster [name]")
    path.write_text("\n  \n")
    with pytest.raises(InputError, match=r"Prompt template: t\.txt holds no line"):
        read_template(path)


class Encoder:
    """Counts, and makes latents that tell what was seen."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, ...]] = []

    def __call__(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        """Eighth-size means, and a constant deviation."""
        self.seen.append(tuple(pictures.shape))
        mean = torch.nn.functional.avg_pool2d(pictures, 8)[:, [0, 1, 2, 0]]
        return mean, torch.full_like(mean, 0.5)


def store(folder: Path, encode: Encoder, model: str = "m", size: int = 64) -> LatentStore:
    """A store of square latents."""
    return LatentStore(folder, encode, model, size, size)


def picture(path: Path, colour: tuple[int, int, int], size: tuple[int, int] = (80, 64)) -> Path:
    """A plain picture."""
    Image.new("RGB", size, colour).save(path)
    return path


def test_a_picture_is_encoded_once_and_read_from_disk_afterwards(tmp_path: Path) -> None:
    encode, red = Encoder(), picture(tmp_path / "red.png", (255, 0, 0))
    key, mean, std = store(tmp_path / "latents", encode).get(red)
    again = store(tmp_path / "latents", encode).get(red)
    assert encode.seen == [(1, 3, 64, 64)]
    assert again[0] == key
    assert torch.equal(again[1], mean)
    assert torch.equal(again[2], std)
    assert mean.shape == (4, 8, 8)
    assert torch.allclose(mean[:3, 0, 0], torch.tensor([1.0, -1.0, -1.0]))


def test_latents_belong_to_the_content_not_to_the_name(tmp_path: Path) -> None:
    encode = Encoder()
    first = store(tmp_path / "latents", encode).get(picture(tmp_path / "a.png", (255, 0, 0)))
    renamed = store(tmp_path / "latents", encode).get((tmp_path / "a.png").rename(tmp_path / "b.png"))
    changed = store(tmp_path / "latents", encode).get(picture(tmp_path / "b.png", (0, 0, 255)))
    assert renamed[0] == first[0]
    assert changed[0] != first[0]
    assert not torch.equal(changed[1], first[1])
    assert len(encode.seen) == 2


@pytest.mark.parametrize("other", [{"model": "another"}, {"size": 128}])
def test_another_model_or_size_has_latents_of_its_own(tmp_path: Path, other: dict) -> None:
    encode, red = Encoder(), picture(tmp_path / "red.png", (255, 0, 0))
    first, second = store(tmp_path / "latents", encode).get(red), store(tmp_path / "latents", encode, **other).get(red)
    assert first[0] != second[0]
    assert len(encode.seen) == 2


@pytest.mark.parametrize("content", [b"", b"half"])
def test_a_damaged_latent_is_encoded_again(tmp_path: Path, content: bytes) -> None:
    encode, red = Encoder(), picture(tmp_path / "red.png", (255, 0, 0))
    key, mean, _ = store(tmp_path / "latents", encode).get(red)
    (kept,) = (tmp_path / "latents").rglob("*.safetensors")
    kept.write_bytes(content)
    assert store(tmp_path / "latents", encode).find(key) is None
    assert torch.equal(store(tmp_path / "latents", encode).get(red)[1], mean)
    assert len(encode.seen) == 2
    assert store(tmp_path / "latents", encode).find(key) is not None


def test_a_wide_picture_is_cut_in_the_middle_and_not_stretched(tmp_path: Path) -> None:
    image = Image.new("RGB", (256, 64), (0, 0, 0))
    image.paste((255, 255, 255), (96, 0, 160, 64))
    image.save(tmp_path / "wide.png")
    _, mean, _ = store(tmp_path / "latents", Encoder()).get(tmp_path / "wide.png")
    assert torch.allclose(mean, torch.ones(4, 8, 8))


def test_what_is_not_a_picture_is_told_and_leaves_no_latent(tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_bytes(b"hello")
    with pytest.raises(Unreadable, match=r"bad\.png"):
        store(tmp_path / "latents", Encoder()).get(tmp_path / "bad.png")
    assert not list((tmp_path / "latents").rglob("*.*"))


def test_normal_numbers_are_float32_and_standard() -> None:
    drawn = normal((100, 100), dice(3, NOISE))
    assert drawn.dtype == torch.float32
    assert abs(float(drawn.mean())) < 0.05
    assert abs(float(drawn.std()) - 1) < 0.05
