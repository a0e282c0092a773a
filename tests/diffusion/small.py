"""Small random models of each family, and LoRA files over all of their layers in kohya's layout."""

from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from studio.diffusion.families import SD1, SDXL
from studio.diffusion.model import Conditioning, Model
from studio.formats.adapter import Adapter, read_adapter
from studio.formats.keys import levels_of
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
