"""The training to show: the running one, else the newest, with its run folder read on since the last look."""

from typing import Any

from fastapi import APIRouter, Request

from studio.api.run_views import seen, shown
from studio.api.waiting import Here
from studio.jobs import State
from studio.runs.reading import folder_of

router = APIRouter(prefix="/studio/v1/training", tags=["runs"])


@router.get("")
def training(request: Request, here: Here) -> dict[str, Any]:
    """The job of the newest training, how many wait before it, its run (both null while there is none), and the seconds its newest measurement took."""
    engine = here.engine
    job = engine.active("train") or next(iter(engine.jobs(1, "train")), None)
    if job is None:
        return {"job": None, "run": None, "before": 0, "probe_seconds": None}
    folder = folder_of(engine.paths.runs, job)
    return {
        "job": shown(job),
        "run": None if folder is None else seen(engine, request, folder.name, job),
        "before": engine.before(job) if job.state is State.QUEUED else 0,
        "probe_seconds": engine.latest(job.id, "probe").get("seconds"),
    }
