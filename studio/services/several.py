"""A training by several processes: the one that leads runs the service, the others follow; and the worker starts them by `accelerate launch`."""

import contextlib
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import torch

from studio.errors import InputError, StudioError
from studio.files import atomic_write
from studio.jobs import Lane
from studio.requests.train import TrainConfig, TrainRequest, config_class
from studio.services import training
from studio.services.briefing import Brief, ready
from studio.services.desk import Desk
from studio.services.priors import compared
from studio.settings import SHIPPED_ROOT, Paths
from studio.training.leading import Follower
from studio.training.loop import train
from studio.training.methods import method_of
from studio.training.optim import build
from studio.training.passes import spare
from studio.training.preparation import prepared
from studio.training.rhythm import Rhythm
from studio.training.several import LOST

LOOK = 0.2
"""Seconds between two looks at the processes."""
LAST = 5
"""Lines of what they said that a person is told when they say nothing else."""
FRAME = re.compile(r"\s*(=+|-+|\[\d+\]:|(time|host|error_file|Root Cause.*|Failures:)\s*(:.*)?|<NO_OTHER_FAILURES>)\s*$")
"""Lines of the launcher that say nothing of the cause."""


def lead(request: TrainRequest, lane: Lane, desk: Desk, rhythm: Rhythm = training.USUAL) -> dict[str, Any]:
    """Run the training and decide for all; returns what the service does. Where nothing says how many devices a step is for, it is for as many as there are."""
    team = desk.team
    if request.config.devices == 1 and team.size > 1:
        request = request.model_copy(update={"config": request.config.model_copy(update={"devices": team.size})})
    result = training.run(request, lane, desk, rhythm)
    if not team.briefed:
        team.told(None)
    return result


def follow(desk: Desk) -> None:
    """Take every step as the process that leads says; raises StudioError when that is gone, or when this one cannot take part."""
    team = desk.team
    brief: Brief | None = team.told()
    if brief is None:
        return
    config: TrainConfig = config_class(brief.method).check(brief.config)
    method = method_of(brief.method)
    with tempfile.TemporaryDirectory() as place:
        start = team.file(None, Path(place))
        with _lent(brief, method.private(config), desk) as model:
            learner = method.attach(model, start, config)
            plan = replace(brief.plan, team=team, others={word: vectors.to(model.device) for word, vectors in brief.plan.others.items()})
            if plan.prior and plan.prior.predicted:
                compared(learner, model, desk)
            optimizer = build(config.optimizer, [list(group.parameters) for group in learner.groups()], 0.0, getattr(config, "weight_decay", 0.0))
            ready(team, "")
            with learner.attached(), prepared(model, config.gradient_checkpointing, config.compile, spare=spare(learner, plan)) as network:
                train(network, learner, optimizer, plan, Follower(learner, optimizer, team))


@contextmanager
def _lent(brief: Brief, private: bool, desk: Desk) -> Iterator[Any]:
    """The model of the brief; what keeps this process from taking part is told to all."""
    try:
        lent = desk.cache.lend(brief.checkpoint, private=private)
        model = lent.__enter__()
    except StudioError as error:
        ready(desk.team, str(error))
        raise
    with contextlib.ExitStack() as stack:
        stack.push(lent.__exit__)
        problem = brief.check(model)
        if problem:
            ready(desk.team, problem)
        yield model


def launch(request: TrainRequest, lane: Lane, desk: Desk) -> dict[str, Any]:
    """Train by as many processes as the form says, and wait for them while other jobs go on; raises StudioError with what they said."""
    devices, cuda = request.config.devices, desk.cache.device.type == "cuda"
    if desk.cache.device.type not in ("cuda", "cpu") or (cuda and devices > torch.cuda.device_count()):
        there = torch.cuda.device_count() if cuda else 1
        raise InputError(f"Devices: {devices} are wanted, and this machine has {there}.", "Enter a number that is there; for several machines, see `accelerate launch` in the README.")
    desk.cache.unload()
    order = _Order(desk.paths, lane.job)
    order.write(request)
    with order.log.open("wb") as log:
        child = subprocess.Popen(command(order.file, devices), stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=_environment(desk.paths, devices, cuda), start_new_session=os.name == "posix")
        try:
            while child.poll() is None:
                lane.breathe()
                time.sleep(LOOK)
        finally:
            end(child)
    return order.result()


def command(file: Path, devices: int) -> list[str]:
    """What starts so many processes of a training on this machine."""
    shape = ["--multi_gpu", "--num_machines", "1", "--num_processes", str(devices), "--main_process_port", "0", "--mixed_precision", "no", "--dynamo_backend", "no"]
    return [sys.executable, "-m", "accelerate.commands.launch", *shape, "-m", "studio", "train", str(file)]


def _environment(paths: Paths, devices: int, cuda: bool) -> dict[str, str]:
    """Where they find the studio, and how many threads each has."""
    threads = os.environ.get("OMP_NUM_THREADS") or str(max(1, (os.cpu_count() or 1) // devices))
    path = os.pathsep.join(filter(None, (str(SHIPPED_ROOT), os.environ.get("PYTHONPATH", ""))))
    return {**os.environ, "STUDIO_ROOT": str(paths.root), "PYTHONPATH": path, "OMP_NUM_THREADS": threads, **({} if cuda else {"CUDA_VISIBLE_DEVICES": "", "ACCELERATE_USE_CPU": "true"})}


def end(child: "subprocess.Popen[bytes]") -> None:
    """End a process and all that it started, at once."""
    if child.poll() is not None:
        return
    with contextlib.suppress(psutil.NoSuchProcess):
        family = psutil.Process(child.pid)
        for process in (*family.children(recursive=True), family):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
    child.wait()


class _Order:
    """The files of a launched job: what to train, how it ended in each process, and what the processes said."""

    def __init__(self, paths: Paths, job: str) -> None:
        self.job, self.root = job, paths.root
        self.file, self.log = paths.logs / f"train-{job}.json", paths.logs / f"train-{job}.log"

    def write(self, request: TrainRequest) -> None:
        """Write what to train; forget how it ended before."""
        for old in self._endings():
            old.unlink()
        facts = {**request.model_dump(mode="json"), "job": self.job, "root": str(self.root), "worker": os.getpid()}
        self.file.write_text(json.dumps(facts, ensure_ascii=False, indent=2), encoding="utf-8")

    def _endings(self) -> list[Path]:
        """How it ended, by process."""
        return sorted(self.file.parent.glob(f"{self.file.stem}.end-*.json"))

    def result(self) -> dict[str, Any]:
        """What the training gave; raises StudioError with the first reason that is not another process's."""
        said = [json.loads(path.read_text(encoding="utf-8")) for path in self._endings()]
        for one in said:
            if "result" in one:
                for path in (*self._endings(), self.file):
                    path.unlink()
                result: dict[str, Any] = one["result"]
                return result
        failed = sorted(said, key=lambda one: one["code"] == LOST)
        if failed and failed[0]["code"] != LOST:
            raise StudioError(failed[0]["message"], failed[0]["hint"], failed[0]["code"])
        lines = [line.strip() for line in self.log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip() and not FRAME.match(line)]
        why = failed[0]["message"] if failed else "A process of this training died."
        raise StudioError(
            f"{why} The last of what the processes said: {' / '.join(lines[-LAST:])}",
            f"outputs/logs/{self.log.name} holds all of it. What was saved before is kept: resume the run in Runs.",
            LOST,
        )


def ended(file: Path, rank: int, result: dict[str, Any] | None, error: StudioError | None = None) -> None:
    """Note how a process of a launched job ended, as a file that is whole or not there; raises OSError, OutOfSpace."""
    facts = {"result": result} if error is None else {"message": error.message, "hint": error.hint, "code": error.code}
    with atomic_write(file.with_name(f"{file.stem}.end-{rank}.json")) as temporary:
        temporary.write_text(json.dumps(facts, ensure_ascii=False), encoding="utf-8")
