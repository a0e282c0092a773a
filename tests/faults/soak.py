"""`python -m tests.faults.soak --minutes N [--seed S]`: a web process and a worker generate, train and are browsed, with a random fault every minute.

Prints a report, and exits with 1 when something is wrong.
"""

import argparse
import collections
import random
import shutil
import statistics
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from PIL import Image

from studio.shelves import sample_pictures
from studio.training.run import Run
from tests.faults.soak_faults import LOSING, RESTARTING, Fault, Scene, possible
from tests.faults.soak_studio import PATIENCE, SECOND_MODEL, TINY_WORLD, Studio, own_disk

WARM = 300.0
"""Seconds at the start that say nothing about leaks."""
SPAN = 1200.0
"""Seconds of one process from which on its slope is judged."""
SLOPE = 150.0
"""MB of resident memory per hour that a process may grow."""
CALM = 1800.0
"""Seconds at the end of a soak of an hour or more in which no fault ends a process, so that one life is long enough to judge its memory."""
HANDLES = 60
"""File handles that a process may gain."""
IN_WORDS = ("disk is full", "read-only", "can't be used", "cannot be written", "cannot be kept", "no space left", "operation not permitted")
"""What a job may fail with while the disk is full or read-only: it says so."""
BROWSED = ("/", "/studio/v1/pulse", "/studio/v1/jobs", "/studio/v1/runs", "/studio/v1/worker", "/sdapi/v1/progress", "/studio/v1/datasets")


@dataclass(frozen=True)
class Plan:
    """How long it takes: faults in their order, or `minutes` of random ones, one in `every` seconds that holds `hold` seconds; `steps` of a training; the seed."""

    minutes: float = 0.0
    faults: Sequence[str] = ()
    every: float = 60.0
    hold: tuple[float, float] = (8.0, 40.0)
    steps: int = 400
    seed: int = 0


@dataclass
class Report:
    """What happened."""

    submitted: collections.Counter[str] = field(default_factory=collections.Counter)
    refused: collections.Counter[str] = field(default_factory=collections.Counter)
    ended: collections.Counter[str] = field(default_factory=collections.Counter)
    faults: list[tuple[str, float]] = field(default_factory=list)
    samples: dict[tuple[str, int], list[tuple[float, float, int]]] = field(default_factory=dict)
    gone: int = 0
    notes: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)


@dataclass
class Training:
    """One training of the soak; `steady` while nobody has touched its images."""

    name: str
    data: Path
    job: str = ""
    steady: bool = True


class Soak:
    """The load, the faults and the checks of one soak."""

    def __init__(self, studio: Studio, plan: Plan) -> None:
        self.studio, self.plan, self.report = studio, plan, Report()
        self.dice = random.Random(plan.seed)
        self.jobs: dict[str, tuple[str, int]] = {}
        self.over: dict[str, dict[str, Any]] = {}
        self.trainings: list[Training] = []
        self.moved = 0.0  # when a job was last seen to be done: a busy machine is slow, not stuck
        self._leave = threading.Event()
        self._lock = threading.Lock()

    def submit(self, kind: str, body: dict[str, Any]) -> str:
        """Submit a job; its id, or nothing when that was refused in words or nobody answered."""
        status, answer = self.studio.ask("POST", f"/studio/v1/jobs/{kind}", body)
        if status == 200:
            with self._lock:
                self.report.submitted[kind] += 1
                self.jobs[answer["id"]] = (kind, len(self.report.faults))
            return str(answer["id"])
        self.report.refused[str(status)] += 1
        if status not in (0, 503, 507):
            self.report.wrong.append(f"{kind} was answered with {status}: {str(answer)[:300]}")
        return ""

    def paint(self) -> str:
        """Submit a small picture."""
        checkpoint = self.dice.choice((TINY_WORLD.name, SECOND_MODEL))
        return self.submit("generate", {"prompt": "a cat", "steps": 2, "width": 64, "height": 64, "checkpoint": checkpoint})

    def wait(self, job: str, seconds: float = PATIENCE) -> dict[str, Any] | None:
        """The job once it is over; None when it isn't in time, or is gone."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            status, answer = self.studio.ask("GET", f"/studio/v1/jobs/{job}")
            if status == 404:
                return None
            if status == 200 and answer["state"] in ("done", "stopped", "failed"):
                return dict(answer)
            time.sleep(0.3)
        return None

    def train(self, name: str, seconds: float = 60.0) -> Training | None:
        """Start a training like every other one; None when the studio can't take it at the moment."""
        data = self.studio.disk / "data" / name
        if not data.exists():
            shutil.copytree(sample_pictures(), data)
        made = self.submit("create_embedding", {"name": name, "initialization_text": "monster", "checkpoint": TINY_WORLD.name})
        if not made or self.wait(made, seconds) is None:
            return None
        config = {"embedding": name, "data": str(data), "steps": self.plan.steps, "batch_size": 1, "learn_rate": "0.01", "preview_every": 0, "save_every": 5, "probe_every": 20}
        training = Training(name, data, self.submit("train", {"config": {**config, "width": 64, "height": 64, "checkpoint": TINY_WORLD.name}}))
        return training if training.job else None

    def live(self) -> Training | None:
        """The training that is not over."""
        last = self.trainings[-1] if self.trainings else None
        return last if last is not None and last.job not in self.over and last.job in self.jobs else None

    def load(self) -> None:
        """Paint, train and browse until told to leave."""
        number = 0
        while not self._leave.is_set():
            try:
                if self.live() is None:
                    number += 1
                    if (training := self.train(f"word{number}")) is not None:
                        self.trainings.append(training)
                self.paint()
                self.browse()
                self.look()
                self.sample()
            except OSError as error:  # a full disk keeps the soak's own folders from being written too
                self.report.notes.append(f"load: {error}")
            self._leave.wait(1.5)

    def browse(self) -> None:
        """Ask for what an open page asks for, and for a picture as A1111's clients do."""
        path = self.dice.choice(BROWSED)
        status, answer = self.studio.ask("GET", path)
        if status not in (0, 200, 503):
            self.report.wrong.append(f"GET {path}: {status} {str(answer)[:300]}")
        self.report.submitted["pages"] += 1

    def look(self) -> None:
        """Read how the jobs ended."""
        status, answer = self.studio.ask("GET", "/studio/v1/jobs?limit=1000")
        if status != 200:
            return
        for job in answer:
            if job["state"] in ("done", "stopped", "failed") and job["id"] not in self.over:
                self.over[job["id"]] = job
                self.moved = time.monotonic() if job["state"] == "done" else self.moved

    def sample(self) -> None:
        """Memory and file handles of both processes."""
        worker = self.studio.worker()
        for name, process in (("web", psutil.Process(self.studio.process.pid) if self.studio.process else None), ("worker", worker)):
            if process is None:
                continue
            try:
                figures = (time.monotonic(), process.memory_info().rss / 2**20, process.num_fds())
            except psutil.Error:
                continue
            self.report.samples.setdefault((name, process.pid), []).append(figures)

    def run(self) -> Report:
        """Load, faults, and the checks at the end."""
        self.studio.start()
        first = self.paint()
        if (self.wait(first) or {}).get("state") != "done":
            self.report.wrong.append("the first picture was not painted")
            return self.report
        load = threading.Thread(target=self.load, name="load")
        load.start()
        try:
            self._harm()
        finally:
            self._leave.set()
            load.join()
        self._drain()
        return self.report

    def _harm(self) -> None:
        """One fault after another, each followed by the proof that the studio has recovered."""
        faults, left_out = possible(self.studio)
        self.report.notes += [f"left out - {reason}" for reason in left_out]
        end, bag = time.monotonic() + 60 * self.plan.minutes, list(self.plan.faults)
        self._until_training()
        while bag or (not self.plan.faults and time.monotonic() < end):
            began = time.monotonic()
            if self.plan.minutes >= 60 and began > end - CALM:
                faults = {name: fault for name, fault in faults.items() if name not in RESTARTING}
                bag = [name for name in bag if name in faults]
            if not self.plan.faults and not bag:
                bag = self.dice.sample(sorted(faults), len(faults))
            name = bag.pop(0)
            if name in faults:
                self._one(name, faults[name])
            time.sleep(max(0.0, min(self.plan.every - (time.monotonic() - began), end - time.monotonic())))

    def _until_training(self) -> None:
        """Wait until a training has a checkpoint."""
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end and not list(self.studio.paths.runs.glob("*/checkpoints/*.json")):
            time.sleep(0.3)

    def _one(self, name: str, fault: Fault) -> None:
        """Do harm, and wait for a picture that was asked for afterwards."""
        training = self.live()
        if name == "dataset" and training is not None:
            training.steady = False
        scene = Scene(self.studio, self.dice, self.dice.uniform(*self.plan.hold), training.data if training else None)
        self.report.faults.append((name, -1.0))
        try:
            said = fault(scene)
        except (AssertionError, OSError) as error:
            self.report.wrong.append(f"fault {name}: {error}")
            return
        began = time.monotonic()
        self.moved = began
        while time.monotonic() - self.moved < PATIENCE:
            if (job := self.paint()) and (self.wait(job, PATIENCE) or {}).get("state") == "done":
                self.report.faults[-1] = (said, time.monotonic() - began)
                print(f"  {said}: painted again after {time.monotonic() - began:.1f} s", flush=True)
                return
            time.sleep(0.5)
        self.report.wrong.append(f"no picture in {time.monotonic() - began:.0f} s, and no other job done in {PATIENCE:.0f} s, after: {said}")

    def _drain(self) -> None:
        """Wait for every job, then check that nothing is stuck or lost."""
        end = time.monotonic() + 2 * PATIENCE
        while time.monotonic() < end:
            self.look()
            left = [job for job in self.jobs if job not in self.over and self.studio.ask("GET", f"/studio/v1/jobs/{job}")[0] == 200]
            if not left:
                break
            time.sleep(1)
        else:
            self.report.wrong += [f"stuck: {self.studio.ask('GET', f'/studio/v1/jobs/{job}')[1]}" for job in left]
        self.sample()
        self._check_jobs()
        self._check_runs()
        self._check_processes()

    def _check_jobs(self) -> None:
        """Every accepted job ended, and every image that was told is on the disk."""
        losses = [number for number, (said, _) in enumerate(self.report.faults) if said in LOSING or said.startswith("database")]
        for name, (kind, after) in self.jobs.items():
            job = self.over.get(name)
            if job is None:
                self.report.gone += 1
                if not any(number >= after - 1 for number in losses):
                    self.report.wrong.append(f"{kind} {name} was accepted and is gone")
                continue
            self.report.ended[f"{kind} {job['state']}"] += 1
            if job["state"] == "failed" and not any(words in str(job["error"]).lower() for words in IN_WORDS):
                self.report.wrong.append(f"{kind} {name} failed: {job['error']}")
            for image in (job["result"] or {}).get("images", ()):
                try:
                    with Image.open(image) as opened:
                        opened.load()
                except (OSError, SyntaxError) as error:
                    self.report.wrong.append(f"image of {name}: {error}")

    def _check_runs(self) -> None:
        """Every run ends as one that nobody disturbed, bit for bit, and can be gone on with."""
        control = self.train("control", PATIENCE)
        if control is None or (self.wait(control.job, 4 * PATIENCE) or {}).get("state") != "done":
            self.report.wrong.append("the training that nobody disturbs did not end well")
            return
        wanted, same = self._outcome(control), 0
        for training in self.trainings:
            job = self.over.get(training.job)
            found = self._outcome(training)
            if found is None:
                self.report.wrong.append(f"run of {training.name}: no checkpoint to go on from")
            elif training.steady and job is not None and job["state"] == "done" and found != wanted:
                self.report.wrong.append(f"run of {training.name} differs from the one that was not disturbed: {[key for key in wanted or {} if (wanted or {})[key] != found.get(key)]}")
            else:
                same += training.steady
        self.report.notes.append(f"{len(self.trainings)} runs, {same} of {sum(t.steady for t in self.trainings)} with unchanged images are bit for bit the one that nobody disturbed")
        for training in self.trainings[-1:]:
            folder = next(self.studio.paths.runs.glob(f"*-{training.job}"), None)
            if folder is not None and self.over.get(training.job, {}).get("state") == "done":
                self._go_on(folder)

    def _go_on(self, folder: Path) -> None:
        """A run that is over can be extended."""
        status, answer = self.studio.ask("POST", f"/studio/v1/runs/{folder.name}/extend", {"steps": self.plan.steps + 5})
        if status != 200 or (self.wait(answer.get("id") or answer.get("job", "")) or {}).get("state") != "done":
            self.report.wrong.append(f"run {folder.name} could not be extended: {status} {str(answer)[:300]}")

    def _outcome(self, training: Training) -> dict[str, Any] | None:
        """What a run left, without times: its curve, and every tensor of its newest checkpoint."""
        folder = next(self.studio.paths.runs.glob(f"*-{training.job}"), None)
        kept = Run(folder).latest() if folder else None
        if folder is None or kept is None:
            return None
        return {"step": kept.step, "curve": (folder / "curve.csv").read_bytes(), "probe": (folder / "probe.csv").read_bytes(), **{key: value.numpy().tobytes() for key, value in kept.tensors.items()}}

    def _check_processes(self) -> None:
        """Whether memory and file handles stay what they were."""
        for (name, pid), figures in self.report.samples.items():
            settled = [one for one in figures if one[0] > figures[0][0] + WARM]
            if len(settled) < 10 or settled[-1][0] - settled[0][0] < SPAN:
                continue
            if (grown := slope(settled)) > SLOPE:
                self.report.wrong.append(f"{name} {pid} grows by {grown:.0f} MB an hour")
            if settled[-1][2] - settled[0][2] > HANDLES:
                self.report.wrong.append(f"{name} {pid} holds {settled[-1][2]} files, {settled[0][2]} at the start")


def slope(figures: Sequence[tuple[float, float, int]]) -> float:
    """MB of resident memory per hour, by least squares."""
    return 3600 * statistics.linear_regression([one[0] for one in figures], [one[1] for one in figures]).slope if len(figures) > 2 else 0.0


def printed(report: Report) -> str:
    """The report in words."""
    lines = ["submitted:  " + ", ".join(f"{count} {kind}" for kind, count in sorted(report.submitted.items()))]
    lines.append("ended:      " + ", ".join(f"{count} {kind}" for kind, count in sorted(report.ended.items())))
    lines.append(f"refused:    {dict(report.refused)} (0: nobody answered); gone with a destroyed database: {report.gone}")
    lines.append(f"faults:     {len(report.faults)}")
    times = collections.defaultdict(list)
    for said, seconds in report.faults:
        times[" ".join(word for word in said.split() if not any(letter.isdigit() for letter in word))].append(seconds)
    lines += [f"  {said:55} {len(found):>3} times, painted again after {statistics.mean(found):5.1f} s, at most {max(found):5.1f} s" for said, found in sorted(times.items())]
    for (name, pid), figures in report.samples.items():
        span = figures[-1][0] - figures[0][0]
        settled = [one for one in figures if one[0] > figures[0][0] + WARM]
        shown = f"{figures[0][1]:.0f} to {figures[-1][1]:.0f} MB, {figures[0][2]} to {figures[-1][2]} files"
        lines.append(f"{name} {pid}: {span / 60:.1f} min, {shown}" + (f", {slope(settled):+.0f} MB an hour after the first 5 min" if span > 2 * WARM else ""))
    lines += [f"note: {note}" for note in dict.fromkeys(report.notes)]
    lines += [f"WRONG: {wrong}" for wrong in report.wrong] or ["nothing stuck, nothing lost"]
    return "\n".join(lines)


def soak(plan: Plan) -> Report:
    """Run one soak on a disk of its own, where one can be made."""
    with own_disk() as (disk, own):
        studio = Studio(disk, own)
        try:
            report = Soak(studio, plan).run()
        finally:
            studio.end()
        if report.wrong:
            for log in (studio.paths.logs / "worker.log", disk.parent / "serve.log"):
                report.notes.append(f"end of {log.name}:\n{log.read_text(encoding='utf-8', errors='replace')[-3000:]}")
        return report


def main() -> int:
    """Soak and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=15.0, help="how long random faults go on; 120 is the full soak")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--faults", nargs="*", default=[], help="these faults in this order instead of random ones")
    arguments = parser.parse_args()
    report = soak(Plan(arguments.minutes, arguments.faults, seed=arguments.seed))
    print(printed(report))
    return 1 if report.wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
