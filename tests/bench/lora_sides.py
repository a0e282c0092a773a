"""The two sides of the LoRA bench over the same models and pictures: the studio's loop, and the plain one with and without what is kept from before."""

import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from studio.dataset.batches import Batches, Sample, cover, pixels
from studio.dataset.folder import open_upright
from studio.diffusion.model import Model
from studio.requests.train import LoraConfig
from studio.settings import Paths
from studio.training.loop import Plan, train
from studio.training.methods import lora
from studio.training.optim import build
from studio.training.passes import LIGHT, spare
from studio.training.preparation import prepared
from tests.bench.generate import Memory
from tests.bench.plain_lora import CAPTION, DECAY, LENGTH, LoraSettings, PlainLora
from tests.bench.ti_sides import Quiet, portraits, taken, timed, world


class OurLora:
    """The studio's loop with the service's own parts: pictures encoded once, a LoRA grown beside the attention of the shared UNet."""

    def __init__(self, model: Model, pictures: Sequence[Path], settings: LoraSettings, compile: bool = False) -> None:
        knobs = {"name": "bench", "data": "-", "rank": settings.rank, "alpha": settings.rank, "layers": "attention", "text_encoder_rate": 0, "learn_rate": str(settings.rate), "seed": settings.seed}
        self.learner = lora.attach(model, None, LoraConfig.model_validate(knobs))
        self.stack = ExitStack()
        self.stack.enter_context(self.learner.attached())
        samples = []
        for path in pictures:
            mean, std = model.encode_images(pixels(cover(open_upright(path), settings.edge, settings.edge))[None])
            samples.append(Sample(path.name, "", mean[0].cpu(), std[0].cpu()))
        self.plan = Plan(Batches(tuple(samples), (CAPTION,), "bench", settings.batch, settings.seed, settings.accumulation), clip=("norm", LENGTH), joined=LIGHT)
        self.model = self.stack.enter_context(prepared(model, compile=compile, spare=spare(self.learner, self.plan)))
        self.optimizer = build("AdamW", [list(group.parameters) for group in self.learner.groups()], settings.rate, DECAY)
        self.watch = Quiet(pace=settings.rate)

    @property
    def learning(self) -> int:
        """Numbers that learn."""
        return sum(parameter.numel() for parameter in self.learner.parameters())

    def run(self, steps: int) -> list[float]:
        """Take steps; returns the seconds of each."""
        self.watch.end, self.watch.seconds, self.watch.mark = self.watch.step + steps, [], time.perf_counter()
        train(self.model, self.learner, self.optimizer, self.plan, self.watch)
        return self.watch.seconds


class TheirLora:
    """The plain loop, as it is or with latents and text kept from before; `loop` may be that of another side."""

    def __init__(self, loop: PlainLora, cached: bool = False) -> None:
        self.loop, self.cached = loop, cached
        if cached:
            loop.keep()

    @property
    def learning(self) -> int:
        """Numbers that learn."""
        return sum(parameter.numel() for parameter in self.loop.parameters)

    def run(self, steps: int) -> list[float]:
        """Take steps; returns the seconds of each."""
        self.loop.cached = self.cached
        return timed(self.loop.step, steps)


def peak_above_weights(side: str, name: str, settings: LoraSettings, root: Path, steps: int = 1) -> int:
    """Bytes that a side takes at most beside the loaded model, its preparation counted; to be called in a process of its own."""
    with ExitStack() as stack:
        model = world(name, Paths(root).prepare(), stack)
        pictures = portraits(root / "pictures", 4)
        resting = taken(model.device)
        with Memory(model.device) as memory:
            if side == "ours":
                OurLora(model, pictures, settings).run(steps)
            else:
                TheirLora(PlainLora(model, pictures, settings, copied=False), side == "cached").run(steps)
        return memory.peak - resting
