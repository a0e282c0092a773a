"""Hypernetworks on a model: the arithmetic by hand, on and off without a trace, and what is refused."""

from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from studio.diffusion.hypernetworks import ACTIVATIONS, Blend, blended, build, hooked, networks
from studio.diffusion.model import Conditioning, Model
from studio.errors import InputError
from studio.formats.hypernetwork import Hypernetwork, State, read_hypernetwork


def linear(state: State, place: int, ins: int, outs: int, seed: int) -> None:
    """Put one layer's random numbers into a state."""
    generator = torch.Generator().manual_seed(seed)
    state[f"linear.{place}.weight"] = torch.randn(outs, ins, generator=generator) * 0.2
    state[f"linear.{place}.bias"] = torch.randn(outs, generator=generator) * 0.2


def state(width: int, places: tuple[int, ...] = (0, 1), structure: tuple[int, ...] = (1, 2, 1), seed: int = 0) -> State:
    """A network's linear layers at the places they have in A1111's files."""
    made: State = {}
    for place, (ins, outs) in zip(places, pairwise(structure), strict=True):
        linear(made, place, width * ins, width * outs, seed + place + width)
    return made


def network(model: Model, seed: int = 0, **changes: object) -> Hypernetwork:
    """One for every width of a model's contexts."""
    widths = {layer.in_features for path, layer in model.unet.named_modules() if path.endswith(("to_k", "to_v"))}
    return Hypernetwork("hero", {width: (state(width, seed=seed), state(width, seed=seed + 100)) for width in sorted(widths)}, **changes)


def predicted(model: Model) -> Tensor:
    """The UNet's answer to one fixed question."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        context = torch.randn(1, 77, model.unet.config.cross_attention_dim, generator=generator)
        return model.predict(torch.randn(1, 4, 16, 16, generator=generator), torch.tensor(500), Conditioning(context))


def test_the_networks_act_on_the_context_before_keys_and_values(tiny: Model) -> None:
    """Every attention of the UNet, self and cross, computed again by a processor of its own."""
    hyper, plain = network(tiny), predicted(tiny)
    by_hand = 0

    class ByHand:
        def __call__(self, attn: nn.Module, hidden_states: Tensor, encoder_hidden_states: Tensor | None = None, attention_mask: Tensor | None = None, **_: object) -> Tensor:
            nonlocal by_hand
            by_hand += 1
            context = hidden_states if encoder_hidden_states is None else encoder_hidden_states

            def changed(state: State) -> Tensor:
                inner = context @ state["linear.0.weight"].T + state["linear.0.bias"]
                return context + 0.7 * (inner @ state["linear.1.weight"].T + state["linear.1.bias"])

            keys, values = hyper.layers[context.shape[-1]]
            q, k, v = attn.to_q(hidden_states), attn.to_k(changed(keys)), attn.to_v(changed(values))
            q, k, v = (x.unflatten(-1, (attn.heads, -1)).transpose(1, 2) for x in (q, k, v))
            mixed = torch.softmax(q @ k.transpose(-1, -2) * attn.scale, -1) @ v
            return attn.to_out[1](attn.to_out[0](mixed.transpose(1, 2).flatten(2)))

    before = tiny.unet.attn_processors
    tiny.unet.set_attn_processor(ByHand())
    try:
        expected = predicted(tiny)
    finally:
        tiny.unet.set_attn_processor(dict(before))
    with blended(tiny, [Blend(hyper, 0.7)]):
        assert torch.allclose(predicted(tiny), expected, atol=1e-4)
    assert by_hand == len(before) and (expected - plain).abs().max() > 1e-3
    assert torch.equal(predicted(tiny), plain)


def test_no_hook_is_left_even_after_a_failure(tiny: Model) -> None:
    def hooks() -> int:
        return sum(len(module._forward_pre_hooks) for module in tiny.unet.modules())

    before = hooks()
    with pytest.raises(RuntimeError, match="stop"), blended(tiny, [Blend(network(tiny)), Blend(network(tiny, 1))]):
        assert hooks() > before
        raise RuntimeError("stop")
    assert hooks() == before


def test_a_strength_of_zero_changes_nothing(tiny: Model) -> None:
    plain = predicted(tiny)
    with blended(tiny, [Blend(network(tiny), 0.0)]):
        assert torch.equal(predicted(tiny), plain)


def test_two_act_one_after_the_other(tiny: Model) -> None:
    one, two = network(tiny, 1, activation="tanh"), network(tiny, 2, activation="tanh")
    with blended(tiny, [Blend(one), Blend(two)]):
        both = predicted(tiny)
    with blended(tiny, [Blend(one)]), blended(tiny, [Blend(two)]):
        assert torch.equal(predicted(tiny), both)
    with blended(tiny, [Blend(two), Blend(one)]):
        assert not torch.allclose(predicted(tiny), both)


def test_gradients_reach_networks_in_training(tiny: Model) -> None:
    pairs = networks(network(tiny))
    for pair in pairs.values():
        for net in pair:
            net.train().requires_grad_(True)
    context = torch.randn(1, 77, tiny.unet.config.cross_attention_dim)
    with hooked(tiny, pairs, lambda: 1.0):
        tiny.predict(torch.randn(1, 4, 16, 16), torch.tensor(500), Conditioning(context)).square().mean().backward()
    assert all(p.grad is not None and bool(p.grad.abs().sum() > 0) for pair in pairs.values() for net in pair for p in net.parameters())


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_every_activation_can_be_built_and_keeps_the_width(name: str) -> None:
    built = build(4, Hypernetwork("x", {}, activation=name.upper()))
    assert built.eval()(torch.ones(2, 3, 4)).shape == (2, 3, 4)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, ["Linear", "Linear"]),
        ({"activation": "relu"}, ["Linear", "ReLU", "Linear", "ReLU"]),
        ({"activation": "relu", "activate_output": False}, ["Linear", "ReLU", "Linear"]),
        ({"activation": "swish", "layer_norm": True}, ["Linear", "Hardswish", "LayerNorm", "Linear", "Hardswish", "LayerNorm"]),
        ({"activation": "elu", "dropout": (0.0, 0.3, 0.0), "activate_output": False}, ["Linear", "ELU", "Dropout", "Linear"]),
        ({"structure": (1, 2, 4, 1)}, ["Linear"] * 3),
    ],
)
def test_layers_stand_in_a1111s_order(changes: dict, expected: list[str]) -> None:
    assert [type(layer).__name__ for layer in build(4, Hypernetwork("x", {}, **changes))] == expected


@pytest.mark.parametrize("places", [(0, 1), (0, 3), (0, 7)])
def test_numbers_go_by_order_wherever_they_stand_in_the_sequence(tmp_path: Path, places: tuple[int, int]) -> None:
    held = state(4, places, seed=9)
    held[f"linear.{places[0] + 2}.weight"], held[f"linear.{places[0] + 2}.bias"] = torch.full((8,), 2.0), torch.zeros(8)
    held[f"linear.{places[1] + 5}.weight"], held[f"linear.{places[1] + 5}.bias"] = torch.full((4,), 3.0), torch.ones(4)
    torch.save({4: (held, held), "activation_func": "relu", "is_layer_norm": True, "activate_output": False}, tmp_path / "x.pt")
    net = networks(read_hypernetwork(tmp_path / "x.pt"))[4][0]
    x = torch.randn(5, 4)
    inner = nn.functional.layer_norm(torch.relu(x @ held[f"linear.{places[0]}.weight"].T + held[f"linear.{places[0]}.bias"]), (8,)) * 2
    outer = nn.functional.layer_norm(inner @ held[f"linear.{places[1]}.weight"].T + held[f"linear.{places[1]}.bias"], (4,)) * 3 + 1
    assert torch.allclose(net(x), outer, atol=1e-5)


def test_an_activation_that_is_unknown_is_refused(tiny: Model) -> None:
    with pytest.raises(InputError, match="'multiheadattention', which is not known"), blended(tiny, [Blend(network(tiny, activation="multiheadattention"))]):
        pass


def test_one_for_other_widths_is_refused_with_both(tiny: Model) -> None:
    other = Hypernetwork("hero", {769: (state(769), state(769))})
    with pytest.raises(InputError, match=r"'hero' is for contexts of width 769; .* has .*128"), blended(tiny, [Blend(other)]):
        pass


def test_missing_norms_are_told(tiny: Model) -> None:
    with pytest.raises(InputError, match="lacks numbers for its layers"), blended(tiny, [Blend(network(tiny, layer_norm=True))]):
        pass


def test_a_strength_that_is_no_number_is_refused(tiny: Model) -> None:
    with pytest.raises(InputError, match="finite number"), blended(tiny, [Blend(network(tiny), float("nan"))]):
        pass
