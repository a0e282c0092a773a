"""A picture's infotext is enough to paint it again, to the pixel."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from studio.diffusion.cache import ModelCache
from studio.formats.carriers import infotext_of
from studio.jobs import SilentLane
from studio.pasting import lookup_in, request_values
from studio.requests import GenerateRequest
from studio.services.desk import Desk
from studio.services.generation import run
from studio.settings import Paths

CORPUS: dict[str, dict[str, Any]] = {
    "plain": {},
    "negative": {"negative_prompt": "a blue circle, text", "cfg_scale": 3.5},
    "weights": {"prompt": "a (red:1.4) [circle] on grass, ((big))"},
    "editing": {"prompt": "a [red:blue:0.5] [circle|square] BREAK on grass"},
    "and": {"prompt": "a red circle :1.2 AND on grass :0.6"},
    "lines": {"prompt": "a red circle,\non grass", "negative_prompt": "Steps: 3, of a ladder"},
    "chinese": {"prompt": "红色的圆, a red circle"},
    "euler a": {"sampler": "Euler a", "eta": 0.7, "ensd": 31337},
    "heun": {"sampler": "Heun", "scheduler": "Karras", "s_churn": 3.0, "s_noise": 1.01},
    "sde": {"sampler": "DPM++ 2M SDE", "scheduler": "Exponential"},
    "ddim": {"sampler": "DDIM", "eta": 0.5},
    "nv": {"noise_source": "NV", "sampler": "DPM2 a"},
    "variation": {"variation_seed": 99, "variation_strength": 0.3},
    "resized seed": {"seed_width": 128, "seed_height": 64, "width": 128, "height": 128},
    "clip skip": {"clip_skip": 2, "emphasis": "No norm"},
    "tiling": {"tiling": True},
    "hires latent": {"width": 64, "height": 64, "hires": True, "hires_upscaler": "Latent", "hires_steps": 3, "hires_denoising_strength": 0.6, "hires_sampler": "Euler"},
    "hires picture": {"width": 64, "height": 64, "hires": True, "hires_upscaler": "Lanczos", "hires_width": 128, "hires_height": 96, "hires_prompt": "a blue circle"},
    "shape": {"width": 192, "height": 64},
}
"""What may be written in an infotext, once each."""


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory, tiny_cache: ModelCache) -> Desk:
    return Desk(Paths(tmp_path_factory.mktemp("trip")).prepare(), tiny_cache)


@pytest.mark.parametrize("knobs", CORPUS.values(), ids=CORPUS.keys())
def test_a_picture_is_painted_again_from_its_infotext(desk: Desk, knobs: dict[str, Any]) -> None:
    asked = GenerateRequest.check({"prompt": "a red circle on grass", "steps": 4, "seed": 1234, "preview_every": 0, **knobs})
    first = run(asked, SilentLane(), desk)
    path = Path(first["images"][0])
    values, notes = request_values(infotext_of(path), lookup_in(["tiny-world"]), lookup_in([]))
    assert notes == []
    again = run(GenerateRequest.check({**values, "preview_every": 0}), SilentLane(), desk)
    assert np.array_equal(np.asarray(Image.open(path)), np.asarray(Image.open(again["images"][0])))
    assert again["infotexts"] == first["infotexts"]


def test_every_picture_of_a_batch_is_painted_again_alone(desk: Desk) -> None:
    asked = GenerateRequest(prompt="a red circle", steps=4, seed=50, batch_size=2, batch_count=2, sampler="Euler a", preview_every=0)
    made = run(asked, SilentLane(), desk)
    assert made["seeds"] == [50, 51, 52, 53]
    for path in made["images"]:
        values, _ = request_values(infotext_of(Path(path)), lookup_in(["tiny-world"]), lookup_in([]))
        alone = run(GenerateRequest.check({**values, "preview_every": 0}), SilentLane(), desk)
        difference = np.abs(np.asarray(Image.open(path), dtype=int) - np.asarray(Image.open(alone["images"][0]), dtype=int))
        assert difference.max() <= 1
