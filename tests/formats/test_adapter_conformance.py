"""Files of every kind and family against the format as it is described, and against what lycoris-lora and diffusers with peft make of them.

Which layers a file has, what they are called and what shapes their tensors have is worked out here from the published architectures by the class names of
their modules, as kohya's trainer does, at full size and without numbers. What a file means is asked of the programs that own the format, on small networks.
"""

import json
import re
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from studio.diffusion.families import SD1, SD2, SDXL
from studio.diffusion.model import Model
from studio.diffusion.targets import layers_of
from studio.formats.adapter import Adapter, family_of
from studio.formats.adapter_metadata import adapter_metadata
from studio.formats.adapter_writing import adapter_tensors
from studio.formats.delta import Delta, kind_of
from studio.formats.provenance import Provenance

RANK, ALPHA, FACTOR = 4, 3.0, 4
UNETS: dict[str, dict[str, Any]] = {
    "SD1": {"cross_attention_dim": 768, "attention_head_dim": 8},
    "SD2": {"cross_attention_dim": 1024, "attention_head_dim": (5, 10, 20, 20), "use_linear_projection": True},
    "SDXL": {
        "cross_attention_dim": 2048,
        "attention_head_dim": (5, 10, 20),
        "use_linear_projection": True,
        "block_out_channels": (320, 640, 1280),
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        "transformer_layers_per_block": (1, 2, 10),
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 256,
        "projection_class_embeddings_input_dim": 2816,
    },
}
TEXTS = {"SD1": [(768, 12)], "SD2": [(1024, 23)], "SDXL": [(768, 12), (1280, 32)]}
"""Width and layers of each published text encoder, as far as it is used."""
COUNTS = {"SD1": {"lora_unet_": 192, "lora_te_": 72}, "SD2": {"lora_unet_": 192, "lora_te_": 138}, "SDXL": {"lora_unet_": 722, "lora_te1_": 72, "lora_te2_": 192}}


@cache
def published(family: str) -> Model:
    """A family's networks at full size, without numbers."""
    from diffusers import UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    with torch.device("meta"):
        unet, texts = UNet2DConditionModel(**UNETS[family]), []
        for number, (width, layers) in enumerate(TEXTS[family]):
            config = CLIPTextConfig(hidden_size=width, intermediate_size=4 * width, num_hidden_layers=layers, num_attention_heads=width // 64, projection_dim=width)
            texts.append((CLIPTextModelWithProjection if number else CLIPTextModel)(config))
    return Model({"SD1": SD1, "SD2": SD2, "SDXL": SDXL}[family], "published", "", unet, nn.Module(), tuple(texts), {"beta_start": 0.00085, "beta_end": 0.012}, torch.device("meta"), torch.float32)


INSIDE = {"norm1": "in_layers_0", "conv1": "in_layers_2", "time_emb_proj": "emb_layers_1", "norm2": "out_layers_0", "conv2": "out_layers_3", "conv_shortcut": "skip_connection"}


def sgm(path: str, levels: int) -> str:
    """SDXL's name of a UNet module in the original code, for two residual blocks on each level (three on the way up)."""
    if found := re.fullmatch(r"(down|up)_blocks\.(\d+)\.(resnets|attentions|downsamplers|upsamplers)\.(\d+)\.(.+)", path):
        way, i, kind, j, rest = found[1], int(found[2]), found[3], int(found[4]), found[5]
        if kind == "downsamplers":
            return f"input_blocks_{3 * (i + 1)}_0_op"
        if kind == "upsamplers":
            return f"output_blocks_{3 * i + 2}_2_conv"
        block = f"input_blocks_{3 * i + j + 1}" if way == "down" else f"output_blocks_{3 * i + j}"
        return f"{block}_0_{INSIDE[rest]}" if kind == "resnets" else f"{block}_1_{rest}"
    kind, j, rest = re.fullmatch(r"mid_block\.(resnets|attentions)\.(\d)\.(.+)", path).groups()  # type: ignore[union-attr]
    return f"middle_block_{2 * int(j)}_{INSIDE[rest]}" if kind == "resnets" else f"middle_block_1_{rest}"


def trained(root: nn.Module, classes: set[str]) -> Iterator[tuple[str, nn.Module]]:
    """Linear layers and convolutions inside modules of these classes."""
    for path, block in root.named_modules():
        if type(block).__name__ in classes:
            yield from ((f"{path}.{inner}", layer) for inner, layer in block.named_modules() if isinstance(layer, nn.Linear | nn.Conv2d))


def expected(model: Model, convolutions: bool) -> dict[str, nn.Module]:
    """Every layer that kohya's trainer teaches, by its name in the file."""
    several = len(model.text_encoders) > 1
    found = {}
    for path, layer in trained(model.unet, {"Transformer2DModel", *({"ResnetBlock2D", "Downsample2D", "Upsample2D"} if convolutions else ())}):
        found["lora_unet_" + (sgm(path, len(model.unet.down_blocks)) if several else path).replace(".", "_")] = layer
    for number, encoder in enumerate(model.text_encoders, 1):
        for path, layer in trained(encoder, {"CLIPAttention", "CLIPSdpaAttention", "CLIPMLP"}):
            found[f"lora_te{number if several else ''}_text_model_" + path.removeprefix("text_model.").replace(".", "_")] = layer
    return found


Shape = tuple[int, ...]


def low_rank(w: Shape) -> dict[str, Shape]:
    """LoRA and LoCon: down like the weight with the rank for its rows, up 1x1."""
    return {"lora_down.weight": (RANK, *w[1:]), "lora_up.weight": (w[0], RANK, *[1] * (len(w) - 2)), "alpha": ()}


def tucker(w: Shape) -> dict[str, Shape]:
    """LoCon with a core for what is 3x3."""
    if w[2:] in ((), (1, 1)):
        return low_rank(w)
    return {"lora_down.weight": (RANK, w[1], 1, 1), "lora_mid.weight": (RANK, RANK, *w[2:]), "lora_up.weight": (w[0], RANK, 1, 1), "alpha": ()}


def dora(w: Shape) -> dict[str, Shape]:
    """DoRA on the input axis."""
    return {**low_rank(w), "dora_scale": (1, w[1], *[1] * (len(w) - 2))}


def area(w: Shape) -> int:
    """How many numbers one output of a layer sees."""
    return torch.Size(w[1:]).numel()


def loha(w: Shape) -> dict[str, Shape]:
    """Two pairs over the flattened weight."""
    return {**{f"hada_w{n}_{side}": (w[0], RANK) if side == "a" else (RANK, area(w)) for n in "12" for side in "ab"}, "alpha": ()}


def lokr(w: Shape) -> dict[str, Shape]:
    """A small square and a factored large one."""
    return {"lokr_w1": (FACTOR, FACTOR), "lokr_w2_a": (w[0] // FACTOR, RANK), "lokr_w2_b": (RANK, area(w) // FACTOR), "alpha": ()}


def lokr_full(w: Shape) -> dict[str, Shape]:
    """A small square and a large one, both whole."""
    return {"lokr_w1": (FACTOR, FACTOR), "lokr_w2": (w[0] // FACTOR, w[1] // FACTOR, *w[2:]), "alpha": ()}


def ia3(w: Shape) -> dict[str, Shape]:
    """One factor for every output: a linear layer's as a plain vector, a convolution's beside its other axes."""
    return {"weight": (w[0],) if len(w) == 2 else (1, w[0], 1, 1), "on_input": ()}


def full(w: Shape) -> dict[str, Shape]:
    """The difference itself."""
    return {"diff": w, "diff_b": (w[0],)}


KINDS: dict[str, Callable[[Shape], dict[str, Shape]]] = {
    "LoRA": low_rank, "LoCon": low_rank, "Tucker": tucker, "DoRA": dora, "LoHa": loha, "LoKr": lokr, "LoKr full": lokr_full, "IA3": ia3, "Full": full,
}  # fmt: skip
LINEAR_ONLY = {"LoRA", "IA3"}


def learned(shapes: dict[str, Shape], make: Callable[[str, Shape], Tensor]) -> Delta:
    """What is handed to the writer for a layer whose tensors have these shapes in a file."""
    tensors = {key.removesuffix(".weight"): make(key, shape) for key, shape in shapes.items() if key != "alpha"}
    kind = kind_of(frozenset(tensors))
    assert kind is not None
    return Delta(kind, tensors, ALPHA if "alpha" in shapes else None)


def blank(key: str, shape: Shape) -> Tensor:
    """A tensor without numbers."""
    return torch.zeros(shape, dtype=torch.bool if key == "on_input" else torch.float32, device="cpu" if key == "on_input" else "meta")


@pytest.mark.parametrize("family", UNETS)
def test_the_layers_of_a_published_network_are_those_that_kohya_names(family: str) -> None:
    model = published(family)
    names = {layer.name: layer.module for layer in layers_of(model)}
    assert names == expected(model, False)
    assert {start: sum(name.startswith(start) for name in names) for start in COUNTS[family]} == COUNTS[family]
    assert sum(COUNTS[family].values()) == len(names)
    assert {layer.name: layer.module for layer in layers_of(model, "full", convolutions=True)} == expected(model, True)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("family", UNETS)
def test_a_file_of_a_published_network_has_the_keys_shapes_and_facts_of_its_format(family: str, kind: str) -> None:
    model, convolutions = published(family), kind not in LINEAR_ONLY
    layers = layers_of(model, "full" if convolutions else "attention+MLP", convolutions=convolutions)
    adapter = Adapter("x", {layer.name: learned(KINDS[kind](tuple(layer.module.weight.shape)), blank) for layer in layers})
    listing = {key: tuple(tensor.shape) for key, tensor in adapter_tensors(adapter).items()}
    assert listing == {f"{name}.{part}": shape for name, layer in expected(model, convolutions).items() for part, shape in KINDS[kind](tuple(layer.weight.shape)).items()}
    assert list(listing) == sorted(listing)
    assert not [key for key in listing if "." in key.partition(".")[0] or key.count(".") > 2]
    fields = adapter_metadata(adapter, Provenance(name="x", family=family))
    args = json.loads(fields["ss_network_args"])
    assert fields["ss_network_module"] == ("networks.lora" if kind in ("LoRA", "LoCon") else "lycoris.kohya")
    assert args.get("algo") == {"LoRA": None, "LoCon": None, "Tucker": "locon", "DoRA": "locon", "LoKr full": "lokr"}.get(kind, kind.lower())
    assert fields.get("ss_network_dim") == {"IA3": None, "Full": None, "LoKr full": "100000"}.get(kind, str(RANK))
    assert args.get("conv_dim") == (str(RANK) if convolutions and kind not in ("LoKr full", "Full") else None)
    if kind not in ("IA3", "Full"):  # what carries no shape of the layer's input does not show the family
        assert family_of({name: {part: tuple(t.shape) for part, t in delta.tensors.items()} for name, delta in adapter.modules.items()}, {}) in (family, None)


@pytest.mark.parametrize("family", UNETS)
def test_text_encoders_keep_text_model_in_their_names_whatever_transformers_calls_them(family: str) -> None:
    """transformers from 5.6 on flatten CLIPTextModel: without its prefix every interface passes over the layers."""
    model = published(family)
    assert any(not path.startswith("text_model") and "layers.0" in path for path, _ in model.text_encoders[0].named_modules())
    names = [layer.name for layer in layers_of(model) if layer.part != "unet"]
    prefixes = r"lora_te[12]_" if family == "SDXL" else r"lora_te_"
    assert [name for name in names if not re.fullmatch(prefixes + r"text_model_encoder_layers_\d+_(self_attn_(q|k|v|out)_proj|mlp_fc[12])", name)] == []
