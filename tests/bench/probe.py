"""How surely a slope can be read: standard error of the slope over 100 steps from the raw losses, and from the probe, of one training on the tiny world.

`python -m tests.bench.probe [--quick] [--json]`. A word is trained; then the first 100 of 1000 equal steps of the straight way of its vectors from the start to the end are walked,
so that what is learned grows evenly and what remains is noise, as in a training of 1000 steps that learns slowly. At each step stand the raw loss that a training step sees there
(its own pictures, noise and timesteps) and the probe's error, both in per cent: the raw losses of their mean, the probe of its start. "By residuals" is the standard error of least
squares; "between draws" is how far slopes differ that other seeds give on the same way, which for the probe is the choice of its questions. Measuring costs what the last line says.
Exits 1 when the probe's error by residuals is not at least 10 times smaller, or measuring takes more than a tenth of the time.
"""

import argparse
import json
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import torch
from torch import Tensor

from studio.dataset.batches import Batches
from studio.diffusion.cache import ModelCache
from studio.diffusion.model import Model
from studio.runs.smoothing import STUDENT, line
from studio.settings import Paths
from studio.training.appraisal import Appraiser, Rules, afford
from studio.training.loop import train
from studio.training.methods.textual_inversion import TextualInversion
from studio.training.optim import build
from studio.training.passes import Plan, losses
from studio.training.probe import Material, draw
from tests.bench.staged import FIRST, NAMED, Small, samples, start

TIMES = 10.0
"""How many times smaller the probe's standard error must be."""
SHARE = 0.10
"""Largest part of a training's time that measuring may take."""
PARTS, WALKED = 1000, 100
"""Equal steps of the way, and how many of them are walked."""
EVERY = 25
"""Steps between measurements, as forms have it."""


def trained(model: Model, plan: Plan, steps: int) -> TextualInversion:
    """A word taught by `plan`."""
    learner = start(model, 2)
    watch = Small(None, learner, steps, 0.01)
    train(model, learner, build("AdamW", learner.parameters(), 0.01), plan, watch)  # type: ignore[arg-type]
    return learner


def way(learner: TextualInversion) -> list[Tensor]:
    """Vectors at each step that is walked of the straight way from the start to where the word is."""
    return [torch.lerp(learner.start, learner.vectors.detach(), i / PARTS) for i in range(WALKED + 1)]


@torch.no_grad()
def raw(model: Model, learner: TextualInversion, plan: Plan, path: list[Tensor]) -> list[float]:
    """The loss of the training step at each place of the way."""
    found = []
    for step, vectors in enumerate(path):
        learner.vectors.data.copy_(vectors)
        found.append(float(losses(model, learner, plan, plan.batches.at(step))[0].mean()))
    return found


def probed(model: Model, learner: TextualInversion, plan: Plan, path: list[Tensor]) -> tuple[list[int], list[float]]:
    """Steps and changes in % of the probe along the way."""
    batches = plan.batches
    probe = draw(model, Material(batches.samples, (), batches.templates, batches.name, batches.seed), afford(EVERY, batches.size)[0])
    steps = list(range(0, len(path), EVERY))
    errors = [probe.measure({learner.name: path[step]}) for step in steps]
    return steps, [probe.reading(step, now, errors[0]).train for step, now in zip(steps, errors, strict=True)]


def error(steps: list[int], values: list[float]) -> tuple[float, float]:
    """Slope in % per 100 steps, and its standard error."""
    found = line(steps, values)
    return found.rate, (found.high - found.low) / 2 / STUDENT[min(len(steps) - 2, len(STUDENT) - 1)]


def compare(model: Model, batch: int, steps: int, seeds: int) -> dict[str, Any]:
    """One line of the table, for a batch size."""
    plan = Plan(Batches(samples(model, FIRST, 8), NAMED, "gnarl", batch, 0, latent_sampling="deterministic"), min_snr_gamma=5.0)
    learner = trained(model, plan, steps)
    path = way(learner)
    slopes: dict[str, list[float]] = {"raw": [], "probe": []}
    errors: dict[str, list[float]] = {"raw": [], "probe": []}
    for seed in range(seeds):
        again = replace(plan, batches=replace(plan.batches, seed=seed))
        seen = raw(model, learner, again, path)
        level = mean(seen)
        for name, (places, values) in {"raw": (list(range(len(path))), [100 * v / level for v in seen]), "probe": probed(model, learner, again, path)}.items():
            rate, wrong = error(places, values)
            slopes[name].append(rate)
            errors[name].append(wrong)
    figures = {name: {"slope": mean(slopes[name]), "residuals": mean(errors[name]), "draws": stdev(slopes[name])} for name in slopes}
    return {"batch": batch, **figures, "times": figures["raw"]["residuals"] / figures["probe"]["residuals"], "times_draws": figures["raw"]["draws"] / figures["probe"]["draws"]}


def cost(model: Model, batch: int, steps: int, held: int) -> dict[str, Any]:
    """What measuring takes of a training's time, the start's measurement apart, which every run has once."""
    learner = start(model, 2)
    plan = Plan(Batches(samples(model, FIRST, 8), NAMED, "gnarl", batch, 0, latent_sampling="deterministic"))
    appraiser = Appraiser.of(model, learner, plan, samples(model, FIRST + 1000, held) if held else (), Rules(EVERY, 0))
    watch = Small(appraiser, learner, max(steps, appraiser.rules.every), 0.01)
    appraiser.begin(0)
    began = time.monotonic()
    train(model, learner, build("AdamW", learner.parameters(), 0.01), plan, watch)  # type: ignore[arg-type]
    whole, seconds = time.monotonic() - began, sum(look.seconds for look in watch.looks)
    return {"batch": batch, "held": held, "evaluations": appraiser.probe.evaluations, "every": appraiser.rules.every, "share": seconds / whole}


def table(lines: list[dict[str, Any]], costs: list[dict[str, Any]]) -> list[str]:
    """The figures in Markdown."""
    head = ["| batch | | slope, % in 100 steps | standard error by residuals | spread between draws |", "| ---: | --- | ---: | ---: | ---: |"]
    rows = []
    for row in lines:
        rows += [f"| {row['batch']} | {name} | {row[name]['slope']:+.2f} | {row[name]['residuals']:.3f} | {row[name]['draws']:.3f} |" for name in ("raw", "probe")]
        rows.append(f"| {row['batch']} | times smaller | | {row['times']:.0f} | {row['times_draws']:.0f} |")
    told = [
        f"batch {c['batch']}, {'a held-out line too' if c['held'] else 'no held-out line'}: {c['evaluations']} evaluations every {c['every']} steps take {c['share']:.1%} of the time" for c in costs
    ]
    return [*head, *rows, *told]


def main() -> int:
    """Print the table; 1 when a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="batch 1, three draws")
    parser.add_argument("--json", action="store_true", help="the table as JSON")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder, ModelCache(Paths(Path(folder)).prepare(), device="cpu").lend("") as model:
        lines = [compare(model, batch, 60 if options.quick else 150, 3 if options.quick else 8) for batch in ((1,) if options.quick else (1, 4))]
        costs = [cost(model, batch, 50, held) for batch, held in (((1, 0),) if options.quick else ((1, 0), (1, 4), (4, 4)))]
    missed = [f"batch {row['batch']}: the probe's standard error is {row['times']:.1f} times smaller, the bar is {TIMES:g}" for row in lines if not row["times"] >= TIMES]
    missed += [f"batch {c['batch']}: measuring takes {c['share']:.1%}, the bar is {SHARE:.0%}" for c in costs if not c["share"] < SHARE]
    sys.stdout.write(json.dumps({"rows": lines, "costs": costs, "missed": missed}, indent=1) if options.json else "\n".join([*table(lines, costs), *missed]))
    sys.stdout.write("\n")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
