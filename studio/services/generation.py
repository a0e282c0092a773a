"""Generate: from a request to finished pictures with their infotext; the one path of page, API, CLI and previews."""

import base64
import io
import random
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from studio.diffusion import inpaint
from studio.diffusion.conditioning import Reading, condition
from studio.diffusion.model import Model
from studio.diffusion.preview import small_pictures
from studio.diffusion.sampling import Guidance, Guide, OnStep, Options, Plan, Seeds, Start, sample
from studio.errors import InputError, Unreadable
from studio.formats.files import atomic_write
from studio.formats.infotext import png_info, write_infotext
from studio.jobs import Lane
from studio.requests.generate import GenerateRequest
from studio.services.desk import Desk


@dataclass(frozen=True)
class _Canvas:
    """A picture being repainted: original, soft mask, hard mask, and the box that is worked on."""

    original: Image.Image
    soft: Image.Image
    hard: Image.Image
    box: tuple[int, int, int, int]


def run(request: GenerateRequest, lane: Lane, desk: Desk) -> dict[str, Any]:
    """Paint, save and describe; a stop keeps what is there."""
    seed = request.seed if request.seed >= 0 else random.SystemRandom().randrange(2**32 - request.batch_size)
    request = request.model_copy(update={"seed": seed})
    words = desk.words(f"{request.prompt}\n{request.negative_prompt}")
    with desk.cache.lend(request.checkpoint) as model:
        images = paint(model, request, words, _teller(model, request, lane), lane)
        texts = [infotext(model, request, images[0].size, request.seed + i) for i in range(len(images))]
    folder = desk.paths.images / time.strftime("%Y-%m-%d")
    paths = [_save(folder, image, text, request.seed + i) for i, (image, text) in enumerate(zip(images, texts, strict=True))]
    for path in paths:
        lane.emit("saved", path=str(path))
    return {"images": [str(p) for p in paths], "seeds": [seed + i for i in range(len(images))], "infotexts": texts, "stopped": lane.stopping()}


def paint(model: Model, request: GenerateRequest, words: Mapping[str, Tensor], on_step: OnStep | None = None, lane: Lane | None = None) -> list[Image.Image]:
    """Pictures for a request; touches no global randomness and writes nothing. Raises StudioError in words."""
    canvas = _canvas(request) if request.repainting else None
    width, height = _size(model, request, canvas)
    size = (height // model.scale, width // model.scale)
    seeds = tuple(request.seed + i for i in range(request.batch_size))
    noise = Seeds(seeds, source=request.noise_source, ensd=request.ensd)
    options = Options(request.eta, request.s_churn, request.s_tmin, request.s_tmax, request.s_noise)
    plan = Plan(_guidance(model, request, words), request.sampler, request.steps, request.cfg_scale, size, noise, request.scheduler, options)
    start = None if canvas is None else _start(model, request, canvas, (width, height), seeds)
    if request.repainting and request.denoising_strength == 0:
        return [canvas.original.copy() for _ in seeds] if canvas else []
    latents = sample(model, plan, _watched(on_step, lane), start)
    pictures = [to_image(p) for p in model.decode(latents)]
    return pictures if canvas is None else [_paste(canvas, picture) for picture in pictures]


def _watched(on_step: OnStep | None, lane: Lane | None) -> OnStep:
    """A step callback that also ends the walk when the lane is asked to stop."""

    def tell(step: int, total: int, latents: Tensor) -> bool:
        going = on_step is None or on_step(step, total, latents)
        return going and not (lane is not None and lane.stopping())

    return tell


def _teller(model: Model, request: GenerateRequest, lane: Lane) -> OnStep:
    """Progress on every step, and a live preview every few."""
    began = time.monotonic()

    def tell(step: int, total: int, latents: Tensor) -> bool:
        rate = step / max(time.monotonic() - began, 1e-6)
        lane.emit("progress", step=step, total=total, rate=rate, eta=(total - step) / rate, text="sampling")
        if request.preview_every and step % request.preview_every == 0 and step < total:
            lane.emit("preview", step=step, total=total, image=_data_uri(small_pictures(model, latents)[0]))
        return True

    return tell


def _data_uri(image: Image.Image) -> str:
    """A small JPEG as a data URI, at least 128 pixels wide."""
    factor = max(1, 256 // image.width)
    buffer = io.BytesIO()
    image.resize((image.width * factor, image.height * factor), Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def _guidance(model: Model, request: GenerateRequest, words: Mapping[str, Tensor]) -> Guidance:
    """What guides each step."""
    reading = Reading(request.clip_skip)
    guide = Guide(((condition(model, [request.prompt], words, reading), 1.0),), condition(model, [request.negative_prompt], words, reading))
    return lambda _step: guide


def _size(model: Model, request: GenerateRequest, canvas: _Canvas | None) -> tuple[int, int]:
    """Working width and height in pixels."""
    if canvas is not None and request.inpaint_area == "Whole picture" and not (request.width and request.height):
        return tuple(max(64, side // 8 * 8) for side in canvas.original.size)  # type: ignore[return-value]
    return request.width or model.native_size, request.height or model.native_size


def _open(path: str, label: str) -> Image.Image:
    """A picture a person gave; raises Unreadable."""
    try:
        image = Image.open(path)
        image.load()
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError, ValueError) as error:
        raise Unreadable(f"{label}: {Path(path).name!r} is not a picture that can be read.", "Choose another file.") from error
    return image


def _canvas(request: GenerateRequest) -> _Canvas:
    """The picture and its masks; raises InputError without a mask."""
    if not request.mask:
        raise InputError("There is no mask.", "Paint over the part that should change.")
    original = _open(request.init_image, "Picture").convert("RGB")
    hard = inpaint.mask_of(_open(request.mask, "Mask"), original.size, request.mask_mode == "Inpaint not masked")
    box = (0, 0, *original.size)
    if request.inpaint_area == "Only masked":
        box = inpaint.crop_box(hard, request.padding, (request.width or 1) / (request.height or 1))
    return _Canvas(original, inpaint.blurred(hard, request.mask_blur), hard, box)


def _start(model: Model, request: GenerateRequest, canvas: _Canvas, size: tuple[int, int], seeds: tuple[int, ...]) -> Start:
    """Latents of the picture, the mask on the latent grid, and what is under the mask at first."""
    part = canvas.original.crop(canvas.box).resize(size, Image.Resampling.LANCZOS)
    mask = canvas.soft.crop(canvas.box).resize(size, Image.Resampling.BILINEAR)
    grid = (size[0] // model.scale, size[1] // model.scale)
    cells = torch.from_numpy(np.array(mask.resize(grid, Image.Resampling.BOX)))[None, None].float().div(255).to(model.device)
    cells = (cells > 0.05).float()
    known = model.encode_images(from_image(part))[0]
    content = known
    if request.masked_content == "fill":
        content = model.encode_images(from_image(inpaint.filled(part, mask)))[0]
    elif request.masked_content == "latent noise":
        content = known * (1 - cells) + Seeds(seeds, source=request.noise_source).first((grid[1], grid[0])).to(model.device) * cells
    elif request.masked_content == "latent nothing":
        content = known * (1 - cells)
    count = len(seeds)
    content = content if len(content) == count else content.repeat(count, 1, 1, 1)
    return Start(known.repeat(count, 1, 1, 1), request.denoising_strength, cells, content)


def _paste(canvas: _Canvas, painted: Image.Image) -> Image.Image:
    """The painted part back in its place; unmasked pixels are the original's."""
    left, top, right, bottom = canvas.box
    whole = canvas.original.copy()
    whole.paste(painted.resize((right - left, bottom - top), Image.Resampling.LANCZOS), (left, top))
    return inpaint.pasted(canvas.original, whole, canvas.soft)


def from_image(image: Image.Image) -> Tensor:
    """A picture as [1, 3, H, W] in -1..1."""
    return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)[None].float() / 127.5 - 1


def to_image(picture: Tensor) -> Image.Image:
    """[3, H, W] in -1..1 as a picture."""
    return Image.fromarray(((picture.float().cpu().permute(1, 2, 0) + 1) * 127.5).round().clamp(0, 255).byte().numpy())


def infotext(model: Model, request: GenerateRequest, size: tuple[int, int], seed: int) -> str:
    """What A1111 would write for this picture."""
    facts: dict[str, object] = {"Steps": request.steps, "Sampler": request.sampler, "CFG scale": f"{request.cfg_scale:g}", "Seed": seed, "Size": f"{size[0]}x{size[1]}"}
    facts |= {"Model hash": model.hash, "Model": Path(model.checkpoint).stem}
    if request.inpainting:
        facts |= {"Denoising strength": f"{request.denoising_strength:g}", "Mask blur": request.mask_blur, "Inpaint area": request.inpaint_area, "Masked content": request.masked_content}
    if request.clip_skip > 1:
        facts["Clip skip"] = request.clip_skip
    return write_infotext(request.prompt, request.negative_prompt, facts)


def _save(folder: Path, image: Image.Image, text: str, seed: int) -> Path:
    """Write a PNG under the next free number of its day."""
    folder.mkdir(parents=True, exist_ok=True)
    number = 1 + max((int(p.name[:5]) for p in folder.glob("[0-9][0-9][0-9][0-9][0-9]-*.png")), default=-1)
    path = folder / f"{number:05d}-{seed}.png"
    with atomic_write(path) as temporary:
        image.save(temporary, "PNG", pnginfo=png_info(text))
    return path
