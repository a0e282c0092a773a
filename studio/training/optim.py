"""Optimisers, and learning rates written as A1111 writes them: "0.005:100, 1e-3:1000"."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import nn

from studio.errors import InputError
from studio.requests.train import check_schedule


@dataclass(frozen=True)
class Schedule:
    """Piecewise-constant rates as (rate, until step); training ends where the last one does."""

    segments: tuple[tuple[float, int], ...]

    @classmethod
    def parse(cls, text: str, max_steps: int, start: int = 0) -> "Schedule":
        """The schedule from step `start` on, with A1111's meaning; raises InputError in words.

        A rate without a step, or with -1, lasts until `max_steps` and what follows is ignored; segments that `start` has passed are dropped.
        """
        try:
            pairs = check_schedule(text)
        except ValueError as error:
            raise InputError(f"Learn rate: {error} (got {text!r}).") from error
        segments: list[tuple[float, int]] = []
        last = 0
        for rate, until in pairs:
            if until != -1 and until <= last:
                raise InputError(f"Learn rate: the steps must grow, but {until} comes after {last} (got {text!r}).", "Write for example 0.005:100, 1e-3:1000.")
            end = max_steps if until == -1 else min(until, max_steps)
            if end > max(start, last):
                segments.append((rate, end))
            last = end
            if until == -1 or until >= max_steps:
                break
        if not segments:
            raise InputError(f"Learn rate: {text!r} ends at step {last}, and the training begins at step {start}.", "Add a rate that lasts longer, such as 0.001.")
        return cls(tuple(segments))

    @property
    def end(self) -> int:
        """The step after which training is finished."""
        return self.segments[-1][1]

    def at(self, step: int) -> float:
        """The rate when `step` steps are done and the next one is taken."""
        return next((rate for rate, until in self.segments if step < until), self.segments[-1][0])


def adamw(parameters: Iterable[nn.Parameter], rate: float) -> torch.optim.AdamW:
    """AdamW (Loshchilov & Hutter 2019) without weight decay: decay would pull words toward nothing."""
    return torch.optim.AdamW(list(parameters), lr=rate, weight_decay=0.0, foreach=False)


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Use `rate` for the next step."""
    for group in optimizer.param_groups:
        group["lr"] = rate


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """Everything the optimiser remembers, by name, on the CPU."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    return {f"optimizer.{i}.{key}": value.detach().cpu().clone() for i, p in enumerate(parameters) for key, value in optimizer.state[p].items()}


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, torch.Tensor]) -> None:
    """Make the optimiser remember what `optimizer_tensors` gave; step counters stay on the CPU, as AdamW keeps them."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    for name, value in tensors.items():
        kind, _, rest = name.partition(".")
        if kind == "optimizer":
            index, _, key = rest.partition(".")
            parameter = parameters[int(index)]
            optimizer.state[parameter][key] = value.clone() if key == "step" else value.to(parameter.device).clone()
