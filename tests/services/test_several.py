"""Trainings by several processes: real processes by `accelerate launch` learn what one learns from twice the batch; they stop, die and go on in words."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
import torch
from safetensors.torch import load_file

from studio import cli, launched
from studio.diffusion.cache import ModelCache
from studio.engine import Engine
from studio.errors import InputError, StudioError
from studio.formats.embedding import read_embedding
from studio.jobs import Job, SilentLane, State
from studio.launched import ChildLane
from studio.requests.train import TrainRequest
from studio.services import training
from studio.services.desk import Desk
from studio.settings import Paths
from studio.training import several
from studio.training.run import Run
from studio.training.several import Team
from studio.worker import Worker
from tests.services.trainings import curve

PATIENCE = 240.0
KNOBS = {"name": "fern", "trigger": "gnarl", "rank": 2, "vectors": 2, "learn_rate": "1e-3", "save_precision": "fp32", "width": 64, "height": 64, "preview_every": 0, "save_every": 0, "probe_every": 0}


def request(data: Path, run: str = "", **knobs: object) -> TrainRequest:
    """An embedding and a LoRA together."""
    return TrainRequest.check({"method": "together", "config": {**KNOBS, "data": str(data), **knobs}, "run": run})


def until(condition: Callable[[], object]) -> None:
    """Wait for something to be true."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.1)


class Working:
    """A worker of this process that does one job of an engine's queue beside the test."""

    def __init__(self, root: Paths, cache: ModelCache, request: TrainRequest) -> None:
        self.engine, worker = Engine(root), Worker(root)
        worker._desk = Desk(root, cache)
        self.id = self.engine.submit(request)
        job = self.engine.store.claim(worker.name)
        assert job is not None and job.id == self.id
        self.thread = threading.Thread(target=worker.execute, args=(job,))
        self.thread.start()

    def reached(self, step: int) -> None:
        """Wait until so many steps were told."""
        until(lambda: not self.thread.is_alive() or any(e.data["step"] >= step for e in self.engine.events(self.id, kinds=("metric",))))

    def over(self) -> Job:
        """The job when it is over."""
        self.thread.join(PATIENCE)
        return self.engine.job(self.id)


def followers() -> list[psutil.Process]:
    """Processes this one started, by whatever way, that follow."""
    return [p for p in psutil.Process().children(recursive=True) if "studio.launched" in p.cmdline() and p.environ().get("RANK") == "1"]


@pytest.fixture
def by_hand(root: Paths, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Path], int]]:
    """What `python -m studio train FILE` becomes; Ctrl-C means afterwards what it meant before."""
    monkeypatch.setenv("STUDIO_ROOT", str(root.root))
    heard = [(number, signal.getsignal(number)) for number in (signal.SIGINT, signal.SIGTERM)]
    yield lambda file: launched.main([str(file)])
    for number, hear in heard:
        signal.signal(number, hear)


def test_two_processes_are_one_with_twice_the_batch_and_stop_die_and_go_on(
    root: Paths, captioned: Path, tiny_cache: ModelCache, tmp_path: Path, by_hand: Callable[[Path], int], capsys: pytest.CaptureFixture[str]
) -> None:
    working = Working(root, tiny_cache, request(captioned, steps=5000, devices=2, batch_size=1, gradient_accumulation=2))
    working.reached(11)
    assert working.engine.ask(working.id, "stop")
    stopped = working.over()
    assert stopped.state is State.STOPPED, stopped.error
    assert stopped.result is not None
    done, folder = stopped.result["steps"], Run(Path(stopped.result["run"]))
    assert 10 < done < 5000

    other = Paths(tmp_path / "other").prepare()
    alone = training.run(request(captioned, steps=done, batch_size=2, gradient_accumulation=2), SilentLane(), Desk(other, tiny_cache))
    together, single = curve(folder.folder), curve(alone)
    assert [float(row["loss"]) for row in together] == pytest.approx([float(row["loss"]) for row in single], rel=1e-5)
    ours, theirs = (load_file(paths.lora / "fern.safetensors") for paths in (root, other))
    assert ours.keys() == theirs.keys()
    assert all(torch.allclose(ours[name], theirs[name], atol=1e-4) for name in ours)
    assert any(float(tensor.abs().max()) > 1e-3 for name, tensor in ours.items() if "lora_up" in name)
    vectors = [read_embedding(next(paths.embeddings.glob("gnarl.*"))).vectors for paths in (root, other)]
    assert torch.allclose(*vectors, atol=1e-4)

    working = Working(root, tiny_cache, request(captioned, folder.folder.name, steps=5000, devices=2, batch_size=1, gradient_accumulation=2))
    working.reached(done + 2)
    for process in followers():
        process.kill()
    failed = working.over()
    assert failed.state is State.FAILED
    assert "process of this training" in str(failed.error) and "resume the run" in str(failed.error)
    assert not followers()
    kept = folder.latest()
    assert kept is not None and kept.step >= done

    file = tmp_path / "run.json"
    file.write_text(request(captioned, folder.folder.name, steps=kept.step + 2, devices=2, batch_size=1, gradient_accumulation=2).model_dump_json())
    assert by_hand(file) == 0
    assert json.loads(capsys.readouterr().out)["steps"] == kept.step + 2
    assert [int(row["step"]) for row in curve(folder.folder)] == list(range(1, kept.step + 3))


@pytest.mark.parametrize(("count", "size"), [(4, 2), (5, 2), (2, 3), (1, 4), (7, 1)])
def test_shares_are_all_pictures_in_order(count: int, size: int) -> None:
    shares = [list(range(count))[Team(rank, size).share(count)] for rank in range(size)]
    assert [place for share in shares for place in share] == list(range(count))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_processes_that_drift_apart_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    other = {several.dist.ReduceOp.MIN: 0.0, several.dist.ReduceOp.MAX: 0.0}
    monkeypatch.setattr(several.dist, "all_reduce", lambda tensor, op: tensor.add_(other[op]))
    team, learning = Team(0, 2), [torch.ones(3)]
    team.same(learning, several.COMPARED)
    other[several.dist.ReduceOp.MAX] = 0.5
    team.same(learning, several.COMPARED + 1)
    with pytest.raises(StudioError, match=r"no longer hold the same numbers.*0\.5"):
        team.same(learning, several.COMPARED)


def test_a_step_is_for_as_many_pictures_as_the_form_says_on_however_many_devices() -> None:
    config = request(Path("x"), devices=3, batch_size=2).config
    assert config.whole_batch == 6


@pytest.mark.parametrize("switch", ["ACCELERATE_USE_FSDP", "ACCELERATE_USE_DEEPSPEED"])
def test_configurations_that_split_a_model_are_refused_in_words(switch: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_RANK", "0")
    monkeypatch.setenv(switch, "true")
    with pytest.raises(InputError, match="splits the model"):
        Team.joined()


def test_a_training_whose_worker_is_gone_ends(root: Paths) -> None:
    worker, gone = Worker(root), subprocess.Popen([sys.executable, "-c", ""])
    job = worker.store.submit("train", {"method": "lora", "config": {}})
    alive = ChildLane(worker, job, os.getpid())
    alive.breathe()
    gone.wait()
    with pytest.raises(StudioError, match="worker that waited"):
        ChildLane(worker, job, gone.pid).breathe()


@pytest.mark.parametrize(("text", "words"), [(None, "no file"), ("{", "not JSON"), ('{"method": "lora"}', "what to train"), ('{"method": "lora", "config": {"rank": 0}}', "Rank")])
def test_a_file_that_says_nothing_is_told(text: str | None, words: str, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "run.json"
    if text is None:
        assert cli.main(["train", str(file)]) == 2
        assert words in capfd.readouterr().err
        return
    file.write_text(text)
    with pytest.raises(StudioError, match=words):
        launched.Task(file)


def test_settings_of_another_training_are_told_and_used(root: Paths, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "kohya.json"
    file.write_text(json.dumps({"network_module": "networks.lora", "network_dim": 12, "network_alpha": 6, "learning_rate": 2e-4, "max_train_steps": 900}))
    assert cli.main(["train-like", str(file), "--root", str(root.root), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["method"], said["config"]["rank"], said["config"]["steps"]) == ("lora", 12, 900)
    assert cli.main(["train-like", str(file), "--name", "hero", "--root", str(root.root)]) == 2
    assert "--data" in capsys.readouterr().err
