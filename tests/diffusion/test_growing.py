"""Adapters that learn beside a model's layers: they begin as nothing, learn everywhere, leave no trace, and mean the same in a file; measured against peft's own layers too."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from studio.diffusion.adapters import Wear, worn
from studio.diffusion.growing import Grown, Recipe
from studio.diffusion.hypernetworks import hooked
from studio.diffusion.model import Conditioning, Model
from studio.diffusion.targets import Layer, is_spatial, layers_of
from studio.errors import InputError
from studio.formats.adapter import Adapter, read_adapter
from studio.formats.adapter_writing import write_adapter
from tests.diffusion.small import made, predicted, rand, weights

KINDS = {
    "LoRA": Recipe(rank=4, alpha=2),
    "LoCon": Recipe(rank=4, conv_rank=2, conv_alpha=1),
    "LoCon with a core": Recipe(rank=4, conv_rank=3, tucker=True),
    "DoRA": Recipe(rank=4, alpha=2, dora=True),
    "LoHa": Recipe("LoHa", 3, 1.5),
    "LoHa with a core": Recipe("LoHa", 3, tucker=True),
    "LoHa decomposed": Recipe("LoHa", 2, dora=True),
    "LoKr": Recipe("LoKr", 2, 1, factor=4),
    "LoKr with a core": Recipe("LoKr", 2, factor=4, tucker=True),
    "LoKr, full": Recipe("LoKr", 2, full=True),
    "LoKr decomposed": Recipe("LoKr", 2, factor=4, dora=True),
    "IA3": Recipe("IA3"),
    "Full": Recipe("Full"),
}
DECOMPOSED = {name for name, recipe in KINDS.items() if recipe.dora}


def everywhere(model: Model, text: bool = True) -> list[Layer]:
    """Every layer that can learn."""
    return layers_of(model, "full", text, convolutions=True, norms=True)


def answer(model: Model) -> Tensor:
    """The UNet's answer to a text, through the text encoders, with gradients."""
    ids = torch.tensor([[49406, 320, 321, *[49407] * 74], [49406, 322, *[49407] * 75]])
    context, pooled = model.encode(ids)
    sizes = None if pooled is None else torch.tensor([[64.0, 64, 0, 0, 64, 64]]).expand(2, -1)
    return model.predict(rand(2, 4, 8, 8), torch.tensor([500, 20]), Conditioning(context, (), pooled, sizes))


@torch.no_grad()
def stir(grown: Grown, amount: float = 0.05) -> None:
    """Move every live tensor from where it began, as training would."""
    for n, parameter in enumerate(grown.parameters()):
        parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(n)), alpha=amount)


def gradients(model: Model, grown: Grown, ask: Callable[[Model], Tensor] = answer) -> list[Tensor | None]:
    """What each parameter would learn from one answer."""
    with grown.on():
        return list(torch.autograd.grad(ask(model).square().mean(), grown.parameters(), allow_unused=True))


@pytest.mark.parametrize("name", KINDS)
def test_it_begins_as_nothing_and_leaves_no_trace(sd1: Model, name: str) -> None:
    plain, before, forwards = answer(sd1), weights(sd1), {id(m) for m in sd1.unet.modules() if "forward" in vars(m)}
    grown = Grown(sd1, everywhere(sd1), KINDS[name])
    with grown.on():
        found = answer(sd1)
        stir(grown)
        assert not torch.allclose(answer(sd1), plain, atol=1e-4)
        with grown.off():
            assert torch.equal(answer(sd1), plain)
    if name in DECOMPOSED:
        torch.testing.assert_close(found, plain, atol=1e-5, rtol=1e-5)
    else:
        assert torch.equal(found, plain)
    assert torch.equal(answer(sd1), plain)
    assert weights(sd1) == before
    assert {id(m) for m in sd1.unet.modules() if "forward" in vars(m)} == forwards


@pytest.mark.parametrize("name", KINDS)
def test_gradients_reach_every_parameter_and_are_right(sd1: Model, name: str) -> None:
    """Right means: as those of the merged weights, which autograd finds by itself."""
    grown = Grown(sd1, everywhere(sd1), KINDS[name])
    stir(grown)
    found = gradients(sd1, grown)
    assert all(g is not None and bool(g.abs().sum() > 0) for g in found)
    merged = {}
    for growth in grown.growths.values():
        changes = growth.delta.change(growth.layer.module.weight, growth.layer.module.bias)
        merged |= {(growth.layer, key): change for key, change in zip(("weight", "bias"), changes, strict=True) if change is not None}
    states: dict[str, dict[str, Tensor]] = {"unet": {}, "text_encoder": {}}
    for (layer, key), change in merged.items():
        states[layer.part][f"{layer.path}.{key}"] = getattr(layer.module, key) + change

    class Whole(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.unet, self.text_encoder = sd1.unet, sd1.text_encoder

        def forward(self) -> Tensor:
            return answer(sd1)

    state = {f"{part}.{path}": tensor for part, tensors in states.items() for path, tensor in tensors.items()}
    out = torch.func.functional_call(Whole(), state, ())
    expected = torch.autograd.grad(out.square().mean(), grown.parameters())
    if name not in DECOMPOSED:
        for a, b in zip(found, expected, strict=True):
            torch.testing.assert_close(a, b, atol=1e-5 * float(b.abs().max()) + 1e-9, rtol=1e-3)
    with grown.on():
        torch.testing.assert_close(answer(sd1), out, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("family", "name"), [*(("sd1", name) for name in KINDS), *(("xl", name) for name in ("LoCon", "DoRA", "LoKr"))])
def test_a_file_of_it_does_the_same(request: pytest.FixtureRequest, tmp_path: Path, family: str, name: str) -> None:
    model: Model = request.getfixturevalue(family)
    grown = Grown(model, everywhere(model), KINDS[name])
    stir(grown)
    with grown.on(), torch.no_grad():
        live = answer(model)
    write_adapter(tmp_path / "a.safetensors", grown.adapter("a"), dtype=torch.float32)
    adapter = read_adapter(tmp_path / "a.safetensors")
    with worn(model, [Wear(adapter)]) as dressed, torch.no_grad():
        assert not dressed.warnings
        torch.testing.assert_close(answer(model), live, atol=1e-5, rtol=1e-4)
    again = Grown(model, everywhere(model), KINDS[name])
    again.load(adapter)
    with again.on(), torch.no_grad():
        assert torch.equal(answer(model), live)
    assert [p.shape for p in again.parameters()] == [p.shape for p in grown.parameters()]


def test_the_beginning_depends_on_the_seed_and_the_name_alone(sd1: Model) -> None:
    layers = layers_of(sd1)
    torch.manual_seed(1)
    first = Grown(sd1, layers, Recipe("LoHa", 4)).tensors()
    torch.manual_seed(2)
    second = Grown(sd1, layers[::-1], Recipe("LoHa", 4)).tensors()
    assert first.keys() == second.keys()
    assert all(torch.equal(first[key], second[key]) for key in first)
    other = Grown(sd1, layers, Recipe("LoHa", 4, seed=1)).tensors()
    assert not any(torch.equal(first[key], other[key]) for key in first if not key.endswith("w2_a"))
    down = Grown(sd1, layers[:1], Recipe(rank=64)).parameters()[0]
    assert float(down.detach().abs().max()) == pytest.approx(32**-0.5, rel=0.01)


def test_it_nests_with_what_else_is_put_on_a_model(sd1: Model) -> None:
    grown = Grown(sd1, everywhere(sd1), KINDS["LoCon"])
    stir(grown)
    other = Grown(sd1, layers_of(sd1), Recipe(rank=2, seed=5))
    stir(other)
    plain = answer(sd1)
    networks = {width: (nn.Linear(width, width), nn.Linear(width, width)) for width in (32, 64)}
    with worn(sd1, [Wear(grown.adapter("a")), Wear(other.adapter("b"))]), hooked(sd1, networks, lambda: 0.5):
        expected = answer(sd1)
    with worn(sd1, [Wear(grown.adapter("a"))]), other.on(), hooked(sd1, networks, lambda: 0.5):
        torch.testing.assert_close(answer(sd1), expected, atol=1e-5, rtol=1e-4)
    with hooked(sd1, networks, lambda: 0.5), grown.on(), other.on():
        torch.testing.assert_close(answer(sd1), expected, atol=1e-5, rtol=1e-4)
        assert all(g is not None for g in torch.autograd.grad(answer(sd1).sum(), [*grown.parameters(), *other.parameters()]))
    assert torch.equal(answer(sd1), plain)


@pytest.mark.parametrize("name", ["LoCon with a core", "LoHa", "LoKr", "DoRA"])
def test_dropout_comes_out_the_same_again(sd1: Model, name: str) -> None:
    recipe = Recipe(**{**vars(KINDS[name]), "dropout": 0.3, "rank_dropout": 0.2, "module_dropout": 0.1})
    grown, again = Grown(sd1, everywhere(sd1), recipe), Grown(sd1, everywhere(sd1), recipe)
    stir(grown)
    stir(again)
    grown.at(7)
    again.at(7)
    plain = gradients(sd1, grown)
    torch.manual_seed(3)
    computed_again = gradients(sd1, grown, lambda model: checkpoint(answer, model, use_reentrant=False, preserve_rng_state=False))
    resumed = gradients(sd1, again)
    for a, b, c in zip(plain, computed_again, resumed, strict=True):
        assert a is None or (torch.equal(a, b) and torch.equal(a, c))
    with grown.on(), torch.no_grad():
        seventh = answer(sd1)
        with grown.still():
            whole = answer(sd1)
        grown.at(8)
        assert not torch.allclose(answer(sd1), seventh, atol=1e-5)
        assert not torch.allclose(whole, seventh, atol=1e-5)
    with worn(sd1, [Wear(grown.adapter("a"))]), torch.no_grad():
        torch.testing.assert_close(answer(sd1), whole, atol=1e-5, rtol=1e-4)


def test_pictures_in_portions_leave_out_the_same(sd1: Model) -> None:
    grown = Grown(sd1, everywhere(sd1, text=False), Recipe(rank=4, dropout=0.4, rank_dropout=0.2))
    stir(grown)
    context, x, t = rand(4, 77, 32), rand(4, 4, 8, 8), torch.tensor([3, 400, 50, 900])
    with grown.on(), torch.no_grad():
        whole = sd1.predict(x, t, Conditioning(context))
        halves = [sd1.predict(x[half], t[half], Conditioning(context[half])) for half in (slice(0, 2), slice(2, 4))]
    torch.testing.assert_close(torch.cat(halves), whole, atol=1e-5, rtol=1e-4)


def test_ranks_by_block(sd1: Model) -> None:
    layers = layers_of(sd1, "full", convolutions=True)
    grown = Grown(sd1, layers, Recipe(rank=8, conv_rank=4), {"BASE": 0, "IN01": 0.5, "M00": 2, "OUT00": 0})
    for layer in layers:
        expected = {"BASE": 0, "IN01": 0.5, "M00": 2, "OUT00": 0}.get(layer.block, 1) * (4 if is_spatial(layer.module) else 8)
        assert (grown.growths[layer.name].delta.rank if layer.name in grown.growths else 0) == expected
    assert {growth.layer.part for growth in grown.growths.values()} == {"unet"}
    again = Grown(sd1, layers, Recipe(rank=2))
    again.load(grown.adapter("a"))
    assert {name: growth.delta.rank for name, growth in again.growths.items() if name in grown.growths} == {name: growth.delta.rank for name, growth in grown.growths.items()}
    with pytest.raises(InputError, match="No layer"):
        Grown(sd1, layers, Recipe(), dict.fromkeys((layer.block for layer in layers), 0))


def test_going_on_keeps_what_is_not_trained(sd1: Model) -> None:
    whole = Grown(sd1, layers_of(sd1), Recipe(rank=2))
    stir(whole)
    with whole.on(), torch.no_grad():
        expected = answer(sd1)
    part = Grown(sd1, layers_of(sd1, text=False), Recipe(rank=2))
    part.load(whole.adapter("a"))
    assert len(part.parameters()) == 2 * len(layers_of(sd1, text=False))
    with part.on(), torch.no_grad():
        torch.testing.assert_close(answer(sd1), expected)
    assert part.adapter("b").modules.keys() == whole.growths.keys()
    decomposed = Grown(sd1, layers_of(sd1), Recipe(rank=2, dora=True))
    decomposed.load(whole.adapter("a"))
    with decomposed.on(), torch.no_grad():
        torch.testing.assert_close(answer(sd1), expected, atol=1e-5, rtol=1e-4)


def test_what_does_not_fit_is_said(sd1: Model, xl: Model) -> None:
    lora, loha = (Grown(sd1, layers_of(sd1), recipe).adapter("a") for recipe in (Recipe(rank=2), Recipe("LoHa", 2)))
    with pytest.raises(InputError, match="is a LoHa, but what is trained is a LoRA"):
        Grown(sd1, layers_of(sd1), Recipe()).load(loha)
    with pytest.raises(InputError, match="Stable Diffusion 1"):
        Grown(xl, layers_of(xl), Recipe()).load(lora)
    with pytest.raises(InputError, match="does not fit the checkpoint, at lora_unet"):
        Grown(made(context=40), layers_of(made(context=40)), Recipe()).load(lora)
    with pytest.raises(InputError, match="Nothing in 'a' fits"):
        Grown(sd1, layers_of(sd1), Recipe()).load(Adapter("a", {"elsewhere": next(iter(lora.modules.values()))}))


def test_half_precision_learns_in_full(sd1: Model) -> None:
    model = made()
    for part in (model.unet, *model.text_encoders):
        part.to(torch.bfloat16)
    model.dtype = torch.bfloat16
    for name in ("LoCon", "DoRA", "LoHa", "LoKr", "IA3"):
        grown = Grown(model, layers_of(model, "full", convolutions=True), KINDS[name])
        stir(grown)
        found = gradients(model, grown)
        assert all(p.dtype == g.dtype == torch.float32 and bool(torch.isfinite(g).all()) for p, g in zip(grown.parameters(), found, strict=True))
        with grown.on(), torch.no_grad():
            live = answer(model).float()
        with worn(model, [Wear(grown.adapter("a"))]), torch.no_grad():
            torch.testing.assert_close(answer(model).float(), live, atol=0.05, rtol=0.05)


@pytest.mark.parametrize(
    ("config", "recipe"), [("LoraConfig", Recipe(rank=4, alpha=2, conv_rank=4, conv_alpha=2)), ("LoHaConfig", Recipe("LoHa", 4, 2)), ("LoKrConfig", Recipe("LoKr", 4, 4, factor=4))]
)
def test_pefts_own_layers_with_the_same_numbers(config: str, recipe: Recipe) -> None:
    """Same answers and same gradients, layer by layer."""
    import peft

    model = made()
    layers = layers_of(model, "full", text=False, convolutions=True)
    grown = Grown(model, layers, recipe)
    stir(grown)
    found = gradients(model, grown)
    with grown.on(), torch.no_grad():
        live = answer(model)
    sizes = {"r": 4, ("lora_alpha" if config == "LoraConfig" else "alpha"): recipe.alpha}
    if config == "LoKrConfig":
        sizes["decompose_factor"] = 4
    names = {layer.path: layer.name for layer in layers}
    theirs = made()
    theirs.unet = peft.inject_adapter_in_model(getattr(peft, config)(target_modules=list(names), **sizes), theirs.unet)
    matched = {}
    for path, module in theirs.unet.named_modules():
        if path in names:
            for ours in ("lora_down", "lora_up", "hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b", "lokr_w1", "lokr_w2", "lokr_w2_a", "lokr_w2_b"):
                tensor = grown.growths[names[path]].delta.tensors.get(ours)
                if tensor is None:
                    continue
                held = getattr(module, {"lora_down": "lora_A", "lora_up": "lora_B"}.get(ours, ours))["default"]
                held = held.weight if isinstance(held, nn.Module) else held
                with torch.no_grad():
                    held.copy_(tensor.reshape(held.shape))
                matched[id(tensor)] = held
    parameters = [matched[id(p)] for p in grown.parameters()]
    with torch.no_grad():
        torch.testing.assert_close(answer(theirs), live, atol=1e-5, rtol=1e-5)
    expected = torch.autograd.grad(answer(theirs).square().mean(), parameters)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b.reshape(a.shape), atol=1e-5 * float(b.abs().max()) + 1e-9, rtol=1e-3)


def test_the_small_world_is_not_touched(sd1: Model) -> None:
    assert torch.equal(predicted(sd1), predicted(made()))
