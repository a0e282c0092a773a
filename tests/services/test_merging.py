"""Merged checkpoints: plain arithmetic on the state dicts gives the same; what cannot be merged is said; nothing is half there."""

import hashlib
import json
import re
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from studio.errors import Conflict, InputError
from studio.jobs import SilentLane
from studio.requests.tools import MergeRequest
from studio.services.merging import presets, run
from studio.settings import Paths
from studio.worker import Bench
from tests.diffusion import originals


def state(name: str, seed: int) -> dict[str, Tensor]:
    """A small random checkpoint, without networks: noise in the shapes of its family."""
    kind = next(kind for kind in originals.KINDS if kind.name == name)
    with torch.device("meta"):
        shapes = originals.original(originals.assemble(kind))
    dice = torch.Generator().manual_seed(seed)
    return {k: torch.randn(v.shape, generator=dice) if v.is_floating_point() else torch.arange(v.numel()).reshape(v.shape) for k, v in shapes.items() if "token_embedding" not in k}


@pytest.fixture(scope="module")
def states() -> dict[str, dict[str, Tensor]]:
    """Three SD1 checkpoints, one for inpainting, and two SDXL ones."""
    return {"a": state("SD1", 1), "b": state("SD1", 2), "c": state("SD1", 3), "inpaint": state("SD1 inpainting", 4), "xa": state("SDXL", 5), "xb": state("SDXL", 6)}


@pytest.fixture(scope="module")
def files(states: dict[str, dict[str, Tensor]], tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The same as files."""
    folder = tmp_path_factory.mktemp("checkpoints")
    return [originals.write(folder / f"{name}.safetensors", tensors, {"modelspec.title": name, "of": name}) for name, tensors in states.items()]


@pytest.fixture
def bench(root: Paths, files: list[Path]) -> Bench:
    for file in files:
        (root.checkpoints / file.name).symlink_to(file)
    return Bench(root)


def merged(bench: Bench, lane: SilentLane, **values: object) -> dict[str, Tensor]:
    """What comes out of a merge."""
    return load_file(run(MergeRequest.check({"name": "out", **values}), lane, bench)["path"])


def same(found: dict[str, Tensor], wanted: dict[str, Tensor]) -> None:
    """Every tensor but the averages, which no longer fit, is as it should be."""
    wanted = {key: tensor for key, tensor in wanted.items() if not key.startswith("model_ema")}
    assert found.keys() == wanted.keys()
    for key, tensor in wanted.items():
        assert found[key].dtype == tensor.dtype and torch.allclose(found[key], tensor, atol=1e-6), key


def test_a_weighted_sum_is_the_mean_by_shares(bench: Bench, lane: SilentLane, states: dict) -> None:
    a, b = states["a"], states["b"]
    same(merged(bench, lane, primary="a", secondary="b", multiplier=0.25), {k: v * 0.75 + b[k] * 0.25 if v.is_floating_point() else v for k, v in a.items()})
    steps = [data for kind, data in lane.events if kind == "progress"]
    assert steps[-1]["step"] == steps[-1]["total"]


def test_a_difference_is_added(bench: Bench, lane: SilentLane, states: dict) -> None:
    a, b, c = states["a"], states["b"], states["c"]
    same(merged(bench, lane, method="Add difference", primary="a", secondary="b", tertiary="c", multiplier=0.5), {k: v + (b[k] - c[k]) * 0.5 if v.is_floating_point() else v for k, v in a.items()})


def test_an_inpainting_model_keeps_its_further_channels(bench: Bench, lane: SilentLane, states: dict) -> None:
    a, b = states["inpaint"], states["b"]
    first = "model.diffusion_model.input_blocks.0.0.weight"
    wanted = {k: v * 0.5 + b[k] * 0.5 if v.is_floating_point() and k != first else v for k, v in a.items()}
    wanted[first] = torch.cat([a[first][:, :4] * 0.5 + b[first] * 0.5, a[first][:, 4:]], 1)
    same(merged(bench, lane, primary="inpaint", secondary="b", multiplier=0.5), wanted)


def block_share(key: str, weights: list[float], sides: int) -> float:
    """SuperMerger's count of blocks once more, by hand: BASE, in, middle, out."""
    key = key.removeprefix("model.diffusion_model.")
    if match := re.match(r"input_blocks\.(\d+)", key):
        return weights[1 + int(match[1])]
    if match := re.match(r"output_blocks\.(\d+)", key):
        return weights[2 + sides + int(match[1])]
    return weights[1 + sides] if key.startswith("middle_block") else weights[-1] if key.startswith("out.") else weights[0]


@pytest.mark.parametrize(("pair", "sides"), [(("a", "b"), 12), (("xa", "xb"), 9)])
def test_weights_by_block(bench: Bench, lane: SilentLane, states: dict, pair: tuple[str, str], sides: int) -> None:
    a, b = (states[name] for name in pair)
    weights = [round(n / 40, 3) for n in range(2 * sides + 2)]
    wanted = {k: v + (b[k] - v) * block_share(k, weights, sides) if v.is_floating_point() else v for k, v in a.items()}
    same(merged(bench, lane, primary=pair[0], secondary=pair[1], blocks=",".join(map(str, weights))), wanted)


def test_presets_are_supermergers() -> None:
    grad = [float(n) for n in presets(False)["GRAD_V"].split(",")]
    assert (len(grad), grad[:3], grad[13], grad[-1]) == (26, [0.0, 1.0, 0.9166666667], 0.0, 1.0)
    assert presets(False)["WRAP08"] == ",".join(["0.0", *["1.0"] * 4, *["0.0"] * 17, *["1.0"] * 4])
    assert {len(text.split(",")) for text in presets(True).values()} == {20}


def test_precision_vae_and_discarding(bench: Bench, lane: SilentLane, states: dict) -> None:
    vae = {k.removeprefix("first_stage_model."): v + 1 for k, v in states["c"].items() if k.startswith("first_stage_model.")}
    originals.write(bench.paths.vae / "other.pt", vae)
    found = merged(bench, lane, method="No interpolation", primary="a", bake_in_vae="other", discard=r"^model_ema|alphas", precision="float16")
    assert found.keys() == {k for k in states["a"] if not k.startswith(("model_ema", "alphas"))}
    for key, tensor in found.items():
        wanted = vae.get(key.removeprefix("first_stage_model."), states["a"][key]) if key.startswith("first_stage_model.") else states["a"][key]
        assert torch.equal(tensor, wanted.half() if wanted.is_floating_point() else wanted), key


def test_the_file_says_what_it_is_made_of(bench: Bench, lane: SilentLane) -> None:
    merged(bench, lane, primary="a", secondary="b")
    result = run(MergeRequest(primary="out", secondary="c", method="Weighted sum", multiplier=0.5, name="second"), lane, bench)
    with safe_open(result["path"], "pt") as file:
        told = file.metadata()
    digests = {name: hashlib.sha256((bench.paths.checkpoints / f"{name}.safetensors").read_bytes()).hexdigest() for name in ("a", "b", "c", "out")}
    recipe, models = json.loads(told["sd_merge_recipe"]), json.loads(told["sd_merge_models"])
    assert (recipe["type"], recipe["interp_method"], recipe["multiplier"], recipe["primary_model_hash"]) == ("webui", "Weighted sum", 0.5, digests["out"])
    assert models.keys() == set(digests.values()) and models[digests["out"]]["sd_merge_recipe"]["secondary_model_hash"] == digests["b"]
    assert (told["modelspec.merged_from"], told["modelspec.title"], told["of"]) == ("out, c", "second", "a")
    data = Path(result["path"]).read_bytes()
    assert told["modelspec.hash_sha256"] == f"0x{hashlib.sha256(data[8 + int.from_bytes(data[:8], 'little') :]).hexdigest()}"


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"primary": "a", "secondary": "xb"}, "cannot be merged"),
        ({"primary": "a", "secondary": "inpaint"}, "inpainting model A"),
        ({"primary": "a"}, "missing: Secondary model"),
        ({"primary": "a", "secondary": "b", "method": "Add difference"}, "missing: Tertiary"),
        ({"primary": "a", "secondary": "b", "blocks": "1,2,3"}, "26 numbers|17 or 26"),
        ({"primary": "a", "secondary": "b", "discard": "("}, "not a valid regular expression"),
        ({"primary": "a", "secondary": "b", "discard": "."}, "matches everything"),
        ({"primary": "a", "secondary": "b", "discard": r"^(\w|\w\w|\.)+$(?<=!)"}, "takes too long on '"),
    ],
)
def test_what_cannot_be_is_said(bench: Bench, lane: SilentLane, values: dict, said: str) -> None:
    with pytest.raises(InputError, match=said):
        merged(bench, lane, **values)
    assert not (bench.paths.checkpoints / "out.safetensors").exists()


def test_a_nested_repeat_in_discard_does_not_freeze_the_merge(bench: Bench, lane: SilentLane, states: dict) -> None:
    same(merged(bench, lane, primary="a", secondary="b", multiplier=0.0, discard="([a-z0-9._]+)+!"), states["a"])  # `re` does not come back from this one


def test_nothing_is_overwritten_unasked_nor_left_half(bench: Bench, lane: SilentLane) -> None:
    there = bench.paths.checkpoints / "out.safetensors"
    there.write_bytes(b"mine")
    with pytest.raises(Conflict, match="exists already"):
        merged(bench, lane, primary="a", secondary="b")
    with pytest.raises(Conflict, match="made from"):
        merged(bench, lane, primary="a", secondary="b", name="b", overwrite=True)
    lane.stop = True
    before = set(bench.paths.checkpoints.iterdir())
    assert run(MergeRequest(primary="a", secondary="b", name="out", overwrite=True), lane, bench)["stopped"]
    assert there.read_bytes() == b"mine" and set(bench.paths.checkpoints.iterdir()) == before
