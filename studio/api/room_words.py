"""Words of a data set over HTTP: captioners, changes to many captions, tags, the prompts the trainer reads, and prompt templates."""

from dataclasses import astuple
from typing import Any, Literal

from fastapi import APIRouter

from studio.api.room import COUNTED, matching
from studio.api.room_check import knobs
from studio.api.waiting import Here
from studio.config import Config
from studio.errors import InputError
from studio.projects import bulk, templates
from studio.projects.captioner_shelf import CATALOGUE_OF_MODELS, FOLDERS, available
from studio.projects.data_sets import sayable
from studio.projects.facts import Item
from studio.projects.filling import parse_template
from studio.projects.final_prompts import FinalPrompt, final_prompts
from studio.projects.project import Project
from studio.projects.room import settings_of
from studio.projects.tags import alike, everywhere, tag_counts
from studio.requests.caption import CaptionRequest
from studio.requests.room import RoomSettings
from studio.wording import for_reader

router = APIRouter(prefix="/studio/v1/datasets/{name}", tags=["data sets"])
shared = APIRouter(prefix="/studio/v1", tags=["data sets"])
SHOWN = 20
"""Changes that a preview shows."""
MOST_TAGS = 2000


class BulkOf(Config):
    """One change of many captions: what, for which pictures, and whether only to look."""

    edit: dict[str, Any]
    scope: Literal["all", "filtered", "selected"] = "all"
    filter: str = ""
    names: tuple[str, ...] = ()
    dry: bool = True


class TemplateOf(Config):
    """A prompt template's text."""

    name: str
    text: str


class LinesOf(Config):
    """Template lines to look at with the captions of some pictures."""

    text: str
    names: tuple[str, ...] = ()


@shared.get("/captioners")
def captioners(here: Here) -> dict[str, Any]:
    """Captioners that are there and those that can be fetched, and the knobs they share."""
    there = available(here.engine.paths)
    listed = [
        {"label": one.label, "title": f"{one.title}: {one.path.stem}" if one.tiny else one.label, "tiny": one.tiny, "here": True, "chosen": at == 0, "help": str(one.path), "download": ""}
        for at, one in enumerate(there)
    ]
    labels = {one.label for one in there}
    offers = [
        {"label": o.label, "here": False, "chosen": False, "problem": "", "help": f"models/{FOLDERS[o.kind]}", "download": f"{o.repository or o.address} · {o.size_mb} MB"} for o in CATALOGUE_OF_MODELS
    ]
    fields = knobs(CaptionRequest, "folder", "names", "captioners")
    return {
        "captioners": listed + [offer for offer in offers if f"{offer['label']}" not in labels],
        "fields": [{**f, "advanced": f["name"] not in ("existing", "trigger", "threshold")} for f in fields],
    }


@shared.get("/bulk")
def kinds() -> list[dict[str, Any]]:
    """Changes of many captions, with their knobs."""
    return [{"kind": kind, "label": bulk.label_of(cls), "help": cls.__doc__ or "", "fields": knobs(cls, "kind")} for kind, cls in bulk.KINDS]


def _scope(project: Project, wish: BulkOf) -> tuple[list[Item], list[Item]]:
    """All pictures, and those a change is for."""
    items = project.items()
    if wish.scope == "filtered":
        return items, matching(project, wish.filter, items)
    if wish.scope == "selected":
        chosen = set(wish.names)
        return items, [item for item in items if item.name in chosen]
    return items, items


@router.post("/bulk")
def change_many(name: str, wish: BulkOf, here: Here) -> dict[str, Any]:
    """Change many captions as one step; with `dry` only how many, and the first twenty."""
    project = here.engine.data_sets.project(name)
    edit = bulk.edit_of(wish.edit)
    everyone, chosen = _scope(project, wish)
    plan = bulk.plan(edit, chosen, everyone)
    answer = {
        "name": plan.name,
        "matches": plan.matches,
        "changed": len(plan.changes),
        "note": plan.note,
        "preview": [{"name": sayable(p.name), "before": p.before, "after": p.after, "spans": [list(astuple(span)) for span in p.spans]} for p in plan.preview[:SHOWN]],
    }
    if not wish.dry:
        if not plan.changes:
            raise InputError(plan.note or f"{plan.name} changes no caption.", "Look at the preview before you press Change.")
        project.edit(plan.name, plan.changes)
    return answer


@router.get("/tags")
def tags(name: str, here: Here) -> dict[str, Any]:
    """All tags with their counts, those of every caption, and those that look alike."""
    items = [item for item in here.engine.data_sets.project(name).items() if not item.choices.left_out]
    counted = tag_counts(items)
    return {
        "count": len(counted),
        "tags": [{"tag": one.tag, "count": one.count} for one in counted[:MOST_TAGS]],
        "everywhere": everywhere(items),
        "alike": [[pair.keep, pair.drop] for pair in alike(items)[:SHOWN]],
    }


def _prompt(prompt: FinalPrompt) -> dict[str, Any]:
    """One final prompt as JSON."""
    tokens = [{"start": token.start, "end": token.end} for token in prompt.tokens]
    return {"text": prompt.text, "tokens": tokens, "cut": prompt.cut_at, "count": prompt.count, "name": list(prompt.name_spans[0]) if prompt.name_spans else None}


def _vectors(settings: RoomSettings) -> int:
    """How many places the trigger takes: an embedding's vectors, or those of plain words."""
    return settings.vectors if settings.method == "textual_inversion" else 0


@router.get("/prompts")
def prompts(name: str, picture: str, here: Here) -> dict[str, Any]:
    """The prompts the trainer will read for one picture, with tokens and the cut after 75."""
    project = here.engine.data_sets.project(name)
    settings, item = settings_of(project), project.item(picture)
    lines = parse_template(here.engine.template_text(settings.template), settings.template)
    found = final_prompts(lines, settings.trigger or "[name]", _vectors(settings) if settings.trigger else 0, item.caption[:COUNTED])
    cut = [f"The caption has {len(item.caption):,} letters; the first {COUNTED:,} are shown."] if len(item.caption) > COUNTED else []
    return {"prompts": [_prompt(prompt) for prompt in found], "warnings": list(map(for_reader, [*cut, *dict.fromkeys(warning for prompt in found for warning in prompt.warnings)]))}


@router.post("/template-preview")
def preview(name: str, wish: LinesOf, here: Here) -> dict[str, Any]:
    """Prompts that template lines make with the captions of some pictures, and what is odd about the lines."""
    project = here.engine.data_sets.project(name)
    settings = settings_of(project)
    captions = [item.caption[:COUNTED] for item in project.items() if not wish.names or item.name in wish.names][:3] or [""]
    lines = parse_template(wish.text, settings.template)
    found = [prompt for caption in captions for prompt in final_prompts(lines, settings.trigger or "[name]", _vectors(settings) if settings.trigger else 0, caption, 3)]
    return {"prompts": [_prompt(prompt) for prompt in found], "warnings": list(map(for_reader, templates.warnings(wish.text)))}


@shared.get("/templates/one")
def template(name: str, here: Here) -> dict[str, Any]:
    """A prompt template, and whether it is an own one."""
    found = templates.read(here.engine.paths, name)
    return {"name": found.name, "text": found.text, "own": found.own}


@shared.put("/templates/one")
def put_template(wish: TemplateOf, here: Here) -> dict[str, Any]:
    """Keep a prompt template; a shipped one becomes an own copy."""
    return template(templates.write(here.engine.paths, wish.name, wish.text).name, here)


@shared.delete("/templates/one")
def drop_template(name: str, here: Here) -> dict[str, str]:
    """Put an own prompt template into the trash folder."""
    return {"trash": str(templates.delete(here.engine.paths, name))}
