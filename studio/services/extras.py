"""Extras: enlarge pictures by one upscaler or two blended; what was read in stays, results are new files."""

import time
from pathlib import Path
from typing import Any

from PIL import Image

from studio.cancellation import Stopped
from studio.dataset.folder import in_words, open_turned
from studio.dataset.profiles import in_srgb
from studio.diffusion.resize import eight_bits
from studio.files import atomic_write
from studio.formats.carriers import infotext_of, png_info
from studio.jobs import Lane
from studio.requests.extras import ExtrasRequest
from studio.services.desk import Desk

NOTHING = "None"


def run(request: ExtrasRequest, lane: Lane, desk: Desk) -> dict[str, Any]:
    """Enlarge every picture and save the results; a stop keeps what is done."""
    folder = desk.paths.images / "extras" / time.strftime("%Y-%m-%d")
    images: list[str] = []
    for number, source in enumerate(request.images):
        if lane.stopping():
            break
        lane.emit("progress", step=number, total=len(request.images), text=Path(source).name)
        try:
            enlarged = enlarge(_opened(Path(source)), request, desk)
        except Stopped:
            break
        name = Path(request.names[number]).stem if number < len(request.names) else ""
        images.append(str(_save(folder, enlarged, name, (infotext_of(Path(source)), described(request)))))
        lane.emit("saved", path=images[-1])
    lane.emit("progress", step=len(images), total=len(request.images), text="")
    return {"images": images, "info": described(request), "stopped": len(images) < len(request.images)}


def _opened(path: Path) -> Image.Image:
    """A picture upright in sRGB, as RGBA when it has alpha, else as RGB. Raises Unreadable in words."""
    with in_words(path):
        image = eight_bits(in_srgb(open_turned(path)))
    return image.convert("RGBA" if image.mode in ("LA", "RGBA") else "RGB")


def enlarge(image: Image.Image, request: ExtrasRequest, desk: Desk) -> Image.Image:
    """One picture at the wanted size; raises NotFound for an upscaler that is not there."""
    target = _target(image.size, request)
    first = _by(request.upscaler, image, target, desk)
    if request.second_upscaler != NOTHING and request.second_visibility > 0:
        first = Image.blend(first, _by(request.second_upscaler, image, target, desk), request.second_visibility)
    if request.resize == "Scale to" and request.crop:
        left, top = (first.width - request.width) // 2, (first.height - request.height) // 2
        first = first.crop((left, top, left + request.width, top + request.height))
    return first


def _target(size: tuple[int, int], request: ExtrasRequest) -> tuple[int, int]:
    """The size before anything is cut off."""
    factor = request.scale
    if request.resize == "Scale to":
        ratios = request.width / size[0], request.height / size[1]
        factor = max(ratios) if request.crop else min(ratios)
    return max(1, round(size[0] * factor)), max(1, round(size[1] * factor))


def _by(name: str, image: Image.Image, target: tuple[int, int], desk: Desk) -> Image.Image:
    """A picture enlarged by one upscaler."""
    from studio.diffusion.upscale import enlarged

    if name == NOTHING:
        return image.resize(target, Image.Resampling.LANCZOS) if image.size != target else image
    return enlarged(image, target, name, desk.cache)


def described(request: ExtrasRequest) -> str:
    """What was done, as A1111 writes it into the picture."""
    size = f"Postprocess upscale by: {request.scale:g}" if request.resize == "Scale by" else f"Postprocess upscale to: {request.width}x{request.height}"
    second = f", Postprocess upscaler 2: {request.second_upscaler}" if request.second_upscaler != NOTHING and request.second_visibility > 0 else ""
    return f"{size}, Postprocess upscaler: {request.upscaler}{second}"


def _save(folder: Path, image: Image.Image, name: str, texts: tuple[str, str]) -> Path:
    """Write a PNG under the next free number, with the infotext it had and what was done to it."""
    folder.mkdir(parents=True, exist_ok=True)
    number = 1 + max((int(p.name[:5]) for p in folder.glob("[0-9][0-9][0-9][0-9][0-9]*.png")), default=-1)
    path = folder / f"{number:05d}{'-' + name[:120] if name else ''}.png"
    with atomic_write(path) as temporary:
        image.save(temporary, "PNG", pnginfo=png_info(texts[0], {"postprocessing": texts[1]}))
    return path
