"""SAMPLERS: A1111's names with their update rules, and the course that each takes through the noise levels."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch

from studio.diffusion import dpm, solvers
from studio.diffusion.schedules import AUTOMATIC, Ladder, levels, portion, strided
from studio.diffusion.solvers import Rule
from studio.diffusion.unipc import unipc
from studio.errors import InputError


@dataclass(frozen=True)
class Sampler:
    """A way to walk from noise to a picture.

    `schedule` is what Automatic stands for. `evaluations` is how often a step looks at the UNet (A1111 counts prompt editing in looks: see `Guidance`).
    `ancestral`: it puts in new noise, as much as eta says; `brownian`: that noise is a Brownian motion; `ensd`: A1111 names the noise seed delta in its infotext.
    `discards`: the level before the last is left out. `strided`: it stands on DDIM's training steps, whatever the schedule type; `fixed`: other reasons for which
    the schedule type does not matter. `alone`: it chooses its own strides, so that each picture must walk by itself. `damping` scales the CFG scale.
    `taught`: the checkpoint knows each so many-th training step only. `strides` tells how many steps a walk over n levels has.
    """

    name: str
    rule: Rule
    schedule: str = "Uniform"
    evaluations: int = 1
    ancestral: bool = False
    brownian: bool = False
    ensd: bool = False
    discards: bool = False
    strided: bool = False
    fixed: bool = False
    alone: bool = False
    damping: float = 1.0
    taught: int = 1
    strides: Callable[[int], int] = int

    @property
    def eta(self) -> float:
        """The share of new noise when a person chose none."""
        return 0.0 if self.strided else 1.0

    @property
    def free(self) -> bool:
        """Whether the schedule type makes a difference."""
        return not (self.strided or self.fixed)


SAMPLERS: tuple[Sampler, ...] = (
    Sampler("DPM++ 2M", dpm.dpmpp_2m, "Karras"),
    Sampler("DPM++ SDE", dpm.dpmpp_sde, "Karras", 2, ancestral=True, brownian=True),
    Sampler("DPM++ 2M SDE", dpm.dpmpp_2m_sde, "Exponential", ancestral=True, brownian=True),
    Sampler("DPM++ 2M SDE Heun", dpm.dpmpp_2m_sde_heun, "Exponential", ancestral=True, brownian=True),
    Sampler("DPM++ 2S a", dpm.dpmpp_2s_ancestral, "Karras", 2, ancestral=True, ensd=True),
    Sampler("DPM++ 3M SDE", dpm.dpmpp_3m_sde, "Exponential", ancestral=True, brownian=True, discards=True),
    Sampler("Euler a", solvers.euler_ancestral, ancestral=True, ensd=True),
    Sampler("Euler", solvers.euler),
    Sampler("LMS", solvers.lms),
    Sampler("Heun", solvers.heun, evaluations=2),
    Sampler("DPM2", solvers.dpm2, "Karras", 2, discards=True),
    Sampler("DPM2 a", solvers.dpm2_ancestral, "Karras", 2, ancestral=True, ensd=True, discards=True),
    Sampler("DPM fast", dpm.dpm_fast, ancestral=True, ensd=True, fixed=True, strides=lambda n: len(dpm.thirds(n))),
    Sampler("DPM adaptive", dpm.dpm_adaptive, ancestral=True, ensd=True, fixed=True, alone=True),
    Sampler("Restart", solvers.restart, "Karras", 2),
    Sampler("DDIM", solvers.euler_ancestral, ancestral=True, strided=True),
    Sampler("DDIM CFG++", solvers.ddim_cfgpp, ancestral=True, strided=True, damping=1 / 12.5),
    Sampler("PLMS", solvers.plms, strided=True),
    Sampler("UniPC", unipc, strided=True),
    Sampler("LCM", solvers.lcm, taught=20),
)


def find_sampler(name: str) -> Sampler:
    """The sampler of a name; raises InputError with the names of the others."""
    for sampler in SAMPLERS:
        if sampler.name == name:
            return sampler
    raise InputError(f"There is no sampler {name!r}.", f"Choose one of {', '.join(s.name for s in SAMPLERS)}.")


@dataclass(frozen=True)
class Course:
    """The sigmas of one sampling run; the scale of the first noise in txt2img; for img2img, the sigma of the added noise and the factor of the noisy latents.

    `exit` scales the final latents: DDIM and its kin end at the lowest training step in variance-preserving latents, which A1111 decodes as they are.
    """

    levels: tuple[float, ...]
    top: float
    entry: float
    factor: float = 1.0
    exit: float = 1.0


def course(sampler: Sampler, ladder: Ladder, schedule: str, steps: int, begin: tuple[float, bool] | None = None) -> Course:
    """The course of a walk of so many steps; `begin` is the denoising strength of a given picture and whether all steps are walked (see `portion`)."""
    if sampler.strided:
        return _strided(sampler, ladder, steps, begin)
    total, encoded = (steps, steps - 1) if begin is None else portion(steps, *begin)
    name = sampler.schedule if schedule == AUTOMATIC or sampler.fixed else schedule
    found = levels(name, ladder, total + sampler.discards)
    if sampler.discards:
        found = found[:-2] + found[-1:]
    if begin is not None:
        found = found[total - encoded - 1 :]
    if sampler.fixed and len(found) == 2:
        found = (found[0], ladder.low)
    return Course(found, found[0], found[0])


def _strided(sampler: Sampler, ladder: Ladder, steps: int, begin: tuple[float, bool] | None) -> Course:
    """The course of DDIM and its kin, which hold latents scaled down to variance 1: a picture is noised one level above the first that is looked at, as in A1111."""
    total, encoded = (steps, None) if begin is None else portion(steps, *begin)
    times = strided(total, len(ladder.sigmas))
    kept = times if encoded is None else times[: max(encoded, 2)]
    found = ladder.even(len(kept) + 1, kept[-1] if begin else None) if sampler.rule is unipc else ladder.at(torch.tensor(kept[::-1]).float())
    found = tuple(found.tolist())
    entry = ladder.sigmas[times[min(encoded or 0, len(times) - 1)]]
    top = math.sqrt(1 + found[0] ** 2)
    return Course(found, top, entry, top / math.sqrt(1 + entry**2), 1 / math.sqrt(1 + found[-1] ** 2))
