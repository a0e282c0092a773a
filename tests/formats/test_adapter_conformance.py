"""Files of every kind and family against the format as it is described, and against what lycoris-lora and diffusers with peft make of them.

Which layers a file has, what they are called and what shapes their tensors have is worked out here from the published architectures by the class names of
their modules, as kohya's trainer does, at full size and without numbers. What a file means is asked of the programs that own the format, on small networks.
"""

import copy
import io
import json
import re
import zlib
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from studio.diffusion.adapters import Wear, worn
from studio.diffusion.families import SD1, SD2, SDXL
from studio.diffusion.growing import Grown, Recipe
from studio.diffusion.model import Model
from studio.diffusion.targets import layers_of
from studio.formats.adapter import Adapter, family_of, read_adapter
from studio.formats.adapter_metadata import adapter_metadata
from studio.formats.adapter_writing import adapter_tensors, write_adapter
from studio.formats.delta import Delta, kind_of
from studio.formats.provenance import Provenance
from tests.diffusion.small import made

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
    """A small square and a large one, factored where the rank saves half."""
    if max(w[:2]) // FACTOR <= 2 * RANK:
        return lokr_full(w)
    return {"lokr_w1": (FACTOR, FACTOR), "lokr_w2_a": (w[0] // FACTOR, RANK), "lokr_w2_b": (RANK, area(w) // FACTOR), "alpha": ()}


def lokr_full(w: Shape) -> dict[str, Shape]:
    """A small square and a large one, both whole."""
    return {"lokr_w1": (FACTOR, FACTOR), "lokr_w2": (w[0] // FACTOR, w[1] // FACTOR, *w[2:]), "alpha": ()}


def ia3(w: Shape) -> dict[str, Shape]:
    """One factor for every output: a linear layer's as a plain vector, a convolution's beside its other axes. Where they are for inputs the shape comes reversed."""
    return {"weight": (w[0],) if len(w) == 2 else (1, w[0], 1, 1), "on_input": ()}


KINDS: dict[str, Callable[[Shape], dict[str, Shape]]] = {
    "LoRA": low_rank, "LoCon": low_rank, "Tucker": tucker, "DoRA": dora, "LoHa": loha, "LoKr": lokr, "LoKr full": lokr_full, "IA3": ia3,
}  # fmt: skip
RECIPES = {
    "LoRA": Recipe("LoRA", RANK, ALPHA),
    "LoCon": Recipe("LoRA", RANK, ALPHA),
    "Tucker": Recipe("LoRA", RANK, ALPHA, tucker=True),
    "DoRA": Recipe("LoRA", RANK, ALPHA, dora=True),
    "LoHa": Recipe("LoHa", RANK, ALPHA),
    "LoKr": Recipe("LoKr", RANK, ALPHA, factor=FACTOR),
    "IA3": Recipe("IA3"),
}
"""What is trained at full size; a whole difference would need the memory of a whole network."""
LINEAR_ONLY = {"LoRA", "IA3"}


def learned(shapes: dict[str, Shape], make: Callable[[str, Shape], Tensor], alpha: float = ALPHA) -> Delta:
    """What is handed to the writer for a layer whose tensors have these shapes in a file."""
    tensors = {key.removesuffix(".weight"): make(key, shape) for key, shape in shapes.items() if key != "alpha"}
    kind = kind_of(frozenset(tensors))
    assert kind is not None
    return Delta(kind, tensors, alpha if "alpha" in shapes else None)


def shapes_of(kind: str, layer: nn.Module, name: str = "") -> dict[str, Shape]:
    """The tensors of a layer's change; none where the kind has nothing for it."""
    shape = tuple(layer.weight.shape)
    if kind == "Norm" or isinstance(layer, nn.LayerNorm | nn.GroupNorm):
        return {"w_norm": shape, "b_norm": shape} if kind == "Norm" and len(shape) == 1 else {}
    if kind == "Full":
        return {"diff": shape} | ({} if layer.bias is None else {"diff_b": tuple(layer.bias.shape)})
    if kind == "IA3" and len(shape) > 2:  # A1111 cannot apply it to a convolution
        return {}
    return KINDS[kind](shape[::-1] if kind == "IA3" and name.endswith(("_ff_net_2", "_mlp_fc2")) else shape)


@pytest.mark.parametrize("family", UNETS)
def test_the_layers_of_a_published_network_are_those_that_kohya_names(family: str) -> None:
    model = published(family)
    names = {layer.name: layer.module for layer in layers_of(model)}
    assert names == expected(model, False)
    assert {start: sum(name.startswith(start) for name in names) for start in COUNTS[family]} == COUNTS[family]
    assert sum(COUNTS[family].values()) == len(names)
    assert {layer.name: layer.module for layer in layers_of(model, "full", convolutions=True)} == expected(model, True)


@pytest.mark.parametrize("kind", RECIPES)
@pytest.mark.parametrize("family", UNETS)
def test_a_file_of_a_published_network_has_the_keys_shapes_and_facts_of_its_format(family: str, kind: str) -> None:
    model, convolutions = published(family), kind not in LINEAR_ONLY
    grown = Grown(model, layers_of(model, "full" if convolutions else "attention+MLP", convolutions=convolutions), RECIPES[kind])
    adapter = Adapter("x", {name: growth.delta for name, growth in grown.growths.items()})
    listing = {key: tuple(tensor.shape) for key, tensor in adapter_tensors(adapter).items()}
    assert listing == {f"{name}.{part}": shape for name, layer in expected(model, convolutions).items() for part, shape in shapes_of(kind, layer, name).items()}
    assert list(listing) == sorted(listing)
    assert not [key for key in listing if "." in key.partition(".")[0] or key.count(".") > 2]
    fields = adapter_metadata(adapter, Provenance(name="x", family=family))
    args = json.loads(fields["ss_network_args"])
    assert fields["ss_network_module"] == ("networks.lora" if kind in ("LoRA", "LoCon") else "lycoris.kohya")
    assert args.get("algo") == {"LoRA": None, "LoCon": None, "Tucker": "locon", "DoRA": "locon"}.get(kind, kind.lower())
    assert (fields.get("ss_network_dim"), fields.get("ss_network_alpha")) == ((None, None) if kind == "IA3" else (str(RANK), str(ALPHA)))
    assert (args.get("conv_dim"), args.get("conv_alpha")) == ((str(RANK), str(ALPHA)) if convolutions else (None, None))
    if kind not in ("IA3", "LoKr"):  # these do not show how wide a layer's input is
        assert family_of({name: {part: tuple(t.shape) for part, t in delta.tensors.items()} for name, delta in adapter.modules.items()}, {}) == family


@pytest.mark.parametrize("family", UNETS)
def test_text_encoders_keep_text_model_in_their_names_whatever_transformers_calls_them(family: str) -> None:
    """transformers from 5.6 on flatten CLIPTextModel: without its prefix every interface passes over the layers."""
    model = published(family)
    assert any(not path.startswith("text_model") and "layers.0" in path for path, _ in model.text_encoders[0].named_modules())
    names = [layer.name for layer in layers_of(model) if layer.part != "unet"]
    prefixes = r"lora_te[12]_" if family == "SDXL" else r"lora_te_"
    assert [name for name in names if not re.fullmatch(prefixes + r"text_model_encoder_layers_\d+_(self_attn_(q|k|v|out)_proj|mlp_fc[12])", name)] == []


def numbers(name: str) -> Callable[[str, Shape], Tensor]:
    """Random numbers for the tensors of a layer, other ones for another layer; magnitudes are positive."""

    def make(key: str, shape: Shape) -> Tensor:
        drawn = torch.randn(shape, generator=torch.Generator().manual_seed(zlib.crc32(f"{name}.{key}".encode()))) * 0.1
        return torch.tensor(name.endswith(("_ff_net_2", "_mlp_fc2"))) if key == "on_input" else 1 + drawn.abs() if key == "dora_scale" else drawn

    return make


@cache
def small(family: str) -> Model:
    """A small random network, whose weights nothing here may change."""
    return made(SDXL, 40) if family == "SDXL" else made()


def written(path: Path, model: Model, kind: str, alpha: float = ALPHA) -> Adapter:
    """A file of one kind over every layer of a model, as the studio writes and reads it."""
    layers = layers_of(model, "full", convolutions=kind not in LINEAR_ONLY, norms=True)
    shapes = {layer.name: found for layer in layers if (found := shapes_of(kind, layer.module, layer.name))}
    write_adapter(path, Adapter("x", {name: learned(found, numbers(name), alpha) for name, found in shapes.items()}), Provenance(name="x", family=model.family.name))
    return read_adapter(path)


def weights(model: Model) -> dict[str, Tensor]:
    """Copies of all weights of the networks that an adapter changes."""
    return {f"{n}.{key}": value.clone() for n, part in enumerate((model.unet, *model.text_encoders)) for key, value in part.state_dict().items()}


def ours(model: Model, adapter: Adapter) -> dict[str, Tensor]:
    """The weights as the studio wears a file."""
    with worn(model, [Wear(adapter)]) as dressed:
        assert dressed.missing == {"x": ()}
        return weights(model)


def assert_same(theirs: dict[str, Tensor], mine: dict[str, Tensor], plain: dict[str, Tensor], adapter: Adapter) -> None:
    """Every weight within 1e-5 of the other program's, and every layer of the file really changed."""
    assert theirs.keys() == mine.keys()
    assert max(float((theirs[key].float() - mine[key].float()).abs().max()) for key in mine) < 1e-5
    assert sum(not torch.equal(mine[key], plain[key]) for key in mine if key.endswith(".weight")) == len(adapter.modules)


class Tree(nn.Module):
    """The same layers under the names that kohya's trainer has for them."""

    def __init__(self, layers: dict[str, nn.Module]) -> None:
        super().__init__()
        for path, layer in layers.items():
            self.add_module(path, layer)


def lycoris_merges(model: Model, file: Path) -> None:
    """Let lycoris-lora find and merge a file's layers by its own rules; SDXL's UNet has the original names there, as in kohya's trainer."""
    from lycoris.utils import merge

    several, layers = len(model.text_encoders) > 1, layers_of(model, "full", convolutions=True, norms=True)
    roots = {part: Tree({}) for part in ("unet", "text_encoder", "text_encoder_2")}
    for layer in layers:
        prefix = {"unet": "lora_unet_", "text_encoder": f"lora_te{'1' if several else ''}_", "text_encoder_2": "lora_te2_"}[layer.part]
        roots[layer.part].add_module(layer.name.removeprefix(prefix), layer.module)
    with redirect_stdout(io.StringIO()) as told:
        merge([roots["text_encoder"], roots["text_encoder_2"]][: len(model.text_encoders)], roots["unet"], load_file(file))
    assert "Unused state dict key: {}" in told.getvalue()


@pytest.mark.parametrize(("family", "kind"), [*(("SD1", kind) for kind in ("LoCon", "Tucker", "LoHa", "LoKr", "LoKr full", "Full", "Norm")), ("SDXL", "LoCon"), ("SDXL", "Norm")])
def test_lycoris_makes_the_same_weights_of_a_file(tmp_path: Path, family: str, kind: str) -> None:
    """With alpha as large as the rank where lycoris-lora's merge scales twice, unlike its training: see the next test."""
    model = small(family)
    adapter, theirs = written(tmp_path / "x.safetensors", model, kind, RANK if kind in ("LoHa", "LoKr") else ALPHA), copy.deepcopy(model)
    lycoris_merges(theirs, tmp_path / "x.safetensors")
    assert_same(weights(theirs), ours(model, adapter), weights(model), adapter)


@pytest.mark.parametrize("kind", ["LoHa", "LoKr"])
def test_lycoris_trains_with_the_same_weights_as_a_file_says(tmp_path: Path, kind: str) -> None:
    """What a layer answers with in training is W + its change; the merge of lycoris-lora 4.1 multiplies these two kinds by alpha / rank a second time."""
    from lycoris.modules import get_module, make_module

    model = small("SD1")
    adapter, theirs, tensors = written(tmp_path / "x.safetensors", model, kind), copy.deepcopy(model), load_file(tmp_path / "x.safetensors")
    for layer in layers_of(theirs, "full", convolutions=True):
        found, parameters = get_module(tensors, layer.name)
        module = make_module(found, parameters, layer.name, layer.module)
        with torch.no_grad():
            layer.module.weight += module.get_weight(layer.module.weight.shape)
    assert_same(weights(theirs), ours(model, adapter), weights(model), adapter)


@pytest.mark.parametrize("kind", ["DoRA", "IA3"])
def test_lycoris_makes_the_same_weights_of_what_its_own_loader_cannot_find(tmp_path: Path, kind: str) -> None:
    """Its modules are asked directly: its loader of (IA)3 is handed one value too many, and that of DoRA takes every magnitude for one of outputs, its default, while files hold inputs'."""
    from lycoris.modules.ia3 import IA3Module
    from lycoris.modules.locon import LoConModule

    model = small("SD1")
    adapter, theirs = written(tmp_path / "x.safetensors", model, kind), copy.deepcopy(model)
    tensors = load_file(tmp_path / "x.safetensors")
    for layer in layers_of(theirs, "full", convolutions=True):
        state = {key.removeprefix(layer.name + "."): tensor.float() for key, tensor in tensors.items() if key.startswith(layer.name + ".")}
        if state and kind == "IA3":
            module = IA3Module(layer.name, layer.module, train_on_input=bool(state["on_input"]))
        elif state:
            module = LoConModule(layer.name, layer.module, 1, RANK, float(state["alpha"]), weight_decompose=True, wd_on_out=False)
        else:
            continue
        module.load_state_dict(state)
        with torch.no_grad():
            module.merge_to(1.0)
    assert_same(weights(theirs), ours(model, adapter), weights(model), adapter)


@pytest.mark.parametrize("family", ["SD1", "SDXL"])
def test_diffusers_with_peft_makes_the_same_weights_of_a_file(tmp_path: Path, family: str) -> None:
    """Alpha is not the rank, so it must be read as it was stored. DoRA and LyCORIS's kinds are not compared: diffusers leaves `dora_scale` out and takes none of the others."""
    from diffusers import DDIMScheduler, StableDiffusionPipeline, StableDiffusionXLPipeline

    model = small(family)
    adapter, theirs = written(tmp_path / "x.safetensors", model, "LoCon"), copy.deepcopy(model)
    parts = dict(zip(("text_encoder", "text_encoder_2"), theirs.text_encoders, strict=False))
    tokenizers = {name.replace("text_encoder", "tokenizer"): None for name in parts}
    checks = {} if family == "SDXL" else {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
    pipeline = (StableDiffusionXLPipeline if family == "SDXL" else StableDiffusionPipeline)(
        vae=theirs.vae, unet=theirs.unet, scheduler=DDIMScheduler(steps_offset=1, clip_sample=False), **parts, **tokenizers, **checks
    )
    pipeline.load_lora_weights(tmp_path / "x.safetensors")
    pipeline.fuse_lora(components=["unet", *parts])
    pipeline.unload_lora_weights()
    assert_same(weights(theirs), ours(model, adapter), weights(model), adapter)
