"""After every kind of job nothing is left in memory but what the cache tells of: live tensors are counted before and after."""

import gc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from studio.diffusion.cache import ModelCache
from studio.errors import StudioError
from studio.jobs import SilentLane
from studio.requests.extras import ExtrasRequest
from studio.requests.generate import GenerateRequest
from studio.requests.interrogate import InterrogateRequest
from studio.requests.preprocess import PreprocessRequest
from studio.requests.train import CreateEmbeddingRequest, TrainRequest
from studio.services import extras, generation, interrogation, library, preprocess, training
from studio.services.desk import Desk
from studio.settings import Paths

Job = Callable[[Desk, SilentLane, Path], Any]


class Breaking(SilentLane):
    """A lane on which something unforeseen happens at the second step."""

    def emit(self, kind: str, /, **data: Any) -> None:
        """Break in the middle."""
        super().emit(kind, **data)
        if kind in ("progress", "metric") and data["step"] >= 2:
            raise RuntimeError("something unforeseen")


class Stopping(SilentLane):
    """A lane that is stopped at the second step."""

    def emit(self, kind: str, /, **data: Any) -> None:
        """Ask to stop in the middle."""
        super().emit(kind, **data)
        self.stop = self.stop or (kind in ("progress", "metric") and data["step"] >= 2)


@pytest.fixture
def desk(root: Paths) -> Desk:
    """A desk with a cache of its own and the embedding gnarl."""
    desk = Desk(root, ModelCache(root, "cpu", 2**40))
    library.create_embedding(CreateEmbeddingRequest(name="gnarl", initialization_text="monster", vectors=2), desk)
    return desk


@pytest.fixture
def pictures(captioned: Path) -> Path:
    """Three pictures with captions, and a mask for one of them."""
    mask = Image.new("L", (128, 128))
    ImageDraw.Draw(mask).rectangle((40, 40, 90, 90), fill=255)
    mask.save(captioned.parent / "mask.png")
    return captioned


# the jobs


def txt2img(desk: Desk, lane: SilentLane, pictures: Path) -> Any:
    """Paint with an embedding and live previews."""
    request = GenerateRequest(prompt="a (gnarl:1.2) [by:on:2] white", negative_prompt="gnarl", steps=3, batch_size=2, width=64, height=64, seed=1, preview_every=1)
    return generation.run(request, lane, desk)


def inpaint(desk: Desk, lane: SilentLane, pictures: Path) -> Any:
    """Repaint what is masked."""
    request = GenerateRequest(prompt="a monster", steps=3, init_image=str(pictures / "0.png"), mask=str(pictures.parent / "mask.png"), denoising_strength=1.0, seed=1, preview_every=1)
    return generation.run(request, lane, desk)


def prepare(desk: Desk, lane: SilentLane, pictures: Path) -> Any:
    """Crop and caption with both captioners."""
    return preprocess.run(PreprocessRequest(source=str(pictures), destination=str(pictures.parent / "made"), width=64, height=64, captioners=("BLIP", "DeepBooru")), lane, desk)


def interrogate(desk: Desk, lane: SilentLane, pictures: Path) -> Any:
    """Put one picture into words."""
    return interrogation.run(InterrogateRequest(image=str(pictures / "0.png")), lane, desk)


def enlarge(desk: Desk, lane: SilentLane, pictures: Path) -> Any:
    """Enlarge pictures."""
    return extras.run(ExtrasRequest(images=(str(pictures / "0.png"),), scale=2), lane, desk)


def create(desk: Desk, lane: SilentLane, pictures: Path) -> Any:
    """Create an embedding."""
    return library.run(CreateEmbeddingRequest(name="fresh", initialization_text="red", vectors=3, overwrite=True), lane, desk)


def train(desk: Desk, lane: SilentLane, pictures: Path) -> Any:
    """Train three steps with previews."""
    library.create_embedding(CreateEmbeddingRequest(name="gnarl", initialization_text="monster", vectors=2, overwrite=True), desk)
    config = {"embedding": "gnarl", "steps": 3, "batch_size": 2, "save_every": 2, "preview_every": 2, "preview_steps": 1, "data": str(pictures)}
    lane.job = f"{type(lane).__name__} {len(list(desk.paths.runs.iterdir()))}"
    return training.run(TrainRequest(config=config), lane, desk)


JOBS: tuple[Job, ...] = (txt2img, inpaint, prepare, interrogate, enlarge, create, train)


# counting


def census() -> int:
    """Bytes of memory that tensors refer to which were made since the last freeze of the collector."""
    gc.collect()
    storages = {}
    for entry in gc.get_objects():
        if issubclass(type(entry), Tensor):
            storage = entry.untyped_storage()
            storages[storage.data_ptr()] = storage.nbytes()
    return sum(storages.values())


def held(cache: ModelCache) -> int:
    """Bytes that the cache tells of."""
    return sum(size for _, size, _ in cache.resident())


def attempt(job: Job, desk: Desk, lane: SilentLane, pictures: Path) -> bool:
    """Do a job as the worker does: whatever it raises ends it. Says whether it came to its end."""
    try:
        job(desk, lane, pictures)
    except (StudioError, RuntimeError):
        return False
    return True


BESIDE = 64 * 1024
"""Bytes of noise schedules and preview maps that belong to a resident model without being its weights."""
KEPT = 128
"""Bytes that libraries may keep for ever: transformers remembers the mean and spread of each of the last ten picture readers, 24 bytes."""


def check(job: Job, desk: Desk, lane_of: type[SilentLane], pictures: Path) -> list[bool]:
    """Do a job twice, the first time to warm up; what is alive then is what the cache tells of, and nothing when that is unloaded. Returns how they ended."""
    ends = [attempt(job, desk, lane_of(), pictures)]
    desk.cache.unload()
    assert desk.cache.resident() == []
    gc.collect()
    gc.freeze()
    try:
        ends.append(attempt(job, desk, lane_of(), pictures))
        assert held(desk.cache) <= census() <= held(desk.cache) + BESIDE
        assert desk.live == {}
        desk.cache.unload()
        assert census() <= KEPT
    finally:
        gc.unfreeze()
    return ends


@pytest.mark.parametrize("job", JOBS, ids=lambda job: job.__name__)
def test_a_job_leaves_nothing_but_what_the_cache_tells_of(desk: Desk, pictures: Path, job: Job) -> None:
    assert check(job, desk, SilentLane, pictures) == [True, True]


@pytest.mark.parametrize("job", [txt2img, inpaint, prepare, train], ids=lambda job: job.__name__)
def test_a_job_that_is_stopped_leaves_nothing(desk: Desk, pictures: Path, job: Job) -> None:
    assert check(job, desk, Stopping, pictures) == [True, True]


@pytest.mark.parametrize("job", [txt2img, inpaint, prepare, train], ids=lambda job: job.__name__)
def test_a_job_that_fails_leaves_nothing(desk: Desk, pictures: Path, job: Job) -> None:
    assert check(job, desk, Breaking, pictures) == [False, False]


def test_jobs_one_after_another_keep_to_the_budget(desk: Desk, pictures: Path) -> None:
    small = Desk(desk.paths, ModelCache(desk.paths, "cpu", 1))
    desk.cache.unload()
    gc.freeze()
    try:
        for job in (txt2img, interrogate, prepare):
            assert attempt(job, small, SilentLane(), pictures)
            assert len(small.cache.resident()) == 1
            assert census() <= held(small.cache) + BESIDE
    finally:
        gc.unfreeze()


def test_a_tensor_that_is_kept_is_found(desk: Desk, pictures: Path) -> None:
    kept: list[Tensor] = []

    def leaking(desk: Desk, lane: SilentLane, pictures: Path) -> None:
        kept.append(torch.zeros(KEPT))

    with pytest.raises(AssertionError):
        check(leaking, desk, SilentLane, pictures)
