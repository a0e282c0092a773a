"""LoRA tools: what they write is, worn, what plain arithmetic says; baked weights are worn weights; what cannot be is said."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from studio.config import Config
from studio.diffusion.adapters import Wear, worn
from studio.diffusion.families import SDXL
from studio.diffusion.loading import save_model
from studio.diffusion.model import Model
from studio.errors import Conflict, InputError, NotFound
from studio.formats.adapter import read_adapter
from studio.formats.low_rank import factored, factored_product, rank_by
from studio.jobs import SilentLane
from studio.requests.tools import BakeLoraRequest, ExtractLoraRequest, MergeLoraRequest, ResizeLoraRequest
from studio.services import baking, extracting, joining, resizing
from studio.settings import Paths
from studio.worker import Bench
from tests.diffusion.small import kohya_file, made, rand, targets

NAMES = ("unet", "text_encoder", "text_encoder_2")


@pytest.fixture(scope="module")
def models() -> dict[str, Model]:
    return {"sd1": made(), "xl": made(SDXL, 40)}


@pytest.fixture(scope="module")
def shelf(models: dict[str, Model], tmp_path_factory: pytest.TempPathFactory) -> Paths:
    """The two checkpoints, LoRAs over all of their layers, and one of LyCORIS's kinds."""
    paths = Paths(tmp_path_factory.mktemp("tools")).prepare()
    for name, model in models.items():
        save_model(model, paths.checkpoints / f"{name}.safetensors", half=False)
        for seed, letter in enumerate("ab"):
            kohya_file(paths.lora / f"{name}-{letter}.safetensors", model, seed=seed, convolutions=True, ss_base_model_version={"sd1": "sd_v1", "xl": "sdxl_base_v1-0"}[name])
    odd = lyco(models["sd1"])
    save_file(odd, paths.lora / "odd.safetensors", metadata={"ss_base_model_version": "sd_v1"})
    return paths


def lyco(model: Model) -> dict[str, Tensor]:
    """LoHa on a linear layer, DoRA on another, a whole change with a bias, and a normalising layer."""
    stem, names = "lora_unet_down_blocks_0_attentions_0_", {}
    modules = dict(model.unet.named_modules())
    weight = modules["down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"].weight
    names |= {f"{stem}transformer_blocks_0_attn1_to_q.hada_w{n}_{s}": rand(*shape, seed=n) * 0.3 for n in (1, 2) for s, shape in (("a", (weight.shape[0], 2)), ("b", (2, weight.shape[1])))}
    dora = modules["down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_k"].weight
    key = f"{stem}transformer_blocks_0_attn1_to_k"
    names |= {f"{key}.lora_down.weight": rand(2, dora.shape[1]), f"{key}.lora_up.weight": rand(dora.shape[0], 2) * 0.1, f"{key}.dora_scale": dora.detach().norm(dim=0, keepdim=True) * 1.1}
    conv = modules["down_blocks.0.resnets.0.conv1"]
    names |= {"lora_unet_down_blocks_0_resnets_0_conv1.diff": rand(*conv.weight.shape) * 0.01, "lora_unet_down_blocks_0_resnets_0_conv1.diff_b": rand(*conv.bias.shape) * 0.01}
    norm = modules["down_blocks.0.resnets.0.norm1"]
    return names | {"lora_unet_down_blocks_0_resnets_0_norm1.w_norm": rand(*norm.weight.shape) * 0.1, "lora_unet_down_blocks_0_resnets_0_norm1.b_norm": rand(*norm.bias.shape) * 0.1}


def tensors(model: Model) -> dict[str, Tensor]:
    """Every weight of the UNet and of the text encoders."""
    parts = zip(NAMES, (model.unet, *model.text_encoders), strict=False)
    return {f"{name}.{key}": value.detach().clone() for name, part in parts for key, value in part.state_dict().items()}


def wearing(model: Model, *wears: Wear) -> dict[str, Tensor]:
    """Every weight while adapters are worn."""
    with worn(model, wears) as on:
        assert not on.warnings
        return tensors(model)


def close(found: dict[str, Tensor], wanted: dict[str, Tensor], atol: float = 2e-5) -> None:
    """The same weights."""
    assert found.keys() == wanted.keys()
    far = {key: float((found[key] - wanted[key]).abs().max()) for key in wanted if not torch.allclose(found[key], wanted[key], atol=atol)}
    assert not far


def done(service: object, request: Config, lane: SilentLane, paths: Paths) -> dict:
    """What a tool returns."""
    return service.run(request, lane, Bench(paths))


@pytest.mark.parametrize("kind", ["sd1", "xl"])
def test_merged_by_concatenation_they_do_what_both_do(shelf: Paths, models: dict[str, Model], lane: SilentLane, kind: str) -> None:
    request = MergeLoraRequest(loras=f"<lora:{kind}-a:0.7:0.4> <lora:{kind}-b:-0.5>", name=f"{kind}-sum", precision="float32")
    result = done(joining, request, lane, shelf)
    a, b = (read_adapter(shelf.lora / f"{kind}-{letter}.safetensors") for letter in "ab")
    close(wearing(models[kind], Wear(read_adapter(Path(result["path"])))), wearing(models[kind], Wear(a, 0.7, 0.4), Wear(b, -0.5)))
    assert result["rank"] == 8
    assert read_adapter(Path(result["path"])).family == {"sd1": "SD1", "xl": "SDXL"}[kind]


def test_by_svd_it_is_the_nearest_of_its_rank(shelf: Paths, models: dict[str, Model], lane: SilentLane) -> None:
    result = done(joining, MergeLoraRequest(loras="<lora:sd1-a:1><lora:sd1-b:0.5>", method="SVD", rank=3, name="cut", precision="float32"), lane, shelf)
    a, b = (read_adapter(shelf.lora / f"sd1-{letter}.safetensors") for letter in "ab")
    before, after = tensors(models["sd1"]), wearing(models["sd1"], Wear(a), Wear(b, 0.5))
    found = wearing(models["sd1"], Wear(read_adapter(Path(result["path"]))))
    for path in targets(models["sd1"].unet, True):
        key = f"unet.{path}.weight"
        left, values, right = torch.linalg.svd((after[key] - before[key]).flatten(1).double(), full_matrices=False)
        best = (left[:, :3] * values[:3] @ right[:3]).reshape(before[key].shape)
        assert torch.allclose((found[key] - before[key]).double(), best, atol=2e-5), key


def test_lycoris_is_merged_through_its_change_of_the_weights(shelf: Paths, models: dict[str, Model], lane: SilentLane) -> None:
    with pytest.raises(InputError, match="Choose the checkpoint"):
        done(joining, MergeLoraRequest(loras="<lora:odd:1>", name="no"), lane, shelf)
    request = MergeLoraRequest(loras="<lora:odd:0.5><lora:sd1-a:1>", checkpoint="sd1", rank=64, conv_rank=288, name="mixed", precision="float32")
    result = done(joining, request, lane, shelf)
    odd, a = (read_adapter(shelf.lora / f"{name}.safetensors") for name in ("odd", "sd1-a"))
    close(wearing(models["sd1"], Wear(read_adapter(Path(result["path"])))), wearing(models["sd1"], Wear(odd, 0.5), Wear(a)))
    assert any("not plain LoRA" in data["text"] for kind, data in lane.events if kind == "warning")


@pytest.mark.parametrize("kind", ["sd1", "xl"])
def test_what_is_baked_is_what_is_worn(shelf: Paths, models: dict[str, Model], lane: SilentLane, kind: str) -> None:
    odd = " <lora:odd:0.9>" if kind == "sd1" else ""
    numbers = "0,1,0.5" + ",1" * (9 if kind == "xl" else 14)
    request = BakeLoraRequest(checkpoint=kind, loras=f"<lora:{kind}-a:0.8:0.6>\n<lora:{kind}-b:-0.4:lbw={numbers}>{odd}", name=f"{kind}-baked")
    result = done(baking, request, lane, shelf)
    wears = [Wear(read_adapter(shelf.lora / f"{kind}-a.safetensors"), 0.8, 0.6), Wear(read_adapter(shelf.lora / f"{kind}-b.safetensors"), -0.4, lbw=numbers)]
    wears += [Wear(read_adapter(shelf.lora / "odd.safetensors"), 0.9)] if odd else []
    model = models[kind]
    with worn(model, wears):
        save_model(model, shelf.root / "wanted.safetensors", half=False)
    wanted, found = load_file(shelf.root / "wanted.safetensors"), load_file(result["path"])
    assert found.keys() == wanted.keys() and all(torch.equal(found[key], wanted[key]) for key in wanted)
    plain = load_file(shelf.checkpoints / f"{kind}.safetensors")
    assert sum(not torch.equal(plain[key], found[key]) for key in plain) > 50


@pytest.mark.parametrize("kind", ["sd1", "xl"])
def test_what_was_baked_is_extracted(shelf: Paths, models: dict[str, Model], lane: SilentLane, kind: str) -> None:
    done(baking, BakeLoraRequest(checkpoint=kind, loras=f"<lora:{kind}-a:0.8>", name=f"{kind}-tuned", overwrite=True), lane, shelf)
    request = ExtractLoraRequest(tuned=f"{kind}-tuned", original=kind, rank=4, conv_rank=4, min_difference=1e-6, name=f"{kind}-back", precision="float32")
    result = done(extracting, request, lane, shelf)
    a = read_adapter(shelf.lora / f"{kind}-a.safetensors")
    back = read_adapter(Path(result["path"]))
    assert back.modules.keys() == a.modules.keys() and result["kept"] > 0.999
    close(wearing(models[kind], Wear(back)), wearing(models[kind], Wear(a, 0.8)))
    narrow = done(extracting, request.model_copy(update={"text_encoder": False, "conv_rank": 0, "overwrite": True}), lane, shelf)
    assert {name.split("_")[1] for name in read_adapter(Path(narrow["path"])).modules} == {"unet"} and narrow["layers"] < result["layers"]


def test_text_layers_that_hardly_differ_are_told(shelf: Paths, lane: SilentLane) -> None:
    """Text encoders that learned little fall below a threshold that fits the UNet; that used to go unsaid."""
    done(baking, BakeLoraRequest(checkpoint="sd1", loras="<lora:sd1-a:0.001:1>", name="little-text", overwrite=True), lane, shelf)
    request = ExtractLoraRequest(tuned="little-text", original="sd1", rank=4, min_difference=0.01, name="unsaid", overwrite=True)
    result = done(extracting, request, lane, shelf)
    assert {name.split("_")[1] for name in read_adapter(Path(result["path"])).modules} == {"unet"}
    (warning,) = [data["text"] for kind, data in lane.events if kind == "warning" and "text encoder layers differ" in data["text"]]
    assert 'Lower "Least difference"' in warning
    (shelf.lora / "unsaid.safetensors").unlink()
    lane.events.clear()
    done(extracting, request.model_copy(update={"min_difference": 1e-7}), lane, shelf)
    assert not [data for kind, data in lane.events if kind == "warning"]
    (shelf.lora / "unsaid.safetensors").unlink()


def test_resized_to_its_own_rank_it_does_the_same(shelf: Paths, models: dict[str, Model], lane: SilentLane) -> None:
    result = done(resizing, ResizeLoraRequest(lora="sd1-a", rank=4, name="same", precision="float32"), lane, shelf)
    close(wearing(models["sd1"], Wear(read_adapter(Path(result["path"])))), wearing(models["sd1"], Wear(read_adapter(shelf.lora / "sd1-a.safetensors"))))
    assert (result["rank"], result["kept"]) == (4, 1.0) and result["report"][0].endswith("rank 4 -> 4, 100.0% kept")


def test_resized_by_a_share_it_keeps_that_share(shelf: Paths, lane: SilentLane) -> None:
    result = done(resizing, ResizeLoraRequest(lora="sd1-a", rank=4, method="Frobenius", target=0.9, name="share"), lane, shelf)
    a, cut = (read_adapter(path) for path in (shelf.lora / "sd1-a.safetensors", Path(result["path"])))
    for name, delta in a.modules.items():
        whole, part = (x.modules[name].change(torch.zeros(*delta.tensors["lora_up"].shape[:1], *delta.tensors["lora_down"].shape[1:]))[0].flatten(1) for x in (a, cut))
        values = torch.linalg.svdvals(whole.double())
        shares = (values.square().cumsum(0) / values.square().sum()).sqrt()
        rank = cut.modules[name].rank
        assert shares[rank - 1] >= 0.9 and (rank == 1 or shares[rank - 2] < 0.9)
        assert (part - whole).norm() / whole.norm() < (1 - 0.81) ** 0.5 + 1e-3
    assert cut.metadata["modelspec.merged_from"] == "sd1-a" and "Frobenius 0.9" in cut.metadata["ss_training_comment"]


@pytest.mark.parametrize("shape", [(6, 6), (5, 40), (40, 5)])
def test_singular_values_are_exact(shape: tuple[int, int]) -> None:
    matrix = rand(*shape)
    found = factored(matrix)
    assert torch.allclose(found.values.double(), torch.linalg.svdvals(matrix.double()), rtol=1e-5)
    assert torch.allclose(found.left * found.values @ found.right, matrix, atol=1e-5)
    up, down = rand(shape[0], 3), rand(3, shape[1])
    product = factored_product(up, down)
    assert torch.allclose(product.left * product.values @ product.right, up @ down, atol=1e-5) and len(product.values) == 3


def test_ranks_by_ratio_sum_and_norm() -> None:
    values = torch.tensor([8.0, 4.0, 2.0, 1.0, 0.5])
    assert [rank_by("Ratio", t)(values) for t in (3, 5, 100)] == [2, 3, 5]
    assert [rank_by("Cumulative", t)(values) for t in (0.5, 12 / 15.5, 0.99)] == [1, 2, 5]
    assert [rank_by("Frobenius", t)(values) for t in (0.5, 0.9, 0.999)] == [1, 2, 5]


@pytest.mark.parametrize(
    ("service", "request_", "error", "said"),
    [
        (joining, MergeLoraRequest(loras="<lora:sd1-a:1><lora:xl-a:1>", name="z"), InputError, "do not go together"),
        (joining, MergeLoraRequest(loras="sd1-a", name="z"), InputError, "is no LoRA"),
        (joining, MergeLoraRequest(loras="<lora:nowhere:1>", name="z"), NotFound, "no LoRA 'nowhere'"),
        (joining, MergeLoraRequest(loras="<lora:sd1-a:0>", name="z"), InputError, "all strengths are 0"),
        (joining, MergeLoraRequest(loras="<lora:sd1-a:1>", name="SD1-b"), Conflict, "could not tell"),
        (baking, BakeLoraRequest(checkpoint="xl", loras="<lora:sd1-a:1>", name="z"), InputError, "do not go together"),
        (extracting, ExtractLoraRequest(tuned="sd1", original="xl", name="z"), InputError, "of one family"),
        (extracting, ExtractLoraRequest(tuned="sd1", original="sd1", name="z"), InputError, "differ in no layer"),
        (resizing, ResizeLoraRequest(lora="sd1-a", method="Frobenius", target=2, name="z"), InputError, "no share"),
        (resizing, ResizeLoraRequest(lora="odd", name="z"), InputError, "Choose the checkpoint"),
    ],
)
def test_what_cannot_be_is_said(shelf: Paths, lane: SilentLane, service: object, request_: Config, error: type, said: str) -> None:
    with pytest.raises(error, match=said):
        done(service, request_, lane, shelf)
    assert not (shelf.lora / "z.safetensors").exists() and not (shelf.checkpoints / "z.safetensors").exists()


def test_stopped_they_leave_nothing(shelf: Paths, lane: SilentLane) -> None:
    lane.stop = True
    for service, request in (
        (joining, MergeLoraRequest(loras="<lora:sd1-a:1>", name="z")),
        (resizing, ResizeLoraRequest(lora="sd1-a", name="z")),
        (baking, BakeLoraRequest(checkpoint="sd1", loras="<lora:sd1-a:1>", name="z")),
        (extracting, ExtractLoraRequest(tuned="xl", original="xl", name="z")),
    ):
        before = sorted(p for p in shelf.models.rglob("*"))
        assert done(service, request, lane, shelf)["stopped"]
        assert sorted(p for p in shelf.models.rglob("*")) == before
