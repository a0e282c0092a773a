"""Hypernetworks are created: new small networks for the widths of a checkpoint, as a file that can be trained."""

from typing import Any

from studio.errors import Conflict
from studio.formats.hypernetwork import write_hypernetwork
from studio.jobs import Lane
from studio.requests.hypernetwork import CreateHypernetworkRequest
from studio.services.desk import Desk
from studio.training.methods.hypernetwork import planted, shelf_of


def run(request: CreateHypernetworkRequest, lane: Lane, desk: Desk) -> dict[str, Any]:
    """Write models/hypernetworks/<name>.pt and tell what was made; raises Conflict when the name is taken."""
    path = shelf_of(desk.paths, request.name)
    if path.exists() and not request.overwrite:
        raise Conflict(f"Name: {path.stem!r} is taken.", 'Choose another name, or tick "Overwrite Old Hypernetwork".')
    with desk.cache.lend(request.checkpoint) as model:
        network, told = planted(model, path.stem, request, request.seed)
    for sentence in told:
        lane.emit("warning", text=sentence)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_hypernetwork(path, network)
    lane.emit("saved", path=str(path))
    return {"path": str(path), "name": path.stem, "widths": list(network.widths)}
