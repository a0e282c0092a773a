"""The doctor of a data set over HTTP: what is wrong, what mends it, what to set; and the knobs of writing and giving away."""

from typing import Any

from fastapi import APIRouter
from pydantic import Field

from studio.api.room import told
from studio.api.waiting import Here
from studio.config import Config, controls
from studio.engine import Engine
from studio.projects import findings
from studio.projects.captioner_shelf import available
from studio.projects.case import Aim
from studio.projects.data_sets import sayable
from studio.projects.doctor import as_json
from studio.projects.project import Project
from studio.projects.room import aim_of, keep_settings
from studio.requests.mask import MaskRequest
from studio.requests.room import RoomSettings
from studio.requests.transfer import ExportRequest
from studio.requests.write import WriteRequest

router = APIRouter(prefix="/studio/v1/datasets/{name}", tags=["data sets"])
shared = APIRouter(prefix="/studio/v1", tags=["data sets"])
FIRST = ("sizing", "flip", "masks", "background", "background_colour", "format", "captions", "segmenter")
"""Knobs that are shown before More is opened."""


class KeyOf(Config):
    """Which finding."""

    key: str = Field(max_length=200)
    ignored: bool = True


def knobs(cls: type[Config], *skip: str) -> list[dict[str, Any]]:
    """The knobs of a request as a form needs them."""
    found = []
    for control in controls(cls):
        if control.name not in skip and control.kind != "choices":
            facts = {"name": control.name, "label": control.label, "kind": control.kind, "default": control.default, "help": control.help, "required": cls.model_fields[control.name].is_required()}
            found.append({**facts, "minimum": control.minimum, "maximum": control.maximum, "step": control.step, "choices": control.choices, "advanced": control.name not in FIRST})
    return found


@shared.get("/room")
def forms() -> dict[str, Any]:
    """Knobs of the room: what a data set is for, how it is written, how it is given away."""
    sizes = ("width", "height", "face_weight", "entropy_weight", "edges_weight")
    return {"settings": knobs(RoomSettings), "write": knobs(WriteRequest, "folder", "names", *sizes), "export": knobs(ExportRequest, "folder")}


@shared.get("/segmenters")
def segmenters(here: Here) -> dict[str, Any]:
    """Knobs of cutting subjects out."""
    return {"fields": knobs(MaskRequest, "folder", "names")}


def _aim(engine: Engine, project: Project) -> Aim:
    """What the data set is measured against."""
    return aim_of(project, engine.template_text)


@router.get("/doctor")
def doctor(name: str, here: Here) -> dict[str, Any]:
    """Findings with their pictures, advice with its reasons, and figures."""
    project = here.engine.data_sets.project(name)
    report = findings.report_for(project, _aim(here.engine, project))
    return {**sayable(as_json(report, findings.LABELS)), "clip": any(one.kind == "CLIP interrogator" for one in available(here.engine.paths))}


@router.post("/doctor/fix")
def fix(name: str, wish: KeyOf, here: Here) -> dict[str, Any]:
    """Mend one finding, as a step that can be taken back."""
    project = here.engine.data_sets.project(name)
    mended = findings.mend(project, _aim(here.engine, project), wish.key)
    if mended.settings:
        keep_settings(project, mended.settings)
    return {"name": mended.name, "count": mended.count}


@router.post("/doctor/ignore")
def ignore(name: str, wish: KeyOf, here: Here) -> dict[str, Any]:
    """Do not show a finding as long as it is about the same pictures, or show it again."""
    project = here.engine.data_sets.project(name)
    (findings.ignore if wish.ignored else findings.unignore)(project, wish.key)
    return told(None)


@router.get("/written")
def written(name: str, here: Here) -> dict[str, str]:
    """The folder to train on: where the pictures were written last, else the data set itself."""
    project = here.engine.data_sets.project(name)
    done = [job for job in here.engine.jobs(50, "write") if job.request.get("folder") == str(project.folder) and job.result]
    return {"folder": str(done[0].result["destination"]) if done and done[0].result else str(project.folder)}
