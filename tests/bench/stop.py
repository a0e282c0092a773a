"""How long a job goes on after Stop: the longest time between two looks at whether it was stopped, kind by kind.

`python -m tests.bench.stop [--size N] [--only WORD ...] [--json]`: jobs on a random model of Stable Diffusion 1.5's size. A job that is asked to stop goes on until its next look,
so the longest pause is the longest wait. Loading and hashing are part of each job. Calls of a network (UNet, VAE, text encoder, a backward pass) can't be interrupted and take as long as the
device needs for them: the longest of them is printed beside the longest pause of everything else, with the place of the look that ended it.
"""

import argparse
import json
import sys
import tempfile
import time
import traceback
from dataclasses import dataclass, field
from functools import wraps
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTextModel

from studio.cancellation import raise_if_stopped, stoppable
from studio.diffusion.cache import ModelCache
from studio.diffusion.loading import save_model
from studio.diffusion.model import Model
from studio.jobs import SilentLane
from studio.requests import request_of
from studio.services.desk import Desk
from studio.settings import SHIPPED_ROOT, Paths
from studio.shelves import sample_pictures
from studio.worker import SERVICES
from tests.bench.generate import sd15_random
from tests.diffusion.small import kohya_file


class Calls:
    """Seconds spent in calls of networks: `total`, and the `longest` one."""

    total = longest = 0.0

    @classmethod
    def time(cls, owner: type, name: str) -> None:
        """Count a method's time."""
        plain = getattr(owner, name)

        @wraps(plain)
        def timed(*args: Any, **options: Any) -> Any:
            began = time.perf_counter()
            try:
                return plain(*args, **options)
            finally:
                took = time.perf_counter() - began
                cls.total, cls.longest = cls.total + took, max(cls.longest, took)

        setattr(owner, name, timed)


@dataclass
class Watch(SilentLane):
    """A lane that notes the longest time between two looks outside of network calls, in seconds, and where the second one was."""

    longest: float = 0.0
    where: str = ""
    called: float = 0.0
    looks: int = 0
    last: float = field(default_factory=time.perf_counter)

    def stopping(self) -> bool:
        """Never: the job runs to its end."""
        self.note()
        return False

    def note(self) -> None:
        """The time since the look before."""
        paused = time.perf_counter() - self.last - (Calls.total - self.called)
        if paused > self.longest:
            self.longest = paused
            frames = [f for f in traceback.extract_stack() if "studio" in f.filename and not f.filename.endswith(("cancellation.py", "stop.py"))]
            self.where = " < ".join(f"{Path(f.filename).name}:{f.lineno}" for f in reversed(frames[-3:]))
        self.last, self.called, self.looks = time.perf_counter(), Calls.total, self.looks + 1


def prepare(paths: Paths, model: Model) -> None:
    """Two checkpoints, two LoRAs over their layers, and an embedding."""
    paths.prepare()
    for name in "ab":
        model.unet.conv_out.weight.data.mul_(1.1)
        model.unet.down_blocks[0].attentions[0].transformer_blocks[0].attn1.to_q.weight.data.mul_(1.1)
        save_model(model, paths.checkpoints / f"zz-{name}.safetensors")
        kohya_file(paths.lora / f"{name}.safetensors", model, seed=ord(name))


def jobs(paths: Paths, size: int) -> dict[str, tuple[str, dict[str, Any]]]:
    """Jobs by what they do: their kind and request."""
    base = {"prompt": "a red cat", "steps": 2, "width": size, "height": size, "seed": 3, "checkpoint": "zz-a.safetensors"}
    pictures = str(sample_pictures())
    train = {"data": pictures, "steps": 3, "batch_size": 1, "width": size, "height": size, "preview_every": 2, "preview_steps": 2, "probe_every": 2, "save_every": 2, "checkpoint": "zz-a.safetensors"}
    return {
        "generate": ("generate", base),
        "generate, hires": ("generate", {**base, "hires": True, "hires_scale": 1.5, "hires_steps": 1, "hires_upscaler": "Lanczos"}),
        "generate, 1,000 LoRA tags": ("generate", {**base, "prompt": "a red cat " + "<lora:a:0.001>" * 1000}),
        "train an embedding": ("train", {"method": "textual_inversion", "config": {"embedding": "word", **train}}),
        "train a LoRA": ("train", {"method": "lora", "config": {"name": "word", **train}}),
        "train a checkpoint": ("train", {"method": "fine_tune", "config": {"name": "whole", **train}}),
        "merge": ("merge", {"primary": "zz-a.safetensors", "secondary": "zz-b.safetensors", "name": "merged"}),
        "extract a LoRA": ("extract_lora", {"tuned": "zz-a.safetensors", "original": "zz-b.safetensors", "min_difference": 0, "rank": 8, "name": "extracted"}),
        "resize a LoRA": ("resize_lora", {"lora": "a", "rank": 2, "name": "resized"}),
        "bake a LoRA": ("bake_lora", {"checkpoint": "zz-a.safetensors", "loras": "<lora:a:1>", "name": "baked"}),
        "convert": ("convert", {"checkpoint": "zz-a.safetensors", "name": "converted"}),
        "upscale": ("extras", {"images": (str(sample_pictures() / "01.png"),), "scale": 8}),
        "prepare images": ("preprocess", {"source": pictures, "destination": str(paths.root / "prepared"), "width": 512, "height": 512, "captioners": ("BLIP",)}),
    }


def measured(kind: str, wanted: dict[str, Any], paths: Paths) -> dict[str, Any]:
    """One job from an empty cache."""
    if kind == "train" and "embedding" in wanted["config"]:
        done(Watch("make"), "create_embedding", {"name": "word", "initialization_text": "cat", "checkpoint": "zz-a.safetensors"}, Desk(paths, ModelCache(paths, "cpu")))
    watch, Calls.total, Calls.longest = Watch(f"job-{time.monotonic_ns()}"), 0.0, 0.0
    began = time.perf_counter()
    done(watch, kind, wanted, Desk(paths, ModelCache(paths, "cuda" if torch.cuda.is_available() else "cpu")))
    watch.note()
    return {"seconds": time.perf_counter() - began, "looks": watch.looks, "longest": watch.longest, "call": Calls.longest, "where": watch.where}


def done(watch: Watch, kind: str, wanted: dict[str, Any], desk: Desk) -> None:
    """Do a job as the worker does."""
    request = request_of(kind, wanted)
    with stoppable(watch.stopping):
        raise_if_stopped()
        import_module(dict(SERVICES)[kind]).run(request, watch, desk)


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=256, help="width and height of the images")
    parser.add_argument("--only", nargs="*", default=[], help="jobs whose names hold one of these words")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    found: dict[str, dict[str, Any]] = {}
    for owner, name in ((UNet2DConditionModel, "forward"), (AutoencoderKL, "encode"), (AutoencoderKL, "decode"), (CLIPTextModel, "forward"), (torch.Tensor, "backward")):
        Calls.time(owner, name)
    with tempfile.TemporaryDirectory(prefix="stop-") as place:
        paths = Paths(Path(place))
        prepare(paths, sd15_random(torch.device("cpu"), torch.float32))
        for template in (SHIPPED_ROOT / "textual_inversion_templates").glob("*.txt"):
            (paths.root / "textual_inversion_templates" / template.name).write_bytes(template.read_bytes())
        for name, (kind, wanted) in jobs(paths, options.size).items():
            if options.only and not any(word in name for word in options.only):
                continue
            found[name] = measured(kind, wanted, paths)
            if not options.json:
                one = found[name]
                print(f"{name:28} {one['seconds']:7.1f} s, {one['looks']:6} looks, longest pause {one['longest']:6.2f} s, longest call {one['call']:6.2f} s  {one['where']}", flush=True)
    if options.json:
        json.dump(found, sys.stdout, indent=2)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
