"""The check: what the tiny world can do, in figures, and whether each figure is over its bar."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from studio.dataset.captioners import find_blip, find_deepbooru, load_blip, load_tagger
from studio.diffusion.cache import ModelCache
from studio.diffusion.conversion import from_image
from studio.diffusion.model import Model
from studio.formats.embedding import read_embedding
from studio.jobs import SilentLane
from studio.requests import CreateEmbeddingRequest, GenerateRequest, TrainRequest
from studio.services import library, training
from studio.services.desk import Desk
from studio.services.generation import paint
from studio.settings import Paths
from studio.tinyworld.monsters import CHARACTERS, Monster
from studio.tinyworld.palette import NAMES, a
from studio.tinyworld.study import Drawn, drawn
from studio.tinyworld.things import EMOJI
from studio.tinyworld.world import TAGS, portrait, sheet
from studio.training.probe import fixed_loss

BARS = {"subject": 0.85, "background": 0.90, "captions": 0.55, "tags": 0.80}
"""Least share of right subjects and backgrounds in painted pictures, of captions that are right word for word, and least F1 of tags."""
FRESH = 40_000_000
BACKGROUNDS = tuple(f"{colour} background" for colour in NAMES)
SUBJECTS = (*EMOJI, "monster")
PREVIEWS = ("a photo of a {}", "a photo of a {} on a blue background", "a photo of a {} on the beach", "a photo of a {} at night")


@dataclass(frozen=True)
class Sizes:
    """How much is looked at."""

    prompts: int = 96
    pictures: int = 256
    concepts: int = 4
    steps: int = 250


QUICK = Sizes(prompts=8, pictures=16, concepts=1, steps=12)


@dataclass
class Figures:
    """What was measured."""

    subject: float = 0.0
    background: float = 0.0
    judge_subject: float = 0.0
    judge_background: float = 0.0
    captions: float = 0.0
    tags: float = 0.0
    concepts: list[dict[str, Any]] = field(default_factory=list)

    def missed(self) -> list[str]:
        """The bars that were missed, in words."""
        low = [f"{name} is {getattr(self, name):.3f}, the bar is {bar}" for name, bar in BARS.items() if getattr(self, name) < bar]
        return low + [f"{c['name']}: the trained embedding ({c['trained']:.4f}) does not beat the initial one ({c['initial']:.4f})" for c in self.concepts if c["trained"] >= c["initial"]]


def check(root: Path, sizes: Sizes) -> tuple[Figures, Image.Image]:
    """Measure everything over a root of its own; returns the figures and a contact sheet of before and after."""
    paths = Paths(root).prepare()
    desk = Desk(paths, ModelCache(paths, device="cpu"))
    figures = Figures()
    fresh = drawn(FRESH, sizes.pictures)
    judge = load_tagger(find_deepbooru(paths), torch.device("cpu")).model
    _captions(figures, fresh, paths)
    _tags(figures, fresh, judge)
    with desk.cache.lend() as model:
        _sentences(figures, model, judge, sizes.prompts)
    rows: list[Image.Image] = []
    for name, monster in CHARACTERS[: sizes.concepts]:
        concept, pictures = _concept(name, monster, desk, sizes.steps)
        figures.concepts.append(concept)
        rows += pictures
    return figures, sheet(rows, 2 * len(PREVIEWS) + 2)


def _captions(figures: Figures, fresh: Drawn, paths: Paths) -> None:
    """The captioner's exact words on new pictures."""
    blip = load_blip(find_blip(paths), torch.device("cpu"))
    said = [blip.caption(_image(p), 0.5) for p in fresh.pixels]
    figures.captions = sum(s == f.full for s, f in zip(said, fresh.facts, strict=True)) / len(said)


def _tags(figures: Figures, fresh: Drawn, judge: Any) -> None:
    """The tagger's F1 on new pictures, and how often it would judge a true picture right."""
    scores = _scores(judge, [_image(p) for p in fresh.pixels])
    truth = torch.tensor([[tag in f.tags for tag in TAGS] for f in fresh.facts])
    said = scores > 0.5
    figures.tags = 2 * int((said & truth).sum()) / max(1, int(said.sum()) + int(truth.sum()))
    figures.judge_subject = _right(scores, [next((t for t in f.tags if t in SUBJECTS), "") if sum(t in SUBJECTS for t in f.tags) == 1 else "" for f in fresh.facts], SUBJECTS)
    plain = ["" if "monochrome" in f.tags else next((t for t in f.tags if t in BACKGROUNDS), "") for f in fresh.facts]
    figures.judge_background = _right(scores, plain, BACKGROUNDS)


def _sentences(figures: Figures, model: Model, judge: Any, count: int) -> None:
    """How often a painted picture shows what its prompt asked for, by the tagger's judgement."""
    dice = Random(0)
    wanted = [(dice.choice(tuple(EMOJI)), dice.choice(NAMES)) for _ in range(count)]
    painted = [_paint(model, f"{a(thing)} on {a(colour)} background", {}, 1000 + i) for i, (thing, colour) in enumerate(wanted)]
    scores = _scores(judge, painted)
    figures.subject = _right(scores, [thing for thing, _ in wanted], SUBJECTS)
    figures.background = _right(scores, [f"{colour} background" for _, colour in wanted], BACKGROUNDS)


def _paint(model: Model, prompt: str, words: dict[str, Tensor], seed: int) -> Image.Image:
    """One picture by the path of all pictures."""
    with torch.no_grad():
        return paint(model, GenerateRequest(prompt=prompt, steps=20, cfg_scale=3.0, seed=seed), words)[0]


@torch.no_grad()
def _scores(judge: Any, images: Sequence[Image.Image]) -> Tensor:
    """The tagger's scores [n, tags]."""
    rows = []
    for at in range(0, len(images), 16):
        x = torch.cat([from_image(i) for i in images[at : at + 16]]) / 2 + 0.5
        rows.append(judge(F.interpolate(x, (512, 512), mode="bicubic", align_corners=False).clamp(0, 1).permute(0, 2, 3, 1)))
    return torch.cat(rows)


def _right(scores: Tensor, wanted: Sequence[str], among: Sequence[str]) -> float:
    """Share of pictures whose highest score among some tags is the wanted one; pictures without one are left out."""
    columns = [TAGS.index(tag) for tag in among]
    best = [among[i] for i in scores[:, columns].argmax(1).tolist()]
    pairs = [(b, w) for b, w in zip(best, wanted, strict=True) if w]
    return sum(b == w for b, w in pairs) / max(1, len(pairs))


def _concept(name: str, monster: Monster, desk: Desk, steps: int) -> tuple[dict[str, Any], list[Image.Image]]:
    """Teach a character the model never saw; returns losses on pictures that were held back, and a row of pictures."""
    data = desk.paths.datasets / name
    data.mkdir(parents=True, exist_ok=True)
    for number in range(12):
        shown = portrait(monster, FRESH + number, name)
        shown.image.save(data / f"{number:02d}.png")
        (data / f"{number:02d}.txt").write_text(shown.caption.split(name, 1)[1].lstrip(", "), encoding="utf-8")
    held = [portrait(monster, FRESH + 100 + i, name) for i in range(12)]
    library.create_embedding(CreateEmbeddingRequest(name=name, initialization_text="monster", vectors=2, overwrite=True), desk)
    file = desk.paths.embeddings / f"{name}.pt"
    initial = read_embedding(file).vectors
    knobs = {"embedding": name, "learn_rate": f"0.02:{steps // 2}, 0.01:{steps * 4 // 5}, 0.002", "batch_size": 8, "data": str(data), "steps": steps, "save_every": 0, "preview_every": 0}
    began = time.monotonic()
    training.run(TrainRequest.check({"config": knobs}), SilentLane(job=f"check-{name}-{time.monotonic_ns()}"), desk)
    seconds = time.monotonic() - began
    trained = read_embedding(file).vectors
    with desk.cache.lend() as model:
        latents = model.encode_images(torch.cat([from_image(h.image) for h in held]))[0]
        losses = [fixed_loss(model, {name: v}, latents, [f"a photo of {h.caption}" for h in held]) for v in (initial, trained)]
        rows = [[_paint(model, p.format(name), {name: v}, 1) for p in PREVIEWS] for v in (initial, trained)]
    figures = {"name": name, "initial": losses[0].all, "trained": losses[1].all, "initial_high": losses[0].high, "trained_high": losses[1].high, "seconds": round(seconds, 1)}
    return figures, [*(h.image for h in held[:2]), *rows[0], *rows[1]]


def _image(pixels: Tensor) -> Image.Image:
    """Bytes [3, H, W] as a picture."""
    return Image.fromarray(pixels.permute(1, 2, 0).numpy())
