"""Changes of one layer by every kind of adapter, against what the kind's own description does to an input."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import conv2d

from studio.errors import InputError
from studio.formats.delta import KINDS, Delta, kind_of

WEIGHT, KERNEL = torch.randn(6, 8, generator=torch.Generator().manual_seed(1)), torch.randn(6, 8, 3, 3, generator=torch.Generator().manual_seed(2))


def rand(*shape: int) -> Tensor:
    """Numbers that are the same for the same shape."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape) * 7 + len(shape)))


def change(weight: Tensor, alpha: float | None = None, /, **tensors: Tensor) -> Tensor:
    kind = kind_of(frozenset(tensors))
    assert kind is not None
    return Delta(kind, tensors, alpha).change(weight)[0]


def test_every_kind_has_a_test_here() -> None:
    assert {kind.name for kind in KINDS} == {"LoRA", "LoHa", "LoKr", "IA3", "Norm", "Full", "GLoRA", "OFT"}


@pytest.mark.parametrize(("alpha", "scale"), [(None, 1.0), (4.0, 1.0), (2.0, 0.5), (8.0, 2.0)])
def test_lora_is_a_way_down_and_a_way_up(alpha: float | None, scale: float) -> None:
    up, down, x = rand(6, 4), rand(4, 8), rand(5, 8)
    assert torch.allclose(x @ change(WEIGHT, alpha, lora_up=up, lora_down=down).T, scale * ((x @ down.T) @ up.T), atol=1e-5)


def test_locon_is_a_convolution_and_a_point_wise_one() -> None:
    up, down, x = rand(6, 4, 1, 1), rand(4, 8, 3, 3), rand(2, 8, 5, 5)
    assert torch.allclose(conv2d(x, change(KERNEL, 2.0, lora_up=up, lora_down=down)), conv2d(conv2d(x, down), up) * 0.5, atol=1e-4)


def test_locon_with_a_core_goes_through_it() -> None:
    up, mid, down, x = rand(6, 4, 1, 1), rand(4, 4, 3, 3), rand(4, 8, 1, 1), rand(2, 8, 5, 5)
    assert torch.allclose(conv2d(x, change(KERNEL, lora_up=up, lora_down=down, lora_mid=mid)), conv2d(conv2d(conv2d(x, down), mid), up), atol=1e-4)


def test_a_point_wise_lora_fits_a_matrix_and_the_other_way_round() -> None:
    up, down = rand(6, 4), rand(4, 8)
    flat = change(WEIGHT, lora_up=up, lora_down=down)
    assert torch.equal(flat, change(WEIGHT, lora_up=up[..., None, None], lora_down=down[..., None, None]))
    assert torch.equal(flat[..., None, None], change(WEIGHT[..., None, None], lora_up=up, lora_down=down))


def test_only_the_first_ranks_count_when_so_asked() -> None:
    tensors = {"lora_up": rand(6, 4), "lora_down": rand(4, 8)}
    part = Delta(kind_of(frozenset(tensors)), tensors, 4.0).change(WEIGHT, count=2)[0]
    assert torch.allclose(part, tensors["lora_up"][:, :2] @ tensors["lora_down"][:2], atol=1e-6)


def test_loha_multiplies_two_products_number_by_number() -> None:
    a1, b1, a2, b2 = rand(6, 4), rand(4, 72), rand(6, 4).flip(0), rand(4, 72).flip(1)
    expected = ((a1 @ b1) * (a2 @ b2)).reshape(6, 8, 3, 3) * 0.25
    assert torch.allclose(change(KERNEL, 1.0, hada_w1_a=a1, hada_w1_b=b1, hada_w2_a=a2, hada_w2_b=b2), expected, atol=1e-5)


def test_loha_with_cores_contracts_each_half() -> None:
    t, a, b = rand(4, 4, 3, 3), rand(4, 6), rand(4, 8)
    half = torch.zeros(6, 8, 3, 3)
    for i in range(4):
        for j in range(4):
            half += a[i][:, None, None, None] * b[j][None, :, None, None] * t[i, j][None, None]
    found = change(KERNEL, hada_t1=t, hada_t2=t, hada_w1_a=a, hada_w1_b=b, hada_w2_a=a, hada_w2_b=b)
    assert torch.allclose(found, half * half, atol=1e-4)


@pytest.mark.parametrize("first", ["whole", "factored"])
@pytest.mark.parametrize("second", ["whole", "factored"])
def test_lokr_is_a_kronecker_product(first: str, second: str) -> None:
    one = {"lokr_w1": rand(2, 4)} if first == "whole" else {"lokr_w1_a": rand(2, 3), "lokr_w1_b": rand(3, 4)}
    two = {"lokr_w2": rand(3, 2)} if second == "whole" else {"lokr_w2_a": rand(3, 3), "lokr_w2_b": rand(3, 2)}
    w1 = one.get("lokr_w1", rand(2, 3) @ rand(3, 4)).numpy()
    w2 = two.get("lokr_w2", rand(3, 3) @ rand(3, 2)).numpy()
    scale = 1.0 if first == second == "whole" else 1.5 / 3
    assert np.allclose(change(WEIGHT, 1.5, **one, **two).numpy(), np.kron(w1, w2) * scale, atol=1e-5)


@pytest.mark.parametrize("second", ["whole", "factored", "core"])
def test_lokr_of_a_convolution(second: str) -> None:
    w1, kernel = rand(2, 4), rand(3, 2, 3, 3)
    two = {"lokr_w2": kernel}
    if second == "factored":
        two = {"lokr_w2_a": rand(3, 5), "lokr_w2_b": rand(5, 18)}
        kernel = (rand(3, 5) @ rand(5, 18)).reshape(3, 2, 3, 3)
    elif second == "core":
        two = {"lokr_t2": rand(5, 5, 3, 3), "lokr_w2_a": rand(5, 3), "lokr_w2_b": rand(5, 2)}
        kernel = sum(two["lokr_w2_a"][i][:, None, None, None] * two["lokr_w2_b"][j][None, :, None, None] * two["lokr_t2"][i, j] for i in range(5) for j in range(5))
    found = change(KERNEL, **{"lokr_w1": w1, **two})
    for i in range(2):
        for j in range(4):
            assert torch.allclose(found[3 * i : 3 * i + 3, 2 * j : 2 * j + 2], w1[i, j] * kernel, atol=1e-4)


def test_ia3_scales_what_comes_in_or_what_goes_out() -> None:
    x, on_input, on_output = rand(5, 8), rand(8), rand(6)
    inner = change(WEIGHT, weight=on_input, on_input=torch.tensor(True))
    outer = change(WEIGHT, weight=on_output, on_input=torch.tensor(False))
    assert torch.allclose(x @ (WEIGHT + inner).T, (x * (1 + on_input)) @ WEIGHT.T, atol=1e-5)
    assert torch.allclose(x @ (WEIGHT + outer).T, (x @ WEIGHT.T) * (1 + on_output), atol=1e-5)


def test_ia3_of_peft_scales_the_bias_with_the_output() -> None:
    x, bias, factors = rand(5, 8), rand(6), rand(6, 1)
    tensors = {"ia3_l": factors}
    weight, shift = Delta(kind_of(frozenset(tensors)), tensors).change(WEIGHT, bias)
    assert torch.allclose(x @ (WEIGHT + weight).T + bias + shift, (x @ WEIGHT.T + bias) * factors[:, 0], atol=1e-5)
    tensors = {"ia3_l": rand(1, 8)}
    weight, shift = Delta(kind_of(frozenset(tensors)), tensors).change(WEIGHT, bias)
    assert shift is None and torch.allclose(x @ (WEIGHT + weight).T, (x * tensors["ia3_l"]) @ WEIGHT.T, atol=1e-5)


def test_full_differences_and_norms_are_added() -> None:
    for weight_key, bias_key in (("diff", "diff_b"), ("w_norm", "b_norm")):
        tensors = {weight_key: rand(6), bias_key: rand(6).flip(0)}
        weight, bias = Delta(kind_of(frozenset(tensors)), tensors, alpha=7.0).change(torch.ones(6), torch.zeros(6))
        assert torch.equal(weight, tensors[weight_key]) and torch.equal(bias, tensors[bias_key])
    weight, bias = Delta(kind_of(frozenset({"diff_b"})), {"diff_b": rand(6)}).change(WEIGHT, torch.zeros(6))
    assert weight is None and torch.equal(bias, rand(6))


def test_glora_in_both_layouts() -> None:
    old = {"a1": rand(2, 8), "a2": rand(8, 2), "b1": rand(2, 8).flip(0), "b2": rand(6, 2)}
    expected = WEIGHT @ old["a2"] @ old["a1"] + old["b2"] @ old["b1"]
    assert torch.allclose(change(WEIGHT, 1.0, **old), expected * 0.5, atol=1e-5)
    new = {"a1": old["a2"], "a2": old["a1"], "b1": old["b2"], "b2": old["b1"]}
    assert torch.allclose(change(WEIGHT, 1.0, **new), expected * 0.5, atol=1e-5)


def test_glora_of_a_convolution() -> None:
    t = {"a1": rand(8, 2, 1, 1), "a2": rand(2, 8, 1, 1), "b1": rand(6, 2, 1, 1), "b2": rand(2, 8, 3, 3)}
    x = rand(1, 8, 5, 5)
    expected = conv2d(conv2d(conv2d(x, t["a2"]), t["a1"]), KERNEL) + conv2d(conv2d(x, t["b2"]), t["b1"])
    assert torch.allclose(conv2d(x, change(KERNEL, **t)), expected, atol=1e-3)


@pytest.mark.parametrize("weight", [WEIGHT, KERNEL], ids=["matrix", "kernel"])
def test_oft_turns_blocks_of_rows_without_stretching_them(weight: Tensor) -> None:
    turned = weight + change(weight, oft_blocks=rand(2, 3, 3))
    for rows in (slice(0, 3), slice(3, 6)):
        assert torch.allclose(turned[rows].flatten(1).T @ turned[rows].flatten(1), weight[rows].flatten(1).T @ weight[rows].flatten(1), atol=1e-4)
    assert not torch.allclose(turned, weight)
    skew = rand(2, 3, 3)[0] - rand(2, 3, 3)[0].T
    turn = (torch.eye(3) + skew) @ torch.linalg.inv(torch.eye(3) - skew)
    assert torch.allclose(turned[:3].flatten(1), turn.T @ weight[:3].flatten(1), atol=1e-4)


def test_oft_is_held_back_by_its_constraint_and_rescaled() -> None:
    free, held = (change(WEIGHT, oft_blocks=rand(2, 3, 3), constraint=torch.tensor(c)) for c in (0.0, 1e-4))
    assert held.norm() < 1e-2 * free.norm()
    assert torch.allclose(change(WEIGHT, oft_blocks=torch.zeros(2, 3, 3), rescale=torch.full((6, 1), 3.0)), 2 * WEIGHT, atol=1e-5)


def test_boft_mixes_rows_over_stages_without_stretching_them() -> None:
    weight = rand(8, 5)
    turned = weight + change(weight, oft_blocks=rand(2, 4, 2, 2))
    assert torch.allclose(turned.T @ turned, weight.T @ weight, atol=1e-4)


def test_each_stage_of_boft_mixes_rows_that_are_twice_as_far_apart() -> None:
    eye, quarter = torch.eye(8), torch.tensor([[0.0, 0.5], [-0.5, 0.0]])
    for stage, partner in ((0, 1), (1, 2)):
        blocks = torch.zeros(2, 4, 2, 2)
        blocks[stage, 0] = quarter  # turns the first pair of its order by 90 degrees
        turned = eye + change(eye, oft_blocks=blocks)
        assert [j for j in range(8) if not torch.allclose(turned[j], eye[j], atol=1e-5)] == [0, partner]


@pytest.mark.parametrize(("shape", "axis"), [((6, 1), 0), ((1, 8), 1), ((6,), 0), ((8,), 1)])
def test_dora_gives_rows_or_columns_a_learned_length(shape: tuple[int, ...], axis: int) -> None:
    magnitude = rand(*shape).abs() + 0.5
    delta = rand(6, 4) @ rand(4, 8)
    new = WEIGHT + change(WEIGHT, lora_up=rand(6, 4), lora_down=rand(4, 8), dora_scale=magnitude)
    assert torch.allclose(new.norm(dim=1 - axis), magnitude.flatten(), atol=1e-4)
    raw = WEIGHT + delta
    assert torch.allclose(new / new.norm(dim=1 - axis, keepdim=True), raw / raw.norm(dim=1 - axis, keepdim=True), atol=1e-4)


@pytest.mark.parametrize(("shape", "dims"), [((6, 1, 1, 1), (1, 2, 3)), ((1, 8, 1, 1), (0, 2, 3))])
def test_dora_of_a_convolution(shape: tuple[int, ...], dims: tuple[int, ...]) -> None:
    magnitude = rand(*shape).abs() + 0.5
    new = KERNEL + change(KERNEL, lora_up=rand(6, 4, 1, 1), lora_down=rand(4, 8, 3, 3), dora_scale=magnitude)
    assert torch.allclose(new.square().sum(dim=dims).sqrt(), magnitude.flatten(), atol=1e-4)


@pytest.mark.parametrize(("shape", "axis"), [((8, 1), 0), ((1, 8), 1)])
def test_dora_of_a_square_layer_goes_by_the_shape_of_its_lengths(shape: tuple[int, ...], axis: int) -> None:
    magnitude = rand(*shape).abs() + 0.5
    new = rand(8, 8) + change(rand(8, 8), lora_up=rand(8, 4), lora_down=rand(4, 8), dora_scale=magnitude)
    assert torch.allclose(new.norm(dim=1 - axis), magnitude.flatten(), atol=1e-4)


def test_dora_whose_lengths_are_those_of_the_weight_changes_nothing_at_the_start_of_training() -> None:
    start = change(WEIGHT, lora_up=torch.zeros(6, 4), lora_down=rand(4, 8), dora_scale=WEIGHT.norm(dim=0, keepdim=True))
    assert start.abs().max() < 1e-6


def test_a_learned_scalar_and_a_stored_scale_count() -> None:
    tensors = {"lora_up": rand(6, 4), "lora_down": rand(4, 8), "scalar": torch.tensor(0.5)}
    assert torch.allclose(change(WEIGHT, **tensors), change(WEIGHT, lora_up=rand(6, 4), lora_down=rand(4, 8)) * 0.5)
    assert Delta(kind_of(frozenset(tensors)), tensors, alpha=1.0, factor=0.3).scale == 0.3


def test_half_precision_is_added_in_full_precision() -> None:
    up, down = rand(6, 4).half(), rand(4, 8).half()
    found = change(WEIGHT.half(), lora_up=up, lora_down=down)
    assert found.dtype == torch.float32 and torch.allclose(found, up.float() @ down.float(), atol=1e-6)


@pytest.mark.parametrize(
    "tensors",
    [
        {"lora_up": rand(6, 4), "lora_down": rand(4, 9)},
        {"lora_up": rand(7, 4), "lora_down": rand(4, 8)},
        {"lora_up": rand(6, 4), "lora_down": rand(5, 8)},
        {"lokr_w1": rand(2, 4), "lokr_w2": rand(3, 3)},
        {"weight": rand(9), "on_input": torch.tensor(True)},
        {"diff": rand(6, 9)},
        {"oft_blocks": rand(2, 4, 4)},
        {"a1": rand(2, 9), "a2": rand(9, 2), "b1": rand(2, 8), "b2": rand(6, 2)},
        {"lora_up": rand(6, 4), "lora_down": rand(4, 8), "dora_scale": rand(7, 1)},
    ],
)
def test_tensors_that_do_not_fit_are_refused_with_their_shapes(tensors: dict[str, Tensor]) -> None:
    with pytest.raises(InputError, match=r"do not fit a layer of shape \[6, 8\]"):
        change(WEIGHT, **tensors)


@pytest.mark.parametrize("names", [{"lora_up"}, {"lora_up", "alpha"}, {"hada_w1_a", "hada_w1_b"}, {"weight"}, {"lokr_w1"}, set(), {"alpha"}])
def test_halves_are_no_kind(names: set[str]) -> None:
    assert kind_of(frozenset(names)) is None


def test_ranks_are_read_from_shapes() -> None:
    def rank(**tensors: Tensor) -> int | None:
        return Delta(kind_of(frozenset(tensors)), tensors).rank

    assert rank(lora_up=rand(6, 4), lora_down=rand(4, 8)) == 4
    assert rank(hada_w1_a=rand(6, 3), hada_w1_b=rand(3, 8), hada_w2_a=rand(6, 3), hada_w2_b=rand(3, 8)) == 3
    assert rank(lokr_w1=rand(2, 4), lokr_w2=rand(3, 2)) is None
    assert rank(lokr_w1=rand(2, 4), lokr_w2_a=rand(3, 5), lokr_w2_b=rand(5, 2)) == 5
    assert rank(a1=rand(2, 8), a2=rand(8, 2), b1=rand(2, 8), b2=rand(6, 2)) == rank(a1=rand(8, 2), a2=rand(2, 8), b1=rand(6, 2), b2=rand(2, 8)) == 2
    assert rank(diff=rand(6, 8)) is None and math.isclose(Delta(kind_of(frozenset({"diff"})), {"diff": rand(6, 8)}, 3.0).scale, 1.0)
