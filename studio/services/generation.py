"""Generate: from a request to finished pictures with their infotext; the one path of page, API, CLI and previews."""

import random
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from studio.cancellation import Stopped, raise_if_stopped, stoppable
from studio.diffusion.conditioning import Reading, guidance, used_embeddings
from studio.diffusion.conversion import from_image, to_image
from studio.diffusion.decode import Scraps, decode
from studio.diffusion.denoiser import Guidance
from studio.diffusion.masked_latents import blank_conditioning
from studio.diffusion.model import Model
from studio.diffusion.noise import Seeds, row
from studio.diffusion.offload import Room, with_room
from studio.diffusion.samplers import find_sampler
from studio.diffusion.sampling import OnStep, Options, Plan, Start, sample
from studio.diffusion.tiling import tiled
from studio.diffusion.upscale import enlarged, enlarged_latents, is_latent
from studio.errors import StudioError
from studio.jobs import Lane
from studio.prompts.network_schedule import PromptPass
from studio.prompts.networks import networks
from studio.prompts.parts import without_comments
from studio.prompts.problems import in_negative, missed, used_in
from studio.prompts.styles import apply_styles, chosen_styles, read_styles
from studio.requests.generate import GenerateRequest
from studio.services import repainting
from studio.services.desk import Desk
from studio.services.gallery import Gallery
from studio.services.telling import Telling
from studio.services.wardrobe import Worn, dressed

SEED_LIMIT = 2**32


@dataclass(frozen=True)
class Painter:
    """What one batch needs besides its request: the model, embeddings by name, who hears of steps, who makes room, how sentences are told, and the networks that are worn."""

    model: Model
    words: Mapping[str, Tensor]
    on_step: OnStep | None = None
    room: Room | None = None
    tell: Callable[[str], None] = lambda _text: None
    enlarger: Callable[[Image.Image, str, tuple[int, int]], Image.Image] | None = None
    networks: Worn | None = None


@dataclass(frozen=True)
class Work:
    """How the images of one batch are made, how many sampling runs that takes, and what the infotext says about it."""

    paint: Callable[[Painter, GenerateRequest], list[Image.Image]]
    runs: int = 1
    facts: Mapping[str, str] = field(default_factory=dict)


def run(request: GenerateRequest, lane: Lane, desk: Desk, work: Work | None = None) -> dict[str, Any]:
    """Paint (or do other `work` on each batch), save and describe; a stop keeps what is there, a skip ends the batch in hand."""
    request = _settled(request, desk)
    work = work or Work(paint_batch, 2 if request.hires else 1)
    telling = Telling(lane, request, work.runs)
    with desk.cache.lend(request.checkpoint, request.vae) as model, dressed(model, prompt_passes(request), desk) as outfit:
        words = {**desk.words(f"{request.prompt}\n{request.negative_prompt}\n{request.hires_prompt}\n{request.hires_negative_prompt}"), **outfit.words}
        painter = Painter(model, words, telling.of(model), desk.cache, telling.warn, lambda picture, name, size: _enlarged(desk, picture, name, size), outfit)
        used = dict.fromkeys(name for texts in _passes(request) for name in used_embeddings(texts, words, _looks(request)))
        for note in (*outfit.notes, *desk.ambiguous(used), *_missed(request, [*desk.embedding_names(), *words])):
            telling.warn(note)
        gallery = Gallery(desk, {"Lora hashes": outfit.hashes, "TI hashes": desk.word_hashes(used)})
        gallery.hashes |= work.facts
        for batch in range(request.batch_count):
            asked = _batch(request, batch)
            telling.begin(batch)
            with suppress(Stopped):
                for i, picture in enumerate(work.paint(painter, asked)):
                    gallery.add(picture, asked, i, model)
                    lane.emit("saved", path=str(gallery.paths[-1]))
            if lane.stopping():
                break
        gallery.finish(request, model)
    return {**gallery.result(), "stopped": lane.stopping(), "notes": telling.notes}


def paint(model: Model, request: GenerateRequest, words: Mapping[str, Tensor], on_step: OnStep | None = None) -> list[Image.Image]:
    """One batch of pictures; touches no global randomness and writes nothing. Raises StudioError in words."""
    return paint_batch(Painter(model, words, on_step), request)


def _settled(request: GenerateRequest, desk: Desk) -> GenerateRequest:
    """The request with its seeds drawn and its styles in its prompts."""
    dice = random.SystemRandom()
    count = request.batch_count * request.batch_size
    changes: dict[str, Any] = {}
    if request.seed < 0:
        changes["seed"] = dice.randrange(SEED_LIMIT - count)
    if request.variation_seed < 0 and request.variation_strength:
        changes["variation_seed"] = dice.randrange(SEED_LIMIT - count)
    if request.styles:
        styles = chosen_styles(read_styles(desk.paths.styles), request.styles)
        changes["prompt"], changes["negative_prompt"] = apply_styles(request.prompt, request.negative_prompt, styles)
        if request.hires_prompt or request.hires_negative_prompt:  # an empty one is the first pass's, with its styles
            larger = apply_styles(request.hires_prompt, request.hires_negative_prompt, styles)
            changes |= {name: text for name, text in zip(("hires_prompt", "hires_negative_prompt"), larger, strict=True) if getattr(request, name)}
        changes["styles"] = ()
    return request.model_copy(update=changes)


def _batch(request: GenerateRequest, batch: int) -> GenerateRequest:
    """The request of one batch: seeds count on from batch to batch, or the variation's where there is one."""
    name = "variation_seed" if request.variation_strength else "seed"
    return request.model_copy(update={name: (getattr(request, name) + batch * request.batch_size) % SEED_LIMIT})


def paint_batch(painter: Painter, request: GenerateRequest) -> list[Image.Image]:
    """One batch, from noise or a picture to finished pictures."""
    model = painter.model
    size = repainting.working_size(model, request)
    noise = seeds_of(model, request, (size[1], size[0]))
    with tiled(model) if request.tiling else nullcontext():
        if request.repainting:
            work = repainting.begin(model, request, size, noise)
            if work.canvas.note:
                painter.tell(work.canvas.note)
            if request.denoising_strength == 0:
                return [work.canvas.original.copy() for _ in range(request.batch_size)]
            latents = _walk(painter, request, plan_of(painter, request, noise, size), work.start)
            return work.finished(latents, decoded(painter, latents))
        latents = _walk(painter, request, plan_of(painter, request, noise, size), Start(extra=blank_for(model, size)))
        if request.hires:
            with suppress(Stopped):  # what the first pass made is shown then, as in A1111
                latents = _larger(painter, request, latents, size)
        return decoded(painter, latents)


def seeds_of(model: Model, request: GenerateRequest, size: tuple[int, int]) -> Seeds:
    """What decides the noise of a batch."""
    cells = (request.seed_height // model.scale, request.seed_width // model.scale)
    given = row(request.seed, request.batch_size, max(request.variation_seed, 0), request.variation_strength)
    return replace(given, resize_from=cells if all(cells) and cells != (size[0] // model.scale, size[1] // model.scale) else None, source=request.noise_source, ensd=request.ensd)


def plan_of(painter: Painter, request: GenerateRequest, noise: Seeds, size: tuple[int, int], first: GenerateRequest | None = None) -> Plan:
    """The walk of a pass over pictures of (width, height): of the second pass when the request of the `first` is given."""
    model = painter.model
    reading = Reading(request.clip_skip, request.emphasis, request.comma_backtrack, size, request.old_prompt_editing)
    looks = (_looks(request), 0) if first is None else (_looks(first), _looks(request))

    def encode() -> Guidance:
        return guidance(model, _texts(request.prompt, request.negative_prompt), painter.words, reading, *looks)

    guide = encode() if painter.networks is None else painter.networks.guidance(int(first is not None), encode)
    options = Options(request.eta, request.s_churn, request.s_tmin, request.s_tmax, request.s_noise)
    return Plan(guide, request.sampler, request.steps, request.cfg_scale, (size[1] // model.scale, size[0] // model.scale), noise, request.scheduler, options)


def _missed(request: GenerateRequest, names: Sequence[str]) -> list[str]:
    """Sentences about embeddings that the prompts miss by their spelling, wildcards, and networks in negative prompts."""
    sentences: list[str] = []
    for texts in _passes(request):
        for text in texts:
            sentences += missed(text, names, used_in(text, names))
        sentences += in_negative(texts[1])
    return sentences


def _passes(request: GenerateRequest) -> list[tuple[str, str]]:
    """Prompt and negative prompt of each pass as the encoder reads them."""
    first = _texts(request.prompt, request.negative_prompt)
    second = _second(request)
    return [first, _texts(second.prompt, second.negative_prompt)] if request.hires else [first]


def prompt_passes(request: GenerateRequest) -> list[PromptPass]:
    """The prompts of all passes, for their networks."""
    first = PromptPass(request.prompt, _looks(request), old=request.old_prompt_editing)
    return [first, replace(first, prompt=_second(request).prompt, hires_looks=_looks(_second(request)))] if request.hires else [first]


def _looks(request: GenerateRequest) -> int:
    """How often a walk looks at the UNet: A1111 counts prompt editing so."""
    return request.steps * find_sampler(request.sampler).evaluations


def _texts(prompt: str, negative: str) -> tuple[str, str]:
    """Prompts as the encoder reads them: without comments and networks."""
    return networks(without_comments(prompt))[0], without_comments(negative)


def _walk(painter: Painter, request: GenerateRequest, plan: Plan, start: Start | None) -> Tensor:
    """Latents of one walk; when memory runs out, picture by picture. Stopped between two steps, while networks are switched, what is seen by then; raises Stopped before the first step."""
    shown: list[Tensor] = []

    def on_step(step: int, total: int, latents: Tensor) -> bool:
        shown[:] = [latents]
        return painter.on_step is None or painter.on_step(step, total, latents)

    def one_by_one() -> Tensor:
        painter.tell("Memory ran out, so the pictures of the batch are painted one by one.")
        return torch.cat([sample(painter.model, replace(plan, noise=plan.noise.at(i)), on_step, start and start.at(i)) for i in range(request.batch_size)])

    smaller = (one_by_one,) if request.batch_size > 1 else ()
    try:
        return with_room(painter.room or Scraps(), lambda: sample(painter.model, plan, on_step, start), *smaller)
    except Stopped:
        if not shown or len(shown[0]) != request.batch_size:
            raise
        return shown[0]


def decoded(painter: Painter, latents: Tensor) -> list[Image.Image]:
    """Latents as pictures; not interrupted, so that a stopped batch shows what is there."""
    with stoppable(None):
        return [to_image(picture) for picture in decode(painter.model, latents, painter.room, painter.tell)]


def _second(request: GenerateRequest) -> GenerateRequest:
    """What the second pass of a hires fix is asked: its own sampler, schedule, steps and prompts, or those of the first."""
    return request.model_copy(
        update={
            "sampler": request.sampler if request.hires_sampler == "Use same sampler" else request.hires_sampler,
            "scheduler": request.scheduler if request.hires_scheduler == "Use same scheduler" else request.hires_scheduler,
            "steps": request.hires_steps or request.steps,
            "prompt": request.hires_prompt or request.prompt,
            "negative_prompt": request.hires_negative_prompt or request.negative_prompt,
        }
    )


def hires_size(request: GenerateRequest, size: tuple[int, int]) -> tuple[int, int]:
    """Width and height of the second pass: as asked for, or by one side, or by the scale."""
    width, height = size
    if request.hires_width and request.hires_height:
        return request.hires_width, request.hires_height
    if request.hires_width:
        width, height = request.hires_width, request.hires_width * height // width
    elif request.hires_height:
        width, height = request.hires_height * width // height, request.hires_height
    else:
        width, height = int(width * request.hires_scale), int(height * request.hires_scale)
    return max(64, width // 8 * 8), max(64, height // 8 * 8)


def covering_size(size: tuple[int, int], target: tuple[int, int]) -> tuple[int, int]:
    """The smallest (width, height) in multiples of 8 that has the proportions of `size` and covers `target`, as near as multiples of 8 allow."""
    width, height = size
    if target[0] * height > target[1] * width:
        return target[0], max(target[1], target[0] * height // width // 8 * 8)
    return max(target[0], target[1] * width // height // 8 * 8), target[1]


def _larger(painter: Painter, request: GenerateRequest, latents: Tensor, size: tuple[int, int]) -> Tensor:
    """The second pass: enlarged as latents or as images, cropped around the middle when the aspect ratio changes, and sampled again. Raises Stopped before its first step."""
    raise_if_stopped()
    model, target = painter.model, hires_size(request, size)
    cover = covering_size(size, target)
    if is_latent(request.hires_upscaler):
        large = enlarged_latents(latents, (cover[1] // model.scale, cover[0] // model.scale), request.hires_upscaler)
    else:
        if painter.enlarger is None:
            raise StudioError("Previews of a training cannot use an image upscaler.", "Choose a Latent upscaler.")
        pictures = [painter.enlarger(picture, request.hires_upscaler, cover) for picture in decoded(painter, latents)]
        large = torch.cat([model.encode_images(from_image(picture))[0] for picture in pictures])
    large = _center_crop(large, (target[1] // model.scale, target[0] // model.scale))
    second = _second(request)
    plan = plan_of(painter, second, seeds_of(model, request, (target[1], target[0])), target, request)
    return _walk(painter, second, plan, Start(large, request.hires_denoising_strength, extra=blank_for(model, target), exact=True))


def _center_crop(latents: Tensor, grid: tuple[int, int]) -> Tensor:
    """The middle (height, width) cells of latents; an odd cell is cut off at the bottom and the right, as in A1111."""
    top, left = ((have - want) // 2 for have, want in zip(latents.shape[-2:], grid, strict=True))
    return latents[..., top : top + grid[0], left : left + grid[1]]


def blank_for(model: Model, size: tuple[int, int]) -> Tensor | None:
    """What a checkpoint made for inpainting is shown when there is no picture of (width, height); None for others."""
    if not model.family.inpaints:
        return None
    return blank_conditioning(model, (size[1] // model.scale, size[0] // model.scale))


def _enlarged(desk: Desk, picture: Image.Image, name: str, size: tuple[int, int]) -> Image.Image:
    """A picture enlarged to (width, height) by an upscaler of the shelf."""
    return enlarged(picture, size, name, desk.cache)
