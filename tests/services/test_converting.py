"""Converted checkpoints: there and back bit for bit, read by diffusers itself, pruned of what nothing uses."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from studio.diffusion.loading import load_model
from studio.errors import Conflict
from studio.jobs import SilentLane
from studio.requests.tools import ConvertRequest
from studio.services.converting import run
from studio.settings import Paths
from studio.worker import Bench
from tests.diffusion import originals

KINDS = {kind.name: kind for kind in originals.KINDS}


def converted(root: Paths, lane: SilentLane, **values: object) -> Path:
    """Where the result lies."""
    return Path(run(ConvertRequest.check(values), lane, Bench(root))["path"])


@pytest.mark.parametrize("name", ["SD1", "SD2 v", "SDXL inpainting"])
def test_there_and_back_every_tensor_is_the_same(root: Paths, lane: SilentLane, name: str) -> None:
    kind = KINDS[name]
    state = originals.original(originals.make(kind), half=name == "SDXL inpainting")
    file = originals.write(root.checkpoints / "it.ckpt", state)
    (root.checkpoints / "it.yaml").write_text("parameterization: v\n" if kind.metadata else "x: y\n")
    folder = converted(root, lane, checkpoint=file.name, layout="Diffusers folder", prune=False, name="folder")
    back = load_file(converted(root, lane, checkpoint="folder", prune=False, name="back"))
    assert back.keys() == state.keys()
    assert all(torch.equal(back[key], state[key]) and back[key].dtype == state[key].dtype for key in state)
    if kind.metadata:
        one, two = (load_model(path, torch.device("cpu"), torch.float32) for path in (file, folder))
        assert one.family is two.family and one.prediction_type == two.prediction_type == "v_prediction"
        for a, b in zip((one.unet, one.vae, *one.text_encoders), (two.unet, two.vae, *two.text_encoders), strict=True):
            assert all(torch.equal(value, b.state_dict()[key]) for key, value in a.state_dict().items())


def test_diffusers_reads_the_folder_and_paints_the_same(root: Paths, lane: SilentLane) -> None:
    from diffusers import StableDiffusionPipeline

    parts = originals.make(KINDS["SD1"])
    originals.write(root.checkpoints / "it.safetensors", originals.original(parts))
    folder = converted(root, lane, checkpoint="it", layout="Diffusers folder", name="folder")
    pipeline = StableDiffusionPipeline.from_pretrained(folder, safety_checker=None, local_files_only=True)
    x, t, c = torch.randn(1, 4, 16, 16), torch.tensor([500]), torch.randn(1, 77, 32)
    with torch.no_grad():
        assert torch.allclose(pipeline.unet(x, t, c).sample, parts.unet(x, t, c).sample, atol=1e-5)
        assert torch.allclose(pipeline.vae.decode(x).sample, parts.vae.decode(x).sample, atol=1e-5)
        ids = pipeline.tokenizer("a monster", padding="max_length", max_length=77, return_tensors="pt").input_ids
        assert ids.shape == (1, 77) and torch.allclose(pipeline.text_encoder(ids).last_hidden_state, parts.texts[0](ids).last_hidden_state, atol=1e-5)
    assert json.loads((folder / "model_index.json").read_text())["_class_name"] == "StableDiffusionPipeline"


def test_pruning_precision_and_averages(root: Paths, lane: SilentLane) -> None:
    state = originals.original(originals.make(KINDS["SD1"]))
    key = "model.diffusion_model.out.2.bias"
    state[f"model_ema.{key.removeprefix('model.').replace('.', '')}"] = torch.full_like(state[key], 7.0)
    state["optimizer.exp_avg"] = torch.randn(4)
    originals.write(root.checkpoints / "it.safetensors", state, {"kept": "yes", "modelspec.title": "old"})
    found = load_file(path := converted(root, lane, checkpoint="it", precision="float16", use_ema=True))
    roots = ("model.diffusion_model.", "first_stage_model.", "cond_stage_model.")
    assert path.name == "it-pruned-fp16.safetensors" and found.keys() == {name for name in state if name.startswith(roots)}
    assert torch.equal(found.pop(key), torch.full_like(state[key], 7.0).half())
    assert all(torch.equal(tensor, state[name].half() if state[name].is_floating_point() else state[name]) for name, tensor in found.items())
    header = json.loads(path.read_bytes()[8 : 8 + int.from_bytes(path.read_bytes()[:8], "little")])["__metadata__"]
    assert (header["kept"], header["modelspec.title"], header["modelspec.architecture"]) == ("yes", "it-pruned-fp16", "stable-diffusion-v1")
    assert header["modelspec.hash_sha256"].startswith("0x") and header["modelspec.hash_sha256"] != "0x" + "0" * 64


@pytest.mark.parametrize("layout", ["Single file", "Diffusers folder"])
def test_a_stop_leaves_nothing_and_nothing_is_overwritten_unasked(root: Paths, lane: SilentLane, layout: str) -> None:
    originals.write(root.checkpoints / "it.safetensors", originals.original(originals.make(KINDS["SD1"])))
    there = root.checkpoints / ("new.safetensors" if layout == "Single file" else "new")
    there.mkdir() if layout != "Single file" else there.touch()
    before = sorted(root.checkpoints.rglob("*"))
    with pytest.raises(Conflict, match="exists already"):
        converted(root, lane, checkpoint="it", layout=layout, name="new")
    lane.stop = True
    assert run(ConvertRequest(checkpoint="it", layout=layout, name="new", overwrite=True), lane, Bench(root))["stopped"]
    assert sorted(root.checkpoints.rglob("*")) == before
    lane.stop = False
    converted(root, lane, checkpoint="it", layout=layout, name="new", overwrite=True)
    assert load_model(there, torch.device("cpu"), torch.float32).family.name == "SD1"
    assert not [p for p in root.checkpoints.iterdir() if p.name.startswith(".")]
