"""Steps a second and peak memory of the studio's LoRA training against peft and a plain loop in the manner of the diffusers example.

`python -m tests.bench.train_lora [--quick] [--json] [--batch N] [--accumulation N]`: the same model, pictures, rank, layers, batch, size, precision, optimiser and rate; the sides in
turn in one process for the pace, a process of its own for each memory. "cached" is the plain loop with latents and text kept from before, which no example has: what is left between
it and ours is the loop and the adapters alone; it is told, and has no bar, nor has the memory of the tiny world.
--quick: the tiny world and a small random model, fewer steps. Exits 1 when a bar is missed.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any

from studio.worker_keeper import PATIENT_THREADS

os.environ.update(PATIENT_THREADS)  # as the worker has it, and before torch is there

import psutil
import torch

from studio.diffusion.cache import ModelCache
from studio.settings import Paths
from tests.bench.lora_sides import OurLora, TheirLora, peak_above_weights
from tests.bench.plain_lora import LoraSettings, PlainLora
from tests.bench.ti_sides import flops, portraits, synchronize, world
from tests.bench.train_ti import edge_of

PACE_BAR, MEMORY_BAR = 1.3, 1.0
"""Least ratio of steps a second, largest ratio of memory above the weights."""
SIDES = ("ours", "plain", "cached")


def settings_of(name: str, device: torch.device, batch: int, accumulation: int) -> LoraSettings:
    """What both sides are told."""
    return LoraSettings(batch=batch, accumulation=accumulation, edge=edge_of(name, device))


def pace(name: str, root: Path, rounds: int, steps: int, batches: tuple[int, int]) -> dict[str, Any]:
    """Seconds of a step of every side, in turn."""
    with ExitStack() as stack:
        model = world(name, Paths(root).prepare(), stack)
        settings = settings_of(name, model.device, *batches)
        pictures = portraits(root / "pictures")
        loop = PlainLora(model, pictures, settings)  # copies the UNet before anything is beside its layers
        sides: dict[str, Any] = {"ours": OurLora(model, pictures, settings), "plain": TheirLora(loop), "cached": TheirLora(loop, cached=True)}
        if sides["ours"].learning != sides["plain"].learning:
            raise RuntimeError(f"The sides do not learn the same: {sides['ours'].learning} and {sides['plain'].learning} numbers.")
        work = {side: flops(it.run) for side, it in sides.items()}
        seconds: dict[str, list[float]] = {side: [] for side in sides}
        for it in sides.values():
            it.run(2 if model.device.type == "cuda" else 1)
        for _ in range(rounds):
            for side, it in sides.items():
                synchronize(model.device)
                seconds[side].append(median(it.run(steps)))
    middle = {side: median(times) for side, times in seconds.items()}
    return {
        "device": str(model.device),
        "edge": settings.edge,
        "batch": settings.batch,
        "accumulation": settings.accumulation,
        "numbers_that_learn": sides["ours"].learning,
        "steps_per_second": {side: round(1 / s, 4) for side, s in middle.items()},
        "tflop_per_step": {side: round(count / 1e12, 5) for side, count in work.items()},
        "ratio": _ratio(seconds, "plain"),
        "ratio_to_cached": _ratio(seconds, "cached"),
    }


def _ratio(seconds: dict[str, list[float]], other: str) -> float:
    """How many times as fast ours is: the median over rounds, so that what slows the machine down slows down both."""
    return round(median(theirs / ours for ours, theirs in zip(seconds["ours"], seconds[other], strict=True)), 3)


def memory(name: str, root: Path, batches: tuple[int, int]) -> dict[str, Any]:
    """Megabytes above the weights, each side in a process of its own; small ones at the same time."""
    words = ["--batch", str(batches[0]), "--accumulation", str(batches[1])]
    commands = {side: [sys.executable, "-m", "tests.bench.train_lora", "--alone", side, name, f"{root}-{side}", *words] for side in SIDES}
    with ThreadPoolExecutor(1 if name == "sd15" else len(SIDES)) as pool:
        said = list(pool.map(lambda command: subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout, commands.values()))
    found = {side: int(text.strip().splitlines()[-1]) for side, text in zip(SIDES, said, strict=True)}
    return {"mb": {side: round(peak / 2**20, 1) for side, peak in found.items()}, "ratio": round(found["ours"] / max(1, found["plain"]), 3)}


def measured(quick: bool, batches: tuple[int, int]) -> dict[str, Any]:
    """Every figure, and the bars that were missed."""
    found: dict[str, Any] = {"machine": f"{platform.processor() or platform.machine()}, {psutil.cpu_count()} cores, {torch.get_num_threads()} threads", "worlds": {}}
    missed: list[str] = []
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        for name, rounds, steps in (("tiny", 3, 2), ("small", 2, 1)) if quick else (("tiny", 9, 5), ("sd15", 5, 1)):
            facts = found["worlds"][name] = pace(name, Path(folder) / name, rounds, steps, batches)
            missed += [f"{name}: {facts['ratio']} times the steps a second, the bar is {PACE_BAR}"] if facts["ratio"] < PACE_BAR else []
            if quick and name == "tiny":
                continue  # loading it three times more takes half of the minute
            facts["memory"] = memory(name, Path(folder) / f"{name}-alone", batches)
            missed += [f"{name}: {facts['memory']['ratio']} times the memory above the weights, the bar is {MEMORY_BAR}"] if facts["memory"]["ratio"] > MEMORY_BAR and name != "tiny" else []
    return {**found, "missed": missed}


def table(found: dict[str, Any]) -> str:
    """The figures for a person."""
    lines = [found["machine"], f"{'':<26}{'steps/s':>9}{'TFLOP/step':>12}{'MB above weights':>18}"]
    for name, facts in found["worlds"].items():
        for side, rate in facts["steps_per_second"].items():
            mb = facts.get("memory", {"mb": {}})["mb"].get(side)
            lines.append(f"{name + ', ' + str(facts['edge']) + ' px, ' + side:<26}{rate:>9.3f}{facts['tflop_per_step'][side]:>12.4f}{'' if mb is None else f'{mb:.0f}':>18}")
        used = f", {facts['memory']['ratio']} x the memory" if "memory" in facts else ""
        lines.append(
            f"  {facts['ratio']:.2f} x the steps a second{used}; {facts['ratio_to_cached']:.2f} x those of the plain loop with latents and text from before"
            f" ({facts['device']}, batch {facts['batch']} x {facts['accumulation']}, {facts['numbers_that_learn']:,} numbers learn)"
        )
    return "\n".join([*lines, *(f"MISSED: {line}" for line in found["missed"])])


def main() -> int:
    """Measure, tell, and judge."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="the tiny world and a small random model; under a minute")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--batch", type=int, default=1, help="pictures in a batch (1, as the example's guide has it)")
    parser.add_argument("--accumulation", type=int, default=4, help="batches in a step (4, as there)")
    parser.add_argument("--alone", nargs=3, metavar=("SIDE", "WORLD", "ROOT"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    batches = (arguments.batch, arguments.accumulation)
    if arguments.alone:
        side, name, root = arguments.alone
        device = ModelCache(Paths(Path(root)).prepare()).device
        sys.stdout.write(f"{peak_above_weights(side, name, settings_of(name, device, *batches), Path(root))}\n")
        return 0
    found = measured(arguments.quick, batches)
    sys.stdout.write((json.dumps(found, indent=1) if arguments.json else table(found)) + "\n")
    return 1 if found["missed"] else 0


if __name__ == "__main__":
    raise SystemExit(main())
