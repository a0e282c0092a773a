"""The machine behind the server: memory, the loaded checkpoint, and the server's own end."""

import os
import signal
from typing import Any

import psutil
from fastapi import APIRouter

from studio.api.waiting import Here
from studio.errors import StudioError
from studio.requests import ResidenceRequest

router = APIRouter(prefix="/sdapi/v1")
stopping = APIRouter(prefix="/sdapi/v1")
"""Routes that exist only when a client may stop the server."""


@router.get("/memory")
def memory(here: Here) -> dict[str, Any]:
    """Memory of the machine, and of the worker's card as it told last, in bytes."""
    ram = psutil.virtual_memory()
    return {"ram": {"free": ram.available, "used": ram.total - ram.available, "total": ram.total}, "cuda": _card(here.engine.store.workers())}


def _card(workers: list[dict[str, Any]]) -> dict[str, Any]:
    """What the worker told of its card; a reason when there is none."""
    told = [w["facts"] for w in workers if w["facts"].get("role") == "worker"]
    if not told:
        return {"error": "no worker is running"}
    return told[-1].get("cuda") or {"error": f"the worker runs on {told[-1].get('device', 'another device')}"}


@router.post("/unload-checkpoint")
async def unload_checkpoint(here: Here) -> dict[str, Any]:
    """Drop every loaded model that nothing is using."""
    await here.finished(lambda: ResidenceRequest(act="unload"))
    return {}


@router.post("/reload-checkpoint")
async def reload_checkpoint(here: Here) -> dict[str, Any]:
    """Load the checkpoint that was used last."""
    await here.finished(lambda: ResidenceRequest(act="reload"))
    return {}


@stopping.post("/server-stop")
def server_stop() -> dict[str, str]:
    """End the server as Ctrl-C does; a training goes on in the worker."""
    os.kill(os.getpid(), signal.SIGINT)
    return {"message": "Stopping."}


@stopping.post("/server-kill")
def server_kill() -> dict[str, str]:
    """End the server without waiting for open connections."""
    os.kill(os.getpid(), signal.SIGTERM)
    return {"message": "Stopping."}


@stopping.post("/server-restart", status_code=501)
def server_restart() -> None:
    """The server does not start itself again: the answer is a sentence with status 501."""
    raise StudioError("This server does not start itself again.", "Stop it and start it anew.", "missing_service")
