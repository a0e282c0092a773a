"""The training to show: the running one, else the newest, with its run folder read on since the last look."""

from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request

from studio.api.waiting import Here
from studio.engine import Engine
from studio.jobs import Job, State
from studio.requests.train import subject_of
from studio.runs.reading import Cache, job_of, view

router = APIRouter(prefix="/studio/v1/training", tags=["runs"])


@router.get("")
def training(request: Request, here: Here) -> dict[str, Any]:
    """The job of the newest training, how many wait before it, its run (both null while there is none), and the seconds its newest measurement took."""
    engine = here.engine
    job = engine.active("train") or next(iter(engine.jobs(1, "train")), None)
    if job is None:
        return {"job": None, "run": None, "before": 0, "probe_seconds": None}
    folder = _folder(engine, job)
    return {
        "job": _shown(job),
        "run": None if folder is None else view(folder, job, _readers(request), engine.latest(job.id, "metric")),
        "before": engine.before(job) if job.state is State.QUEUED else 0,
        "probe_seconds": engine.latest(job.id, "probe").get("seconds"),
    }


def _shown(job: Job) -> dict[str, Any]:
    """A job as the page shows it."""
    return {"id": job.id, "state": job.state, "error": job.error, "name": subject_of(job.request["config"]), "created": job.created, "started": job.started, "ended": job.ended}


def _folder(engine: Engine, job: Job) -> Path | None:
    """Where a job works or worked; None before it began."""
    runs = engine.paths.runs
    named = job.request.get("run") or ""
    found = runs / named if named and (runs / named).parent == runs else next(iter(sorted(runs.glob(f"*-{job.id}"))), None)
    return found if found is not None and found.is_dir() and job_of(found.name, [job]) is not None else None


def _readers(request: Request) -> Cache:
    """What this server has read of runs so far."""
    state = request.app.state
    if not hasattr(state, "run_readers"):
        state.run_readers = {}
    readers: Cache = state.run_readers
    return readers
