"""The lane: one process per device that claims jobs, runs the services, and lets short jobs in between two steps."""

import errno
import importlib
import logging
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from studio import shelves, webhook
from studio.cancellation import Stopped, raise_if_stopped, stoppable
from studio.config import Config
from studio.database import Watch
from studio.errors import StudioError, Unavailable, disk_error
from studio.jobs import Job, JobStore, State
from studio.preferences import Preferences, read_preferences
from studio.requests import request_of
from studio.requests.train import TrainRequest, subject_of
from studio.settings import Paths
from studio.worker_lane import LOOK, AsideLane, Bench, Outbox, WorkerLane, progress_of

log = logging.getLogger("studio.worker")

SERVICES: tuple[tuple[str, str], ...] = (
    ("generate", "studio.services.generation"),
    ("preprocess", "studio.services.preprocess"),
    ("create_embedding", "studio.services.library"),
    ("create_hypernetwork", "studio.services.hypernetworks"),
    ("train", "studio.services.training"),
    ("plot", "studio.services.scripts"),
    ("prompt_matrix", "studio.services.scripts"),
    ("prompts_from_file", "studio.services.scripts"),
    ("sd_upscale", "studio.services.sd_upscale"),
    ("interrogate", "studio.services.interrogation"),
    ("extras", "studio.services.extras"),
    ("residence", "studio.services.residence"),
    ("inspect", "studio.services.inspection"),
    ("import", "studio.services.transfer"),
    ("export", "studio.services.transfer"),
    ("examine", "studio.services.examination"),
    ("write", "studio.services.writing"),
    ("mask", "studio.services.masking"),
    ("caption", "studio.services.captioning"),
    ("compare", "studio.services.comparing"),
    ("download", "studio.services.download"),
    ("forecast", "studio.services.forecast"),
    ("inspect_embedding", "studio.services.embedding_room"),
    ("edit_embedding", "studio.services.embedding_room"),
    ("sheet", "studio.services.sheets"),
    ("average", "studio.services.averaging"),
    ("run_grid", "studio.services.run_grid"),
    ("merge", "studio.services.merging"),
    ("merge_lora", "studio.services.joining"),
    ("extract_lora", "studio.services.extracting"),
    ("resize_lora", "studio.services.resizing"),
    ("bake_lora", "studio.services.baking"),
    ("convert", "studio.services.converting"),
)
"""Kind of job and the module whose `run(request, lane, desk)` does it."""
SHORT = (
    "generate",
    "forecast",
    "create_embedding",
    "create_hypernetwork",
    "inspect_embedding",
    "edit_embedding",
    "inspect",
    "interrogate",
    "extras",
    "residence",
    "plot",
    "prompt_matrix",
    "prompts_from_file",
    "sd_upscale",
    "average",
    "run_grid",
)
"""Jobs that may run between two steps of a training."""
ASIDE = ("import", "examine", "write", "export", "download", "sheet", "merge", "merge_lora", "extract_lora", "resize_lora", "bake_lora", "convert")
"""Jobs that need no model: a thread beside the lane does them with processes of its own, so that pictures can be prepared while a training runs."""
LANE = tuple(kind for kind, _ in SERVICES if kind not in ASIDE)
"""Jobs of the lane."""
DEATHS = 3
"""A job that took its worker down this often since it last got further is not tried again."""
PATIENCE = 5.0
"""Seconds that one write waits for another program's lock before it is put off."""
BEAT = 2.0
"""Seconds between heartbeats."""
AGAIN = 1.0
"""Seconds before something that failed is tried again."""
WARM = 3.0
"""Seconds of idleness after which a worker reads in what painting needs: later than the page opens, earlier than a prompt is written."""
LINGER = 60.0
"""Seconds an idle worker stays when no face is there."""


class Worker:
    """One device's lane."""

    def __init__(self, paths: Paths) -> None:
        self.paths = paths.prepare()
        self.store = JobStore(paths.database, PATIENCE)
        self.outbox = Outbox()
        self.name = f"worker-{os.getpid()}"
        self._current = ""
        self._looked = 0.0
        self._aside = ""
        self._shelf: tuple[Any, ...] = ()
        self._desk: Any = None
        self._problem = ""
        self._running: dict[str, Job] = {}
        self._threads: dict[str, threading.Thread] = {}

    def run(self) -> None:
        """Take up what a dead worker left, then work until nothing and nobody is left."""
        self._keep_threads("heart")
        while not self._take_over():
            time.sleep(AGAIN)
        self._keep_threads("heart", "aside")
        from studio.diffusion.cache import ModelCache
        from studio.services.desk import Desk

        self._desk = Desk(self.paths, ModelCache(self.paths))
        _leave_room(str(self._desk.cache.device))
        idle, watch, warm = time.monotonic(), Watch(self.paths.database), False
        while True:
            self._keep_threads("heart", "aside")
            self.index()
            job = self._claim(LANE)
            if job is not None:
                self.execute(job)
            if job is not None or self._aside:
                idle = time.monotonic()
            elif not warm and time.monotonic() - idle > WARM:
                warm = True
                read_in()
            elif time.monotonic() - idle > LINGER and not self._faces() and self.outbox.flush():
                self._leave()
                return
            if job is None:
                watch.wait(LOOK)

    def _take_over(self) -> bool:
        """Mark what a dead worker left as interrupted; whether the database took it."""
        try:
            for job in self.store.jobs(states=(State.RUNNING, State.PAUSED, State.STOPPING), limit=1000):
                self.store.interrupt(job.id)
        except Unavailable as error:
            log.warning("the queue cannot be read yet: %s", error)
            return False
        return True

    def _keep_threads(self, *names: str) -> None:
        """Start these threads, and start them again should one have died."""
        loops = {"heart": self._beats, "aside": self._work_aside}
        for name in names:
            if name not in self._threads or not self._threads[name].is_alive():
                if name in self._threads:
                    log.error("the thread %s had died and is started again", name)
                self._threads[name] = threading.Thread(target=loops[name], name=name, daemon=True)
                self._threads[name].start()

    def _claim(self, kinds: tuple[str, ...]) -> Job | None:
        """The next job of these kinds; None also while the database can't be used, as the heart finds, or earlier results wait to be written."""
        if self._problem or self.outbox.waiting:
            return None
        try:
            return self.store.claim(self.name, kinds)
        except Unavailable as error:
            self._problem = str(error)
            log.warning("no job can be claimed: %s", error)
            return None

    def _leave(self) -> None:
        """Take this worker off the list, if that can be written."""
        try:
            self.store.forget(self.name)
        except Unavailable as error:
            log.warning("this worker stays on the list: %s", error)

    def _work_aside(self) -> None:
        """Do the jobs that need no model, one after another."""
        watch = Watch(self.paths.database)
        while True:
            job = self._claim(ASIDE)
            if job is None:
                self._aside = ""
                watch.wait(LOOK)
                continue
            self._aside = job.kind
            self._run(job, AsideLane(self, job), Bench(self.paths))

    def _faces(self) -> bool:
        """Whether a web page or a command line is there, as far as can be told."""
        try:
            return any(w["facts"].get("role") != "worker" for w in self.store.workers())
        except Unavailable:
            return True

    def _beats(self) -> None:
        """Say every few seconds that this worker lives, with its device and memory; write what had to wait."""
        while True:
            try:
                self.store.beat(self.name, os.getpid(), {"role": "worker", "job": self._current or self._aside, **self._facts()})
                for job in list(self._running.values()):
                    self.store.restore(job)
                self.outbox.flush()
                self._problem = ""
            except Unavailable as error:
                if not self._problem:
                    log.warning("no heartbeat can be written: %s", error)
                self._problem = str(error)
            except Exception:  # the heart goes on beating whatever a library said about the device
                log.exception("a heartbeat failed")
            time.sleep(BEAT)

    def _facts(self) -> dict[str, Any]:
        """Device, memory and loaded models in words."""
        if self._desk is None:
            return {"device": "starting", "memory": ""}
        loaded = [f"{name} · {size / 2**20:.0f} MB · {where}" for name, size, where in self._desk.cache.resident()]
        return {"loaded": loaded, **self._memory()}

    def _memory(self) -> dict[str, Any]:
        """The device and how much of its memory is taken."""
        import psutil

        device = str(self._desk.cache.device)
        if device.startswith("cuda"):
            import torch

            from studio.services.card import card

            free, total = torch.cuda.mem_get_info()
            return {"device": device, "memory": f"{(total - free) / 2**30:.1f} / {total / 2**30:.0f} GB", "cuda": card()}
        return {"device": device, "memory": f"{psutil.Process().memory_info().rss / 2**30:.1f} / {psutil.virtual_memory().total / 2**30:.0f} GB"}

    def execute(self, job: Job) -> None:
        """Run one job to its end and write how it ended; never raises."""
        before, self._current = self._current, job.kind
        try:
            self._run(job, WorkerLane(self, job), self._desk)
            if job.kind == "train":
                self.tell(job.id)
        finally:
            self._current = before
            self.index()

    def _run(self, job: Job, lane: WorkerLane, desk: Any) -> None:
        """Do one job at a desk and write how it ended; never raises."""
        self._running[job.id] = job
        try:
            self._worth_trying(job)
            request = request_of(job.kind, job.request)
            with stoppable(None if job.kind == "train" else lane.stopping):  # a training says itself what may be cut short
                raise_if_stopped()
                result = self._service(job.kind, request)(request, lane, desk)
            self._finish(job, State.STOPPED if result.get("stopped") else State.DONE, result)
        except Stopped:
            self._finish(job, State.STOPPED)
        except Unavailable as error:  # the queue's database, in the middle of a job: it is taken up again
            log.warning("job %s (%s) is put back: %s", job.id, job.kind, error)
            self.outbox.put(lambda: self.store.interrupt(job.id))
        except StudioError as error:
            log.warning("job %s (%s) failed: %s", job.id, job.kind, error)
            lane.emit("fault", code=error.code)
            self._finish(job, State.FAILED, error=str(error))
        except Exception as error:  # the lane: whatever a service did not foresee ends the job, not the worker
            log.exception("job %s (%s) failed", job.id, job.kind)
            self._finish(job, State.FAILED, error=_words(error))
        finally:
            del self._running[job.id]

    def _finish(self, job: Job, state: State, result: dict[str, Any] | None = None, error: str | None = None) -> None:
        """Write how a job ended, now or as soon as the database can be written."""

        def write() -> None:
            self.store.restore(job)
            self.store.finish(job.id, state, result, error)

        self.outbox.put(write)

    def _worth_trying(self, job: Job) -> None:
        """Refuse a job that took its worker down again and again without getting further."""
        if job.attempts > 1 and (deaths := self.store.deaths(job.id, progress_of(job, self.paths, self.store))) >= DEATHS:
            raise StudioError(f"The worker died {deaths} times at the same place of this, so it is not tried again.", "What was saved before is kept; see outputs/logs/worker.log for the reason.")

    def tell(self, name: str, text: str = "") -> None:
        """Tell the webhook of the settings, beside the work, what became of a training; that nobody answers is an event and nothing more."""
        try:
            preferences = read_preferences(self.paths.settings)
        except StudioError as error:
            log.warning("nobody was told: %s", error)
            return
        if preferences.webhook:
            threading.Thread(target=self._tell, args=(name, text, preferences), name="webhook", daemon=True).start()

    def _tell(self, name: str, text: str, preferences: Preferences) -> None:
        """Post the message."""
        try:
            job = self.store.job(name)
        except StudioError as error:
            log.warning("nobody was told: %s", error)
            return
        subject = subject_of(job.request["config"])
        said = f"Training of {subject}: {text or job.error or job.state}"
        problem = webhook.send(preferences.webhook, said, preferences.webhook_local, name=subject, state=str(job.state), job=job.id, steps=(job.result or {}).get("steps"))
        self.outbox.put(lambda: self.store.emit(name, "log", {"text": problem or "The webhook was told."}))

    def _service(self, kind: str, request: Config) -> Callable[[Config, WorkerLane, Any], dict[str, Any]]:
        """The function that does this job; a training on several devices is one by processes of its own."""
        if isinstance(request, TrainRequest) and request.config.devices > 1:
            return importlib.import_module("studio.services.several").launch
        return importlib.import_module(dict(SERVICES)[kind]).run

    def serve_short(self, inside: str) -> None:
        """Between two steps of job `inside`: run the short jobs that wait."""
        now = time.monotonic()
        if now - self._looked < LOOK:
            return
        self._looked = now
        self._keep_threads(*self._threads)
        while (job := self._claim(SHORT)) is not None:
            log.info("job %s (%s) runs between two steps of %s", job.id, job.kind, inside)
            self.execute(job)

    def index(self) -> None:
        """Read embedding files that are new or changed, so that faces can list them without torch; what fails is tried again at the next look."""
        try:
            files = shelves.embedding_files(self.paths)
            shelf = tuple((p, p.stat().st_mtime_ns, p.stat().st_size) for p in files if p.exists())
            if shelf != self._shelf:
                self.store.put_cards({str(p): _card(p) for p in files})
                self._shelf = shelf
        except (Unavailable, OSError) as error:
            log.warning("the embeddings cannot be listed now: %s", error)


def read_in() -> None:
    """Import the libraries that painting needs, which takes longer than painting does; nothing is loaded yet. What cannot be imported is left to the first job, which tells it to a person."""
    try:
        importlib.import_module("studio.services.generation")
        importlib.import_module("studio.diffusion.assembly").read_in()
    except Exception:  # a damaged installation must not end a worker that nobody asked for anything
        log.warning("what painting needs cannot be read in", exc_info=True)


def _leave_room(device: str) -> None:
    """On a CPU, leave one core to the page: threads that wait for each other lose far more to a shared core than to a missing one."""
    if device == "cpu" and "OMP_NUM_THREADS" not in os.environ:
        import torch

        torch.set_num_threads(max(1, torch.get_num_threads() - 1))


def _card(path: Path) -> dict[str, Any]:
    """What an embedding file holds, or why it cannot be used."""
    from studio.formats.embedding import read_embedding

    try:
        embedding = read_embedding(path)
    except (StudioError, OSError) as error:
        return {"problem": str(error)}
    inner = {"inner": embedding.name} if embedding.name != path.stem else {}
    return {"vectors": int(embedding.vectors.shape[0]), "width": int(embedding.vectors.shape[1]), "step": embedding.step, **inner}


def _words(error: Exception) -> str:
    """An unforeseen failure as a sentence."""
    if "out of memory" in str(error).lower() or isinstance(error, MemoryError):
        return "The device is out of memory. Use a smaller batch or picture size; what was saved before is kept."
    if isinstance(error, OSError) and error.errno != errno.EINVAL and (known := disk_error(error)):
        return f"{known} What was saved before is kept; outputs/logs/worker.log holds the details."
    said = error.strerror if isinstance(error, OSError) and error.strerror else error  # an OSError's own words hold a path
    return f"Something unforeseen happened ({type(error).__name__}: {said}). What was saved before is kept; outputs/logs/worker.log holds the details."


def main() -> int:
    """Run the one worker of this root; a second one sees the lock and leaves."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("TRANSFORMERS_OFFLINE", "1")
    paths = Paths.default().prepare()
    try:
        with FileLock(paths.outputs / "worker.lock", timeout=0):
            log.info("worker %s serves %s", os.getpid(), paths.root)
            Worker(paths).run()
    except Timeout:
        log.info("another worker serves %s already", paths.root)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
