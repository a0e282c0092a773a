"""The loop: draw, noise, predict, compare, step, tell. It knows neither the method nor the family."""

import math

import torch

from studio.diffusion.model import Model
from studio.training.methods.trainable import Trainable
from studio.training.optim import clip, effective_rate, set_rate
from studio.training.passes import Passes, Plan, drawn, unscaled
from studio.training.watch import Step, Watch

__all__ = ["Plan", "train"]


def train(model: Model, learner: Trainable, optimizer: torch.optim.Optimizer, plan: Plan, watch: Watch) -> bool:
    """Take steps until the watch's end (True) or until a stop is asked (False); a step whose numbers are not finite changes nothing."""
    passes = Passes(model, learner, plan, watch.note)
    while watch.step < watch.end:
        if watch.stopping():
            return False
        step, rate = watch.step, watch.rate()
        learner.before_step(step)
        optimizer.zero_grad(set_to_none=True)
        loss, prompt = 0.0, ""
        for batch in drawn(plan, step):
            loss += passes.add(batch, watch.scale)
            prompt = prompt or batch.prompts[0]
        loss = passes.gathered(loss)
        set_rate(optimizer, rate, [group.share(step) for group in learner.groups()])
        used = unscaled(learner.parameters(), watch.scale) and math.isfinite(loss)
        if used:
            clip(learner.parameters(), *plan.clip)
            optimizer.step()
            learner.after_step(effective_rate(optimizer))
        watch.stepped(Step(step + 1, loss, rate, prompt, used))
    return True
