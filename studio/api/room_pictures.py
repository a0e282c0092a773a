"""Pictures and masks of a data set over HTTP: small copies for the grid, large ones to look at, and masks painted in the page."""

import io
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import FileResponse, Response
from PIL import Image

from studio.api.images import ORIENTATION, opened
from studio.api.room import told
from studio.api.thumbnails import HURT, SIDES, Thumbnails, greys
from studio.api.waiting import Here
from studio.engine import Engine
from studio.errors import NotFound, StudioError, Unreadable
from studio.formats.opening import open_limited
from studio.projects.facts import Change
from studio.projects.project import Project

router = APIRouter(prefix="/studio/v1/datasets/{name}", tags=["data sets"])
LARGEST_MASK = 64 * 2**20
PLAIN = {"X-Content-Type-Options": "nosniff"}
FOREVER = {**PLAIN, "Cache-Control": "private, max-age=31536000, immutable"}
"""For an address that holds the time of its picture, and whose copy therefore never changes."""


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
    return FileResponse(small, media_type="image/jpeg", headers=FOREVER if request.query_params.get("v") else {**PLAIN, "Cache-Control": "private, no-cache"})


@router.get("/thumb")
async def thumb(name: str, picture: str, here: Here, request: Request) -> FileResponse:
    """A picture for the grid."""
    return await _copy(request, here, name, picture, SIDES[0])


@router.get("/view")
async def view(name: str, picture: str, here: Here, request: Request) -> FileResponse:
    """A picture to look at."""
    return await _copy(request, here, name, picture, SIDES[1])


def _mask_path(project: Project, picture: str) -> Path:
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
    greys(opened(_bytes(path), path.name)).convert("L").save(buffer, "PNG")
    return Response(buffer.getvalue(), media_type="image/png", headers={**PLAIN, "Cache-Control": "no-store"})


def _bytes(path: Path) -> bytes:
    """The bytes of a mask's file; raises Unreadable when it cannot be read, or is too large for a mask."""
    try:
        with path.open("rb") as file:
            data = file.read(LARGEST_MASK + 1)
    except OSError as error:
        raise Unreadable(f"The mask {path.name} cannot be read ({error.strerror}).") from error
    if len(data) > LARGEST_MASK:
        raise StudioError(f"The mask {path.name} is larger than {LARGEST_MASK // 2**20} MB.", "Replace it by a smaller one.", "too_large")
    return data


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
    learned = painted.convert("RGBA").getchannel("A") if painted.has_transparency_data else greys(painted).convert("L")
    buffer = io.BytesIO()
    learned.resize(upright_size(path), Image.Resampling.BILINEAR).save(buffer, "PNG")
    return told(project.edit(f"Mask of {picture}", [Change(picture, "mask", project.mask_digest(picture), project.keep_mask(buffer.getvalue()))]))


def upright_size(path: Path) -> tuple[int, int]:
    """Width and height of a picture as it is seen, from its header alone; raises Unreadable."""
    try:
        with open_limited(path) as image:
            (width, height), turn = image.size, image.getexif().get(ORIENTATION, 1)
    except HURT as error:
        raise Unreadable(f"{path.name} is not a picture that can have a mask.", "Take it out of the data set, or get it again.") from error
    return (height, width) if turn in (5, 6, 7, 8) else (width, height)


@router.delete("/mask")
def drop_mask(name: str, picture: str, here: Here) -> dict[str, Any]:
    """Take the mask of a picture away; undo brings it back."""
    project = here.engine.data_sets.project(name)
    return told(project.edit(f"Remove the mask of {picture}", [Change(picture, "mask", project.mask_digest(picture), None)]))
