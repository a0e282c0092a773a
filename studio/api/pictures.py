"""Routes that take a picture and say or do something with it: PNG info, interrogate, extras."""

from pathlib import Path
from typing import Any

from fastapi import APIRouter
from fastapi.concurrency import run_in_threadpool

from studio import shelves
from studio.api.images import received, sent
from studio.api.sdapi_models import Extras, ExtrasBatch, ExtrasSingle, Interrogate, PngInfo
from studio.api.waiting import Here
from studio.config import Config
from studio.errors import InputError, NotFound
from studio.pasting import parameters
from studio.projects.captioner_shelf import available
from studio.requests import ExtrasRequest, InterrogateRequest
from studio.settings import Paths

router = APIRouter(prefix="/sdapi/v1")
CLIP = "CLIP interrogator"
CAPTIONERS = {"clip": CLIP, "blip": "BLIP", "deepdanbooru": "DeepBooru", "deepbooru": "DeepBooru"}
"""What clients call the captioners."""


@router.post("/png-info")
def png_info(body: PngInfo, here: Here) -> dict[str, Any]:
    """The infotext inside a picture, whole and by its keys, and everything else that is written in it."""
    path = received(here.engine.paths, body.image, "image")
    text, items = here.engine.picture_info(Path(path))
    return {"info": text, "items": items, "parameters": parameters(text) if text else {}}


@router.post("/interrogate")
async def interrogate(body: Interrogate, here: Here) -> dict[str, str]:
    """A picture in words: by `clip` a sentence with artists and styles, where a CLIP interrogator is there, else the sentence alone; by `deepdanbooru` tags."""
    captioner = CAPTIONERS.get(str(body.model).lower())
    if captioner is None:
        raise NotFound(f"Model not found: there is no {body.model!r}.", "Send clip or deepdanbooru.")
    if captioner == CLIP and not any(one.kind == CLIP for one in await run_in_threadpool(available, here.engine.paths)):
        captioner = "BLIP"
    job = await here.finished(lambda: InterrogateRequest.check({"image": received(here.engine.paths, body.image, "image"), "captioner": captioner}))
    return {"caption": (job.result or {}).get("caption", "")}


@router.post("/extra-single-image")
async def extra_single_image(body: ExtrasSingle, here: Here) -> dict[str, str]:
    """One picture, enlarged."""
    job = await here.finished(lambda: _extras(body, here.engine.paths, [("", body.image)]))
    result = job.result or {}
    images = result.get("images", [])
    if not images:
        raise InputError("The job was stopped before the picture was done.")
    return {"html_info": f"<p>{result.get('info', '')}</p>", "image": await run_in_threadpool(sent, images[0])}


@router.post("/extra-batch-images")
async def extra_batch_images(body: ExtrasBatch, here: Here) -> dict[str, Any]:
    """Many pictures, enlarged."""
    job = await here.finished(lambda: _extras(body, here.engine.paths, [(item.name, item.data) for item in body.imageList]))
    result = job.result or {}
    images = await run_in_threadpool(lambda: [sent(path) for path in result.get("images", [])])
    return {"html_info": f"<p>{result.get('info', '')}</p>", "images": images}


def _extras(body: Extras, paths: Paths, pictures: list[tuple[str, str | None]]) -> Config:
    """The request of an extras body; raises InputError for face restorers, NotFound without a picture."""
    wrong = [f"{name}: there is no face restorer here; send 0." for name in ("gfpgan_visibility", "codeformer_visibility") if getattr(body, name)]
    if wrong:
        raise InputError(" ".join(wrong))
    if not pictures:
        raise NotFound("imageList: no picture was sent.", "Send [{data, name}, …].")
    values = {
        "images": [received(paths, data, name or "image") for name, data in pictures],
        "names": [name for name, _ in pictures],
        "resize": "Scale to" if body.resize_mode else "Scale by",
        "scale": body.upscaling_resize,
        "crop": body.upscaling_crop,
        "upscaler": upscaler_of(paths, body.upscaler_1),
        "second_upscaler": upscaler_of(paths, body.upscaler_2),
        "second_visibility": body.extras_upscaler_2_visibility,
    }
    if body.resize_mode:
        values |= {"width": body.upscaling_resize_w, "height": body.upscaling_resize_h}
    return ExtrasRequest.check({k: v for k, v in values.items() if v is not None})


def upscaler_of(paths: Paths, wanted: str | None) -> str:
    """The upscaler a client means, letter case aside; raises NotFound."""
    known = shelves.upscalers(paths, latent=False)
    for name in known:
        if (wanted or "None").lower() == name.lower():
            return name
    raise NotFound(f"Upscaler: there is no {wanted!r}.", f"Choose one of {', '.join(known)}.")
