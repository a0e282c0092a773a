"""Runs and their jobs as JSON, read on since the last look; the table, one run and the newest training share it."""

from typing import Any

from fastapi import Request

from studio.engine import Engine
from studio.jobs import Job
from studio.requests.train import subject_of
from studio.runs.acts import run_folder
from studio.runs.in_use import in_use
from studio.runs.reading import Cache, job_of, view
from studio.wording import for_reader

JOBS = 1000
"""Newest trainings among which the job of a run is looked for."""


def trainings(engine: Engine) -> list[Job]:
    """Jobs that have runs, newest first."""
    return engine.jobs(JOBS, "train")


def kept(request: Request, name: str) -> Any:
    """Something this server remembers between requests: an object that is empty at first."""
    state = request.app.state
    if not hasattr(state, name):
        setattr(state, name, {})
    return getattr(state, name)


def seen(engine: Engine, request: Request, name: str, job: Job | None = None) -> dict[str, Any]:
    """A run as it is now, with the job that works in it, which is looked for where none is given; raises NotFound."""
    folder = run_folder(engine.paths, name)
    job = job or job_of(name, trainings(engine))
    readers: Cache = kept(request, "run_readers")
    live = engine.latest(job.id, "metric") if job is not None and not job.state.over else {}
    known = view(folder, job, readers, live)
    return {**known, "in_use": in_use(engine.paths.root, folder, known["step"], known["usage"]), "job_state": None if job is None else shown(job)}


def shown(job: Job) -> dict[str, Any]:
    """A training's job."""
    return {
        "id": job.id,
        "state": job.state,
        "error": for_reader(job.error) if job.error else job.error,
        "name": subject_of(job.request["config"]),
        "created": job.created,
        "started": job.started,
        "ended": job.ended,
    }
