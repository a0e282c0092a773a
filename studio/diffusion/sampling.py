"""The one denoising walk, for txt2img and inpainting alike."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from studio.diffusion.model import Conditioning, Model
from studio.diffusion.samplers import make_sampler
from studio.errors import StudioError

OnStep = Callable[[int, int, Tensor], bool]
"""Called with (step, total, latents [b, 4, h, w]) after each step; False ends the walk there."""


@dataclass(frozen=True)
class Start:
    """Where an inpainting walk begins: latents [b, 4, h, w], mask [1, 1, h, w] (1 = repaint), how far from 0 to 1, and the first content."""

    latents: Tensor
    mask: Tensor
    strength: float
    content: Tensor


@dataclass(frozen=True)
class Guide:
    """What guides one step: the positive prompts with their weights (more than one by AND) and the negative one, each of batch 1."""

    positive: tuple[tuple[Conditioning, float], ...]
    negative: Conditioning


Guidance = Callable[[int], Guide]
"""The guide of a step, counted from 0: prompt editing and alternation change it on the way."""


@dataclass(frozen=True)
class Plan:
    """What a walk needs: what guides it, sampler, steps, how strictly, one seed per picture, latent size (h, w)."""

    guidance: Guidance
    sampler: str
    steps: int
    cfg_scale: float
    seeds: tuple[int, ...]
    size: tuple[int, int]


def noise_for(seeds: Sequence[int], size: tuple[int, int]) -> Tensor:
    """Noise [b, 4, h, w], each picture's from a generator of its own on the CPU."""
    return torch.cat([torch.randn(1, 4, *size, generator=torch.Generator().manual_seed(seed)) for seed in seeds])


@torch.no_grad()
def sample(model: Model, plan: Plan, on_step: OnStep | None = None, start: Start | None = None) -> Tensor:
    """Latents [b, 4, h, w] of the finished (or stopped) walk; raises StudioError when the UNet returns numbers that are not finite."""
    solver = make_sampler(plan.sampler, model.schedule)
    generators = [torch.Generator().manual_seed(seed + 2**31) for seed in plan.seeds]
    noise = noise_for(plan.seeds, plan.size).to(model.device)
    solver.set_timesteps(plan.steps, device=model.device)
    first = 0 if start is None else _first_step(len(solver.timesteps), start.strength)
    timesteps = solver.timesteps[first:]
    if start is None:
        x = noise * solver.init_noise_sigma
    elif not len(timesteps):
        return start.latents
    else:
        if hasattr(solver, "set_begin_index"):
            solver.set_begin_index(first)
        x = solver.add_noise(start.content, noise, timesteps[:1].repeat(len(noise))) if start.strength < 1 or first else noise * solver.init_noise_sigma
    for i, t in enumerate(timesteps):
        output = _guided(model, plan, plan.guidance(first + i), solver.scale_model_input(x, t), t)
        if not bool(torch.isfinite(output).all()):
            raise StudioError(f"{model.checkpoint} returned numbers that are not finite at step {i + 1}.", "Use full precision, a lower CFG scale, or take the last embedding out of the prompt.")
        x = _step(solver, output, t, x, generators)
        if start is not None and i + 1 < len(timesteps):
            known = solver.add_noise(start.latents, noise, timesteps[i + 1 : i + 2].repeat(len(noise)))
            x = torch.where(start.mask > 0.5, x, known)
        if on_step is not None and not on_step(i + 1, len(timesteps), x):
            break
    return x if start is None else start.latents * (1 - start.mask) + x * start.mask


def _first_step(total: int, strength: float) -> int:
    """How many of `total` steps are skipped at a denoising strength."""
    return total - min(total, round(total * strength)) if strength < 1 else 0


def _guided(model: Model, plan: Plan, guide: Guide, x: Tensor, t: Tensor) -> Tensor:
    """The UNet's output with classifier-free guidance (Ho & Salimans 2022), summed over the parts (Liu et al. 2022); the unconditional part is skipped at scale 1."""
    outputs = [(model.predict(x, t, part).float(), weight) for part, weight in guide.positive]
    if plan.cfg_scale == 1 and len(outputs) == 1:
        return outputs[0][0]
    negative = model.predict(x, t, guide.negative).float()
    return negative + sum(plan.cfg_scale * weight * (output - negative) for output, weight in outputs)


def _step(solver: object, output: Tensor, t: Tensor, x: Tensor, generators: list[torch.Generator]) -> Tensor:
    """One update; samplers that draw noise draw each picture's from its own generator."""
    import inspect

    extra = {"generator": generators} if "generator" in inspect.signature(solver.step).parameters else {}
    return solver.step(output, t, x, **extra).prev_sample
