"""What the memory modes and the cache take on a real card.

`python -m tests.bench.memory [--quick] [--json]`: peak memory and seconds of one picture in normal, medvram and lowvram on a model of Stable Diffusion
1.5's size (--quick: the tiny world), whether the picture is the same, what is left afterwards, and whether a card that is full is survived.
Exits 1 when a bar is missed. Without a CUDA device there is nothing to measure: it says so and exits 0.
"""

import argparse
import gc
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from studio.diffusion.cache import ModelCache
from studio.diffusion.loading import save_model
from studio.diffusion.offload import bytes_of
from studio.preferences import MemoryMode
from studio.requests.generate import GenerateRequest
from studio.services.generation import paint
from studio.settings import Paths
from tests.bench.generate import sd15_random

MODES: tuple[MemoryMode, ...] = ("normal", "medvram", "lowvram")
LEFT_BAR = 2**20
"""Bytes that may be left on the card when everything was unloaded."""
CARD = "cuda:0"


class Card:
    """Bytes that torch has taken of the card."""

    def __init__(self) -> None:
        gc.collect()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()

    @property
    def now(self) -> int:
        """At this moment."""
        gc.collect()
        return torch.cuda.memory_allocated()

    @property
    def peak(self) -> int:
        """At most since it was made."""
        return torch.cuda.max_memory_allocated()


def one_mode(paths: Paths, mode: MemoryMode, request: GenerateRequest) -> tuple[dict[str, Any], np.ndarray]:
    """Peak bytes, seconds of the second picture, and what is left after unloading; and the picture."""
    cache = ModelCache(paths, CARD, memory_mode=mode)
    paint_once(cache, request)
    card = Card()
    began = time.perf_counter()
    picture = paint_once(cache, request)
    seconds = time.perf_counter() - began
    facts = {"mode": mode, "peak": card.peak, "resting": card.now, "seconds": round(seconds, 3)}
    cache.unload()
    return {**facts, "left": card.now}, picture


def paint_once(cache: ModelCache, request: GenerateRequest) -> np.ndarray:
    """One picture [h, w, 3]."""
    with cache.lend(request.checkpoint) as model, torch.no_grad():
        return np.array(paint(model, request, {})[0]).astype(int)


def full_card(paths: Paths, request: GenerateRequest) -> bool:
    """Whether a checkpoint is lent and paints although captioner-like parts that nobody uses have filled the card."""
    cache = ModelCache(paths, CARD, budget_bytes=2**60, memory_mode="normal")
    chunk = max(torch.cuda.mem_get_info()[0] // 8, 2**20)
    for number in range(8):
        file = paths.root / f"filler-{number}"
        file.write_text(str(number))
        free = torch.cuda.mem_get_info()[0]
        if free < chunk:
            break
        with cache.lend_part("filler", file, lambda: torch.nn.Linear(chunk // 4, 1, bias=False, device=CARD)):
            continue
    picture = paint_once(cache, request)
    cache.unload()
    return picture.std() > 0


def measured(quick: bool) -> dict[str, Any]:
    """Every figure, and the bars that were missed."""
    with tempfile.TemporaryDirectory() as folder:
        paths = Paths(Path(folder)).prepare()
        request = GenerateRequest(prompt="a red circle", steps=4, width=128, height=128, seed=1, preview_every=0)
        if not quick:
            save_model(sd15_random(torch.device("cpu"), torch.float32), paths.checkpoints / "large.safetensors")
            request = GenerateRequest(prompt="a red circle", checkpoint="large", steps=10, width=512, height=512, seed=1, preview_every=0)
        with ModelCache(paths, CARD, memory_mode="medvram").lend(request.checkpoint) as model:
            parts = {"UNet": bytes_of((model.unet,)), "text encoder": bytes_of(model.text_encoders), "VAE": bytes_of((model.vae,))}
        rows, pictures = zip(*(one_mode(paths, mode, request) for mode in MODES), strict=True)
        survived = full_card(paths, request)
    normal, medium, low = rows
    bars = {
        "medvram's peak is below normal's by the smallest part": medium["peak"] <= normal["peak"] - 0.9 * min(parts.values()),
        "lowvram's peak is not above medvram's": low["peak"] <= medium["peak"],
        "medvram and lowvram leave the card between two pictures": max(medium["resting"], low["resting"]) <= LEFT_BAR,
        "nothing is left after unloading": max(row["left"] for row in rows) <= LEFT_BAR,
        "the picture is the same in every mode": all(np.array_equal(pictures[0], picture) for picture in pictures),
        "a full card is survived": survived,
    }
    return {"device": torch.cuda.get_device_name(), "parts": parts, "modes": list(rows), "bars": bars, "missed": [bar for bar, kept in bars.items() if not kept]}


def table(found: dict[str, Any]) -> str:
    """The figures for a person."""
    parts = ", ".join(f"{name} {size / 2**20:.0f} MB" for name, size in found["parts"].items())
    lines = [f"{found['device']}: {parts}", f"{'mode':<10}{'peak MB':>10}{'resting MB':>12}{'left MB':>10}{'seconds':>10}"]
    lines += [f"{row['mode']:<10}{row['peak'] / 2**20:>10.1f}{row['resting'] / 2**20:>12.1f}{row['left'] / 2**20:>10.1f}{row['seconds']:>10.3f}" for row in found["modes"]]
    return "\n".join([*lines, *(f"{'yes' if kept else 'NO':<5}{bar}" for bar, kept in found["bars"].items())])


def main() -> int:
    """Measure, tell, and judge."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="the tiny world only; under a minute")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        note = "There is no CUDA device here, so nothing was measured; the mechanics are tested on the CPU in tests/diffusion/test_offload.py."
        sys.stdout.write((json.dumps({"note": note, "missed": []}) if arguments.json else note) + "\n")
        return 0
    found = measured(arguments.quick)
    sys.stdout.write((json.dumps(found, indent=1) if arguments.json else table(found)) + "\n")
    return 1 if found["missed"] else 0


if __name__ == "__main__":
    raise SystemExit(main())
