"""Study: one training loop for all parts of the tiny world, averaged, timed, and taken up again after any stop."""

import copy
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from studio.files import atomic_write
from studio.tinyworld.world import Picture, picture


@dataclass(frozen=True)
class Plan:
    """How long a part studies, in seconds of work over all sessions, how fast, and where it keeps its state."""

    state: Path
    seconds: float
    rate: float
    report: Callable[[nn.Module], str]
    save: Callable[[nn.Module], None]
    every: float = 120.0
    decay: float = 1e-2


def study(network: nn.Module, loss_of: Callable[[int], Tensor], plan: Plan) -> nn.Module:
    """Train `network` on `loss_of(step)` until its time is used up; returns the average of its weights over time.

    Warm-up over 100 steps, then a cosine down to a fiftieth (Loshchilov & Hutter 2017); the average follows
    min(0.998, (step + 1) / (step + 20)).
    """
    average = copy.deepcopy(network).requires_grad_(False)
    learning, averaged = [p for p in network.parameters() if p.requires_grad], _matching(network, average)
    optimizer = torch.optim.AdamW(learning, lr=plan.rate, betas=(0.9, 0.98), weight_decay=plan.decay)
    step, used = _take_up(plan.state, network, average, optimizer)
    began = told = time.monotonic()
    losses: list[float] = []
    while (spent := used + time.monotonic() - began) < plan.seconds:
        for group in optimizer.param_groups:
            group["lr"] = plan.rate * min(1.0, (step + 1) / 100) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * spent / plan.seconds)))
        loss = loss_of(step)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(learning, 1.0)
        optimizer.step()
        step += 1
        with torch.no_grad():
            torch._foreach_lerp_(averaged, learning, 1 - min(0.998, (step + 1) / (step + 20)))
            for mine, theirs in zip(average.buffers(), network.buffers(), strict=True):
                mine.copy_(theirs)
        losses.append(loss.item())
        if time.monotonic() - told > plan.every:
            told = time.monotonic()
            print(f"{step} steps, {spent:.0f} s, loss {np.mean(losses):.4f}, {plan.report(average)}", flush=True)
            losses.clear()
            _keep(plan.state, network, average, optimizer, (step, spent))
            plan.save(average)
    plan.save(average)
    print(f"{step} steps, {plan.report(average)}", flush=True)
    return average


def _matching(network: nn.Module, average: nn.Module) -> list[nn.Parameter]:
    """The parameters of the average that follow a learning one."""
    return [mine for mine, theirs in zip(average.parameters(), network.parameters(), strict=True) if theirs.requires_grad]


def _take_up(path: Path, network: nn.Module, average: nn.Module, optimizer: torch.optim.Optimizer) -> tuple[int, float]:
    """Load where a former session ended; returns steps and seconds done."""
    if not path.is_file():
        return 0, 0.0
    state = torch.load(path, weights_only=True)
    network.load_state_dict(state["network"])
    average.load_state_dict(state["average"])
    optimizer.load_state_dict(state["optimizer"])
    return state["step"], state["seconds"]


def _keep(path: Path, network: nn.Module, average: nn.Module, optimizer: torch.optim.Optimizer, done: tuple[int, float]) -> None:
    """Write where this session is."""
    path.parent.mkdir(parents=True, exist_ok=True)
    state = {"network": network.state_dict(), "average": average.state_dict(), "optimizer": optimizer.state_dict(), "step": done[0], "seconds": done[1]}
    with atomic_write(path) as temporary:
        torch.save(state, temporary)


@dataclass(frozen=True)
class Drawn:
    """Rendered pictures as bytes [n, 3, 128, 128], and what is true of each."""

    pixels: Tensor
    facts: tuple[Picture, ...]

    def batch(self, numbers: Sequence[int]) -> Tensor:
        """Some of them in 0..1."""
        return self.pixels[list(numbers)].float() / 255


def drawn(first: int, count: int, processes: int = 3) -> Drawn:
    """Render pictures `first` to `first + count`, on several processes when there are many."""
    numbers = range(first, first + count)
    if count < 500:
        parts = [_part(numbers)]
    else:
        chunks = [numbers[i : i + 250] for i in range(0, count, 250)]
        with get_context("spawn").Pool(processes) as pool:
            parts = pool.map(_part, chunks, 1)
    return Drawn(torch.from_numpy(np.concatenate([p for p, _ in parts])), tuple(f for _, facts in parts for f in facts))


def _part(numbers: range) -> tuple[np.ndarray, list[Picture]]:
    """Pixels and facts of some pictures; the image itself stays behind."""
    pictures = [picture(n) for n in numbers]
    pixels = np.stack([np.asarray(p.image).transpose(2, 0, 1) for p in pictures])
    return pixels, [Picture(None, p.caption, p.tags, p.full) for p in pictures]  # type: ignore[arg-type]


def chosen(facts: Sequence[Picture], count: int, dice: torch.Generator) -> Tensor:
    """Numbers of `count` pictures, every second one with a monster, whose parts take longest to learn."""
    monsters = [i for i, f in enumerate(facts) if "monster" in f.tags]
    numbers = torch.randint(len(facts), (count,), generator=dice)
    numbers[::2] = torch.tensor(monsters)[torch.randint(len(monsters), (len(numbers[::2]),), generator=dice)]
    return numbers


def shaken(pixels: Tensor, dice: torch.Generator) -> Tensor:
    """Pictures in 0..1 moved, enlarged and lit a little differently, as crops of other pictures are."""
    count = len(pixels)
    scale = 0.9 + 0.25 * torch.rand(count, generator=dice)
    shift = (torch.rand(count, 2, generator=dice) - 0.5) * 0.12
    affine = torch.zeros(count, 2, 3)
    affine[:, 0, 0] = affine[:, 1, 1] = scale
    affine[:, :, 2] = shift
    moved = F.grid_sample(pixels, F.affine_grid(affine, list(pixels.shape), align_corners=False), padding_mode="border", align_corners=False)
    light = 1 + 0.2 * (torch.rand(count, 1, 1, 1, generator=dice) - 0.5)
    return (moved * light).clamp(0, 1)
