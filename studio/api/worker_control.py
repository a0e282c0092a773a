"""The worker over HTTP: how it is, and its restart."""

from typing import Any

from fastapi import APIRouter

from studio.api.waiting import Here

router = APIRouter(prefix="/studio/v1/worker")


@router.get("")
def state(here: Here) -> dict[str, Any]:
    """Whether the worker lives, its device, memory and job, and how many jobs wait.

    `problem` says why the queue's database can't be used, `unresponsive` for how many seconds no heartbeat came, `notices` what became of a damaged database.
    """
    return {**here.engine.device(), "notices": [{"at": one.at, "kind": one.kind, "file": one.file} for one in here.engine.notices()]}


@router.post("/restart")
def restart(here: Here) -> dict[str, int]:
    """End the worker, also one that no longer responds, and start another; its job goes on from the last checkpoint. 409 when none runs."""
    return {"ended": here.engine.restart_worker()}
