"""The torch-free end of the database: submit, watch, ask and browse, and keep a worker alive."""

import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from studio import shelves
from studio.config import Config
from studio.errors import InputError, NotFound
from studio.formats.carriers import read_carrier
from studio.formats.hashes import known_hash
from studio.jobs import LIVE, Event, Job, JobStore, State
from studio.networks import shelf
from studio.pasting import lookup_in, request_values
from studio.preferences import Preferences, changed, read_preferences, write_preferences
from studio.projects.captions import decode_caption
from studio.projects.data_sets import DataSets
from studio.projects.training_images import training_images
from studio.prompts.problems import problems
from studio.prompts.styles import read_styles
from studio.requests import GenerateRequest, PreprocessRequest, TrainRequest, kind_of
from studio.requests.train import TextualInversionConfig, TrainConfig, subject_of
from studio.settings import SHIPPED_ROOT, Paths
from studio.tokens import counts

PATIENT_THREADS = {"GOMP_SPINCOUNT": "2000"}
"""Torch's threads wait for each other awake for a moment only: just as fast on an idle machine, and several times faster beside a busy browser (`ARCHITECTURE.md`)."""
RESTART_WAIT = 3.0
"""Seconds between two looks at the worker."""


class Engine:
    """What faces call; one per process. `keep_worker` starts a worker and starts it again when it dies."""

    def __init__(self, paths: Paths) -> None:
        self.paths = paths.prepare()
        self.store = JobStore(paths.database)
        self.data_sets = DataSets(self.paths)
        self._keeper: threading.Thread | None = None
        self._leave = threading.Event()
        self._child: subprocess.Popen[bytes] | None = None

    def submit(self, request: Config, browser: str = "") -> str:
        """Check a request at the door, queue it for a browser and return the job's id; raises StudioError in words."""
        key = None
        if isinstance(request, TrainRequest):
            self._check_training(request)
            key = f"training of {request.config.subject}" if isinstance(request.config, TextualInversionConfig) else f"{request.method} training of {request.config.subject}"
        if isinstance(request, GenerateRequest):
            self._check_generation(request)
        if isinstance(request, PreprocessRequest):
            self._check_preprocess(request)
        folder = getattr(request, "folder", None)
        if isinstance(folder, str):
            self._check_folder(folder)
        return self.store.submit(kind_of(request), request.model_dump(mode="json"), key, browser)

    def _check_training(self, request: TrainRequest) -> None:
        """Everything that is missing before a training can start, at once."""
        config, wrong = request.config, []
        self._check_checkpoint(config.checkpoint, wrong)
        if request.run:
            self._check_run(request.run, wrong)
        else:
            self._check_new_training(config, wrong)
        if wrong:
            raise InputError(" ".join(wrong))

    def _check_run(self, name: str, wrong: list[str]) -> None:
        """A run to go on with must be there; it has its own pictures and prompts, and the embedding it began with."""
        if Path(name).name != name or name == ".." or not (self.paths.runs / name).is_dir():
            wrong.append(f"Run: there is no {name!r} to go on with; it may have been renamed or deleted.")

    def _check_new_training(self, config: TrainConfig, wrong: list[str]) -> None:
        """What a new run needs."""
        if isinstance(config, TextualInversionConfig) and config.embedding not in {card.name for card in shelves.embeddings(self.paths)}:
            wrong.append(f"Embedding: there is no {config.embedding!r} in {self.paths.embeddings.name}; create it first.")
        folder = Path(config.data)
        if not folder.is_dir():
            wrong.append(f"Dataset directory: {config.data!r} is not a folder; prepare pictures first.")
        elif not training_images(folder):
            wrong.append(f"Dataset directory: there is no picture in {config.data!r}.")
        if shelves.template_file(self.paths, config.template) is None:
            wrong.append(f"Prompt template: there is no {config.template!r}; choose one of {', '.join(shelves.templates(self.paths))}.")

    def _check_generation(self, request: GenerateRequest) -> None:
        """Whether the pictures and the checkpoint a generation names are there."""
        wrong: list[str] = []
        for label, value in (("Picture", request.init_image), ("Mask", request.mask), ("Sketch", request.sketch)):
            if value and not Path(value).is_file():
                wrong.append(f"{label}: {value!r} is not a file.")
        self._check_checkpoint(request.checkpoint, wrong)
        if wrong:
            raise InputError(" ".join(wrong))

    def _check_preprocess(self, request: PreprocessRequest) -> None:
        """Whether there is anything to prepare and a place for it that is not the source."""
        source, destination = Path(request.source), Path(request.destination)
        if not source.exists():
            raise InputError(f"Source directory: {request.source!r} does not exist.", "Drop pictures into the page or type the path of a folder.")
        if source.is_dir() and (destination.resolve() == source.resolve() or source.resolve() in destination.resolve().parents):
            raise InputError("Destination directory: it lies in the source, whose pictures must stay untouched.", "Choose another folder.")
        if destination.exists() and not destination.is_dir():
            raise InputError(f"Destination directory: {request.destination!r} is a file.", "Choose a folder.")

    def _check_folder(self, folder: str) -> None:
        """Whether a data set is where a request says."""
        if not Path(folder).is_dir():
            raise InputError(f"Data set: {folder!r} is not a folder.", "It may have been moved or deleted; choose another one.")

    def _check_checkpoint(self, name: str, wrong: list[str]) -> None:
        """A named checkpoint must be on the shelf."""
        known = shelves.checkpoints(self.paths)
        if name and name not in known and not any(Path(k).stem == name for k in known):
            wrong.append(f"Checkpoint: there is no {name!r}; choose one of {', '.join(known) or 'none'}.")

    def job(self, name: str) -> Job:
        """One job; raises NotFound."""
        return self.store.job(name)

    def jobs(self, limit: int = 100, kind: str | None = None, browser: str | None = None) -> list[Job]:
        """Jobs, newest first, of one kind or any, of one browser or all."""
        return self.store.jobs(kind=kind, limit=limit, browser=browser)

    def active(self, kind: str | None = None, browser: str | None = None) -> Job | None:
        """The newest job that is not over, of one kind or any, of one browser or all."""
        live = self.store.jobs(states=LIVE, kind=kind, limit=1, browser=browser)
        return live[0] if live else None

    def waiting(self) -> int:
        """How many jobs wait."""
        return len(self.store.jobs(states=(State.QUEUED, State.INTERRUPTED), limit=1000))

    def before(self, job: Job) -> int:
        """How many jobs are done before a waiting one."""
        order = [other.id for other in self.store.queue()]
        return order.index(job.id) if job.id in order else 0

    def latest(self, name: str, kind: str) -> dict[str, Any]:
        """What the newest event of a kind said; empty when there is none."""
        event = self.store.last(name, kind)
        return event.data if event else {}

    def events(self, name: str, after_seq: int = 0, kinds: tuple[str, ...] = ()) -> list[Event]:
        """Events of a job after a sequence number, oldest first."""
        return self.store.events(name, after_seq, kinds)

    def preferences(self) -> Preferences:
        """What is set for the whole studio."""
        return read_preferences(self.paths.settings)

    def prefer(self, values: dict[str, Any]) -> Preferences:
        """Change some settings and keep them; raises InputError naming every mistake."""
        preferences = changed(self.preferences(), values)
        write_preferences(self.paths.settings, preferences)
        return preferences

    def style_names(self) -> list[str]:
        """Names of saved styles."""
        return [style.name for style in read_styles(self.paths.styles)]

    def template_names(self) -> list[str]:
        """Names of prompt templates."""
        return shelves.templates(self.paths)

    def template_text(self, name: str) -> str:
        """The lines of a prompt template; raises NotFound."""
        file = shelves.template_file(self.paths, name)
        if file is None:
            raise NotFound(f"There is no prompt template {name!r}.", f"Choose one of {', '.join(self.template_names())}.")
        return decode_caption(file.read_bytes())

    def token_count(self, prompt: str) -> tuple[int, int]:
        """How many tokens a prompt has, and how many its chunks hold."""
        return counts(prompt, {name: card.vectors or 1 for card in shelves.embeddings(self.paths) if not card.problem for name in card.names})

    def prompt_problems(self, prompt: str, negative: bool = False) -> list[str]:
        """What should be known of a prompt before it is used, in sentences: names that are not there, embeddings that cannot be used or are missed by their spelling."""
        words = {name: card.problem or "" for card in reversed(shelves.embeddings(self.paths)) for name in reversed(card.names)}
        known = {kind: [*shelf.names_of(self.paths, kind), *self._learning()] for kind in ("lora", "hypernet")} if "<" in prompt else {}
        return problems(prompt, words, known, negative)

    def _learning(self) -> list[str]:
        """Names of what is being trained, which prompts may use."""
        return [name for job in self.store.jobs(states=LIVE, kind="train", limit=100) for name in (subject_of(job.request.get("config", {})),) if name]

    def picture_info(self, path: Path) -> tuple[str, dict[str, str]]:
        """The infotext inside a picture and everything else that is written in it; raises Unreadable."""
        return read_carrier(path)

    def pasted(self, text: str) -> tuple[dict[str, Any], list[str]]:
        """An infotext as fields of a request, and notes on what could not be taken over."""
        checkpoints = self.checkpoint_hashes()
        autoencoders = {path.name: known_hash(path, self.paths.hashes) or "" for path in shelves.vae_files(self.paths)}
        return request_values(text, lookup_in(checkpoints, checkpoints), lookup_in(autoencoders, autoencoders))

    def checkpoint_hashes(self) -> dict[str, str]:
        """Hashes of checkpoints by name, empty for those that were not hashed yet."""
        return {name: known_hash(path, self.paths.hashes) or "" for name, path in shelves.checkpoint_files(self.paths).items()}

    def pulse(self) -> str:
        """A word that changes whenever a job or the journal does."""
        return self.store.pulse()

    def ask(self, name: str, kind: str, data: dict[str, Any] | None = None) -> bool:
        """Ask a job to "stop", "save" or "sample"; False when it is already over."""
        return self.store.ask(name, kind, data)

    def device(self) -> dict[str, Any]:
        """What the engine chip shows: whether a worker lives, its device and memory, its job, and how many wait."""
        workers = [w for w in self.store.workers() if w["facts"].get("role") == "worker"]
        facts = workers[-1]["facts"] if workers else {}
        return {
            "alive": bool(workers),
            "device": facts.get("device", ""),
            "memory": facts.get("memory", ""),
            "job": facts.get("job", ""),
            "loaded": facts.get("loaded", []),
            "waiting": self.waiting(),
            **({"pid": workers[-1]["pid"]} if workers else {}),
        }

    def wait(self, name: str, timeout: float | None = None) -> Job:
        """Block until a job is over and return it; TimeoutError after `timeout` seconds."""
        end = None if timeout is None else time.monotonic() + timeout
        while not (job := self.job(name)).state.over:
            if end is not None and time.monotonic() > end:
                raise TimeoutError(f"job {name} is still {job.state} after {timeout} s")
            time.sleep(0.1)
        return job

    def keep_worker(self, role: str) -> None:
        """Start a worker if none lives, and again whenever it dies, until `close`; `role` is "web" or "cli"."""
        if self._keeper is None:
            self._keeper = threading.Thread(target=self._keep, args=(role,), name="keep-worker", daemon=True)
            self._keeper.start()

    def _keep(self, role: str) -> None:
        """Beat for this face and look after the worker."""
        name = f"{role}-{os.getpid()}"
        while not self._leave.is_set():
            self.store.beat(name, os.getpid(), {"role": role})
            if not self._worker_lives():
                self._child = start_worker(self.paths)
            self._leave.wait(RESTART_WAIT if self._child else 0.5)
        self.store.forget(name)

    def _worker_lives(self) -> bool:
        """Whether the worker this face started, or any other, is there."""
        if self._child is not None and self._child.poll() is None:
            return True
        return any(w["facts"].get("role") == "worker" and _alive(w["pid"]) for w in self.store.workers())

    def close(self) -> None:
        """Stop looking after the worker; it ends by itself when it has nothing left to do."""
        self._leave.set()
        if self._keeper is not None:
            self._keeper.join(timeout=10)


def start_worker(paths: Paths) -> "subprocess.Popen[bytes]":
    """Start a worker in a session of its own, so that it outlives this process; its words go to outputs/logs/worker.log."""
    paths.prepare()
    env = {**PATIENT_THREADS, **os.environ, "STUDIO_ROOT": str(paths.root), "PYTHONPATH": os.pathsep.join(filter(None, (str(SHIPPED_ROOT), os.environ.get("PYTHONPATH", "")))), "PYTHONUNBUFFERED": "1"}
    options: dict[str, Any] = {"start_new_session": True}
    if sys.platform == "win32":
        options = {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.DETACHED_PROCESS}
    with (paths.logs / "worker.log").open("ab") as log:
        return subprocess.Popen([sys.executable, "-m", "studio.worker"], stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=env, cwd=paths.root, **options)


def _alive(pid: int) -> bool:
    """Whether a process with this id exists."""
    import psutil

    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
