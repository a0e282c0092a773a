"""The check of the methods: each one is taught a character that the tiny world never saw, and what it learned is used as a person would use it.

All look at the same pictures for as many steps and as many pictures a step, at the rate that suits each, which falls in the same way. Measured is the probe's loss on
pictures that were held back, through the files that were written: a LoRA is worn, a checkpoint loaded.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from studio.diffusion.beginnings import initial_vectors
from studio.diffusion.cache import ModelCache
from studio.diffusion.conversion import from_image
from studio.jobs import SilentLane
from studio.requests import CreateEmbeddingRequest, GenerateRequest, TrainRequest
from studio.requests.train import TrainConfig, config_class
from studio.services import library, training
from studio.services.desk import Desk
from studio.services.generation import paint
from studio.services.wardrobe import dressed
from studio.settings import Paths
from studio.tinyworld.monsters import CHARACTERS
from studio.tinyworld.world import portrait, sheet
from studio.training.methods import METHODS
from studio.training.probe import FixedLoss, fixed_loss

CHARACTER = CHARACTERS[0][1]
NAME = "gnarl"
"""What it is called: a word that says nothing to the tiny world, so that no method knows a colour from the name alone."""
CLASS = "monster"
"""What it is: where words begin, and what follows the trigger word where no word learns."""
CHECKPOINT = "tiny-world"
FIRST = 41_000_000
"""Number of the first picture of the character; those that are held back begin a hundred later."""
SIDE = 128
PREVIEWS = ("a photo of a {}", "a photo of a {} on the beach")
COMMON: dict[str, Any] = {"batch_size": 8, "rate_shape": "cosine", "min_snr_gamma": 0.0, "save_every": 0, "preview_every": 0, "probe_every": 0, "checkpoint": CHECKPOINT, "width": SIDE, "height": SIDE}
"""What all are told: so many pictures a step, a rate that falls to nothing, the plain loss that is measured afterwards; no copies, previews and measurements on the way."""


@dataclass(frozen=True)
class Sizes:
    """Steps of each way, pictures that are learned, those that are held back with the questions about each, and sampling steps of the sheet's pictures."""

    steps: int = 120
    pictures: int = 12
    held: int = 12
    questions: int = 8
    painting: int = 15


QUICK = Sizes(steps=25, held=8, painting=8)


@dataclass(frozen=True)
class Way:
    """A way to teach: its name in the table, the method, knobs of its own, and whether it must beat the embedding alone."""

    name: str
    method: str
    knobs: Mapping[str, Any]
    must: bool = False

    def config(self, data: Path, steps: int) -> TrainConfig:
        """Its knobs: the common ones as far as the method has them, what it is called, and its own. Files have names that stand in no other way's prompts."""
        cls, word = config_class(self.method), f"{NAME}-{self.method.replace('_', '-')}"
        named: dict[str, Any] = {"embedding": word, "name": f"check-{self.name.replace(' ', '')}", "initialization_text": CLASS, "vectors": 2, "trigger": f"{NAME} {CLASS}"}
        if "class_word" in cls.model_fields:
            named |= {"trigger": NAME, "class_word": CLASS}
        if {"initialization_text", "trigger"} <= cls.model_fields.keys():
            named |= {"trigger": word, "class_word": ""}
        knobs = {**COMMON, **named, **self.knobs, "data": str(data), "steps": steps}
        return cls.model_validate({name: value for name, value in knobs.items() if name in cls.model_fields})


_ATTENTION = {"rank": 8, "alpha": 8.0, "layers": "attention", "text_encoder_rate": 0.0, "conv_rank": 0}
SETTINGS: tuple[Way, ...] = (
    Way("embedding", "textual_inversion", {"learn_rate": "0.02"}),
    Way("LoRA", "lora", {**_ATTENTION, "learn_rate": "2e-3"}, must=True),
    Way("LoHa", "lycoris", {**_ATTENTION, "algorithm": "LoHa", "learn_rate": "4e-3"}),
    Way("LoKr", "lycoris", {**_ATTENTION, "algorithm": "LoKr", "factor": 4, "learn_rate": "4e-3"}, must=True),
    Way("hypernetwork", "hypernetwork", {"learn_rate": "2e-3", "activation": "relu"}),
    Way("DreamBooth", "dreambooth", {"learn_rate": "2e-4", "prior": "prediction", "prior_loss_weight": 0.3}, must=True),
    Way("fine-tune", "fine_tune", {"learn_rate": "2e-4"}),
    Way("embedding + LoRA", "together", {**_ATTENTION, "learn_rate": "2e-3", "embedding_rate": 0.02}, must=True),
)
"""What suits the tiny world; a method that is not here is taught with its own defaults."""


def ways() -> tuple[Way, ...]:
    """Every method, in the order of METHODS."""
    return tuple(way for method in METHODS for way in [way for way in SETTINGS if way.method == method.name] or [Way(method.name, method.name, {})])


@dataclass(frozen=True)
class Taught:
    """What came of a way: the loss before and after, over all noise levels and over the noisier half, steps, and the seconds they took with all that belongs to a run."""

    name: str
    before: float
    after: float
    before_high: float
    after_high: float
    steps: int
    seconds: float


def missed(rows: Sequence[Taught]) -> list[str]:
    """The bars that were missed, in words: each way learned something, and those that must beat the embedding alone did."""
    alone, bound = rows[0].after, {way.name for way in SETTINGS if way.must}
    found = [f"{row.name}: the loss after ({row.after:.4f}) is not below the one before ({row.before:.4f})" for row in rows if not row.after < row.before]
    return found + [f"{row.name}: the loss ({row.after:.4f}) is not below that of the embedding alone ({alone:.4f})" for row in rows if row.name in bound and not row.after < alone]


def table(rows: Sequence[Taught]) -> str:
    """The figures for a person."""
    alone = rows[0].after
    lines = [f"{'':<17}{'before':>8}{'after':>9}{'change':>9}{'noisy half':>18}{'to embedding':>14}{'steps':>7}{'seconds':>9}"]
    for row in rows:
        high = f"{row.before_high:.4f} -> {row.after_high:.4f}"
        lines.append(f"{row.name:<17}{row.before:>8.4f}{row.after:>9.4f}{row.after / row.before - 1:>+9.1%}{high:>18}{row.after / alone - 1:>+14.1%}{row.steps:>7}{row.seconds:>9.1f}")
    return "\n".join(lines)


def check_methods(root: Path, sizes: Sizes, taken: Sequence[Way] = (), tell: Callable[[str], None] = lambda _text: None) -> tuple[list[Taught], Image.Image]:
    """Teach the character in every way over a root of its own, the embedding first, or in those of `taken`.

    Returns what came of each, and a sheet with a row for each: two pictures of the character, those painted before, and those after. `tell` hears each figure when it is there.
    """
    room = _Room(Desk(paths := Paths(root).prepare(), ModelCache(paths, device="cpu")), sizes)
    rows, pictures = [], []
    for way in taken or ways():
        row, images = room.taught(way)
        tell(f"{row.name}: {row.before:.4f} -> {row.after:.4f} in {row.seconds:.1f} s")
        rows.append(row)
        pictures += images
    return rows, sheet(pictures, 2 + 2 * len(PREVIEWS))


Seen = tuple[FixedLoss, list[Image.Image]]
"""The loss on pictures that were held back, and what is painted."""


class _Room:
    """Where all are taught: pictures of the character, those that are held back, and how it was before anybody learned."""

    def __init__(self, desk: Desk, sizes: Sizes) -> None:
        self.desk, self.sizes, self.data = desk, sizes, desk.paths.datasets / NAME
        self.data.mkdir(parents=True)
        shown = [portrait(CHARACTER, FIRST + number, NAME) for number in range(sizes.pictures)]
        for number, picture in enumerate(shown):
            picture.image.save(self.data / f"{number:02d}.png")
            (self.data / f"{number:02d}.txt").write_text(picture.caption.split(NAME, 1)[1].lstrip(", "), encoding="utf-8")
        self.examples = [picture.image for picture in shown[:2]]
        held = [portrait(CHARACTER, FIRST + 100 + number, NAME) for number in range(sizes.held)]
        self.captions = [f"a photo of {picture.caption}" for picture in held]
        with desk.cache.lend(CHECKPOINT) as model:
            self.latents = model.encode_images(torch.cat([from_image(picture.image) for picture in held]))[0]
            self.start = initial_vectors(model, CLASS, 2)[0].float()
        self.before: dict[bool, Seen] = {}

    def taught(self, way: Way) -> tuple[Taught, list[Image.Image]]:
        """Teach in one way; returns the figures and a row of the sheet."""
        config = way.config(self.data, self.sizes.steps)
        learned = hasattr(config, "initialization_text") or hasattr(config, "embedding")
        word = str(getattr(config, "trigger", "") if hasattr(config, "initialization_text") else config.word)
        if hasattr(config, "embedding"):
            library.create_embedding(CreateEmbeddingRequest(name=config.subject, initialization_text=CLASS, vectors=2, checkpoint=CHECKPOINT), self.desk)
        if learned not in self.before:
            self.before[learned] = self._seen(CHECKPOINT, "", word, {word: self.start} if learned else {})
        began = time.monotonic()
        result = training.run(TrainRequest(method=way.method, config=config), SilentLane(job=f"check-{config.subject}"), self.desk)
        seconds = time.monotonic() - began
        (before, old), (after, new) = self.before[learned], self._seen(*self._use(Path(result["path"])), word, self.desk.words(word))
        return Taught(way.name, before.all, after.all, before.high, after.high, int(result["steps"]), round(seconds, 1)), [*self.examples, *old, *new]

    def _use(self, path: Path) -> tuple[str, str]:
        """The checkpoint and the tag by which a person uses a result."""
        paths = self.desk.paths
        tags = {paths.lora: f"<lora:{path.stem}:1>", paths.hypernetworks: f"<hypernet:{path.stem}:1>"}
        return (path.name, "") if path.parent == paths.checkpoints else (CHECKPOINT, tags.get(path.parent, ""))

    def _seen(self, checkpoint: str, tag: str, word: str, words: Mapping[str, torch.Tensor]) -> Seen:
        """What a checkpoint with a tag knows of a word."""
        request = GenerateRequest(prompt="", steps=self.sizes.painting, cfg_scale=3.0, seed=1, width=SIDE, height=SIDE)
        with self.desk.cache.lend(checkpoint) as model, dressed(model, tag, self.desk) as worn, torch.no_grad():
            if worn.notes:
                raise RuntimeError(" ".join(worn.notes))
            loss = fixed_loss(model, words, self.latents, [caption.replace(NAME, word) for caption in self.captions], self.sizes.questions)
            return loss, [paint(model, request.model_copy(update={"prompt": prompt.format(word)}), words)[0] for prompt in PREVIEWS]
