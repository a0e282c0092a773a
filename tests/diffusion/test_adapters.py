"""Adapters on a model: what they change, that they leave no trace, and what is refused."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from studio.diffusion.adapters import Wear, worn
from studio.diffusion.families import SD1, SD2, SDXL
from studio.diffusion.model import Conditioning, Model
from studio.errors import InputError
from studio.formats.adapter import Adapter, read_adapter
from studio.formats.keys import levels_of, unet_table
from studio.formats.kohya_keys import kohya_name


def made(family: object = SD1, context: int = 32, **changes: object) -> Model:
    """A small random model: two levels, attention in both; SDXL's has two text encoders and two transformer blocks."""
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    torch.manual_seed(0)
    xl = family is SDXL
    unet = UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(32, 64),
        layers_per_block=2,
        cross_attention_dim=context,
        attention_head_dim=8,
        norm_num_groups=8,
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        **({"addition_embed_type": "text_time", "addition_time_embed_dim": 8, "projection_class_embeddings_input_dim": 8 * 6 + 24, "use_linear_projection": True} if xl else {}),
    )
    vae = AutoencoderKL(block_out_channels=(32,), norm_num_groups=8, latent_channels=4)
    encoders = []
    for width in (16, 24) if xl else (context,):
        config = CLIPTextConfig(vocab_size=49408, hidden_size=width, intermediate_size=2 * width, num_hidden_layers=2, num_attention_heads=2, projection_dim=24)
        encoders.append((CLIPTextModelWithProjection if xl and width == 24 else CLIPTextModel)(config))
    schedule = {"beta_start": 0.00085, "beta_end": 0.012}
    return Model(family, "small.safetensors", "0123456789", unet, vae, tuple(encoders), schedule, torch.device("cpu"), torch.float32)


@pytest.fixture(scope="module")
def sd1() -> Model:
    return made()


@pytest.fixture(scope="module")
def xl() -> Model:
    return made(SDXL, 40)


def rand(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed + sum(shape)))


def targets(module: nn.Module, convolutions: bool = False) -> dict[str, nn.Module]:
    """What kohya trains: the layers of attention and feed-forward, and with `convolutions` those of the resnets and samplers."""
    kinds = (nn.Linear, nn.Conv2d)
    return {
        path: layer
        for path, layer in module.named_modules()
        if isinstance(layer, kinds) and ("attentions." in path or "self_attn" in path or ".mlp." in path or (convolutions and (".resnets." in path or "samplers." in path)))
    }


def lora_tensors(name: str, layer: nn.Module, rank: int = 4, seed: int = 0) -> dict[str, Tensor]:
    """A LoRA of one layer in kohya's layout, alpha half the rank."""
    weight = layer.weight
    down = rand(rank, *weight.shape[1:], seed=seed) * 0.1
    up = rand(weight.shape[0], rank, *[1] * (weight.ndim - 2), seed=seed + 1) * 0.1
    return {f"{name}.lora_down.weight": down, f"{name}.lora_up.weight": up, f"{name}.alpha": torch.tensor(rank / 2)}


def kohya_file(path: Path, model: Model, *, seed: int = 0, convolutions: bool = False, only: str = "", **metadata: str) -> Adapter:
    """A file over all of a model's layers, named as kohya names them."""
    xl = len(model.text_encoders) > 1
    levels = levels_of([p for p, _ in model.unet.named_modules()])
    tensors: dict[str, Tensor] = {}
    for part, module in (("unet", model.unet), *zip(("text_encoder", "text_encoder_2"), model.text_encoders, strict=False)):
        for name, layer in targets(module, convolutions).items():
            spelled = kohya_name(xl, part, name, levels)
            if only in spelled:
                tensors |= lora_tensors(spelled, layer, seed=seed)
    save_file(tensors, path, metadata=metadata or None)
    return read_adapter(path)


def weights(model: Model) -> dict[str, tuple[int, bytes]]:
    """Every parameter's address and bytes."""
    parts = (model.unet, *model.text_encoders)
    return {f"{n}.{k}": (v.data_ptr(), v.detach().numpy().tobytes()) for n, part in enumerate(parts) for k, v in part.state_dict(keep_vars=True).items()}


def predicted(model: Model) -> Tensor:
    """The UNet's answer to one fixed question."""
    ids = torch.tensor([[49406, 320, 321, *[49407] * 74]])
    with torch.no_grad():
        context, pooled = (model.encode(ids)) if len(model.text_encoders) == 1 else (rand(1, 77, 40), rand(1, 24))
        sizes = torch.tensor([[64.0, 64, 0, 0, 64, 64]])
        return model.predict(rand(1, 4, 8, 8), torch.tensor(500), Conditioning(context, (), pooled, None if pooled is None else sizes))


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


def test_steps_at_which_an_adapter_is_on(sd1: Model, tmp_path: Path) -> None:
    early, late = (kohya_file(tmp_path / f"{seed}.safetensors", sd1, seed=seed, only="lora_unet") for seed in (1, 2))
    plain, before = predicted(sd1), weights(sd1)
    with worn(sd1, [Wear(early)]):
        first = predicted(sd1)
    with worn(sd1, [Wear(late)]):
        second = predicted(sd1)
    with worn(sd1, [Wear(early, stop=2), Wear(late, start=3)]) as dressed:
        answers = []
        for step in range(5):
            dressed.at(step)
            answers.append(predicted(sd1))
        dressed.at(0)
        assert torch.equal(predicted(sd1), first)
    for answer, expected in zip(answers, (first, first, plain, second, second), strict=True):
        assert torch.equal(answer, expected)
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


def peft_configs() -> dict[str, Callable[[], object]]:
    """One PEFT configuration per kind that a UNet takes."""
    peft = pytest.importorskip("peft")
    names = ["to_q", "to_k", "to_v", "to_out.0", "conv1"]
    linear = names[:-1]
    return {
        "lora": lambda: peft.LoraConfig(r=4, lora_alpha=2, target_modules=names, init_lora_weights=False),
        "rslora": lambda: peft.LoraConfig(r=4, lora_alpha=2, target_modules=names, init_lora_weights=False, use_rslora=True),
        "dora": lambda: peft.LoraConfig(r=4, lora_alpha=8, target_modules=names, init_lora_weights=False, use_dora=True),
        "loha": lambda: peft.LoHaConfig(r=4, alpha=2, target_modules=names, init_weights=False),
        "loha core": lambda: peft.LoHaConfig(r=4, alpha=2, target_modules=names, init_weights=False, use_effective_conv2d=True),
        "lokr": lambda: peft.LoKrConfig(r=2, alpha=1, target_modules=names, init_weights=False, decompose_both=True),
        "ia3": lambda: peft.IA3Config(target_modules=linear, feedforward_modules=["to_out.0"], init_ia3_weights=False),
    }


@pytest.fixture
def fresh() -> Iterator[Model]:
    yield made()


@pytest.mark.parametrize("kind", ["lora", "rslora", "dora", "loha", "loha core", "lokr", "ia3"])
def test_what_peft_trains_and_saves_looks_the_same_here(fresh: Model, tmp_path: Path, kind: str) -> None:
    from peft import get_peft_model_state_dict, inject_adapter_in_model

    plain, config = predicted(fresh), peft_configs()[kind]()
    injected = inject_adapter_in_model(config, fresh.unet)
    for name, parameter in injected.named_parameters():
        if "magnitude" in name:
            parameter.data *= 1.1
    theirs = predicted(fresh)
    state = get_peft_model_state_dict(injected)
    alpha = {key: getattr(config, key) for key in ("lora_alpha", "alpha", "r", "use_rslora") if hasattr(config, key)}
    save_file({f"base_model.model.{k}": v.contiguous() for k, v in state.items()}, tmp_path / "adapter_model.safetensors")
    (tmp_path / "adapter_config.json").write_text(json.dumps(alpha))
    model, adapter = made(), read_adapter(tmp_path / "adapter_model.safetensors")
    assert (theirs - plain).abs().max() > 1e-3
    with worn(model, [Wear(adapter)]) as dressed:
        assert dressed.missing == {"adapter_model": ()}
        assert torch.allclose(predicted(model), theirs, atol=2e-4)


def test_what_diffusers_saves_of_a_lora_looks_the_same_here(fresh: Model, tmp_path: Path) -> None:
    peft = pytest.importorskip("peft")
    from diffusers import StableDiffusionPipeline
    from diffusers.utils import convert_state_dict_to_diffusers
    from peft import get_peft_model_state_dict

    fresh.unet.add_adapter(peft.LoraConfig(r=4, lora_alpha=8, target_modules=["to_q", "to_k", "to_v", "to_out.0"], init_lora_weights=False, alpha_pattern={"to_k": 2}))
    theirs = predicted(fresh)
    layers = convert_state_dict_to_diffusers(get_peft_model_state_dict(fresh.unet))
    StableDiffusionPipeline.save_lora_weights(tmp_path, unet_lora_layers=layers, unet_lora_adapter_metadata=fresh.unet.peft_config["default"].to_dict())
    model = made()
    with worn(model, [Wear(read_adapter(next(tmp_path.glob("*.safetensors"))))]) as dressed:
        assert dressed.warnings == []
        assert torch.allclose(predicted(model), theirs, atol=1e-5)


def test_what_diffusers_reads_from_a_kohya_file_looks_the_same_here(sd1: Model, fresh: Model, tmp_path: Path) -> None:
    """Only convolutions and linear layers of the UNet: diffusers loses the alphas of the others, so alpha is the rank here."""
    from diffusers.loaders.lora_conversion_utils import _convert_non_diffusers_lora_to_diffusers

    adapter = kohya_file(tmp_path / "x.safetensors", sd1, only="lora_unet")
    tensors = {f"{n}.{part}{'' if part == 'alpha' else '.weight'}": t for n, d in adapter.modules.items() for part, t in {**d.tensors, "alpha": torch.tensor(float(d.rank or 0))}.items()}
    save_file(tensors, tmp_path / "y.safetensors")
    state, alphas = _convert_non_diffusers_lora_to_diffusers(dict(tensors))
    fresh.unet.load_lora_adapter(state, network_alphas=alphas, prefix="unet")
    theirs = predicted(fresh)
    with worn(sd1, [Wear(read_adapter(tmp_path / "y.safetensors"))]):
        assert torch.allclose(predicted(sd1), theirs, atol=1e-5)
