"""Painting by A1111's routes: txt2img and img2img wait for their job and answer with its pictures."""

from typing import Any

from fastapi import APIRouter, Response
from fastapi.concurrency import run_in_threadpool

from studio.api.answers import answer
from studio.api.options import keep
from studio.api.projection import img2img_request, txt2img_request
from studio.api.scripts import scripted
from studio.api.sdapi_models import Img2Img, Txt2Img
from studio.api.waiting import Counter, Here
from studio.config import Config

router = APIRouter(prefix="/sdapi/v1")


@router.post("/txt2img")
async def txt2img(body: Txt2Img, here: Here, response: Response) -> dict[str, Any]:
    """Paint from words. Pictures are always kept under outputs/images, whatever `save_images` says; the grid is sent only with it."""
    return await _painted(body, here, response)


@router.post("/img2img")
async def img2img(body: Img2Img, here: Here, response: Response) -> dict[str, Any]:
    """Paint from a picture, or repaint what its mask covers."""
    return await _painted(body, here, response)


async def _painted(body: Txt2Img | Img2Img, here: Counter, response: Response) -> dict[str, Any]:
    """Wait for the job of a body; a client that leaves does not end it."""
    job = await here.finished(lambda: _request(body, here), body.force_task_id)
    unknown = body.unknown()
    if unknown:
        response.headers["X-Ignored-Fields"] = ", ".join(unknown)[:500].encode("ascii", "replace").decode()
    return await run_in_threadpool(answer, body, job)


def _request(body: Txt2Img | Img2Img, here: Counter) -> Config:
    """The request of a body; settings that are to stay are kept first."""
    request = txt2img_request(here.engine, body) if isinstance(body, Txt2Img) else img2img_request(here.engine, body)
    if body.override_settings and body.override_settings_restore_afterwards is False:
        keep(here.engine, body.override_settings)
    return scripted(body, request)
