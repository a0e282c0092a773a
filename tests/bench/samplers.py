"""The largest difference in final latents between each sampler of the studio and the published update rule written apart from it.

`python -m tests.bench.samplers [--quick] [--json]`: on a linear denoiser whose answer is known, and on the tiny world with guidance; same
noise, same schedule. Beside it, what the schedulers of diffusers give for the same names. Exits 1 when a bar is missed.
"""

import argparse
import json
import sys
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchsde
from torch import Tensor

from studio.diffusion.cache import ModelCache
from studio.diffusion.conditioning import condition
from studio.diffusion.model import Model
from studio.diffusion.samplers import course, find_sampler
from studio.diffusion.sampling import Guide, Plan, Seeds, sample
from studio.diffusion.schedules import Ladder
from studio.settings import Paths
from tests.diffusion import published
from tests.diffusion.linear import SPREAD, Linear, prompt, taught

SIZE = (8, 8)
SCALE = 3.0
BARS = {"linear": 2e-5, "tiny": 1e-3}
"""Largest difference allowed: single precision of latents of about 1 on the linear denoiser; the same after a network has amplified it on the tiny world."""


@dataclass(frozen=True)
class Case:
    """One line of the table: sampler and schedule type of the studio, and the published rule with its levels."""

    sampler: str
    scheduler: str
    rule: Callable[..., Tensor]
    levels: Callable[[int, np.ndarray], list[float]]
    brownian: bool = False
    discards: bool = False


def strided(n: int, trained: np.ndarray) -> list[float]:
    """DDIM's levels in A1111: training steps 1, 1 + 1000 // n, ... from the highest."""
    return [float(trained[t]) for t in sorted((min(t + 1, 999) for t in range(0, 1000, 1000 // n)), reverse=True)]


def even(n: int, trained: np.ndarray) -> list[float]:
    """UniPC's levels in A1111: even in training steps, as many steps as DDIM has levels."""
    return published.uniform(len(strided(n, trained)) + 1, trained)[:-1]


CASES = (
    Case("Euler", "Automatic", published.euler, published.uniform),
    Case("Euler a", "Automatic", published.euler_ancestral, published.uniform),
    Case("Heun", "Automatic", published.heun, published.uniform),
    Case("DPM2", "Automatic", published.dpm2, published.karras, discards=True),
    Case("DPM2 a", "Automatic", published.dpm2_ancestral, published.karras, discards=True),
    Case("LMS", "Automatic", published.lms, published.uniform),
    Case("DPM++ 2M", "Uniform", published.dpmpp_2m, published.uniform),
    Case("DPM++ 2M", "Karras", published.dpmpp_2m, published.karras),
    Case("DPM++ 2S a", "Automatic", published.dpmpp_2s_ancestral, published.karras),
    Case("DPM++ SDE", "Automatic", published.dpmpp_sde, published.karras, brownian=True),
    Case("DPM++ 2M SDE", "Automatic", published.dpmpp_2m_sde, published.exponential, brownian=True),
    Case("DPM++ 2M SDE Heun", "Automatic", published.dpmpp_2m_sde_heun, published.exponential, brownian=True),
    Case("DPM++ 3M SDE", "Automatic", published.dpmpp_3m_sde, published.exponential, brownian=True, discards=True),
    Case("DDIM", "Automatic", published.ddim, strided),
    Case("PLMS", "Automatic", published.plms, strided),
    Case("UniPC", "Automatic", published.unipc, even),
)
DIFFUSERS: dict[tuple[str, str], tuple[str, dict[str, Any]]] = {
    ("Euler", "Automatic"): ("EulerDiscreteScheduler", {}),
    ("Heun", "Automatic"): ("HeunDiscreteScheduler", {}),
    ("LMS", "Automatic"): ("LMSDiscreteScheduler", {}),
    ("DPM2", "Automatic"): ("KDPM2DiscreteScheduler", {"use_karras_sigmas": True}),
    ("DPM++ 2M", "Uniform"): ("DPMSolverMultistepScheduler", {}),
    ("DPM++ 2M", "Karras"): ("DPMSolverMultistepScheduler", {"use_karras_sigmas": True}),
    ("DDIM", "Automatic"): ("DDIMScheduler", {"clip_sample": False, "set_alpha_to_one": False, "steps_offset": 1}),
    ("UniPC", "Automatic"): ("UniPCMultistepScheduler", {"solver_order": 3, "solver_type": "bh1", "final_sigmas_type": "sigma_min"}),
}
"""Schedulers without noise of their own that go by a name of the table."""


def noise_for(case: Case, levels: list[float], seed: int) -> tuple[Tensor, Callable[[float, float], Tensor]]:
    """The first noise of a seed, and what is drawn after it, by torch and torchsde themselves."""
    generator = torch.Generator().manual_seed(seed)
    first = torch.randn(1, 4, *SIZE, generator=generator).double()
    above = [float(np.float32(level)) for level in levels if level > 0]
    if not case.brownian:
        return first, lambda _a, _b: torch.randn(1, 4, *SIZE, generator=generator).double()
    tree = torchsde.BrownianTree(min(above), torch.zeros(4, *SIZE), max(above), entropy=seed)

    def draw(a: float, b: float) -> Tensor:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # it rounds its ends to six digits, then calls the unrounded ones outside
            return -tree(b, a)[None].double() / (a - b) ** 0.5

    return first, draw


def expected(case: Case, see: published.See, steps: int, seed: int) -> Tensor:
    """Where the published rule ends."""
    kept = taught().numpy()
    trained = np.sqrt((1 - kept) / kept).astype(np.float64)
    levels = case.levels(steps + case.discards, trained)
    if case.discards:
        levels = levels[:-2] + levels[-1:]
    levels = [float(np.float32(level)) for level in levels]
    if case.brownian:
        levels = shared(case, levels, steps)
    first, draw = noise_for(case, levels, seed)
    begin = levels[0] if levels[-1] == 0 else (1 + levels[0] ** 2) ** 0.5
    return case.rule(see, first * begin, levels, draw)


def shared(case: Case, levels: list[float], steps: int) -> list[float]:
    """The studio's levels in the place of the published, if they agree but for rounding: a motion moves by a thousandth where its time moves by a millionth."""
    found = course(find_sampler(case.sampler), Ladder.of(taught()), case.scheduler, steps).levels
    return list(found) if np.allclose(found, levels, rtol=1e-6) else levels


def linear_see(x: Tensor, sigma: float) -> Tensor:
    """The best estimate for pictures of mean 0.5, guided away from those of mean -0.2."""
    mean = -0.2 + SCALE * (0.5 + 0.2)
    return mean + (x - mean) * (SPREAD**2 / (SPREAD**2 + sigma**2))


def tiny_see(model: Model, positive: Tensor, negative: Tensor) -> published.See:
    """What the tiny world's UNet, asked prompt by prompt, sees; it predicts velocity."""
    kept = taught().numpy()
    logs = 0.5 * np.log((1 - kept) / kept)

    @torch.no_grad()
    def see(x: Tensor, sigma: float) -> Tensor:
        t = torch.tensor([np.interp(np.log(sigma), logs, range(1000))], dtype=torch.float32)
        scaled = (x / (1 + sigma**2) ** 0.5).float()
        with_prompt, without = (model.unet(scaled, t, context).sample.double() for context in (positive, negative))
        velocity = without + SCALE * (with_prompt - without)
        return x / (1 + sigma**2) - velocity * sigma / (1 + sigma**2) ** 0.5

    return see


def by_diffusers(case: Case, see: published.See, steps: int, seed: int) -> Tensor | None:
    """Where diffusers' scheduler of the same name ends from the same noise; None when there is none."""
    import diffusers

    if (case.sampler, case.scheduler) not in DIFFUSERS:
        return None
    name, settings = DIFFUSERS[case.sampler, case.scheduler]
    walker = getattr(diffusers, name)(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", prediction_type="epsilon", **settings)
    walker.set_timesteps(steps)
    kept = taught().numpy()
    logs = 0.5 * np.log((1 - kept) / kept)
    x = torch.randn(1, 4, *SIZE, generator=torch.Generator().manual_seed(seed)).double() * float(walker.init_noise_sigma)
    for t in walker.timesteps:
        sigma = float(np.exp(np.interp(float(t), range(1000), logs)))
        scaled = walker.scale_model_input(x, t)
        noisy = scaled * (1 + sigma**2) ** 0.5
        x = walker.step((noisy - see(noisy, sigma)) / sigma, t, x).prev_sample
    return x


def measure(quick: bool) -> list[dict[str, Any]]:
    """The table's lines."""
    counts, seeds = ((10,), (5,)) if quick else ((1, 7, 20), (5, 6))
    with tempfile.TemporaryDirectory() as folder, ModelCache(Paths(Path(folder)).prepare(), device="cpu").lend("") as tiny:
        red, none = (condition(tiny, [text], {}) for text in ("a red circle on a blue background", ""))
        worlds: dict[str, tuple[Any, Guide, published.See]] = {
            "linear": (Linear(), Guide(((prompt(0.5), 1.0),), prompt(-0.2)), linear_see),
            "tiny": (tiny, Guide(((red, 1.0),), none), tiny_see(tiny, red.context, none.context)),
        }
        return [line(case, worlds, counts, seeds) for case in CASES]


def line(case: Case, worlds: dict[str, tuple[Any, Guide, published.See]], counts: tuple[int, ...], seeds: tuple[int, ...]) -> dict[str, Any]:
    """One line: the largest difference in each world, and that of diffusers in the linear one at the last count."""
    found: dict[str, Any] = {"sampler": case.sampler, "schedule": case.scheduler}
    for world, (model, guide, see) in worlds.items():
        runs = [(steps, seed) for steps in counts for seed in seeds if steps > 1 or case.levels in (published.uniform, published.karras)]
        found[world] = max(float((ours(case, model, guide, run) - expected(case, see, *run)).abs().max()) for run in runs)
    other = by_diffusers(case, linear_see, counts[-1], seeds[0])
    found["diffusers"] = None if other is None else float((other - expected(case, linear_see, counts[-1], seeds[0])).abs().max())
    return found


def ours(case: Case, model: Any, guide: Guide, run: tuple[int, int]) -> Tensor:
    """Where the studio's walk ends, for (steps, seed)."""
    return sample(model, Plan(lambda _look: guide, case.sampler, run[0], SCALE, SIZE, Seeds((run[1],)), case.scheduler))


def table(lines: list[dict[str, Any]], missed: list[str]) -> list[str]:
    """The lines in Markdown, and what was missed."""
    head = ["| sampler | schedule type | linear denoiser | tiny world | diffusers' scheduler (linear) |", "| --- | --- | ---: | ---: | ---: |"]
    cells = [[row["sampler"], row["schedule"], *("" if row[name] is None else f"{row[name]:.1e}" for name in ("linear", "tiny", "diffusers"))] for row in lines]
    kept = f"Every bar is kept: {BARS['linear']:.0e} on the linear denoiser, {BARS['tiny']:.0e} on the tiny world."
    return [*head, *(f"| {' | '.join(row)} |" for row in cells), *(missed or [kept])]


def main() -> int:
    """Print the table; 1 when a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one count of steps and one seed")
    parser.add_argument("--json", action="store_true", help="the table as JSON")
    options = parser.parse_args()
    torch.set_num_threads(1)
    lines = measure(options.quick)
    missed = [f"{row['sampler']} {row['schedule']} differs by {row[world]:.1e} on the {world} world, the bar is {bar:.0e}" for row in lines for world, bar in BARS.items() if not row[world] <= bar]
    sys.stdout.write(json.dumps({"rows": lines, "bars": BARS, "missed": missed}, indent=1) if options.json else "\n".join(table(lines, missed)))
    sys.stdout.write("\n")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
