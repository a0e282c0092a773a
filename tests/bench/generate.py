"""Images per second and peak memory of the studio against diffusers' own pipeline, and what serving adds to an image.

`python -m tests.bench.generate [--quick] [--json]`: same weights, steps, sampler and machine; both warmed up; A B B A. Exits 1 when a bar is missed.
"""

import argparse
import json
import os
import platform
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

from studio.engine import Engine
from studio.worker_keeper import PATIENT_THREADS

os.environ.update(PATIENT_THREADS)  # as the worker has it, and before torch is there

import psutil
import torch

from studio.diffusion.cache import ModelCache
from studio.diffusion.model import Model
from studio.requests import GenerateRequest
from studio.services.generation import paint
from studio.settings import Paths

RATIO_BAR = 1.0
"""Less the noise: how far one run of diffusers' pipeline is from its own median, in the middle."""
OVERHEAD_BAR = 0.060
"""Seconds that the queue may add to an image."""
PROMPT = "a red circle on a blue background"
SD15_UNET = {"sample_size": 64, "block_out_channels": (320, 640, 1280, 1280), "layers_per_block": 2, "cross_attention_dim": 768, "attention_head_dim": 8}


class Memory:
    """Peak memory of a block in bytes: the card's own count, or the process's resident set, looked at every few milliseconds."""

    def __init__(self, device: torch.device) -> None:
        self.device, self.peak = device, 0

    def __enter__(self) -> "Memory":
        """Begin to look."""
        self._over = threading.Event()
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        else:
            self._thread = threading.Thread(target=self._look)
            self._thread.start()
        return self

    def _look(self) -> None:
        process = psutil.Process()
        while not self._over.wait(0.005):
            self.peak = max(self.peak, process.memory_info().rss)

    def __exit__(self, *_: object) -> None:
        """Stop looking."""
        self._over.set()
        if self.device.type == "cuda":
            self.peak = torch.cuda.max_memory_allocated(self.device)
        else:
            self._thread.join()


def sd15_random(device: torch.device, dtype: torch.dtype) -> Model:
    """A model of Stable Diffusion 1.5's size with random weights."""
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    from studio.diffusion.families import SD1
    from studio.diffusion.loading import SD_SCHEDULE

    torch.manual_seed(0)
    unet = UNet2DConditionModel(**SD15_UNET)
    widths = (128, 256, 512, 512)
    kind = {"down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4}
    vae = AutoencoderKL(block_out_channels=widths, layers_per_block=2, sample_size=512, **kind)
    text = CLIPTextModel(CLIPTextConfig(vocab_size=49408, hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12, bos_token_id=49406, eos_token_id=49407))
    return Model(SD1, "sd15-random", "", unet, vae, (text,), dict(SD_SCHEDULE), device, dtype)


def rival(model: Model, request: GenerateRequest) -> Callable[[], Any]:
    """One picture by diffusers' own pipeline over the same modules."""
    from diffusers import DPMSolverMultistepScheduler, StableDiffusionPipeline

    from studio.diffusion.tokenizer import clip_tokenizer

    schedule = {k: model.schedule[k] for k in ("beta_start", "beta_end", "beta_schedule", "num_train_timesteps", "prediction_type", "steps_offset")}
    scheduler = DPMSolverMultistepScheduler(**schedule, algorithm_type="dpmsolver++", use_karras_sigmas=True)
    parts = {"vae": model.vae, "text_encoder": model.text_encoder, "tokenizer": clip_tokenizer(), "unet": model.unet, "scheduler": scheduler}
    pipe = StableDiffusionPipeline(**parts, safety_checker=None, feature_extractor=None, requires_safety_checker=False)
    pipe.set_progress_bar_config(disable=True)
    size = {"width": request.width, "height": request.height}
    knobs = {"num_inference_steps": request.steps, "guidance_scale": request.cfg_scale, **size}
    return lambda: pipe(request.prompt, generator=torch.Generator().manual_seed(1), **knobs).images


def versus(model: Model, request: GenerateRequest, rounds: int) -> dict[str, Any]:
    """Seconds and peak memory of both, in turn."""
    runs = {"studio": lambda: paint(model, request, {}), "diffusers": rival(model, request)}
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    peaks = dict.fromkeys(runs, 0)
    for run in runs.values():
        run()
    for turn in range(rounds):
        for name, run in list(runs.items())[:: -1 if turn % 2 else 1]:  # A B B A: what is second has warmer caches
            with Memory(model.device) as memory:
                began = time.perf_counter()
                run()
                seconds[name].append(time.perf_counter() - began)
            peaks[name] = max(peaks[name], memory.peak)
    ratio = median(d / s for s, d in zip(seconds["studio"], seconds["diffusers"], strict=True))
    middle = median(seconds["diffusers"])
    noise = median(abs(s - middle) for s in seconds["diffusers"]) / middle
    return {
        "noise": round(noise, 3),
        "seconds": {name: round(median(times), 4) for name, times in seconds.items()},
        "peak_gb": {name: round(peak / 2**30, 3) for name, peak in peaks.items()},
        "ratio": round(ratio, 3),
    }


def overhead(rounds: int) -> float:
    """Median seconds from a request over HTTP to its answer, less what the same picture takes without queue and server on as many threads."""
    from starlette.testclient import TestClient

    from studio.api.app import create_app

    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        engine = Engine(Paths(Path(folder)))
        engine.keep_worker("bench")
        body = {"prompt": PROMPT, "steps": 8, "width": 128, "height": 128, "cfg_scale": 5, "seed": 1, "send_images": True}
        engine_threads = max(1, torch.get_num_threads() - 1)  # the worker leaves one core to the page
        torch.set_num_threads(engine_threads)
        alone: list[float] = []
        served: list[float] = []
        with TestClient(create_app(engine), base_url="http://127.0.0.1") as client, ModelCache(engine.paths, device="cpu").lend("") as model:
            request = GenerateRequest(prompt=PROMPT, steps=8, width=128, height=128, cfg_scale=5, seed=1, preview_every=0)
            for _ in range(2):
                client.post("/sdapi/v1/txt2img", json=body).raise_for_status()
                paint(model, request, {})
            for _ in range(rounds):
                began = time.perf_counter()
                client.post("/sdapi/v1/txt2img", json=body).raise_for_status()
                served.append(time.perf_counter() - began)
                began = time.perf_counter()
                paint(model, request, {})
                alone.append(time.perf_counter() - began)
        engine.close()
        for worker in engine.store.workers():
            psutil.Process(worker["pid"]).terminate()
    torch.set_num_threads(engine_threads + 1)
    return median(served) - median(alone)


def main() -> int:
    """Measure, print, and judge."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="the tiny world only; under a minute")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    served = round(1000 * overhead(5 if arguments.quick else 15), 1)
    with tempfile.TemporaryDirectory() as folder:
        cache = ModelCache(Paths(Path(folder)).prepare())
        with cache.lend("") as model:
            small = GenerateRequest(prompt=PROMPT, steps=20, width=128, height=128, cfg_scale=5, seed=1)
            found: dict[str, Any] = {
                "overhead_ms": served,
                "device": str(cache.device),
                "machine": f"{platform.processor() or platform.machine()}, {psutil.cpu_count()} cores",
                "tiny world, 128 px, 20 steps": versus(model, small, 5 if arguments.quick else 11),
            }
        if not arguments.quick:
            side, steps = (512, 20) if cache.device.type == "cuda" else (256, 4)
            large = GenerateRequest(prompt=PROMPT, steps=steps, width=side, height=side, cfg_scale=5, seed=1)
            found[f"SD 1.5 size, {side} px, {steps} steps"] = versus(sd15_random(cache.device, cache.dtype), large, 6)
    missed = [f"{name}: ratio {facts['ratio']} is below {RATIO_BAR} by more than the noise" for name, facts in found.items() if isinstance(facts, dict) and facts["ratio"] < RATIO_BAR - facts["noise"]]
    missed += [f"serving adds {found['overhead_ms']} ms, more than {OVERHEAD_BAR * 1000:.0f}"] if found["overhead_ms"] > OVERHEAD_BAR * 1000 else []
    found["missed"] = missed
    if arguments.json:
        sys.stdout.write(json.dumps(found, indent=1) + "\n")
    else:
        _table(found)
    return 1 if missed else 0


def _table(found: dict[str, Any]) -> None:
    """The figures for a person."""
    lines = [f"{found['device']} ({found['machine']})", f"{'':<32}{'studio s':>10}{'diffusers s':>13}{'ratio':>8}{'studio GB':>11}{'diffusers GB':>14}"]
    for name, facts in found.items():
        if isinstance(facts, dict):
            s, p = facts["seconds"], facts["peak_gb"]
            lines.append(f"{name:<32}{s['studio']:>10.3f}{s['diffusers']:>13.3f}{facts['ratio']:>8.2f}{p['studio']:>11.2f}{p['diffusers']:>14.2f}")
    lines += [f"serving adds {found['overhead_ms']} ms to an image", *(f"MISSED: {line}" for line in found["missed"])]
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    raise SystemExit(main())
