"""Passes: from a batch to gradients, whole or, when memory is short, in smaller portions that come to the same."""

import gc
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from studio.dataset.batches import Batch, Batches, dice, normal
from studio.diffusion.conditioning import Reading, condition
from studio.diffusion.model import Conditioning, Model
from studio.diffusion.offload import is_out_of_memory
from studio.errors import StudioError
from studio.training.methods.trainable import Trainable
from studio.training.objective import add_noise, offset, squared_errors, target, weights
from studio.training.several import ALONE, Team

SHIFT = 40
"""Purpose of the noise offset's randomness, apart from those of the batches."""
SMALL = 2 * 32 * 32
"""Cells of latents that pass together: parts of a step that are no larger than two pictures of 256 px. Weights are read once for all of them, and memory stays below that of one picture of 512 px."""
LIGHT = SMALL // 4
"""The same where networks learn: they keep what enters each of their layers too."""
REMEMBERED = 512
"""Prompts whose conditioning is remembered where nothing that reads them learns."""


@dataclass(frozen=True)
class Plan:
    """What a run does at each step: its pictures, the objective, how gradients are clipped (mode, amount); `others` are words of the shelf that prompts may use, `team` who takes the steps,
    `joined` the most cells of parts that pass together, and `read` what prompts were read as where that stays."""

    batches: Batches
    min_snr_gamma: float = 0.0
    noise_offset: float = 0.0
    clip: tuple[str, float] = ("disabled", 0.0)
    clip_skip: int = 1
    others: Mapping[str, Tensor] = field(default_factory=dict)
    checkpointing: bool = False
    prior: "Prior | None" = None
    team: Team = ALONE
    joined: int = SMALL
    read: dict[tuple[object, ...], Conditioning] = field(default_factory=dict, compare=False, repr=False)


@dataclass(frozen=True)
class Prior:
    """What keeps the rest of a class as it was: batches of it, how much they count, and whether they are compared with what the untouched network says instead of with their noise."""

    batches: Batches
    weight: float = 1.0
    predicted: bool = False


def draw(plan: Plan, step: int, part: int, prior: bool = False) -> Batch:
    """One part of a step, or of what keeps its class, its noise offset when the plan says so: a pure function of seed, step and part."""
    source = plan.prior.batches if prior and plan.prior else plan.batches
    batch = replace(source.at(step, part), prior=prior)
    if not plan.noise_offset:
        return batch
    first = part * source.size
    shifts = torch.stack([normal(batch.noise.shape[1:2], dice(source.seed, SHIFT, step, first + i)) for i in range(len(batch.noise))])
    return replace(batch, noise=offset(batch.noise, shifts, plan.noise_offset))


def drawn(plan: Plan, step: int) -> list[Batch]:
    """This process's batches of a step: its share of the parts, then of those of the prior.

    Small neighbours of one size are joined: the gradients are the same but for rounding, and sizes alone say which parts are joined.
    """
    found: list[Batch] = []
    for prior in (False, True)[: 1 + bool(plan.prior)]:
        for part in range(plan.batches.parts):
            batch = draw(plan, step, part, prior)
            batch = piece(batch, plan.team.share(len(batch.prompts)))
            if not batch.prompts:
                continue
            last = found[-1] if found else None
            if last is not None and last.prior == prior and last.size == batch.size and _cells(last) + _cells(batch) <= plan.joined:
                found[-1] = _joined(last, batch)
            else:
                found.append(batch)
    return found


def spare(learner: Trainable, plan: Plan) -> bool:
    """Whether memory is worth the time that sparing it takes: where words learn, which keep little else, and where small parts of a step pass together."""
    smallest = min((sample.mean.shape[-2] * sample.mean.shape[-1] for sample in plan.batches.samples), default=0)
    return not learner.changes_network or (plan.batches.parts > 1 and 2 * smallest * plan.batches.size <= plan.joined)


def _cells(batch: Batch) -> int:
    """Cells of a batch's latents."""
    return len(batch.prompts) * batch.latents.shape[-2] * batch.latents.shape[-1]


def _joined(a: Batch, b: Batch) -> Batch:
    """Two batches of one size as one."""
    tensors = {name: torch.cat([getattr(a, name), getattr(b, name)]) for name in ("latents", "noise", "times")}
    masks = None if a.weights is None and b.weights is None else torch.cat([torch.ones_like(one.latents[:, :1]) if one.weights is None else one.weights for one in (a, b)])
    return replace(a, prompts=a.prompts + b.prompts, weights=masks, **tensors)


def losses(model: Model, learner: Trainable, plan: Plan, batch: Batch) -> tuple[Tensor, Tensor]:
    """Mean squared error [b] of each picture, and its weight [b] by its noise level."""
    latents, noise, times = (x.to(model.device) for x in (batch.latents, batch.noise, batch.times))
    signal = model.alphas_cumprod[times]
    noisy = add_noise(latents, noise, signal)
    answer = model.predict(noisy, times, _guide(model, learner, plan, batch)).float()
    mask = None if batch.weights is None else batch.weights.to(model.device)
    wanted = target(model.prediction_type, latents, noise, signal)
    if batch.prior and plan.prior and plan.prior.predicted:
        with torch.no_grad(), learner.untouched() as base:
            wanted = base.predict(noisy, times, condition(base, batch.prompts, plan.others, Reading(plan.clip_skip, size=batch.size))).float()
    errors = squared_errors(answer, wanted, mask)
    return errors, weights(model.prediction_type, signal, plan.min_snr_gamma) * (plan.prior.weight if batch.prior and plan.prior else 1.0)


def _guide(model: Model, learner: Trainable, plan: Plan, batch: Batch) -> Conditioning:
    """The conditioning of a batch's prompts; where nothing that reads them learns, each is read once."""
    reading = Reading(plan.clip_skip, size=batch.size)
    if not learner.changes_reading:
        found = [_remembered(model, plan, prompt, reading) for prompt in batch.prompts]
        if len({one.context.shape for one in found}) == 1:
            rows = [torch.cat(parts) if all(part is not None for part in parts) else None for parts in zip(*((one.context, one.pooled, one.sizes) for one in found), strict=True)]
            return replace(found[0], context=rows[0], pooled=rows[1], sizes=rows[2])
    words = {**plan.others, **learner.words()}

    def read() -> Conditioning:
        return condition(model, batch.prompts, words, reading)

    guide: Conditioning = checkpoint(read, use_reentrant=False, preserve_rng_state=False) if plan.checkpointing else read()
    return guide


@torch.no_grad()
def _remembered(model: Model, plan: Plan, prompt: str, reading: Reading) -> Conditioning:
    """The conditioning of one prompt, read alone, so that its bits do not depend on what stood beside it."""
    key = (prompt, reading.size)
    if key not in plan.read:
        if len(plan.read) >= REMEMBERED:
            plan.read.clear()
        plan.read[key] = condition(model, [prompt], plan.others, reading)
    return plan.read[key]


@dataclass
class Passes:
    """Adds gradients batch by batch; remembers how many pictures fit into memory at once. `note` tells a person ("warning", text)."""

    model: Model
    learner: Trainable
    plan: Plan
    note: Callable[[str, str], None]
    at_once: int = 0

    def add(self, batch: Batch, scale: float) -> float:
        """Add the gradients of one batch of a step, times `scale`, to those of the parameters; returns what it adds to the step's mean squared error, nothing for the prior's.

        When memory runs out the batch is halved until it fits, with the same gradients but for rounding; raises StudioError when one picture does not fit.
        """
        count = len(batch.prompts)
        batches = self.plan.batches.size * self.plan.batches.parts / count
        while True:
            kept = [(p, p.grad) for p in self.learner.parameters()]
            try:
                error = sum(self._portion(portion, scale, len(portion.prompts) / count, batches) for portion in portions(batch, self.at_once or count)) / batches
                return 0.0 if batch.prior else error
            except (RuntimeError, MemoryError) as failure:
                if not is_out_of_memory(failure):
                    raise
            for parameter, gradient in kept:  # outside the handler: what the failed attempt held is free by now
                parameter.grad = gradient
            self._halve(min(self.at_once or count, count))

    def gathered(self, loss: float) -> float:
        """Make the gradients those of everybody's batches, and the mean squared error the step's."""
        return self.plan.team.summed(self.learner.parameters(), loss)

    def _portion(self, batch: Batch, scale: float, share: float, batches: float) -> float:
        """The same for a portion that is `share` of its batch, of which the step has as many as `batches`; gradients are added as one, or not at all."""
        errors, weight = losses(self.model, self.learner, self.plan, batch)
        loss = (errors * weight).mean() / batches * share
        if loss.requires_grad:  # a batch without the word has nothing to teach
            parameters = self.learner.parameters()
            for parameter, gradient in zip(parameters, torch.autograd.grad(loss * scale, parameters, allow_unused=True), strict=True):
                if gradient is not None:
                    parameter.grad = gradient if parameter.grad is None else parameter.grad + gradient
        return float(errors.detach().mean()) * share

    def _halve(self, count: int) -> None:
        """Look at half as many pictures at once from now on; raises StudioError when one was too many."""
        gc.collect()
        if self.model.device.type == "cuda":
            torch.cuda.empty_cache()
        if count == 1:
            raise StudioError(
                "Memory is too short to learn from one picture at a time.",
                "Switch on gradient checkpointing, train at a smaller width and height, or close what else uses the memory; what was saved before is kept.",
                "out_of_memory",
            )
        self.at_once = count // 2
        self.note("warning", f"A batch of {count} pictures does not fit into memory: it is now looked at {self.at_once} at a time, which learns the same but takes longer.")


def portions(batch: Batch, at_once: int) -> Sequence[Batch]:
    """A batch in pieces of at most `at_once` pictures; itself when it is not larger."""
    count = len(batch.prompts)
    return (batch,) if count <= at_once else [piece(batch, slice(at, at + at_once)) for at in range(0, count, at_once)]


def piece(batch: Batch, part: slice) -> Batch:
    """Some of a batch's pictures; itself when they are all."""
    count = len(batch.prompts)
    if part.indices(count) == (0, count, 1):
        return batch
    cut = {name: value[part] for name, value in vars(batch).items() if isinstance(value, Tensor) and value.ndim and len(value) == count}
    return replace(batch, prompts=batch.prompts[part], **cut)


def unscaled(parameters: Sequence[nn.Parameter], scale: float) -> bool:
    """Take the loss scale out of the gradients; False when one of them is not finite."""
    gradients = [p.grad for p in parameters if p.grad is not None]
    if not gradients:
        return True
    torch._foreach_div_(gradients, scale)
    return bool(torch.isfinite(torch.stack(torch._foreach_norm(gradients, math.inf))).all())
