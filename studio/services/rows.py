"""Rows: pictures of several prompts, seeds and words walked together, which is faster than one after another."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from PIL import Image
from torch import Tensor

from studio.diffusion.decode import Scraps
from studio.diffusion.denoiser import Guidance, Guide
from studio.diffusion.model import Conditioning, Model
from studio.diffusion.offload import with_room
from studio.diffusion.samplers import find_sampler
from studio.diffusion.sampling import Plan, Start, sample
from studio.requests.generate import GenerateRequest
from studio.services.generation import Painter, blank_for, decoded, plan_of, seeds_of
from studio.services.repainting import working_size

AT_ONCE = 8
"""Pictures of a row that walk together, at most; with guidance the UNet sees twice as many."""


@dataclass(frozen=True)
class Shot:
    """One picture of a row: what is asked (one picture from noise, without a second pass), and the vectors [n, d] of the words its prompts may hold."""

    request: GenerateRequest
    words: Mapping[str, Tensor]


@contextmanager
def at_rest(model: Model) -> Iterator[None]:
    """The model in evaluation mode for the length of the block; layers that were in training mode are put back into it."""
    training = [module for part in (model.unet, model.vae, *model.text_encoders) for module in part.modules() if module.training]
    for module in training:
        module.training = False
    try:
        yield
    finally:
        for module in training:
            module.training = True


def paint_row(painter: Painter, shots: Sequence[Shot], at_once: int = AT_ONCE) -> tuple[list[Image.Image], int]:
    """The pictures of shots that differ in prompt, seed and words alone, and how many of them may walk together after this: 1 when memory ran out.

    Shots whose prompts are equally long walk together; no randomness but their seeds' is touched. Raises StudioError in words.
    """
    pictures: dict[int, Image.Image] = {}
    with at_rest(painter.model), torch.no_grad():
        plans = [_planned(painter, shot) for shot in shots]
        at_once = 1 if find_sampler(shots[0].request.sampler).alone else at_once
        for group in _groups(plans):
            while group:
                some, group = group[:at_once], group[at_once:]
                drawn, fits = _together(painter, [shots[i] for i in some], [plans[i] for i in some])
                at_once = at_once if fits else 1
                pictures.update(zip(some, drawn, strict=True))
    return [pictures[i] for i in range(len(shots))], at_once


def _planned(painter: Painter, shot: Shot) -> Plan:
    """The walk of one shot."""
    size = working_size(painter.model, shot.request)
    return plan_of(replace(painter, words=shot.words), shot.request, seeds_of(painter.model, shot.request, (size[1], size[0])), size)


def _groups(plans: Sequence[Plan]) -> list[list[int]]:
    """Numbers of the plans that can walk together: parts joined by AND, their weights, and lengths of texts are alike."""
    alike: dict[tuple[object, ...], list[int]] = {}
    for number, plan in enumerate(plans):
        guide = plan.guidance(0)
        key = (plan.size, guide.negative.context.shape[1], *((one.context.shape[1], weight) for one, weight in guide.positive))
        alike.setdefault(key, []).append(number)
    return list(alike.values())


def _together(painter: Painter, shots: Sequence[Shot], plans: Sequence[Plan]) -> tuple[list[Image.Image], bool]:
    """Pictures of shots that walk together, and whether they fitted into memory so; one by one where they did not."""
    fits = True

    def one_by_one() -> list[Image.Image]:
        nonlocal fits
        fits = False
        return [picture for shot, plan in zip(shots, plans, strict=True) for picture in _walked(painter, shot.request, plan)]

    smaller = (one_by_one,) if len(shots) > 1 else ()
    return with_room(painter.room or Scraps(), lambda: _walked(painter, shots[0].request, _joined(plans)), *smaller), fits


def _walked(painter: Painter, request: GenerateRequest, plan: Plan) -> list[Image.Image]:
    """Pictures of one walk from noise."""
    start = Start(extra=blank_for(painter.model, working_size(painter.model, request)))
    return decoded(painter, sample(painter.model, plan, painter.on_step, start))


def _joined(plans: Sequence[Plan]) -> Plan:
    """Plans that are alike as one: the seeds of all, and guides whose conditionings stand one under another."""
    first = plans[0].noise
    noise = replace(first, seeds=tuple(seed for plan in plans for seed in plan.noise.seeds), variation=tuple(seed for plan in plans for seed in plan.noise.variation))
    return replace(plans[0], noise=noise, guidance=_side_by_side([plan.guidance for plan in plans]))


def _side_by_side(guidances: Sequence[Guidance]) -> Guidance:
    """One guide for several pictures, joined anew only when one of theirs changes."""
    known: dict[tuple[int, ...], Guide] = {}

    def guide(step: int) -> Guide:
        guides = [each(step) for each in guidances]
        key = tuple(map(id, guides))  # every guidance keeps its guides, so an id stays that of one guide
        if key not in known:
            parts = zip(*(one.positive for one in guides), strict=True)
            positive = tuple((_stacked([conditioning for conditioning, _ in part]), part[0][1]) for part in parts)
            known[key] = Guide(positive, _stacked([one.negative for one in guides]))
        return known[key]

    return guide


def _stacked(parts: Sequence[Conditioning]) -> Conditioning:
    """Conditionings of batch 1 as one of batch b."""

    def rows(read: Callable[[Conditioning], Tensor | None]) -> Tensor | None:
        values = [value for part in parts if (value := read(part)) is not None]
        return torch.cat(values) if values else None

    return replace(parts[0], context=torch.cat([part.context for part in parts]), pooled=rows(lambda one: one.pooled), sizes=rows(lambda one: one.sizes))
