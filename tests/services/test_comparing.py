"""CLIP's features are kept beside the facts, and the doctor groups pictures by them."""

from pathlib import Path

import pytest
import torch
from PIL import Image

from studio.dataset.captioners.clip import clip_features
from studio.dataset.folder import open_upright
from studio.diffusion.cache import ModelCache
from studio.errors import NotFound
from studio.jobs import SilentLane
from studio.projects.likeness import unpacked
from studio.projects.project import Project
from studio.requests.compare import CompareRequest
from studio.services import comparing
from studio.services.desk import Desk
from studio.settings import Paths
from tests.dataset.captioners.small import picture, write_clip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three pictures and a damaged one."""
    made = tmp_path / "set"
    made.mkdir()
    for seed in range(3):
        picture(seed).save(made / f"{seed}.png")
    (made / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    return made


def test_features_are_those_of_clip_and_computed_once(root: Paths, folder: Path, lane: SilentLane) -> None:
    write_clip(root.models / "CLIP" / "small")
    desk = Desk(root, ModelCache(root, device="cpu"))
    assert comparing.run(CompareRequest(folder=str(folder)), lane, desk) == {"compared": 3}
    items = {item.name: item for item in Project(folder).items()}
    kept = torch.tensor([unpacked(items[f"{seed}.png"].facts.clip) for seed in range(3)])
    torch.testing.assert_close(kept, clip_features(root, [open_upright(folder / f"{seed}.png") for seed in range(3)]).float(), atol=2e-3, rtol=0)
    assert items["broken.png"].facts.clip == ""
    assert items["0.png"].facts.perceptual
    assert comparing.run(CompareRequest(folder=str(folder)), lane, desk) == {"compared": 0}
    Image.new("RGB", (30, 30), "red").save(folder / "new.png")
    assert comparing.run(CompareRequest(folder=str(folder)), lane, desk) == {"compared": 1}


def test_a_stop_keeps_what_was_compared(root: Paths, folder: Path) -> None:
    write_clip(root.models / "CLIP" / "small")
    assert comparing.run(CompareRequest(folder=str(folder)), SilentLane(stop=True), Desk(root, ModelCache(root, device="cpu"))) == {"compared": 0, "stopped": True}


def test_without_clip_it_is_told_where_to_put_one(root: Paths, folder: Path, lane: SilentLane) -> None:
    with pytest.raises(NotFound, match="models/CLIP"):
        comparing.run(CompareRequest(folder=str(folder)), lane, Desk(root, ModelCache(root, device="cpu")))
