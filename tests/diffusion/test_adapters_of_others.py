"""What PEFT and diffusers train, save and read looks the same here."""

import json
from collections.abc import Callable
from pathlib import Path

import peft
import pytest
import torch
from safetensors.torch import save_file

from studio.diffusion.adapters import Wear, worn
from studio.diffusion.model import Model
from studio.formats.adapter import read_adapter
from tests.diffusion.small import kohya_file, made, predicted


def peft_configs() -> dict[str, Callable[[], object]]:
    """One PEFT configuration per kind that a UNet takes."""
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
def fresh() -> Model:
    return made()


@pytest.mark.parametrize("kind", ["lora", "rslora", "dora", "loha", "loha core", "lokr", "ia3"])
def test_what_peft_trains_and_saves_looks_the_same_here(fresh: Model, tmp_path: Path, kind: str) -> None:
    plain, config = predicted(fresh), peft_configs()[kind]()
    injected = peft.inject_adapter_in_model(config, fresh.unet)
    for name, parameter in injected.named_parameters():
        if "magnitude" in name:
            parameter.data *= 1.1
    theirs = predicted(fresh)
    state = peft.get_peft_model_state_dict(injected)
    alpha = {key: getattr(config, key) for key in ("lora_alpha", "alpha", "r", "use_rslora") if hasattr(config, key)}
    save_file({f"base_model.model.{k}": v.contiguous() for k, v in state.items()}, tmp_path / "adapter_model.safetensors")
    (tmp_path / "adapter_config.json").write_text(json.dumps(alpha))
    model, adapter = made(), read_adapter(tmp_path / "adapter_model.safetensors")
    assert (theirs - plain).abs().max() > 1e-3
    with worn(model, [Wear(adapter)]) as dressed:
        assert dressed.missing == {"adapter_model": ()}
        assert torch.allclose(predicted(model), theirs, atol=2e-4)


def test_what_diffusers_saves_of_a_lora_looks_the_same_here(fresh: Model, tmp_path: Path) -> None:
    from diffusers import StableDiffusionPipeline
    from diffusers.utils import convert_state_dict_to_diffusers

    fresh.unet.add_adapter(peft.LoraConfig(r=4, lora_alpha=8, target_modules=["to_q", "to_k", "to_v", "to_out.0"], init_lora_weights=False, alpha_pattern={"to_k": 2}))
    theirs = predicted(fresh)
    layers = convert_state_dict_to_diffusers(peft.get_peft_model_state_dict(fresh.unet))
    StableDiffusionPipeline.save_lora_weights(tmp_path, unet_lora_layers=layers, unet_lora_adapter_metadata=fresh.unet.peft_config["default"].to_dict())
    model = made()
    with worn(model, [Wear(read_adapter(next(tmp_path.glob("*.safetensors"))))]) as dressed:
        assert dressed.warnings == []
        assert torch.allclose(predicted(model), theirs, atol=1e-5)


def test_what_diffusers_reads_from_a_kohya_file_looks_the_same_here(fresh: Model, tmp_path: Path) -> None:
    """Only convolutions and linear layers of the UNet: diffusers loses the alphas of the others, so alpha is the rank here."""
    from diffusers.loaders.lora_conversion_utils import _convert_non_diffusers_lora_to_diffusers

    model = made()
    adapter = kohya_file(tmp_path / "x.safetensors", model, only="lora_unet")
    tensors = {f"{n}.{part}{'' if part == 'alpha' else '.weight'}": t for n, d in adapter.modules.items() for part, t in {**d.tensors, "alpha": torch.tensor(float(d.rank or 0))}.items()}
    save_file(tensors, tmp_path / "y.safetensors")
    state, alphas = _convert_non_diffusers_lora_to_diffusers(dict(tensors))
    fresh.unet.load_lora_adapter(state, network_alphas=alphas, prefix="unet")
    theirs = predicted(fresh)
    with worn(model, [Wear(read_adapter(tmp_path / "y.safetensors"))]):
        assert torch.allclose(predicted(model), theirs, atol=1e-5)
