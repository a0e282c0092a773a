"""The two sides of the training bench over the same models and pictures: the studio's loop, and the plain one."""

import ctypes
import gc
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from studio.dataset.batches import Batches, Sample, cover, pixels
from studio.dataset.folder import open_upright
from studio.diffusion.cache import ModelCache
from studio.diffusion.families import SD1
from studio.diffusion.loading import SD_SCHEDULE
from studio.diffusion.model import Model
from studio.formats.embedding import Embedding
from studio.settings import Paths
from studio.tinyworld.monsters import CHARACTERS
from studio.tinyworld.world import portrait
from studio.training.loop import Plan, train
from studio.training.methods.textual_inversion import TextualInversion
from studio.training.optim import build
from studio.training.preparation import prepared
from tests.bench.generate import Memory, sd15_random
from tests.bench.plain_ti import PROMPTS, PlainTextualInversion, Settings

FIRST = 50_000_000
"""Number of the first portrait; those from a hundred on are held back for measuring."""


@dataclass
class Quiet:
    """A watch that only counts and times the steps."""

    end: int = 0
    step: int = 0
    scale: float = 1.0
    pace: float = 0.005
    seconds: list[float] = field(default_factory=list)
    mark: float = 0.0

    def rate(self) -> float:
        """Always the same."""
        return self.pace

    def stopping(self) -> bool:
        """Nobody stops it."""
        return False

    def stepped(self, step: Any) -> None:
        """Time the step."""
        self.step = step.done
        now = time.perf_counter()
        self.seconds.append(now - self.mark)
        self.mark = now

    def note(self, kind: str, text: str) -> None:
        """Nobody listens."""


class Ours:
    """The studio's loop: latents encoded once, one small parameter."""

    def __init__(self, model: Model, pictures: Sequence[Path], start: Tensor, settings: Settings, compile: bool = False) -> None:
        self.stack = ExitStack()
        self.model = self.stack.enter_context(prepared(model, compile=compile))
        samples = []
        for path in pictures:
            mean, std = model.encode_images(pixels(cover(open_upright(path), settings.edge, settings.edge))[None])
            samples.append(Sample(path.name, "", mean[0].cpu(), std[0].cpu()))
        templates = tuple(prompt.format("[name]") for prompt in PROMPTS)
        self.plan = Plan(Batches(tuple(samples), templates, "gnarl", settings.batch, settings.seed, settings.accumulation))
        self.learner = TextualInversion(model, Embedding("gnarl", start))
        self.optimizer = build("AdamW", self.learner.parameters(), settings.rate)
        self.watch = Quiet(pace=settings.rate)

    def run(self, steps: int) -> list[float]:
        """Take steps; returns the seconds of each."""
        self.watch.end, self.watch.seconds, self.watch.mark = self.watch.step + steps, [], time.perf_counter()
        train(self.model, self.learner, self.optimizer, self.plan, self.watch)
        return self.watch.seconds


def timed(step: Callable[[], object], steps: int) -> list[float]:
    """Take steps; returns the seconds of each."""
    seconds = []
    for _ in range(steps):
        began = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - began)
    return seconds


class Theirs:
    """The plain loop."""

    def __init__(self, model: Model, pictures: Sequence[Path], start: Tensor, settings: Settings, copied: bool = True) -> None:
        self.model = model
        self.loop = PlainTextualInversion(model, pictures, start, settings, copied)

    def run(self, steps: int) -> list[float]:
        """Take steps; returns the seconds of each."""
        return timed(self.loop.step, steps)


def small_random(device: torch.device, dtype: torch.dtype) -> Model:
    """A model of Stable Diffusion's shape and a tenth of its size, with random weights."""
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    torch.manual_seed(0)
    unet = UNet2DConditionModel(sample_size=32, block_out_channels=(128, 256, 384, 384), layers_per_block=1, cross_attention_dim=512, attention_head_dim=8)
    kind = {"down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4}
    vae = AutoencoderKL(block_out_channels=(64, 128, 256, 256), layers_per_block=2, sample_size=256, **kind)
    text = CLIPTextModel(CLIPTextConfig(vocab_size=49408, hidden_size=512, intermediate_size=2048, num_hidden_layers=4, num_attention_heads=8, bos_token_id=49406, eos_token_id=49407))
    return Model(SD1, "small-random", "", unet, vae, (text,), dict(SD_SCHEDULE), device, dtype)


def world(name: str, paths: Paths, stack: ExitStack) -> Model:
    """The tiny world, or a random model of Stable Diffusion 1.5's size or a smaller one, on the device the studio would use."""
    cache = ModelCache(paths)
    if name == "tiny":
        return stack.enter_context(cache.lend(""))
    return (sd15_random if name == "sd15" else small_random)(cache.device, cache.dtype)


def portraits(folder: Path, count: int = 12) -> tuple[Path, ...]:
    """Pictures of a character the tiny world never saw."""
    name, monster = CHARACTERS[0]
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        portrait(monster, FIRST + number, name).image.save(folder / f"{number:02d}.png")
    return tuple(sorted(folder.glob("*.png")))


def start_of(model: Model) -> Tensor:
    """The row of "monster" [1, width] in every text encoder."""
    from studio.diffusion.tokenizer import tokens_of

    (token,) = tokens_of("monster")[:1]
    return torch.cat([encoder.get_input_embeddings().weight[token].detach().float().cpu() for encoder in model.text_encoders])[None]


def flops(run: Callable[[int], Any]) -> float:
    """Floating-point operations of one step; attention is counted in its plain form, which CPU kernels do not report."""
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        run(1)
    return float(counter.get_total_flops())


def matmul_rate(device: torch.device, dtype: torch.dtype) -> float:
    """What this machine's matrix product does, in operations a second: the best of several."""
    edge, best = (8192, 0.0) if device.type == "cuda" else (2048, 0.0)
    a = torch.randn(edge, edge, device=device, dtype=dtype)
    for _ in range(6):
        synchronize(device)
        began = time.perf_counter()
        a @ a
        synchronize(device)
        best = max(best, 2 * edge**3 / (time.perf_counter() - began))
    return best


def synchronize(device: torch.device) -> None:
    """Wait for what a card still does."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def peak_above_weights(side: str, name: str, settings: Settings, root: Path, steps: int = 1) -> int:
    """Bytes that a side takes at most beside the loaded model, its preparation counted; to be called in a process of its own."""
    with ExitStack() as stack:
        paths = Paths(root).prepare()
        model = world(name, paths, stack)
        pictures, start = portraits(root / "pictures", 4), start_of(model)
        resting = taken(model.device)
        with Memory(model.device) as memory:
            ours_or_theirs = Ours(model, pictures, start, settings) if side == "ours" else Theirs(model, pictures, start, settings, copied=False)
            ours_or_theirs.run(steps)
        return memory.peak - resting


def taken(device: torch.device) -> int:
    """Bytes in use now, what was only kept for reuse given back."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        return torch.cuda.memory_allocated(device)
    with suppress(OSError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    return psutil.Process().memory_info().rss
