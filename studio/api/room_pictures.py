"""Pictures and masks of a data set over HTTP: small copies for the grid, large ones to look at, and masks painted in the page."""

import io
from typing import Any

from fastapi import APIRouter, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import FileResponse, Response
from PIL import Image, ImageOps

from studio.api.images import opened
from studio.api.room import told
from studio.api.thumbnails import SIDES, Thumbnails
from studio.api.waiting import Here
from studio.engine import Engine
from studio.errors import NotFound, StudioError
from studio.projects.facts import Change
from studio.projects.project import Project

router = APIRouter(prefix="/studio/v1/datasets/{name}", tags=["data sets"])
LARGEST_MASK = 64 * 2**20
FOREVER = {"Cache-Control": "private, max-age=31536000, immutable", "X-Content-Type-Options": "nosniff"}
"""A copy's address holds the time of its picture, so it never changes."""


def thumbnails_of(request: Request, engine: Engine) -> Thumbnails:
    """The one maker of small copies of this server."""
    state = request.app.state
    if not hasattr(state, "thumbnails"):
        state.thumbnails = Thumbnails(engine.paths.thumbnails)
    made: Thumbnails = state.thumbnails
    return made


async def _copy(request: Request, here: Here, name: str, picture: str, side: int) -> FileResponse:
    """A small copy, made beside the requests when it is not there."""
    path = await run_in_threadpool(lambda: here.engine.data_sets.project(name).picture(picture))
    small = await thumbnails_of(request, here.engine).get(path, side)
    return FileResponse(small, media_type="image/jpeg", headers=FOREVER if request.query_params.get("v") else None)


@router.get("/thumb")
async def thumb(name: str, picture: str, here: Here, request: Request) -> FileResponse:
    """A picture for the grid."""
    return await _copy(request, here, name, picture, SIDES[0])


@router.get("/view")
async def view(name: str, picture: str, here: Here, request: Request) -> FileResponse:
    """A picture to look at."""
    return await _copy(request, here, name, picture, SIDES[1])


def _mask_path(project: Project, picture: str) -> Any:
    """The file of a picture's mask; raises NotFound."""
    item = project.item(picture)
    if not item.mask_name:
        raise NotFound(f"{picture} has no mask.")
    return project.folder / item.mask_name


@router.get("/mask")
def mask(name: str, picture: str, here: Here) -> Response:
    """The mask of a picture: white is learned."""
    path = _mask_path(here.engine.data_sets.project(name), picture)
    buffer = io.BytesIO()
    opened(path.read_bytes(), path.name).convert("L").save(buffer, "PNG")
    return Response(buffer.getvalue(), media_type="image/png", headers={"Cache-Control": "no-store"})


@router.put("/mask")
async def put_mask(name: str, picture: str, here: Here, request: Request) -> dict[str, Any]:
    """Keep a mask that was painted: a PNG whose alpha, or else whose brightness, says what is learned; it is brought to the picture's size."""
    data = bytearray()
    async for piece in request.stream():
        data += piece
        if len(data) > LARGEST_MASK:
            raise StudioError(f"The mask is larger than {LARGEST_MASK // 2**20} MB.", "Send a smaller one.", "too_large")
    return await run_in_threadpool(_keep_mask, here.engine, name, picture, bytes(data))


def _keep_mask(engine: Engine, name: str, picture: str, data: bytes) -> dict[str, Any]:
    """Write a painted mask as one step."""
    project = engine.data_sets.project(name)
    path = project.picture(picture)
    painted = opened(data, "Mask")
    learned = painted.getchannel("A") if painted.mode in ("RGBA", "LA") else painted.convert("L")
    with Image.open(path) as image:
        size = ImageOps.exif_transpose(image).size if image.getexif().get(0x0112, 1) != 1 else image.size
    buffer = io.BytesIO()
    learned.resize(size, Image.Resampling.BILINEAR).save(buffer, "PNG")
    return told(project.edit(f"Mask of {picture}", [Change(picture, "mask", project.mask_digest(picture), project.keep_mask(buffer.getvalue()))]))


@router.delete("/mask")
def drop_mask(name: str, picture: str, here: Here) -> dict[str, Any]:
    """Take the mask of a picture away; undo brings it back."""
    project = here.engine.data_sets.project(name)
    return told(project.edit(f"Remove the mask of {picture}", [Change(picture, "mask", project.mask_digest(picture), None)]))
