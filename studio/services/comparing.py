"""Compare: CLIP's feature of every picture is kept beside what was measured, for the doctor's look-alikes."""

import base64
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from PIL import Image

from studio.dataset.captioners.clip import KIND, Clip, load_clip
from studio.dataset.faces import yunet_file
from studio.dataset.folder import open_upright
from studio.errors import StudioError
from studio.jobs import Lane
from studio.projects.captioner_shelf import find
from studio.projects.facts import Item
from studio.projects.project import Project
from studio.requests.compare import CompareRequest
from studio.services.desk import Desk
from studio.services.examination import measure_all

BATCH = 16
"""Pictures CLIP looks at in one go."""


def run(request: CompareRequest, lane: Lane, desk: Desk) -> dict[str, Any]:
    """Compute what is missing; returns how many pictures got a feature. Raises NotFound without a CLIP on the shelf."""
    path = find(desk.paths, KIND).path
    project = Project(Path(request.folder))
    if measure_all(project, [item.name for item in project.items() if item.facts is None], lane, yunet=yunet_file(desk.paths.opencv))[1]:
        return {"compared": 0, "stopped": True}
    waiting = [item for item in project.items() if item.facts and not item.facts.problem and not item.facts.clip]
    compared = 0
    with desk.cache.lend_part("captioner", path, lambda: load_clip(path, desk.cache.device)) as clip:
        for start in range(0, len(waiting), BATCH):
            if lane.stopping():
                return {"compared": compared, "stopped": True}
            lane.emit("progress", step=start, total=len(waiting), text=waiting[start].name)
            compared += _compare(project, waiting[start : start + BATCH], clip, lane)
            lane.breathe()
    lane.emit("progress", step=len(waiting), total=len(waiting), text="")
    return {"compared": compared}


def _compare(project: Project, items: Sequence[Item], clip: Clip, lane: Lane) -> int:
    """Keep the features of some pictures; one that cannot be opened is told."""
    opened: list[tuple[Item, Image.Image]] = []
    for item in items:
        try:
            opened.append((item, open_upright(project.folder / item.name)))
        except StudioError as error:
            lane.emit("warning", text=str(error), name=item.name)
    if not opened:
        return 0
    features = clip.features([image for _, image in opened]).half().numpy()
    project.put_facts([(item.name, replace(item.facts, clip=base64.b64encode(row.tobytes()).decode())) for (item, _), row in zip(opened, features, strict=True) if item.facts])
    return len(opened)
