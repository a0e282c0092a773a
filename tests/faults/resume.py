"""Kill a training of the tiny world with SIGKILL, at random moments and inside its saves, and let it go on until it is done: it must end bit for bit as one that was never killed.

`python -m tests.faults.resume [--times N] [--seed N] [--quick] [--json]`. Half of the kills fall at a random time, the others at a named point: before the tensors of a checkpoint get
their name, between tensors and manifest, before the manifest gets its name, in the middle of a line of a log, while old checkpoints are taken away. Compared are the vectors, the
optimiser, and every log without times in it. Torch has one thread throughout. Exits 1 when anything differs. POSIX only: each life is a fork of one warm process.
"""

import argparse
import json
import os
import random
import signal
import tempfile
import time
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image, ImageDraw

from studio.diffusion.cache import ModelCache
from studio.formats.embedding import read_embedding
from studio.jobs import SilentLane
from studio.requests.train import CreateEmbeddingRequest, TrainRequest
from studio.services.desk import Desk
from studio.services.library import create_embedding
from studio.services.training import run
from studio.settings import Paths
from studio.training.run import Run
from studio.training.watch import Rhythm

POINTS = ("before tensors", "before manifest", "after tensors", "half a line", "while pruning")
LOGS = ("curve.csv", "probe.csv", "verdicts.jsonl", "previews.jsonl", "best.json")
"""What has no times in it."""
LIVES = 40
"""Lives after which a run is given up."""


@dataclass(frozen=True)
class Kill:
    """One kill: where it fell, and the step the run had reached in its curve."""

    point: str
    step: int


@dataclass(frozen=True)
class Trial:
    """One run that was killed some times: its kills, and what is wrong at its end (nothing, if all is well)."""

    kills: tuple[Kill, ...]
    wrong: str = ""


class World:
    """A studio with pictures and an embedding, its model loaded once; `live` forks one life of a job."""

    def __init__(self, root: Path, steps: int) -> None:
        torch.set_num_threads(1)
        self.paths = Paths(root).prepare()
        self.desk = Desk(self.paths, ModelCache(self.paths, device="cpu"))
        data = root / "pictures"
        data.mkdir()
        for number, colour in enumerate(("red", "green", "orange")):
            image = Image.new("RGB", (64, 64), "white")
            ImageDraw.Draw(image).ellipse((10 + 3 * number, 15, 50, 55), fill=colour)
            image.save(data / f"{number}.png")
            (data / f"{number}.txt").write_text(f"{colour}, round, on white")
        create_embedding(CreateEmbeddingRequest(name="gnarl", initialization_text="monster", vectors=2), self.desk)
        self.shelf = self.paths.embeddings / "gnarl.pt"
        self.start = self.shelf.read_bytes()
        knobs = {"steps": steps, "width": 64, "height": 64, "probe_every": 5, "preview_every": 8, "preview_steps": 1, "save_every": 7, "learn_rate": "0.02:9, 0.01", "warmup": 3}
        shown = {"rate_shape": "cosine", "shuffle_tags": True, "drop_out_tags": 0.2, "latent_sampling": "random", "flip": True}
        self.request = TrainRequest.check({"config": {"embedding": "gnarl", "data": str(data), **knobs, **shown}})
        self._warm()

    def _warm(self) -> None:
        """Load the model and encode the pictures before any fork."""
        with self.desk.cache.lend("") as model:
            model.encode_images(torch.zeros(1, 3, 64, 64))

    def live(self, job: str, point: str = "", count: int = 0) -> int:
        """Fork one life of a job, which kills itself at the `count`th time it comes to a point; its process id."""
        child = os.fork()
        if child:
            return child
        code = 1
        try:
            _armed(point, count)
            run(self.request, SilentLane(job), self.desk, Rhythm(3, 1e9))
            code = 0
        finally:
            os._exit(code)

    def folder(self, job: str) -> Path:
        """The folder of a job's run, which may not be there yet."""
        return next(iter(self.paths.runs.glob(f"*-{job}")), self.paths.runs / job)

    def step(self, job: str) -> int:
        """The step in the last line of the curve."""
        curve = self.folder(job) / "curve.csv"
        return max(0, len(curve.read_bytes().splitlines()) - 1) if curve.exists() else 0

    def outcome(self, job: str) -> dict[str, Any]:
        """What a run left: logs as bytes, vectors and optimiser as bits."""
        folder = self.folder(job)
        kept = Run(folder).latest()
        tensors = {} if kept is None else {name: value.numpy().tobytes() for name, value in kept.tensors.items()}
        logs = {name: (folder / name).read_bytes() if (folder / name).exists() else b"" for name in LOGS}
        return {**logs, **tensors, "the embedding": read_embedding(self.shelf).vectors.numpy().tobytes()}


def _die() -> None:
    """End this process as a power cut would."""
    os.kill(os.getpid(), signal.SIGKILL)


def _armed(point: str, count: int) -> None:
    """Let this process die at the `count`th time it comes to a point."""
    left = [count]

    def here() -> bool:
        left[0] -= 1
        return left[0] == 0

    replace, write, unlink = os.replace, os.write, os.unlink

    def replacing(source: Any, target: Any, **named: Any) -> None:
        inside = Path(target).parent.name == "checkpoints"
        tensors = inside and str(target).endswith(".safetensors")
        if ((point == "before tensors" and tensors) or (point == "before manifest" and inside and not tensors)) and here():
            _die()
        replace(source, target, **named)
        if point == "after tensors" and tensors and here():
            _die()

    def writing(handle: int, data: bytes) -> int:
        if point == "half a line" and here():
            write(handle, data[: len(data) // 2])
            _die()
        return write(handle, data)

    def unlinking(path: Any, **named: Any) -> None:
        unlink(path, **named)
        if point == "while pruning" and Path(path).parent.name == "checkpoints" and here():
            _die()

    os.replace, os.write, os.unlink = replacing, writing, unlinking  # type: ignore[assignment]


def faults(times: int, steps: int, seed: int, lives: int = 5) -> list[Trial]:
    """Kill so many times, about `lives` times in each run."""
    dice = random.Random(seed)
    with tempfile.TemporaryDirectory() as place:
        world = World(Path(place), steps)
        began = time.monotonic()
        if os.waitpid(world.live("whole"), 0)[1]:
            return [Trial((), "the run that was never killed did not end well")]
        span, wanted = time.monotonic() - began, world.outcome("whole")
        empty = [name for name in LOGS if not wanted[name] and name != "best.json"]
        if empty:
            return [Trial((), f"the run that was never killed left nothing in {', '.join(empty)}")]
        trials: list[Trial] = []
        while (left := times - sum(len(trial.kills) for trial in trials)) > 0:
            trials.append(_trial(world, f"killed{len(trials)}", wanted, (min(left, lives), span, dice)))
            if trials[-1].wrong and not trials[-1].kills:
                break
        return trials


def _trial(world: World, job: str, wanted: dict[str, Any], how: tuple[int, float, random.Random]) -> Trial:
    """Kill one run so many times, let it end, and compare."""
    kills: list[Kill] = []
    times, span, dice = how
    world.shelf.write_bytes(world.start)
    for _ in range(LIVES):
        point = POINTS[(sum(map(ord, job)) + len(kills) // 2) % len(POINTS)] if len(kills) % 2 else "at a random time"
        if len(kills) >= times:
            point = ""
        child = world.live(job, point, dice.randrange(1, 6))
        if point == "at a random time":
            time.sleep(dice.uniform(0, span / 2))
            os.kill(child, signal.SIGKILL)
        status = os.waitpid(child, 0)[1]
        if os.WIFSIGNALED(status):
            kills.append(Kill(point, world.step(job)))
            continue
        if os.waitstatus_to_exitcode(status):
            return Trial(tuple(kills), "it could not go on")
        found = world.outcome(job)
        return Trial(tuple(kills), ", ".join(name for name in {**wanted, **found} if wanted.get(name) != found.get(name)))
    return Trial(tuple(kills), f"it was not done after {LIVES} lives")


def main() -> int:
    """Kill, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="10 kills; under a minute")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    times, steps = (10, 20) if arguments.quick else (arguments.times, 60)
    trials = faults(times, steps, arguments.seed)
    kills = [kill for trial in trials for kill in trial.kills]
    broken = [trial for trial in trials if trial.wrong]
    if arguments.json:
        print(json.dumps({"kills": len(kills), "trials": [asdict(trial) for trial in trials], "broken": len(broken)}, indent=1))
        return 1 if broken else 0
    print(f"{len(kills)} kills of {len(trials)} runs of {steps} steps")
    for point, count in sorted(Counter(kill.point for kill in kills).items()):
        print(f"  {point:20}{count:>4}")
    print(f"{len(trials) - len(broken)} of {len(trials)} runs ended bit for bit as the one that was never killed")
    for trial in broken:
        print(f"BROKEN: {trial.wrong} differs after kills at {', '.join(f'{k.point} (step {k.step})' for k in trial.kills)}")
    return 1 if broken else 0


if __name__ == "__main__":
    raise SystemExit(main())
