"""How far the running job is, in A1111's two shapes; interrupt and skip.

A1111 has one queue without owners: its clients mean "the current job" and expect it to be their own. Here several browsers and clients share the
queue, so all four routes look for the jobs that clients of this API wait for first, and take the current job of anybody else only when no client waits.
"""

from typing import Any

from fastapi import APIRouter

from studio.api.answers import stamp
from studio.api.sdapi_models import Progress
from studio.api.waiting import Counter, Here
from studio.api.watching import BUSY, Sight
from studio.errors import NotFound
from studio.jobs import Job, State

router = APIRouter()

WAITING = (State.QUEUED, State.INTERRUPTED)


@router.get("/sdapi/v1/progress")
def progress(here: Here, skip_current_image: bool = False) -> dict[str, Any]:
    """The running job, one that an API client waits for first; `progress` and `job_count` are 0 when nothing runs or waits."""
    job = here.watcher.current(here.awaited)
    if job is None:
        waiting = here.engine.waiting()
        return {"progress": 0.0, "eta_relative": 0.0, "state": _state(here, None, Sight(), waiting), "current_image": None, "textinfo": f"In queue: {waiting}" if waiting else None}
    sight = here.watcher.sight(job)
    image = None if skip_current_image or not sight.preview else sight.preview.partition(",")[2]
    # Between a job's first event and its end there is always something left to do, and clients read 0 as idle.
    done = min(max(sight.progress, 0.001), 0.999)
    return {"progress": done, "eta_relative": sight.eta, "state": _state(here, job, sight, 1), "current_image": image, "textinfo": sight.text or None}


def _state(here: Counter, job: Job | None, sight: Sight, count: int) -> dict[str, Any]:
    """A1111's account of what runs: batches as jobs, the steps of the one in hand."""
    batches = max(1, int(job.request.get("batch_count", 1))) if job else count
    each = sight.total // batches if batches else 0
    batch = min(sight.step // each, batches - 1) if each else 0
    return {
        "skipped": False,
        "interrupted": bool(job and any(ask.kind == "stop" for ask in here.engine.store.asks(job.id))),
        "stopping_generation": False,
        "job": _label(job, batch, batches) if job else "",
        "job_count": batches,
        "job_timestamp": stamp(job) if job else "0",
        "job_no": batch,
        "sampling_step": sight.step - batch * each,
        "sampling_steps": each,
    }


def _label(job: Job, batch: int, batches: int) -> str:
    """A job in A1111's words."""
    if batches > 1:
        return f"Batch {batch + 1} out of {batches}"
    return {"generate": "scripts_img2img" if job.request.get("init_image") else "scripts_txt2img", "train": "train-embedding"}.get(job.kind, job.kind)


@router.post("/sdapi/v1/interrupt")
def interrupt(here: Here) -> dict[str, Any]:
    """Stop the job an API client waits for, running or still queued; without one the running job, but no training that was started elsewhere. What is there is kept."""
    _ask(here, "stop")
    return {}


@router.post("/sdapi/v1/skip")
def skip(here: Here) -> None:
    """Go on to the next batch of the job that `interrupt` would stop."""
    _ask(here, "skip")


def _ask(here: Counter, kind: str) -> None:
    """Ask something of the job that is meant, if there is one; only a stop concerns a job that still waits."""
    job = _meant(here)
    if job is not None and (kind == "stop" or job.state in BUSY):
        here.engine.ask(job.id, kind)


def _meant(here: Counter) -> Job | None:
    """The job that a client without a job id means.

    A client whose job waits behind somebody else's wants its own to end, not the other one. A training that was started in a browser or on the command
    line runs for hours and has stop buttons of its own, so a client that has no job never ends it.
    """
    running = here.watcher.current(here.awaited)
    if running is not None and running.id in here.awaited:
        return running
    queued = [job for job in here.engine.store.queue() if job.id in here.awaited]
    if queued:
        return queued[0]
    return running if running is not None and running.kind != "train" else None


@router.get("/internal/ping")
def ping() -> dict[str, Any]:
    """Whether the server answers."""
    return {}


@router.get("/internal/pending-tasks")
def pending_tasks(here: Here) -> dict[str, Any]:
    """Waiting jobs, the next one first, by the ids their clients know them by."""
    jobs = here.engine.store.jobs(states=WAITING, limit=1000)
    return {"size": len(jobs), "tasks": [here.tasks.task(job.id) for job in reversed(jobs)]}


@router.post("/internal/progress")
def task_progress(body: Progress, here: Here) -> dict[str, Any]:
    """How far one task is; a task nobody knows is neither active, queued nor completed."""
    found = _find(here, body.id_task)
    if found is None:
        return _told(body, active=False, queued=False, completed=False)
    if found.state.over:
        return _told(body, active=False, queued=False, completed=True)
    if found.state in WAITING:
        return _told(body, active=False, queued=True, completed=False) | {"textinfo": f"In queue: {here.engine.waiting()}"}
    sight = here.watcher.sight(found)
    told = _told(body, active=True, queued=False, completed=False) | {"progress": sight.progress, "eta": sight.eta or None, "textinfo": sight.text or None}
    if body.live_preview and sight.preview and sight.preview_seq != body.id_live_preview:
        told |= {"live_preview": sight.preview, "id_live_preview": sight.preview_seq}
    return told


def _find(here: Counter, task: str) -> Job | None:
    """The job of a task; None when there is none."""
    try:
        return here.engine.job(here.tasks.job(task))
    except NotFound:
        return None


def _told(body: Progress, *, active: bool, queued: bool, completed: bool) -> dict[str, Any]:
    """The answer about a task of which no more is known."""
    return {"active": active, "queued": queued, "completed": completed, "progress": None, "eta": None, "live_preview": None, "id_live_preview": body.id_live_preview, "textinfo": None}
