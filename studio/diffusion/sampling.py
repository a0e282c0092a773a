"""The one denoising walk, for txt2img, img2img, inpainting and hires alike."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from studio.cancellation import raise_if_stopped
from studio.diffusion.denoiser import Blend, Denoiser, Guidance, Guide, Known
from studio.diffusion.model import Model
from studio.diffusion.noise import Noise, Seeds
from studio.diffusion.samplers import Course, Sampler, course, find_sampler
from studio.diffusion.schedules import AUTOMATIC, Ladder
from studio.diffusion.solvers import PLAIN, Options, Way

__all__ = ["Blend", "Guidance", "Guide", "OnStep", "Options", "Plan", "Seeds", "Start", "sample"]

OnStep = Callable[[int, int, Tensor], bool]
"""Called after each step with (step, total, the picture as it is seen by then [b, 4, h, w]); False ends the walk there."""


@dataclass(frozen=True)
class Plan:
    """What a walk needs: what guides it, sampler, steps, how strictly, latent size (h, w), what decides its noise, schedule type, and what else may be set."""

    guidance: Guidance
    sampler: str
    steps: int
    cfg_scale: float
    size: tuple[int, int]
    noise: Seeds
    scheduler: str = AUTOMATIC
    options: Options = PLAIN


@dataclass(frozen=True)
class Start:
    """Where a walk begins that does not begin in noise alone.

    `latents` [1 or b, 4, h, w] of the picture (None: noise alone) and the denoising strength from 0 to 1; `mask` [1 or b, 1, h, w] where only a part is repainted (1 = repaint);
    `content` in the latents' place at first; `extra` [1 or b, 5, h, w] for checkpoints made for inpainting; `blend` in the mask's place; `exact` walks all steps (hires).
    """

    latents: Tensor | None = None
    strength: float = 1.0
    mask: Tensor | None = None
    content: Tensor | None = None
    extra: Tensor | None = None
    blend: Blend | None = None
    exact: bool = False

    def at(self, index: int) -> "Start":
        """Where one picture of the batch begins."""
        names = ("latents", "mask", "content", "extra")
        tensors = {name: getattr(self, name) for name in names}
        return replace(self, **{name: value if value is None or len(value) == 1 else value[index : index + 1] for name, value in tensors.items()})


@torch.no_grad()
def sample(model: Model, plan: Plan, on_step: OnStep | None = None, start: Start | None = None) -> Tensor:
    """Latents [b, 4, h, w] of the finished walk, or of a stopped one the picture as it was seen by then.

    A sampler that chooses its own strides walks picture by picture; stopped, it returns those that were begun. Raises InputError on an unknown name,
    StudioError when the UNet returns numbers that are not finite, and Stopped where nobody hears of steps.
    """
    sampler = find_sampler(plan.sampler)
    begin = start or Start()
    count = len(plan.noise.seeds)
    if begin.latents is not None and begin.strength <= 0:
        return begin.latents.expand(count, -1, -1, -1)
    if sampler.alone and count > 1:
        return _one_by_one(model, plan, on_step, begin)
    ladder = Ladder.of(model.alphas_cumprod, rich=len(model.text_encoders) > 1)
    ladder = ladder if sampler.taught == 1 else ladder.every(sampler.taught)
    look = Denoiser(model, ladder, plan.guidance, plan.cfg_scale * sampler.damping)
    look.split, look.extra = sampler.damping != 1, begin.extra
    if begin.latents is not None and begin.mask is not None:
        look.known = Known(begin.latents, begin.mask, begin.blend)
    route = course(sampler, ladder, plan.scheduler, plan.steps, None if begin.latents is None else (begin.strength, begin.exact))
    x = _walk(look, sampler, route, _footing(plan, sampler, route, begin, model.device), on_step)
    look.settle()
    return x if look.known is None else look.known.kept(x, 0.0)


def _footing(plan: Plan, sampler: Sampler, route: Course, begin: Start, device: torch.device) -> tuple[Tensor, Way]:
    """The first latents [b, 4, h, w] of a walk, and the way from there."""
    noise = Noise(plan.noise, plan.size, device)
    first = noise.first()
    content = begin.latents if begin.content is None else begin.content
    x = first * route.top if content is None else (content + first * route.entry) * route.factor
    knobs = plan.options
    above = [level for level in route.levels if level > 0]
    draw = noise.brownian(min(above), max(above)) if sampler.brownian else lambda _sigma, _following: noise.next()
    return x, Way(route.levels, draw, sampler.eta if knobs.eta is None else knobs.eta, knobs)


def _walk(look: Denoiser, sampler: Sampler, route: Course, footing: tuple[Tensor, Way], on_step: OnStep | None) -> Tensor:
    """Step after step, to the last latents or, stopped, to the picture seen by then."""
    x, way = footing
    planned = sampler.strides(len(route.levels) - 1)
    for step, (following, picture) in enumerate(sampler.rule(look, x, way), 1):
        x = following * route.exit if step == planned else following
        shown = x if step == planned else picture
        if on_step is None:
            raise_if_stopped()
        elif not on_step(step, max(step, planned), shown):
            return shown
    return x


def _one_by_one(model: Model, plan: Plan, on_step: OnStep | None, begin: Start) -> Tensor:
    """A batch whose pictures walk one after another; steps are counted through."""
    pictures: list[Tensor] = []
    count = len(plan.noise.seeds)
    seen, going = 0, True

    def tell(step: int, total: int, picture: Tensor) -> bool:
        nonlocal seen, going
        seen += 1
        going = on_step is None or on_step(seen, max(seen, seen - step + total * (count - len(pictures))), picture)
        return going

    for i in range(count):
        pictures.append(sample(model, replace(plan, noise=plan.noise.at(i)), tell, begin.at(i)))
        if not going:
            break
    return torch.cat(pictures)
