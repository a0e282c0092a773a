"""The loop: draw, noise, predict, compare, step, tell. It knows neither the method nor the family."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from studio.dataset.batches import Batch, Batches
from studio.diffusion.conditioning import Reading, condition
from studio.diffusion.model import Model
from studio.training.methods.trainable import Trainable
from studio.training.objective import add_noise, target, weights
from studio.training.optim import Schedule, set_rate
from studio.training.watch import Step, Watch


@dataclass(frozen=True)
class Plan:
    """What a run does at each step; `others` are words of the shelf that its prompts may use."""

    batches: Batches
    schedule: Schedule
    min_snr_gamma: float = 0.0
    clip_skip: int = 1
    others: Mapping[str, Tensor] = field(default_factory=dict)


def train(model: Model, learner: Trainable, optimizer: torch.optim.Optimizer, plan: Plan, watch: Watch) -> bool:
    """Take steps until the schedule ends (True) or a stop is asked (False); a step whose numbers are not finite changes nothing."""
    while watch.step < plan.schedule.end:
        if watch.stopping():
            return False
        step, rate = watch.step, plan.schedule.at(watch.step)
        set_rate(optimizer, rate)
        optimizer.zero_grad(set_to_none=True)
        loss, prompt = 0.0, ""
        for part in range(plan.batches.parts):
            batch = plan.batches.at(step, part)
            loss += backward(model, learner, plan, batch, watch.scale) / plan.batches.parts
            prompt = batch.prompts[0]
        used = _unscale(learner, watch.scale) and math.isfinite(loss)
        if used:
            optimizer.step()
        watch.stepped(Step(step + 1, loss, rate, prompt, used))
    return True


def backward(model: Model, learner: Trainable, plan: Plan, batch: Batch, scale: float) -> float:
    """Add the gradients of one batch, times `scale`; returns its plain mean squared error."""
    latents, noise, times = (x.to(model.device) for x in (batch.latents, batch.noise, batch.times))
    signal = model.alphas_cumprod[times]
    guide = condition(model, batch.prompts, {**plan.others, **learner.words()}, Reading(plan.clip_skip))
    answer = model.predict(add_noise(latents, noise, signal), times, guide).float()
    errors = (answer - target(model.prediction_type, latents, noise, signal)).square().mean(dim=(1, 2, 3))
    loss = (errors * weights(model.prediction_type, signal, plan.min_snr_gamma)).mean() / plan.batches.parts
    if loss.requires_grad:  # a batch without the word has nothing to teach
        (loss * scale).backward()
    return float(errors.detach().mean())


def _unscale(learner: Trainable, scale: float) -> bool:
    """Take the loss scale out of the gradients; False when one of them is not finite."""
    gradients = [p.grad for p in learner.parameters() if p.grad is not None]
    for gradient in gradients:
        gradient.div_(scale)
    return all(bool(torch.isfinite(gradient).all()) for gradient in gradients)
