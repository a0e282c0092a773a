"""Noise: known answers of the counter-based generator, Brownian motion, and what decides each picture's noise."""

import math

import numpy as np
import pytest
import torch
import torchsde

from studio.diffusion.brownian import BrownianTree
from studio.diffusion.noise import Noise, Seeds, pasted, row, slerp
from studio.diffusion.philox import normals, philox
from studio.errors import InputError

SIZE = (6, 10)


def plain(seed: int, size: tuple[int, int] = SIZE) -> torch.Tensor:
    """What torch itself gives for a seed."""
    return torch.randn(4, *size, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ("counter", "key", "answer"),
    [
        ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
        ((0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344), (0xA4093822, 0x299F31D0), (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1)),
    ],
)
def test_the_counter_function_gives_the_answers_published_with_random123(counter: tuple[int, ...], key: tuple[int, int], answer: tuple[int, ...]) -> None:
    several = np.array([counter, (1, 2, 3, 4), counter], np.uint32).T
    words = philox(several, key)
    assert tuple(words[:, 0]) == tuple(words[:, 2]) == answer
    assert tuple(words[:, 1]) != answer


def test_the_first_numbers_of_seed_nought_are_those_a_cuda_card_gives() -> None:
    card = [-0.92466259, -0.42534415, -2.6438457, 0.14518388, -0.12086647, -0.57972564, -0.62285122, -0.32838709, -1.07454231, -0.36314407, -1.67105067, 2.26550497]
    assert np.abs(normals(0, 0, 12) - card).max() < 1e-6


def test_normals_are_normal_and_do_not_depend_on_how_many_are_asked_for() -> None:
    x = normals(123, 0, 50_000)
    assert abs(x.mean()) < 0.02
    assert abs(x.std() - 1) < 0.02
    assert abs((x**4).mean() - 3) < 0.15
    assert np.array_equal(normals(123, 0, 100), x[:100])
    assert not np.array_equal(normals(123, 1, 100), x[:100])
    assert not np.array_equal(normals(123 + 2**32, 0, 100), x[:100])


@pytest.mark.parametrize("query", [(0.1, 3.0), (3.0, 14.6146), (0.0291675, 0.05), (1.23456, 1.2346), (7.3218837, 7.34), (0.0291675, 14.6146)])
def test_brownian_motion_is_that_of_torchsde(query: tuple[float, float]) -> None:
    ours = BrownianTree((0.0291675, 14.6146), 77, lambda word: plain(word))
    theirs = torchsde.BrownianTree(0.0291675, torch.zeros(4, *SIZE), 14.6146, entropy=77)
    ours.between(2.0, 5.0)
    assert torch.allclose(ours.between(*query), theirs(*query), atol=5e-6)


def test_brownian_increments_add_up_and_have_the_variance_of_their_length() -> None:
    tree = BrownianTree((0.5, 10.0), 3, lambda word: plain(word, (64, 64)))
    assert torch.allclose(tree.between(1, 2) + tree.between(2, 7), tree.between(1, 7), atol=1e-5)
    assert torch.allclose(tree.between(1, 2), -tree.between(2, 1), atol=1e-6)
    assert abs(tree.between(2, 7).std().item() - math.sqrt(5)) < 0.06
    assert torch.equal(tree.between(10, 20), torch.zeros(4, 64, 64))


def test_noise_on_the_cpu_is_torchs_own_and_goes_on_where_it_was() -> None:
    generator = torch.Generator().manual_seed(5)
    expected = [torch.randn(4, *SIZE, generator=generator) for _ in range(3)]
    noise = Noise(Seeds((5,)), SIZE)
    assert [torch.equal(noise.first()[0], expected[0]), torch.equal(noise.next()[0], expected[1]), torch.equal(noise.next()[0], expected[2])] == [True] * 3


def test_what_is_drawn_on_the_way_is_the_same_whether_or_not_the_first_noise_was_asked_for() -> None:
    asked = Noise(Seeds((5,)), SIZE)
    first = asked.first()
    assert torch.equal(asked.first(), first)
    assert torch.equal(asked.next(), Noise(Seeds((5,)), SIZE).next())


def test_the_card_s_noise_takes_a_new_draw_each_time() -> None:
    noise = Noise(Seeds((9,), source="NV"), SIZE)
    count = 4 * SIZE[0] * SIZE[1]
    assert np.array_equal(noise.first()[0].numpy().ravel(), normals(9, 0, count))
    assert np.array_equal(noise.next()[0].numpy().ravel(), normals(9, 1, count))


@pytest.mark.parametrize("source", ["CPU", "NV"])
@pytest.mark.parametrize(("strength", "resize_from", "ensd"), [(0.0, None, 0), (0.4, None, 31337), (0.4, (8, 6), 0), (0.0, (4, 12), 7)])
def test_a_picture_of_a_batch_has_the_noise_it_has_alone(source: str, strength: float, resize_from: tuple[int, int] | None, ensd: int) -> None:
    seeds = Seeds((1, 2, 3), (21, 22, 23), strength, resize_from, source, ensd)
    batch, alone = Noise(seeds, SIZE), Noise(seeds.at(1), SIZE)
    assert batch.first().shape == (3, 4, *SIZE)
    assert torch.equal(batch.first()[1], alone.first()[0])
    assert torch.equal(batch.next()[1], alone.next()[0])
    assert torch.equal(batch.brownian(0.1, 9)(5, 4)[1], alone.brownian(0.1, 9)(5, 4)[0])
    assert not torch.equal(batch.first()[0], batch.first()[1])


def test_the_programs_own_random_numbers_are_left_alone() -> None:
    torch.manual_seed(4)
    np.random.seed(4)
    before, state = torch.get_rng_state(), np.random.get_state()[1].copy()
    noise = Noise(Seeds((1,), (2,), 0.5), SIZE)
    noise.first(), noise.next(), noise.brownian(0.1, 9)(5, 4)
    assert torch.equal(torch.get_rng_state(), before)
    assert np.array_equal(np.random.get_state()[1], state)


def test_the_noise_seed_delta_moves_only_what_is_drawn_on_the_way() -> None:
    noise = Noise(Seeds((100,), ensd=31337), SIZE)
    assert torch.equal(noise.first()[0], plain(100))
    assert torch.equal(noise.next()[0], plain(100 + 31337))


@pytest.mark.parametrize("ensd", [-200, -(2**31)])
def test_a_delta_below_the_seed_is_usable(ensd: int) -> None:
    for source in ("CPU", "NV"):
        assert torch.isfinite(Noise(Seeds((100,), ensd=ensd, source=source), SIZE).next()).all()


def test_variation_goes_from_one_seed_to_the_other_on_an_arc() -> None:
    at = {share: Seeds((1,), (2,), share).first(SIZE)[0] for share in (0.0, 0.3, 1.0)}
    assert torch.equal(at[0.0], plain(1))
    assert torch.allclose(at[1.0], plain(2), atol=1e-5)
    low, high = plain(1), plain(2)
    angle = torch.nn.functional.cosine_similarity(low, high, dim=1).acos()[:, None]
    assert torch.allclose(at[0.3], (torch.sin(0.7 * angle) * low + torch.sin(0.3 * angle) * high) / torch.sin(angle), atol=1e-5)


def test_variation_towards_the_same_seed_changes_nothing() -> None:
    x = plain(1)
    assert torch.allclose(slerp(x, x, 0.7), x)


def test_a_row_of_seeds_counts_the_seed_or_the_variation_as_a1111_does() -> None:
    assert row(5, 3) == Seeds((5, 6, 7))
    assert row(5, 3, 70, 0.2) == Seeds((5, 5, 5), (70, 71, 72), 0.2)


@pytest.mark.parametrize(("inner", "outer", "kept"), [((4, 6), (6, 10), (slice(1, 5), slice(2, 8))), ((8, 14), (6, 10), (slice(0, 6), slice(0, 10))), ((9, 10), (6, 10), (slice(0, 5), slice(0, 10)))])
def test_noise_of_another_size_is_pasted_into_the_middle(inner: tuple[int, int], outer: tuple[int, int], kept: tuple[slice, slice]) -> None:
    noise, ground = plain(1, inner), plain(2, outer)
    found = pasted(noise, ground)
    changed = found != ground
    expected = torch.zeros(4, *outer, dtype=torch.bool)
    expected[:, kept[0], kept[1]] = True
    assert torch.equal(changed, expected)
    top, left = (max(-((o - i) // 2), 0) for i, o in zip(inner, outer, strict=True))
    assert torch.equal(found[:, kept[0], kept[1]].flatten()[:1], noise[:, top, left][:1])


def test_a_resized_seed_keeps_the_noise_of_the_old_size() -> None:
    found = Seeds((1,), resize_from=(4, 6)).first(SIZE)[0]
    assert torch.equal(found[:, 1:5, 2:8], plain(1, (4, 6)))
    assert torch.equal(found[:, 0], plain(1)[:, 0])


def test_an_unknown_source_is_refused_with_the_known_ones() -> None:
    with pytest.raises(InputError, match="'GPU'") as caught:
        Noise(Seeds((1,), source="GPU"), SIZE)
    assert "CPU, NV" in caught.value.hint
