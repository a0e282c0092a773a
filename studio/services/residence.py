"""Residence: which models stay in memory, when a person and not the cache decides."""

from typing import Any

from studio.jobs import Lane
from studio.requests.residence import ResidenceRequest
from studio.services.desk import Desk


def run(request: ResidenceRequest, lane: Lane, desk: Desk) -> dict[str, Any]:
    """Drop what is not in use, or load what was used last; tells bytes freed and what is resident. Raises StudioError as loading does."""
    freed = 0
    if request.act == "unload":
        freed = desk.cache.unload()
    else:
        desk.cache.reload()
    resident = [{"name": name, "bytes": size, "place": place} for name, size, place in desk.cache.resident()]
    lane.emit("log", text=f"{freed / 2**20:.0f} MB freed; {len(resident)} models are in memory.")
    return {"freed": freed, "resident": resident}
