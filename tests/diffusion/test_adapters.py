"""Adapters on a model: what they change, that they leave no trace, and what is refused."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from studio.cancellation import Stopped, stoppable
from studio.diffusion.adapters import Wear, worn
from studio.diffusion.families import SD2
from studio.diffusion.model import Model
from studio.errors import InputError
from studio.formats.adapter import Adapter, read_adapter
from studio.formats.keys import levels_of, unet_table
from studio.formats.kohya_keys import kohya_name
from tests.diffusion.small import kohya_file, lora_tensors, made, predicted, rand, weights


def merged(model: Model, adapter: Adapter, unet: float, te: float, tensors: dict[str, Tensor]) -> Tensor:
    """The same answer with every layer wrapped in its LoRA as a second path, strength by hand."""
    handles = []
    xl = len(model.text_encoders) > 1
    levels = levels_of([p for p, _ in model.unet.named_modules()])
    for part, module, strength in (("unet", model.unet, unet), *((n, e, te) for n, e in zip(("text_encoder", "text_encoder_2"), model.text_encoders, strict=False))):
        for path, layer in module.named_modules():
            name = kohya_name(xl, part, path, levels) if path else ""
            if f"{name}.lora_up.weight" in tensors:
                down, up, alpha = (tensors[f"{name}.{k}"] for k in ("lora_down.weight", "lora_up.weight", "alpha"))

                def second(layer: nn.Module, inputs: tuple, output: Tensor, down: Tensor = down, up: Tensor = up, scale: float = strength * float(alpha) / len(down)) -> Tensor:
                    if isinstance(layer, nn.Linear):
                        return output + scale * (inputs[0] @ down.T @ up.T)
                    return output + scale * nn.functional.conv2d(nn.functional.conv2d(inputs[0], down, None, layer.stride, layer.padding), up)

                handles.append(layer.register_forward_hook(second))
    try:
        return predicted(model)
    finally:
        for handle in handles:
            handle.remove()


@pytest.mark.parametrize(("te", "unet"), [(1.0, None), (0.7, 0.4), (0.0, 1.0), (1.0, 0.0), (-1.0, -0.5)])
def test_a_lora_is_a_second_path_beside_every_layer(sd1: Model, tmp_path: Path, te: float, unet: float | None) -> None:
    adapter = kohya_file(tmp_path / "x.safetensors", sd1, convolutions=True)
    tensors = {f"{name}.{part}{'.weight' if part != 'alpha' else ''}": t for name, d in adapter.modules.items() for part, t in {**d.tensors, "alpha": torch.tensor(d.alpha)}.items()}
    plain, before = predicted(sd1), weights(sd1)
    with worn(sd1, [Wear(adapter, te, unet)]) as dressed:
        found = predicted(sd1)
    assert dressed.missing == {"x": ()} and dressed.warnings == []
    assert torch.allclose(found, merged(sd1, adapter, te if unet is None else unet, te, tensors), atol=1e-5)
    assert (found - plain).abs().max() > 1e-3
    assert weights(sd1) == before and torch.equal(predicted(sd1), plain)


def test_sdxl_in_kohyas_names_reaches_every_layer(xl: Model, tmp_path: Path) -> None:
    adapter = kohya_file(tmp_path / "x.safetensors", xl, convolutions=True)
    assert any(name.startswith("lora_unet_input_blocks_4_1_transformer_blocks_0") for name in adapter.modules)
    assert any(name.startswith("lora_te2_text_model_encoder_layers_1_") for name in adapter.modules)
    plain, before = predicted(xl), weights(xl)
    with worn(xl, [Wear(adapter, 0.5)]) as dressed:
        assert dressed.missing == {"x": ()}
        assert (predicted(xl) - plain).abs().max() > 1e-3
    assert weights(xl) == before


def test_sdxl_in_diffusers_names_does_the_same(xl: Model, tmp_path: Path) -> None:
    kohya = kohya_file(tmp_path / "a.safetensors", xl)
    table = unet_table(levels_of([p for p, _ in xl.unet.named_modules()]))
    spelled = {f"lora_unet_{a}".replace(".", "_"): f"lora_unet_{b}".replace(".", "_") for a, b in table.items()}
    longest = sorted(spelled, key=len, reverse=True)

    def other(name: str) -> str:
        start = next((s for s in longest if name.startswith(s)), "")
        return spelled[start] + name.removeprefix(start) if start else name

    diffusers = Adapter("b", {other(name): delta for name, delta in kohya.modules.items()})
    assert sum(name.startswith("lora_unet_down_blocks_") for name in diffusers.modules) > 10
    with worn(xl, [Wear(kohya)]):
        one = predicted(xl)
    with worn(xl, [Wear(diffusers)]) as dressed:
        assert dressed.missing == {"b": ()} and torch.equal(predicted(xl), one)


def test_two_adapters_add_up_and_order_does_not_matter(sd1: Model, tmp_path: Path) -> None:
    one, two = (kohya_file(tmp_path / f"{seed}.safetensors", sd1, seed=seed) for seed in (1, 2))
    before = weights(sd1)
    weight = sd1.unet.mid_block.attentions[0].transformer_blocks[0].attn1.to_q.weight
    base = weight.detach().clone()
    changes = []
    for wears in ([Wear(one, 0.5)], [Wear(two, 2.0)], [Wear(one, 0.5), Wear(two, 2.0)], [Wear(two, 2.0), Wear(one, 0.5)]):
        with worn(sd1, wears):
            changes.append(weight.detach() - base)
    assert torch.allclose(changes[2], changes[0] + changes[1], atol=1e-6) and torch.allclose(changes[2], changes[3], atol=1e-6)
    assert weights(sd1) == before


def test_nested_blocks_add_up_and_come_off_one_by_one(sd1: Model, tmp_path: Path) -> None:
    one, two = (kohya_file(tmp_path / f"{seed}.safetensors", sd1, seed=seed) for seed in (1, 2))
    before = weights(sd1)
    with worn(sd1, [Wear(one)]):
        outer = weights(sd1)
        with worn(sd1, [Wear(two)]):
            assert weights(sd1) != outer
        assert weights(sd1) == outer
    assert weights(sd1) == before


def test_no_adapter_changes_nothing(sd1: Model) -> None:
    before = weights(sd1)
    with worn(sd1, []):
        assert weights(sd1) == before


def test_a_failure_inside_leaves_no_trace(sd1: Model, tmp_path: Path) -> None:
    adapter, before = kohya_file(tmp_path / "x.safetensors", sd1), weights(sd1)
    with pytest.raises(RuntimeError, match="stop"), worn(sd1, [Wear(adapter)]):
        assert weights(sd1) != before
        raise RuntimeError("stop")
    assert weights(sd1) == before


@pytest.mark.parametrize("inference", [True, False])
def test_it_may_be_put_on_in_inference_mode(sd1: Model, tmp_path: Path, inference: bool) -> None:
    adapter, before = kohya_file(tmp_path / "x.safetensors", sd1), weights(sd1)
    with torch.inference_mode(inference), worn(sd1, [Wear(adapter)]):
        assert (sd1.unet.mid_block.attentions[0].proj_in.weight != 0).any()
    assert weights(sd1) == before
    loss = sd1.unet.mid_block.attentions[0].transformer_blocks[0].attn1.to_q(rand(1, 64).requires_grad_()).sum()
    loss.backward()  # the weights can still be trained through


def test_half_precision_comes_back_bit_by_bit(tmp_path: Path) -> None:
    model = made()
    adapter = kohya_file(tmp_path / "x.safetensors", model)
    model.unet.half()
    before = weights(model)
    with worn(model, [Wear(adapter)]):
        assert all(p.dtype == torch.float16 for p in model.unet.parameters()) and weights(model) != before
    assert weights(model) == before


def test_a_model_that_changes_its_precision_meanwhile_has_its_own_weights_afterwards(tmp_path: Path) -> None:
    model = made()
    adapter = kohya_file(tmp_path / "x.safetensors", model)
    expected = {k: v.double() for k, v in model.unet.state_dict().items()}
    with worn(model, [Wear(adapter)]):
        model.unet.double()
    assert all(torch.equal(v, expected[k]) and v.dtype == torch.float64 for k, v in model.unet.state_dict().items())


def test_adapters_are_switched_one_by_one_and_only_where_something_changes(sd1: Model, tmp_path: Path) -> None:
    early, late = (kohya_file(tmp_path / f"{seed}.safetensors", sd1, seed=seed) for seed in (1, 2))
    part = kohya_file(tmp_path / "part.safetensors", sd1, seed=3, only="lora_unet_mid_block")
    plain, before = predicted(sd1), weights(sd1)
    expected = {(): plain}
    for places in ((0,), (1,), (0, 1), (0, 2)):
        with worn(sd1, [[Wear(early), Wear(late, 0.5), Wear(part)][place] for place in places]):
            expected[places] = predicted(sd1)
    with worn(sd1, [Wear(early), Wear(late, 0.5), Wear(part)], ()) as dressed:
        assert weights(sd1) == before and dressed.text_places == {0, 1}
        for places in ((0,), (1,), (), (0, 1), (0, 2), (0,), (), (1,)):
            dressed.select(places)
            assert torch.equal(predicted(sd1), expected[places]), places
        dressed.select((0,), text=True)
        text = weights(sd1)
        dressed.select((0,), text=False)
        assert torch.equal(predicted(sd1), expected[0,])
        unet = weights(sd1)
        assert {key for key in text if text[key] != unet[key]} <= {key for key in text if key.startswith("0.")}
        dressed.select((0, 2))
        assert {key for key, value in weights(sd1).items() if value != unet[key]} == {key for key in unet if key.startswith("0.mid_block") and unet[key] != before[key]}, "other layers are not touched"
    assert weights(sd1) == before


def test_a_stop_is_heard_between_layers_and_leaves_no_trace(sd1: Model, tmp_path: Path) -> None:
    adapter, before = kohya_file(tmp_path / "x.safetensors", sd1), weights(sd1)
    asked: list[int] = []

    def stopping() -> bool:
        asked.append(1)
        return len(asked) > 5

    with pytest.raises(Stopped), stoppable(stopping), worn(sd1, [Wear(adapter)]):
        raise AssertionError("it was stopped")
    assert len(asked) == 6 and weights(sd1) == before
    with worn(sd1, [Wear(adapter)], ()) as dressed:
        with pytest.raises(Stopped), stoppable(lambda: len(asked) > 9 or asked.append(1)):
            dressed.select()
        assert 0 < sum(weights(sd1)[key] != value for key, value in before.items()) <= 4
    assert weights(sd1) == before


def block_of_change(model: Model, adapter: Adapter, lbw: str) -> set[str]:
    """Paths of the UNet's parameters that change, and TE when a text encoder does."""
    before = {k: v.clone() for k, v in model.unet.state_dict().items()}
    text = {k: v.clone() for k, v in model.text_encoders[0].state_dict().items()}
    with worn(model, [Wear(adapter, lbw=lbw)]):
        changed = {k for k, v in model.unet.state_dict().items() if not torch.equal(v, before[k])}
        return changed | ({"TE"} if any(not torch.equal(v, text[k]) for k, v in model.text_encoders[0].state_dict().items()) else set())


@pytest.mark.parametrize(
    ("weights_text", "roots"),
    [
        ("NONE", ()),
        ("1" + ",0" * 16, ("TE",)),
        ("0,1" + ",0" * 15, ("down_blocks.0.resnets.0.", "down_blocks.0.attentions.0.")),
        ("0,0,1" + ",0" * 14, ("down_blocks.0.resnets.1.", "down_blocks.0.attentions.1.")),
        ("0" + ",0" * 6 + ",1" + ",0" * 9, ("mid_block.resnets.0.", "mid_block.attentions.0.", "mid_block.resnets.1.")),
        ("0" + ",0" * 14 + ",1" + ",0" * 10, ("up_blocks.0.resnets.1.", "up_blocks.0.attentions.1.")),
        ("0,0,1" + ",0" * 23, ("down_blocks.0.resnets.0.", "down_blocks.0.attentions.0.")),
        ("0,0,0,0,1" + ",0" * 21, ("down_blocks.0.downsamplers.",)),
        ("inall", ("TE", "down_blocks.")),
    ],
)
def test_block_weights_reach_their_block_and_no_other(sd1: Model, tmp_path: Path, weights_text: str, roots: tuple[str, ...]) -> None:
    changed = block_of_change(sd1, kohya_file(tmp_path / "x.safetensors", sd1, convolutions=True), weights_text)
    assert all(any(name.startswith(root) for name in changed) for root in roots), sorted(changed)
    assert all(name.startswith(roots) for name in changed), sorted(changed)


def test_block_weights_scale(sd1: Model, tmp_path: Path) -> None:
    adapter = kohya_file(tmp_path / "x.safetensors", sd1)
    weight = sd1.unet.mid_block.attentions[0].transformer_blocks[0].attn1.to_q.weight
    base = weight.detach().clone()
    with worn(sd1, [Wear(adapter, 1.0, 0.5)]):
        half = weight.detach() - base
    with worn(sd1, [Wear(adapter, 1.0, 1.0, {"M00": 0.5})]):
        assert torch.allclose(weight.detach() - base, half, atol=1e-6)


@pytest.mark.parametrize("text", ["1,1", "0.5" + ",1" * 11, "nonsense", "a" + ",1" * 16, "nan" + ",1" * 16])
def test_block_weights_that_are_none_are_refused(sd1: Model, tmp_path: Path, text: str) -> None:
    adapter, before = kohya_file(tmp_path / "x.safetensors", sd1), weights(sd1)
    with pytest.raises(InputError, match="block weight"), worn(sd1, [Wear(adapter, lbw=text)]):
        pass
    assert weights(sd1) == before


def test_layers_without_a_place_are_counted_and_the_others_worn(sd1: Model, tmp_path: Path) -> None:
    adapter = kohya_file(tmp_path / "x.safetensors", sd1)
    strange = {"lora_unet_down_blocks_7_attentions_0_proj_in": next(iter(adapter.modules.values()))}
    plain = predicted(sd1)
    with worn(sd1, [Wear(Adapter("x", {**adapter.modules, **strange}, unknown=("noise",)))]) as dressed:
        assert dressed.missing == {"x": ("lora_unet_down_blocks_7_attentions_0_proj_in", "noise")}
        assert dressed.warnings == ["2 layers of the LoRA 'x' found no place in small.safetensors (the first: lora_unet_down_blocks_7_attentions_0_proj_in)."]
        assert not torch.allclose(predicted(sd1), plain)


def test_an_adapter_of_another_family_is_refused_by_name(sd1: Model, xl: Model, tmp_path: Path) -> None:
    for model, adapter, words in (
        (sd1, Adapter("x", {}, family="SDXL"), r"'x' was made for SDXL, but small\.safetensors is Stable Diffusion 1\."),
        (xl, Adapter("x", {}, family="SD1"), r"'x' was made for Stable Diffusion 1, but small\.safetensors is SDXL\."),
        (sd1, Adapter("x", {}, family="Flux"), "'x' was made for Flux"),
    ):
        before = weights(model)
        with pytest.raises(InputError, match=words), worn(model, [Wear(adapter)]):
            pass
        assert weights(model) == before


def test_an_adapter_none_of_whose_layers_has_a_place_is_refused(sd1: Model, xl: Model, tmp_path: Path) -> None:
    adapter = kohya_file(tmp_path / "x.safetensors", xl, only="lora_te2")
    assert adapter.family == "SDXL"
    bare = Adapter("x", adapter.modules)
    with pytest.raises(InputError, match="was made for another kind of checkpoint"), worn(sd1, [Wear(bare)]):
        pass


def test_layers_of_another_width_are_refused_with_their_shapes_and_leave_no_trace(sd1: Model, tmp_path: Path) -> None:
    other = made(SD2, 48)
    adapter, before = kohya_file(tmp_path / "x.safetensors", other), weights(sd1)
    with pytest.raises(InputError, match=r"'x' does not fit small\.safetensors, at lora_.*do not fit a layer of shape"), worn(sd1, [Wear(adapter)]):
        pass
    assert weights(sd1) == before


@pytest.mark.parametrize("strength", [float("nan"), float("inf")])
def test_a_strength_that_is_no_number_is_refused(sd1: Model, tmp_path: Path, strength: float) -> None:
    adapter = kohya_file(tmp_path / "x.safetensors", sd1)
    with pytest.raises(InputError, match="finite number"), worn(sd1, [Wear(adapter, 1.0, strength)]):
        pass


def test_a_strength_beyond_what_the_precision_holds_is_told(tmp_path: Path) -> None:
    model = made()
    adapter = kohya_file(tmp_path / "x.safetensors", model)
    model.unet.half()
    before = weights(model)
    with pytest.raises(InputError, match="no longer finite"), worn(model, [Wear(adapter, 0.0, 1e9)]):
        pass
    assert weights(model) == before


def test_embeddings_that_fit_come_with_the_adapter(sd1: Model, tmp_path: Path) -> None:
    tensors = lora_tensors("lora_unet_mid_block_attentions_0_proj_in", sd1.unet.mid_block.attentions[0].proj_in)
    save_file({**tensors, "bundle_emb.hero.string_to_param.*": torch.ones(2, 32), "bundle_emb.wide.string_to_param.*": torch.ones(2, 33)}, tmp_path / "x.safetensors")
    with worn(sd1, [Wear(read_adapter(tmp_path / "x.safetensors"))]) as dressed:
        assert {name: tuple(v.shape) for name, v in dressed.words.items()} == {"hero": (2, 32)}
        assert dressed.warnings == ["The embedding 'wide' in the LoRA 'x' was left out: its vectors have width 33, but small.safetensors needs 32."]


def test_half_of_an_sdxl_embedding_is_named_with_the_part_that_is_missing(xl: Model, tmp_path: Path) -> None:
    tensors = lora_tensors("lora_unet_mid_block_attentions_0_proj_in", xl.unet.mid_block.attentions[0].proj_in)
    halves = {"bundle_emb.both.clip_l": torch.ones(2, 16), "bundle_emb.both.clip_g": torch.ones(2, 24), "bundle_emb.l.clip_l": torch.ones(2, 16), "bundle_emb.g.clip_g": torch.ones(2, 24)}
    save_file({**tensors, **halves}, tmp_path / "x.safetensors")
    with worn(xl, [Wear(read_adapter(tmp_path / "x.safetensors"))]) as dressed:
        assert {name: tuple(v.shape) for name, v in dressed.words.items()} == {"both": (2, 40)}
        assert [(sentence.split("'")[1], sentence.rpartition("(")[2]) for sentence in dressed.warnings] == [("g", "clip_l is missing)."), ("l", "clip_g is missing).")]
