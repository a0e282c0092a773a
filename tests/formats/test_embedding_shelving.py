"""What a training leaves on the shelf, for each kind of checkpoint: read here as A1111 and ComfyUI read it."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from studio.diffusion.families import SD1, SDXL, Family
from studio.formats.embedding import Embedding, read_embedding, write_embedding
from studio.formats.embedding_writing import default_suffix
from studio.training.methods.textual_inversion import attach
from tests.diffusion.small import made


@pytest.mark.parametrize(("family", "suffix", "shapes"), [(SD1, ".pt", {"string_to_param": (2, 32)}), (SDXL, ".safetensors", {"clip_l": (2, 16), "clip_g": (2, 24)})])
def test_a_training_shelves_what_other_programs_load(tmp_path: Path, family: Family, suffix: str, shapes: dict) -> None:
    model = made(family)
    start = tmp_path / f"hero{default_suffix(len(model.text_encoders))}"
    assert start.suffix == suffix
    write_embedding(start, Embedding("hero", torch.zeros(2, model.width), first=model.widths[0] if family is SDXL else None))
    learner = attach(model, start)
    with torch.no_grad():
        learner.vectors += torch.arange(2.0 * model.width).reshape(2, -1)
    for path in (start, tmp_path / f"hero-30{suffix}"):
        learner.shelve(path, 30)
        held = load_file(path) if suffix == ".safetensors" else {"string_to_param": torch.load(path, weights_only=True)["string_to_param"]["*"]}
        assert {key: tuple(value.shape) for key, value in held.items()} == shapes
        assert torch.equal(torch.cat(list(held.values()) if family is SD1 else [held["clip_l"], held["clip_g"]], 1), learner.vectors)
        assert (read_embedding(path).name, read_embedding(path).step) == (path.stem, 30)
