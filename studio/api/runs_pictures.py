"""Pictures and files of runs over HTTP: previews small and whole, and recipe cards to keep."""

from pathlib import Path
from typing import Literal
from urllib.parse import quote

from fastapi import APIRouter, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import FileResponse, Response

from studio.api.room_pictures import PLAIN, thumbnails_of
from studio.api.thumbnails import SIDES
from studio.api.waiting import Here
from studio.errors import NotFound
from studio.runs import acts, card
from studio.runs.weights import inside

router = APIRouter(prefix="/studio/v1/runs/{name}", tags=["runs"])
SHOWN = {".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".webp": "image/webp", ".gif": "image/gif"}
"""Files that are shown, and what they are."""


def _picture(here: Here, name: str, path: str) -> Path:
    """A picture of a run; raises NotFound, also for a file that is none."""
    file = inside(acts.run_folder(here.engine.paths, name), path)
    if file.suffix.lower() not in SHOWN:
        raise NotFound(f"{file.name} is no picture.")
    return file


@router.get("/picture")
async def picture(name: str, path: str, here: Here, request: Request, size: int = 0) -> FileResponse:
    """A picture of a run, whole, or with `size` a copy that is no larger than needed for it."""
    file = await run_in_threadpool(_picture, here, name, path)
    headers = {**PLAIN, "Cache-Control": "private, max-age=300" if request.query_params.get("v") else "private, no-cache"}
    if size <= 0 or file.suffix.lower() == ".gif":
        return FileResponse(file, media_type=SHOWN[file.suffix.lower()], headers=headers)
    side = next((side for side in SIDES if size <= side), SIDES[-1])
    return FileResponse(await thumbnails_of(request, here.engine).get(file, side), media_type="image/jpeg", headers=headers)


@router.get("/card")
def recipe_card(name: str, here: Here, kind: Literal["zip", "png"] = "zip", pictures: bool = False) -> Response:
    """A run as one file that another studio takes in: a zip with its curves and best weights, or its best preview with the recipe inside."""
    data = card.as_zip(here.engine.paths, name, pictures) if kind == "zip" else card.as_png(here.engine.paths, name)
    about = {"Content-Disposition": f"attachment; filename*=UTF-8''{quote(f'{name}.recipe.{kind}')}"}
    return Response(data, media_type=f"{'application' if kind == 'zip' else 'image'}/{kind}", headers={**PLAIN, **about})
