"""The folder of a training: opened or opened again, described, and closed with how it ended."""

import platform
import shutil
import sys
import time
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import TracebackType
from typing import Any

import torch

from studio import __version__
from studio.diffusion.model import Model
from studio.errors import InputError, NotFound, StudioError
from studio.jobs import Lane
from studio.requests.continuing import BY_STEP, CONTINUABLE, instead, refused_changes
from studio.requests.train import TrainConfig, TrainRequest, subject_of
from studio.services.a1111_log import A1111Log
from studio.services.encoding import Pictures, size_of
from studio.settings import Paths
from studio.training.course import Course
from studio.training.journal import RESTS, Journal
from studio.training.methods.trainable import Method, Trainable
from studio.training.run import Checkpoint, Run
from studio.training.seams import Listener

PACKAGES = ("torch", "diffusers", "transformers", "safetensors")
"""Packages whose versions are noted."""


def opened(request: TrainRequest, paths: Paths, job: str) -> Run:
    """The folder of this job's run; raises NotFound and InputError for a run to go on with that is not there or is another embedding's."""
    name = request.run
    if name:
        if Path(name).name != name or name == ".." or not (paths.runs / name).is_dir():
            raise NotFound(f"Run: there is no {name!r} to go on with.", "It may have been renamed or deleted; choose it again in Runs.")
        noted = Run(paths.runs / name).noted("config")
        taught = subject_of(noted.get("config", {})) if isinstance(noted, dict) else ""
        if taught and taught != request.config.subject:
            raise InputError(f"Run: {name!r} taught {taught!r}, and the form names {request.config.subject!r}.", f"Choose {taught!r}, or begin a new run.")
        if isinstance(noted, dict) and noted.get("method", request.method) != request.method:
            raise InputError(f"Run: {name!r} was a training by {noted['method']}, and this one is by {request.method}.", "Choose the method it began with, or begin a new run.")
    return Run.open(paths.runs, request.config.subject, job, name)


def going_on(folder: Run, request: TrainRequest) -> TrainConfig:
    """The settings in force, as `Course` takes them; what the request of a new job changes of those that may change is journaled once, from the newest checkpoint on.

    Raises InputError naming every other setting that differs.
    """
    noted = folder.noted("config")
    try:
        base = type(request.config).check(noted["config"])
    except (TypeError, KeyError, StudioError):
        base = request.config  # a damaged config.json: the job knows what it asked
    kept = folder.latest()
    if kept is None:
        return base
    journal = Journal.open(folder.journal)
    if request.run:
        _take_changes(folder, request, base, kept, journal)
    now = journal.course(Course(base, kept.facts["tally"]["first"])).config
    return base.model_copy(update={name: getattr(now, name) for name in CONTINUABLE if name not in BY_STEP and name in type(now).model_fields})


def _take_changes(folder: Run, request: TrainRequest, base: TrainConfig, kept: Checkpoint, journal: Journal) -> None:
    """Journal what a request that continues a run changes, once for each job; raises InputError for what cannot be changed."""
    jobs = (folder.noted("run") or {}).get("jobs", [""])
    if any(entry["ask"] == "go_on" and entry["data"].get("job") == jobs[-1] for entry in journal.entries):
        return
    tally = kept.facts["tally"]
    course, step = journal.course(Course(base, tally["first"])), max(kept.step, journal.newest)
    refused = refused_changes(course.config, request.config, begun_on(folder))
    if refused:
        raise InputError(" ".join(refused), instead(request.config))
    there = [name for name in CONTINUABLE if name in type(base).model_fields]
    changes = {name: getattr(request.config, name) for name in there if getattr(request.config, name) != getattr(course.config, name)}
    asked = course.changed(changes, step, tally["halvings"], CONTINUABLE)
    if asked.end <= step:
        raise InputError(f"Max steps: this run has been trained to step {step} already; enter a number above {step}.")
    if changes:
        journal.write(step, "change", changes, tally["halvings"])
    if journal.resting is not None and journal.resting["ask"] in RESTS:
        journal.write(step, "resume")
    journal.write(step, "go_on", {"job": jobs[-1]})


def begun_on(folder: Run) -> str:
    """The checkpoint that a run began with, by name; empty before it began. The first of the shelf may be another by now: a result of this very run."""
    return str((folder.noted("config") or {}).get("facts", {}).get("checkpoint", ""))


def start_file(folder: Run, method: Method, config: TrainConfig, paths: Paths) -> Path | None:
    """The file that the run goes on from as it was when it began, kept in its folder; None where it begins anew. Raises NotFound."""
    kept = sorted((folder.folder / "start").glob("*"))
    if kept and folder.latest() is not None:
        return kept[0]
    source = method.start(paths, config)
    if source is None:
        return None
    target = folder.folder / "start" / source.name
    target.parent.mkdir(exist_ok=True)
    shutil.copyfile(source, target)
    return target


def shelves_of(folder: Run, method: Method, config: TrainConfig, paths: Paths) -> dict[str, Path]:
    """Where the results lie, by suffix; for something deleted or renamed while the run went on, where it lay. Raises NotFound."""
    try:
        return method.shelves(paths, config)
    except NotFound:
        kept = sorted((folder.folder / "start").glob("*"))
        if not kept:
            raise
        return {kept[0].suffix: paths.embeddings / kept[0].name}


def described(folder: Run, request: TrainRequest, model: Model, more: dict[str, Any], resumed: bool) -> None:
    """Write down what this run is made of, `more` besides; a run that goes on must find the checkpoint it began with, else InputError."""
    if resumed:
        facts = (folder.noted("config") or {}).get("facts", {})
        if facts.get("checkpoint_hash", model.hash) != model.hash:
            raise InputError(
                f"Checkpoint: this run began on {facts.get('checkpoint')} ({str(facts['checkpoint_hash'])[:10]}), and {model.checkpoint} is another ({model.hash[:10]}).",
                "Choose the checkpoint it began with.",
            )
        return
    facts = {
        "checkpoint": model.checkpoint,
        "checkpoint_hash": model.hash,
        **more,
        "started": datetime.now().astimezone().isoformat(timespec="seconds"),
        "versions": {"studio": __version__, "python": sys.version.split()[0], **{name: found for name in PACKAGES if (found := _version(name))}},
        "system": platform.platform(),
        "device": torch.cuda.get_device_name(model.device) if model.device.type == "cuda" else model.device.type,
        "dtype": str(model.dtype).removeprefix("torch."),
        "clip_skip": request.config.clip_skip,
    }
    folder.note("config", {**request.model_dump(mode="json"), "facts": facts})


def _version(package: str) -> str:
    """The version of an installed package; empty when it is not there."""
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


class Ending:
    """Notes in result.json how a run ended: done, stopped, or failed with its cause; the time of earlier jobs counts too."""

    def __init__(self, folder: Run) -> None:
        self.folder = folder
        self.result: dict[str, Any] = {}
        self.began = time.monotonic()
        self.before = self._seconds()

    def __enter__(self) -> "Ending":
        """Begin."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Note how it ended; what cannot be noted is left, since the job says it too."""
        state = "failed" if error is not None else "stopped" if self.result.get("stopped") else "done"
        cause = None if error is None else str(error) or type(error).__name__
        kept = self.result.get("steps") if error is None else self._newest()
        facts = {"state": state, "steps": kept, "stopped": self.result.get("stopped", False), "error": cause, "reason": self.result.get("reason")}
        try:
            self.folder.note("result", {**facts, "seconds": round(self.before + time.monotonic() - self.began, 1), "embedding": self.result.get("embedding"), "path": self.result.get("path")})
        except (OSError, StudioError):
            return

    def _newest(self) -> int:
        """The step of the newest checkpoint; 0 without one."""
        kept = self.folder.latest()
        return kept.step if kept else 0

    def _seconds(self) -> float:
        """Seconds that earlier jobs of this run took."""
        said = self.folder.noted("result")
        return float(said.get("seconds") or 0.0) if isinstance(said, dict) else 0.0


class Neighbour:
    """Keeps the run in A1111's layout too."""

    def __init__(self, log: A1111Log, lane: Lane, pictures: int, facts: dict[str, Any]) -> None:
        self.log, self.lane, self.length, self.facts = log, lane, pictures, facts

    def _say(self, problem: str) -> None:
        """Tell what did not work."""
        if problem:
            self.lane.emit("warning", text=problem)

    def began(self, step: int) -> None:
        """Cut the losses back, and write the settings."""
        self._say(self.log.rewind(step))
        self._say(self.log.settings(**self.facts))

    def stepped(self, step: int, figures: dict[str, Any]) -> None:
        """A row of losses; a step without a number has none."""
        if figures["loss"] is not None:
            self._say(self.log.row(step, self.length, figures["loss"], figures["learn_rate"]))

    def measured(self, step: int, reading: dict[str, Any]) -> None:
        """A1111 has no place for measurements: losses up to here are written instead, so that both can be read side by side."""
        self._say(self.log.flush())

    def painted(self, picture: Path, weights: Path) -> None:
        """A preview, and a copy of it that carries the embedding."""
        self._say(self.log.image(picture))
        self._say(self.log.embedded(picture, weights))

    def saved(self, path: Path) -> None:
        """A copy of the embedding."""
        self._say(self.log.copy(path))

    def checkpoint(self) -> None:
        """Losses up to here are on the disk."""
        self._say(self.log.flush())

    def ended(self) -> None:
        """The last losses."""
        self._say(self.log.flush())


def listeners_of(config: TrainConfig, folder: Run, paths: Paths, lane: Lane, parts: tuple[Model, Trainable, Pictures]) -> tuple[Listener, ...]:
    """Who listens to a run: A1111's layout of what it trains too, and TensorBoard where it is wanted."""
    model, learner, pictures = parts
    if config.method not in ("textual_inversion", "hypernetwork"):
        return _boards(config, folder, lane)
    words, (width, height) = learner.words(), size_of(config, model)
    facts = (folder.noted("config") or {}).get("facts", {})
    started = datetime.fromisoformat(facts["started"])
    told = {
        "model_name": model.checkpoint,
        "model_hash": model.hash[:10],
        "num_of_dataset_images": len(pictures.train),
        "initial_step": facts.get("first_step", 0),
        **({"num_vectors_per_token": next(iter(words.values())).shape[0]} if words else {}),
        "training_width": width,
        "training_height": height,
    }
    epoch = max(1, pictures.epoch_images // config.images_per_step)
    neighbour = Neighbour(A1111Log(paths, config.subject, started, config), lane, epoch, told)
    return (neighbour, *_boards(config, folder, lane))


def _boards(config: TrainConfig, folder: Run, lane: Lane) -> tuple[Listener, ...]:
    """TensorBoard where it is wanted."""
    if not config.tensorboard:
        return ()
    from studio.training.tensorboard import Board

    return (Board(folder.folder / "tensorboard", lambda text: lane.emit("warning", text=text)),)
