"""Stop, kind by kind: every job looks whether it was stopped inside its work, ends there, and leaves nothing half done; a training goes on from there bit for bit."""

import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image, ImageDraw

from studio.cancellation import Stopped, raise_if_stopped, stoppable
from studio.config import Config
from studio.diffusion.cache import ModelCache
from studio.diffusion.loading import save_model
from studio.diffusion.model import Model
from studio.files import sha256
from studio.formats.embedding import Embedding, read_embedding, write_embedding
from studio.jobs import JobStore, SilentLane, State
from studio.projects.project import Project
from studio.requests import request_of
from studio.services import generation
from studio.services import training as training_service
from studio.services.desk import Desk
from studio.settings import Paths
from studio.worker import SERVICES, Worker
from tests.diffusion.small import kohya_file
from tests.services.test_run_grid import CONFIG, RUN
from tests.services.trainings import curve, request

SMALL = {"steps": 3, "width": 64, "height": 64, "seed": 3, "preview_every": 0}
AFTER = 8
"""Looks at the lane after the one that said stop, at most: on the way out of a job, not unit after unit."""


@dataclass
class StopAt(SilentLane):
    """A lane that is stopped at its n-th look."""

    at: int = 1
    looks: int = field(default=0)

    def stopping(self) -> bool:
        """Whether the look has come."""
        self.looks += 1
        return self.looks >= self.at


@pytest.fixture(scope="module")
def desk(tiny: Model, tiny_cache: ModelCache, tmp_path_factory: pytest.TempPathFactory) -> Desk:
    """A studio with a folder of pictures, LoRAs, checkpoints, and a run with weights and previews."""
    paths = Paths(tmp_path_factory.mktemp("stop")).prepare()
    pictures = paths.root / "pictures"
    pictures.mkdir()
    (paths.root / "imported").mkdir()
    for number in range(5):
        image = Image.new("RGB", (160, 128), "white")
        ImageDraw.Draw(image).ellipse((20 + 5 * number, 30, 100, 110), fill=("red", "green", "blue", "orange", "purple")[number])
        image.save(pictures / f"{number}.png")
        (pictures / f"{number}.txt").write_text(f"thing {number}, round")
    for seed, name in enumerate("ab"):
        kohya_file(paths.lora / f"{name}.safetensors", tiny, seed=seed)
        save_model(tiny, paths.checkpoints / f"zz-{name}.safetensors")
    run = paths.runs / RUN
    (run / "embeddings").mkdir(parents=True)
    (run / "samples").mkdir()
    (run / "config.json").write_text(json.dumps({"config": CONFIG, "facts": {"checkpoint": "", "first_step": 0}}))
    lines = []
    for step in (0, 10, 20):
        write_embedding(run / "embeddings" / f"gnarl-{step}.pt", Embedding("gnarl", torch.full((2, tiny.widths[0]), step / 100), step))
        Image.new("RGB", (64, 64), "white").save(run / "samples" / f"{step}.png")
        lines.append(json.dumps({"step": step, "path": f"samples/{step}.png", "prompt": "gnarl", "column": 0, "seed": 1, "weights": None}))
    (run / "previews.jsonl").write_text("\n".join(lines) + "\n")
    write_embedding(paths.embeddings / "gnarl.pt", Embedding("gnarl", torch.ones(2, tiny.widths[0])))
    return Desk(paths, tiny_cache)


def requests(paths: Paths) -> dict[str, dict[str, Any]]:
    """One request of several units for each kind of job."""
    pictures, base = str(paths.root / "pictures"), {"prompt": "a red cat", **SMALL}
    first = str(paths.root / "pictures" / "0.png")
    return {
        "generate": {**base, "batch_count": 3},
        "preprocess": {"source": pictures, "destination": str(paths.root / "prepared"), "width": 128, "height": 128, "captioners": ("BLIP",)},
        "plot": {"base": base, "x_axis": "Seed", "x_values": "1,2,3"},
        "prompt_matrix": {"base": {**base, "prompt": "a cat|red|at night"}},
        "prompts_from_file": {"base": base, "text": "a cat\na dog\na car"},
        "sd_upscale": {"base": {**base, "init_image": first, "batch_count": 3}, "upscaler": "Lanczos", "overlap": 16},
        "interrogate": {"image": first, "captioner": "BLIP, DeepBooru"},
        "extras": {"images": (first, first, first), "scale": 2},
        "import": {"folder": str(paths.root / "imported"), "source": pictures},
        "export": {"folder": pictures, "destination": str(paths.root / "exported.zip")},
        "examine": {"folder": pictures, "again": True},
        "write": {"folder": pictures, "destination": str(paths.root / "written"), "width": 64, "height": 64},
        "mask": {"folder": pictures, "keep_existing": False},
        "caption": {"folder": pictures, "captioners": ("BLIP",), "existing": "ignore"},
        "forecast": {"method": "textual_inversion", "config": {"embedding": "gnarl", "data": pictures, "steps": 20}},
        "sheet": {"run": RUN},
        "run_grid": {"run": RUN},
        "merge": {"primary": "zz-a", "secondary": "zz-b", "name": "merged"},
        "merge_lora": {"loras": "<lora:a:1><lora:b:1>", "name": "merged"},
        "extract_lora": {"tuned": "zz-a", "original": "zz-b", "min_difference": 0, "rank": 2, "name": "extracted"},
        "resize_lora": {"lora": "a", "rank": 2, "name": "resized"},
        "bake_lora": {"checkpoint": "zz-a", "loras": "<lora:a:1>", "name": "baked"},
        "convert": {"checkpoint": "zz-a", "name": "converted"},
        "inspect": {"path": str(paths.checkpoints / "zz-a.safetensors")},
    }


ELSEWHERE = {
    "train": "tests of its own below",
    "compare": "needs CLIP's weights; between two batches: tests/services/test_comparing.py",
    "download": "needs a hub; between two blocks: tests/services/test_download.py",
    "create_embedding": "one file of kilobytes; loading its checkpoint is stopped as any loading is",
    "create_hypernetwork": "one file; loading its checkpoint is stopped as any loading is",
    "inspect_embedding": "one small file",
    "edit_embedding": "one small file",
    "average": "a few small files",
    "residence": "only loads, which is stopped as any loading is",
}
"""Kinds that are not asked here, with the reason."""


def do(kind: str, wanted: Config, lane: SilentLane, desk: Desk) -> dict[str, Any]:
    """Do a job as the worker does."""
    with stoppable(lane.stopping):
        raise_if_stopped()
        return import_module(dict(SERVICES)[kind]).run(wanted, lane, desk)


def test_every_kind_of_job_is_asked_here_or_says_where() -> None:
    assert {*requests(Paths(Path("unused"))), *ELSEWHERE} == {kind for kind, _ in SERVICES}


@pytest.mark.parametrize("at", [1, 2, 4])
@pytest.mark.parametrize("kind", sorted(requests(Paths(Path("unused")))))
def test_a_job_ends_where_the_stop_is_heard(kind: str, at: int, desk: Desk) -> None:
    wanted = request_of(kind, requests(desk.paths)[kind])
    before = {path for path in desk.paths.root.rglob("*") if path.is_file()} if "name" in requests(desk.paths)[kind] else set()
    lane = StopAt(at=at)
    result: dict[str, Any] = {"stopped": True}
    with suppress(Stopped):
        result = do(kind, wanted, lane, desk)
    assert lane.looks >= min(at, 2), "no look inside the work"
    assert result.get("stopped") or lane.looks < at
    assert lane.looks - at <= AFTER
    if before and result.get("stopped"):
        made = {path for path in desk.paths.root.rglob("*") if path.is_file()} - before
        assert [path for path in made if path.suffix in (".safetensors", ".tmp")] == []


def test_a_stopped_first_pass_is_shown_and_not_enlarged(desk: Desk) -> None:
    class AfterStep(StopAt):
        """Stopped after the second step of the first pass."""

        def emit(self, kind: str, /, **data: Any) -> None:
            """Count steps."""
            super().emit(kind, **data)
            self.at = 0 if kind == "progress" and data["step"] >= 2 else self.at

    lane = AfterStep(at=10**6)
    wanted = request_of("generate", {"prompt": "a red cat", **SMALL, "hires": True, "hires_scale": 2, "hires_upscaler": "Lanczos"})
    result = do("generate", wanted, lane, desk)
    assert result["stopped"] and Image.open(result["images"][0]).size == (64, 64)


def test_a_checkpoint_that_is_being_read_is_given_up(desk: Desk, root: Paths) -> None:
    cache = ModelCache(root, device="cpu")
    lane = StopAt(at=20)
    with stoppable(lane.stopping), pytest.raises(Stopped), cache.lend(""):
        pass
    assert lane.looks == 20 and cache.resident() == []
    with cache.lend("") as model:
        assert generation.paint(model, request_of("generate", {"prompt": "a cat", **SMALL}), {})


def test_a_hash_and_a_caption_that_are_being_made_are_given_up(tmp_path: Path, desk: Desk) -> None:
    (tmp_path / "large").write_bytes(bytes(2**24 + 1))
    lane = StopAt(at=2)
    with stoppable(lane.stopping), pytest.raises(Stopped):
        sha256(tmp_path / "large")
    lane = StopAt(at=6)  # one before the job, one before the captioner: the others are tokens
    with pytest.raises(Stopped):
        do("interrogate", request_of("interrogate", {"image": str(desk.paths.root / "pictures" / "0.png"), "captioner": "BLIP"}), lane, desk)
    assert lane.looks == 6


def test_outside_a_job_nothing_is_cut_short(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"x")
    with stoppable(lambda: True), stoppable(None):
        raise_if_stopped()
        sha256(tmp_path / "x")


def test_a_worker_writes_that_a_job_was_stopped(root: Paths, tiny_cache: ModelCache) -> None:
    worker, store = Worker(root), JobStore(root.database)
    worker._desk = Desk(root, tiny_cache)
    name = store.submit("inspect", {"path": "models"})
    job = store.claim("test")
    assert job is not None and store.ask(name, "stop")
    worker.execute(job)
    assert (store.job(name).state, store.job(name).error) == (State.STOPPED, None)


def training(desk: Desk, lane: SilentLane, run: str = "") -> dict[str, Any]:
    """Train a few steps, with measurements and previews that can be stopped."""
    knobs = {"steps": 4, "batch_size": 1, "probe_every": 2, "preview_every": 2, "preview_steps": 3, "save_every": 2}
    wanted = request(desk.paths.root / "pictures", **knobs)
    return training_service.run(wanted.model_copy(update={"run": run}), lane, desk)


def kept(result: dict[str, Any]) -> dict[str, Any]:
    """What a run learned and measured."""
    folder = Path(result["run"])
    measured = (folder / "probe.csv").read_text(encoding="utf-8")
    previews = [(said["step"], said["column"]) for said in map(json.loads, (folder / "previews.jsonl").read_text(encoding="utf-8").splitlines())]
    return {"curve": [(row["step"], row["loss"]) for row in curve(result)], "probe": measured, "previews": previews, "copies": sorted(p.name for p in (folder / "embeddings").glob("*-[0-9].pt"))}


@pytest.fixture(scope="module")
def whole(desk: Desk) -> Iterator[dict[str, Any]]:
    """The training that nobody stopped."""
    before = (desk.paths.embeddings / "gnarl.pt").read_bytes()
    lane = StopAt(at=10**9, job="whole")
    result = training(desk, lane)
    found = kept(result) | {"vectors": (desk.paths.embeddings / "gnarl.pt").read_bytes(), "looks": lane.looks, "before": before}
    yield found


def restore(desk: Desk, whole: dict[str, Any]) -> None:
    """The embedding as it was before it was trained."""
    (desk.paths.embeddings / "gnarl.pt").write_bytes(whole["before"])
    for beside in desk.paths.embeddings.glob("gnarl.pt.*"):
        beside.unlink()


@pytest.mark.parametrize("share", [0.02, 0.2, 0.4, 0.5, 0.6, 0.7, 0.98])
def test_a_training_that_is_stopped_anywhere_goes_on_bit_for_bit(share: float, desk: Desk, whole: dict[str, Any]) -> None:
    restore(desk, whole)
    at = max(1, round(share * whole["looks"]))
    lane = StopAt(at=at, job=f"stopped {at}")
    result = training(desk, lane)
    assert lane.looks - at <= AFTER
    if not result["stopped"]:  # heard in what follows the last step: nothing is left to go on with
        assert result["steps"] == 4 and kept(result)["curve"] == whole["curve"]
        return
    result = training(desk, SilentLane(f"on {at}"), run=Path(result["run"]).name)
    assert kept(result) == {name: whole[name] for name in ("curve", "probe", "previews", "copies")}
    (desk.paths.root / "whole.pt").write_bytes(whole["vectors"])
    assert torch.equal(read_embedding(desk.paths.embeddings / "gnarl.pt").vectors, read_embedding(desk.paths.root / "whole.pt").vectors)


def test_captions_that_were_written_before_a_stop_stay(desk: Desk) -> None:
    wanted = request_of("caption", {"folder": str(desk.paths.root / "pictures"), "captioners": ("BLIP",), "existing": "ignore", "batch_size": 1})
    whole = SilentLane("whole")
    do("caption", wanted, whole, desk)
    lane = StopAt(at=14, job="stopped")
    result = do("caption", wanted, lane, desk)
    assert result["stopped"] and 0 < result["captioned"] < 5
    assert all(item.captioned for item in Project(desk.paths.root / "pictures").items())
