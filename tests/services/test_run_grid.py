"""Grids of a run on the tiny world: every moment of the word beside what it was, painted as generation paints it."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from studio.diffusion.adapters import Wear, worn
from studio.diffusion.cache import ModelCache
from studio.diffusion.hypernetworks import Blend, blended
from studio.diffusion.model import Model
from studio.errors import InputError
from studio.formats.adapter import read_adapter
from studio.formats.embedding import Embedding, write_embedding
from studio.formats.hypernetwork import Hypernetwork, write_hypernetwork
from studio.formats.infotext import infotext_of, read_infotext
from studio.jobs import SilentLane
from studio.requests.run_grid import RunGridRequest
from studio.requests.train import TextualInversionConfig
from studio.services.desk import Desk
from studio.services.generation import paint
from studio.services.library import initial_vectors
from studio.services.previewing import preview_request
from studio.services.run_grid import run
from studio.settings import Paths
from studio.training.run import Checkpoint, Run
from tests.diffusion.small import kohya_file, rand, weights

RUN = "2026-01-01-gnarl-job"
CONFIG = {"embedding": "gnarl", "data": "unused", "preview_steps": 2, "preview_prompt": "a photo of [name]", "preview_seed": 4, "width": 64, "height": 64}


@pytest.fixture
def vectors(tiny: Model) -> torch.Tensor:
    """The word before it learned."""
    return initial_vectors(tiny, "monster", 2)[0]


@pytest.fixture
def desk(root: Paths, tiny_cache: ModelCache, vectors: torch.Tensor) -> Desk:
    """A run with weights of three steps; the shelf has another word of that name."""
    folder = root.runs / RUN
    (folder / "embeddings").mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"config": CONFIG, "facts": {"checkpoint": "", "first_step": 0}}))
    for step in (0, 10, 20):
        write_embedding(folder / "embeddings" / f"gnarl-{step}.pt", Embedding("gnarl", vectors * (1 + step), step))
    write_embedding(root.embeddings / "gnarl.pt", Embedding("gnarl", vectors * -7))
    return Desk(root, tiny_cache)


def shown(path: str | Path) -> np.ndarray:
    """A picture's numbers."""
    return np.array(Image.open(path).convert("RGB")).astype(int)


def alone(model: Model, prompt: str, words: dict[str, torch.Tensor], **knobs: Any) -> np.ndarray:
    """What generation paints for a prompt."""
    request = preview_request(TextualInversionConfig(**CONFIG), model, "gnarl").model_copy(update={"prompt": prompt, **knobs})
    return np.array(paint(model, request, words)[0]).astype(int)


def test_every_moment_is_painted_as_generation_paints_it(desk: Desk, lane: SilentLane, tiny: Model, vectors: torch.Tensor) -> None:
    shelf = {path: path.read_bytes() for path in desk.paths.embeddings.iterdir()}
    result = run(RunGridRequest(run=RUN), lane, desk)
    folder = desk.paths.runs / RUN / "exports" / "grid-1"
    assert result["images"] == [str(folder / name) for name in ("before-0.png", "000010-0.png", "000020-0.png")]
    for path, factor in zip(result["images"], (1, 11, 21), strict=True):
        assert np.abs(shown(path) - alone(tiny, "a photo of gnarl", {"gnarl": vectors * factor})).max() <= 1
    said = read_infotext(infotext_of(Path(result["images"][1])))
    assert (said["Prompt"], said["Seed"], said["Moment"]) == ("a photo of gnarl", "4", "step 10")
    assert result["grid"] == str(folder.with_suffix(".png"))
    grid = shown(result["grid"])
    assert np.array_equal(grid[-64:, -64:], shown(result["images"][2]))
    assert np.array_equal(grid[-64:, -192:-128], shown(result["images"][0]))
    assert 'Moments: "before, step 10, step 20"' in infotext_of(Path(result["grid"]))
    assert {path: path.read_bytes() for path in desk.paths.embeddings.iterdir()} == shelf
    assert desk.live == {}
    assert result["stopped"] is False


def test_prompts_strengths_and_the_prompt_without_the_word(desk: Desk, lane: SilentLane, tiny: Model, vectors: torch.Tensor) -> None:
    asked = RunGridRequest(run=RUN, steps=(20,), prompts="Gnarl, on a hill\na (gnarl:1.3) <lora:gnarl:1>", strengths=(0.5, 1), base="without the word", seed=8, sampling_steps=1)
    result = run(asked, lane, desk)
    texts = [read_infotext(text)["Prompt"] for text in result["infotexts"]]
    assert texts[:4] == ["on a hill", "on a hill", "a <lora:gnarl:1>", "a <lora:gnarl:1>"]
    assert texts[4:] == ["(gnarl:0.5), on a hill", "(gnarl:1), on a hill", "a (gnarl:0.5) <lora:gnarl:1>", "a (gnarl:1) <lora:gnarl:1>"]
    assert np.abs(shown(result["images"][0]) - alone(tiny, "on a hill", {}, seed=8, steps=1)).max() <= 1
    assert np.abs(shown(result["images"][4]) - alone(tiny, "(gnarl:0.5), on a hill", {"gnarl": vectors * 21}, seed=8, steps=1)).max() <= 1
    assert result["seeds"] == [8] * 8
    assert {data["text"] for kind, data in lane.events if kind == "warning"} == {"There is no LoRA 'gnarl'; the picture was painted without it."}
    assert [kind for kind, _ in lane.events][-1] == "saved"


def test_without_weights_of_the_beginning_the_checkpoint_remembers_it_else_the_prompt_stands_alone(desk: Desk, lane: SilentLane, tiny: Model, vectors: torch.Tensor) -> None:
    folder = desk.paths.runs / RUN
    (folder / "embeddings" / "gnarl-0.pt").unlink()
    first = run(RunGridRequest(run=RUN, most=1), lane, desk)
    assert [Path(name).name for name in first["images"]] == ["without-0.png", "000020-0.png"]
    assert lane.events[0][0] == "warning"
    (folder / "checkpoints").mkdir()
    Run(folder).save(Checkpoint(20, {"vectors": vectors * 21, "start": vectors}, {}))
    second = run(RunGridRequest(run=RUN, most=1), SilentLane(), desk)
    assert np.abs(shown(second["images"][0]) - alone(tiny, "a photo of gnarl", {"gnarl": vectors})).max() <= 1
    assert Path(second["grid"]).name == "grid-2.png"


def test_a_stop_leaves_no_half_painted_picture(desk: Desk, lane: SilentLane) -> None:
    lane.stop = True
    assert run(RunGridRequest(run=RUN), lane, desk) == {"images": [], "stopped": True}
    assert not (desk.paths.runs / RUN / "exports").exists()


def test_what_cannot_be_painted_is_said(desk: Desk, lane: SilentLane) -> None:
    folder = desk.paths.runs / RUN
    with pytest.raises(InputError, match=r"no weights of step 11 in this run \(there are 0, 10, 20\)"):
        run(RunGridRequest(run=RUN, steps=(11,)), lane, desk)
    with pytest.raises(InputError, match=r"would have 600 pictures \(3 columns, 200 rows\); 400 is the most"):
        run(RunGridRequest(run=RUN, prompts="a\n" * 200), lane, desk)
    for file in (folder / "embeddings").iterdir():
        file.unlink()
    with pytest.raises(InputError, match="has no weights of a step"):
        run(RunGridRequest(run=RUN), lane, desk)
    (folder / "config.json").write_text("{")
    with pytest.raises(InputError, match=r"cannot be read: .*config.json is missing or damaged"):
        run(RunGridRequest(run=RUN), lane, desk)
    with pytest.raises(ValueError, match="strength 9 must be from 0 to 4"):
        RunGridRequest(run=RUN, strengths=(9.0,))


def as_method(desk: Desk, method: str, places: dict[str, str], **knobs: Any) -> Path:
    """The run as one of another method, without copies; the folder for them."""
    folder = desk.paths.runs / RUN
    config = {"name": "gnarl", "trigger": "grn", **{name: value for name, value in CONFIG.items() if name != "embedding"}, **knobs}
    (folder / "config.json").write_text(json.dumps({"method": method, "config": config, "facts": {"checkpoint": "", "first_step": 0, "shelves": places}}))
    for file in (folder / "embeddings").iterdir():
        file.unlink()
    return folder / "embeddings"


def test_a_lora_is_worn_as_it_was_at_each_step_at_each_strength_beside_the_untouched_network(desk: Desk, lane: SilentLane, tiny: Model) -> None:
    copies = as_method(desk, "lora", {".safetensors": "models/Lora/gnarl.safetensors"}, preview_prompt="a photo of [name] <lora:gnarl:1>")
    kohya_file(copies / "gnarl-10.safetensors", tiny, seed=1)
    before = weights(tiny)
    result = run(RunGridRequest(run=RUN, strengths=(0.5, 1)), lane, desk)
    assert weights(tiny) == before
    texts = [read_infotext(text) for text in result["infotexts"]]
    assert [(said["Moment"], said.get("Strength"), said["Prompt"]) for said in texts] == [("before", None, "a photo of grn")] * 2 + [
        ("step 10", "0.5", "a photo of grn"),
        ("step 10", "1", "a photo of grn"),
    ]
    plain = alone(tiny, "a photo of grn", {})
    assert np.abs(shown(result["images"][0]) - plain).max() <= 1
    for path, strength in zip(result["images"][2:], (0.5, 1.0), strict=True):
        with worn(tiny, [Wear(read_adapter(copies / "gnarl-10.safetensors"), strength)]):
            expected = alone(tiny, "a photo of grn", {})
        assert np.abs(shown(path) - expected).max() <= 1 < np.abs(expected - plain).max()


def test_a_word_and_its_lora_are_used_together(desk: Desk, lane: SilentLane, tiny: Model, vectors: torch.Tensor) -> None:
    copies = as_method(desk, "together", {".safetensors": "models/Lora/gnarl.safetensors", ".pt": "embeddings/grn.pt"}, class_word="man")
    kohya_file(copies / "gnarl-10.safetensors", tiny, seed=1)
    write_embedding(copies / "gnarl-10.pt", Embedding("grn", vectors * 3, 10))
    result = run(RunGridRequest(run=RUN, base="none"), lane, desk)
    with worn(tiny, [Wear(read_adapter(copies / "gnarl-10.safetensors"))]):
        assert np.abs(shown(result["images"][0]) - alone(tiny, "a photo of grn man", {"grn": vectors * 3})).max() <= 1


def test_a_hypernetwork_is_used_as_it_was_at_each_step(desk: Desk, lane: SilentLane, tiny: Model) -> None:
    copies = as_method(desk, "hypernetwork", {".pt": "models/hypernetworks/gnarl.pt"})
    width = tiny.widths[0]
    shapes = {"linear.0.weight": (2 * width, width), "linear.0.bias": (2 * width,), "linear.1.weight": (width, 2 * width), "linear.1.bias": (width,)}
    network = Hypernetwork("gnarl", {width: tuple({key: rand(*shape, seed=side) for key, shape in shapes.items()} for side in (1, 2))})
    write_hypernetwork(copies / "gnarl-10.pt", network)
    result = run(RunGridRequest(run=RUN), lane, desk)
    with blended(tiny, [Blend(network, 1.0)]):
        expected = alone(tiny, "a photo of grn", {})
    assert np.abs(shown(result["images"][1]) - expected).max() <= 1
    assert np.abs(shown(result["images"][0]) - alone(tiny, "a photo of grn", {})).max() <= 1 < np.abs(expected - shown(result["images"][0])).max()


def test_a_whole_checkpoint_has_no_moments_and_says_so(desk: Desk, lane: SilentLane) -> None:
    as_method(desk, "fine_tune", {".safetensors": "models/Stable-diffusion/gnarl.safetensors"})
    with pytest.raises(InputError, match="keeps no copies of its steps"):
        run(RunGridRequest(run=RUN), lane, desk)
