"""The torch-free end of the database: submit, watch, ask and browse, and keep a worker running."""

import time
from pathlib import Path
from typing import Any

from studio import shelves
from studio.config import Config
from studio.errors import InputError, NotFound, Unavailable
from studio.formats.carriers import read_carrier
from studio.formats.hashes import known_hash
from studio.jobs import LIVE, Event, Job, JobStore, Notice, State
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
from studio.settings import Paths
from studio.tokens import counts
from studio.worker_keeper import WorkerKeeper, end_worker

GLANCE = 1.0
"""Seconds that the state of the engine waits for another program's lock on the database: every open page asks for it all the time."""


class Engine:
    """What faces call; one per process. `keep_worker` starts a worker and starts it again when it dies."""

    def __init__(self, paths: Paths) -> None:
        self.paths = paths.prepare()
        self.store = JobStore(paths.database)
        self._glance = JobStore(paths.database, GLANCE)
        self.data_sets = DataSets(self.paths)
        self._keeper: WorkerKeeper | None = None

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
        config, wrong = request.config, dict[str, str]()
        self._check_checkpoint(config.checkpoint, wrong)
        if request.run:
            self._check_run(request.run, wrong)
        else:
            self._check_new_training(config, wrong)
        if wrong:
            raise InputError(" ".join(wrong.values()), fields=wrong)

    def _check_run(self, name: str, wrong: dict[str, str]) -> None:
        """A run to go on with must be there; it has its own pictures and prompts, and the embedding it began with."""
        if Path(name).name != name or name == ".." or not (self.paths.runs / name).is_dir():
            wrong["run"] = f"Run: there is no {name!r} to go on with; it may have been renamed or deleted."

    def _check_new_training(self, config: TrainConfig, wrong: dict[str, str]) -> None:
        """What a new run needs."""
        if isinstance(config, TextualInversionConfig) and config.embedding not in {card.name for card in shelves.embeddings(self.paths)}:
            wrong["embedding"] = f"Embedding: there is no {config.embedding!r} in {self.paths.embeddings.name}; create it first."
        folder = Path(config.data)
        if not folder.is_dir():
            wrong["data"] = f"Dataset directory: {config.data!r} is not a folder; prepare pictures first."
        elif not training_images(folder):
            wrong["data"] = f"Dataset directory: there is no picture in {config.data!r}."
        if shelves.template_file(self.paths, config.template) is None:
            wrong["template"] = f"Prompt template: there is no {config.template!r}; choose one of {', '.join(shelves.templates(self.paths))}."

    def _check_generation(self, request: GenerateRequest) -> None:
        """Whether the pictures and the checkpoint a generation names are there."""
        wrong: dict[str, str] = {}
        for label, name in (("Picture", "init_image"), ("Mask", "mask"), ("Sketch", "sketch")):
            value = getattr(request, name)
            if value and not Path(value).is_file():
                wrong[name] = f"{label}: {value!r} is not a file."
        self._check_checkpoint(request.checkpoint, wrong)
        if wrong:
            raise InputError(" ".join(wrong.values()), fields=wrong)

    def _check_preprocess(self, request: PreprocessRequest) -> None:
        """Whether there is anything to prepare and a place for it that is not the source."""
        wrong = self._wrong_preprocess(request)
        if wrong:
            field, sentence, hint = wrong
            raise InputError(sentence, hint, fields={field: f"{sentence} {hint}"})

    def _wrong_preprocess(self, request: PreprocessRequest) -> tuple[str, str, str] | None:
        """The field that is wrong, why, and what to do."""
        source, destination = Path(request.source), Path(request.destination)
        if not source.exists():
            return "source", f"Source directory: {request.source!r} does not exist.", "Drop pictures into the page or type the path of a folder."
        if source.is_dir() and (destination.resolve() == source.resolve() or source.resolve() in destination.resolve().parents):
            return "destination", "Destination directory: it lies in the source, whose pictures must stay untouched.", "Choose another folder."
        if destination.exists() and not destination.is_dir():
            return "destination", f"Destination directory: {request.destination!r} is a file.", "Choose a folder."
        return None

    def _check_folder(self, folder: str) -> None:
        """Whether a data set is where a request says."""
        if not Path(folder).is_dir():
            raise InputError(f"Data set: {folder!r} is not a folder.", "It may have been moved or deleted; choose another one.")

    def _check_checkpoint(self, name: str, wrong: dict[str, str]) -> None:
        """A named checkpoint must be on the shelf."""
        known = shelves.checkpoint_files(self.paths)
        if name and shelves.checkpoint_named(known, name) is None:
            wrong["checkpoint"] = f"Checkpoint: there is no {name!r}; choose one of {', '.join(known) or 'none'}."

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
        autoencoders = {name: known_hash(path, self.paths.hashes) or "" for name, path in shelves.vae_files(self.paths).items()}
        return request_values(text, lookup_in(checkpoints, checkpoints), lookup_in(autoencoders, autoencoders))

    def checkpoint_hashes(self) -> dict[str, str]:
        """Hashes of checkpoints by name, empty for those that were not hashed yet."""
        return {name: known_hash(path, self.paths.hashes) or "" for name, path in shelves.checkpoint_files(self.paths).items()}

    def pulse(self) -> str:
        """A word that changes whenever a job, the journal or the state of the worker and the database does."""
        problem, silent = (self._keeper.problem, self._keeper.unresponsive) if self._keeper is not None else ("", False)
        try:
            return f"{self._glance.pulse()}{'-unwritable' if problem else ''}{'-unresponsive' if silent else ''}"
        except Unavailable:
            return "unavailable"

    def ask(self, name: str, kind: str, data: dict[str, Any] | None = None) -> bool:
        """Ask a job to "stop", "save" or "sample"; False when it is already over."""
        return self.store.ask(name, kind, data)

    def device(self) -> dict[str, Any]:
        """What the engine chip shows: whether a worker lives, its device and memory, its job, and how many wait.

        `problem` says why the queue's database can't be used, `unresponsive` since how many seconds the worker gives no sign of life.
        """
        if self._keeper is not None:
            self._keeper.ensure()
        problem = self._keeper.problem if self._keeper is not None else ""
        silent = round(self._keeper.silent) if self._keeper is not None and self._keeper.unresponsive else 0
        facts: dict[str, Any] = {}
        try:
            workers = [w for w in self._glance.workers() if w["facts"].get("role") == "worker"]
            facts = {
                **(workers[-1]["facts"] if workers else {}),
                "alive": bool(workers),
                "waiting": len(self._glance.jobs(states=(State.QUEUED, State.INTERRUPTED), limit=1000)),
                **({"pid": workers[-1]["pid"]} if workers else {}),
            }
        except Unavailable as error:
            problem = problem or error.reason
        known = {name: facts.get(name, default) for name, default in (("alive", False), ("device", ""), ("memory", ""), ("job", ""), ("loaded", []), ("waiting", 0))}
        return {**known, "problem": problem, "unresponsive": silent, **({"pid": facts["pid"]} if "pid" in facts else {})}

    def notices(self) -> list[Notice]:
        """What happened to the queue's database within the last day, newest first."""
        try:
            return self._glance.notices()
        except Unavailable:
            return []

    def wait(self, name: str, timeout: float | None = None) -> Job:
        """Block until a job is over and return it, also while the database can't be read; TimeoutError after `timeout` seconds."""
        end = None if timeout is None else time.monotonic() + timeout
        while (job := self.seen(name)) is None or not job.state.over:
            if end is not None and time.monotonic() > end:
                raise TimeoutError(f"job {name} is still {job.state if job else 'unknown'} after {timeout} s")
            time.sleep(0.1)
        return job

    def seen(self, name: str) -> Job | None:
        """One job; None while the database can't be read. Raises NotFound."""
        try:
            return self.job(name)
        except Unavailable:
            return None

    def keep_worker(self, role: str) -> None:
        """Start a worker if none lives, and again whenever it dies, until `close`; `role` is "web" or "cli"."""
        if self._keeper is None:
            self._keeper = WorkerKeeper(self.paths, role)
        self._keeper.ensure()

    def restart_worker(self) -> int:
        """End the worker, which takes its job up again from the last checkpoint once it is started anew. Returns the id of the process that ended; raises Conflict when there is none."""
        return self._keeper.restart() if self._keeper is not None else end_worker(self.store)

    def close(self) -> None:
        """Stop looking after the worker; it ends by itself when it has nothing left to do."""
        if self._keeper is not None:
            self._keeper.close()
