"""Twelve real trainings of the tiny world for the bench of the diagnosis: what the run measured, and beside it how far what it learned is from pictures it never saw.

That distance shares nothing with the run's own probe: other pictures of the character, other noise, other timesteps, and thirty times as many of them.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor

from studio.dataset.batches import dice, normal
from studio.diffusion.cache import ModelCache
from studio.diffusion.conditioning import condition
from studio.diffusion.conversion import from_image
from studio.diffusion.model import Model
from studio.jobs import SilentLane
from studio.projects.facts import Change
from studio.projects.filling import fill
from studio.projects.project import Project
from studio.requests.train import CreateEmbeddingRequest, TrainRequest, config_class
from studio.services import training
from studio.services.desk import Desk
from studio.services.library import create_embedding
from studio.settings import Paths
from studio.tinyworld.monsters import CHARACTERS, Monster
from studio.tinyworld.world import portrait
from studio.training import appraisal
from studio.training.objective import add_noise, target

NAMED, BARE, NAMELESS = ("a photo of [name], [filewords]",), ("a photo of [name]",), ("a photo of [filewords]",)
FIRST, UNSEEN = 60_000_000, 60_500_000
"""Numbers of the first picture that is learned and of the first that only the distance is measured on."""
PICTURES, STRATA, PURPOSE = 16, 8, 907
"""Unseen pictures, timesteps of each, and a purpose of randomness that no run uses."""
WORD, SIDE = "gnarl", 64
"""What is taught, and the size of its pictures in pixels: the tiny world at a quarter of its cost."""


@dataclass(frozen=True)
class Staged:
    """One real training: its name, the states that are right at its end, the method with its settings, pictures that are learned and held out, and the character."""

    name: str
    right: tuple[str, ...]
    method: str
    knobs: Mapping[str, Any]
    pictures: int = 8
    held: int = 4
    character: int = 0
    eyes: int = 0
    templates: tuple[str, ...] = NAMED
    vectors: int = 2

    @property
    def monster(self) -> Monster:
        """Who is taught; with other eyes it is still one that the tiny world never saw."""
        known = CHARACTERS[self.character][1]
        return replace(known, eyes=self.eyes) if self.eyes else known


PLATEAU, IMPROVING, OVERFITTING, DIVERGING, NOTHING = ("plateau",), ("improving",), ("overfitting",), ("diverging",), ("not_learning",)
GOOD = PLATEAU + IMPROVING
LORA: Mapping[str, Any] = {"rank": 8, "alpha": 8.0, "layers": "attention", "text_encoder_rate": 0.0}
LOKR: Mapping[str, Any] = {**LORA, "algorithm": "LoKr", "factor": 4, "conv_rank": 0}
RUNS: tuple[Staged, ...] = (
    Staged("embedding, cosine to nothing", PLATEAU, "textual_inversion", {"learn_rate": "0.02", "rate_shape": "cosine", "batch_size": 4, "steps": 400}),
    Staged("embedding, constant rate", GOOD, "textual_inversion", {"learn_rate": "0.01", "batch_size": 4, "steps": 500}, character=1),
    Staged("embedding, rate far too low", NOTHING, "textual_inversion", {"learn_rate": "1e-6", "batch_size": 2, "steps": 200}, character=2),
    Staged("embedding, rate far too high", DIVERGING, "textual_inversion", {"learn_rate": "1", "batch_size": 2, "steps": 100}, character=3),
    Staged("embedding, one picture by heart", OVERFITTING, "textual_inversion", {"learn_rate": "0.05", "batch_size": 2, "steps": 400}, 1, 6, 1, 2, BARE, 16),
    Staged("embedding, prompts without the word", NOTHING, "textual_inversion", {"learn_rate": "0.01", "batch_size": 2, "steps": 100}, templates=NAMELESS),
    Staged("LoRA, cosine to nothing", GOOD, "lora", {**LORA, "learn_rate": "2e-3", "rate_shape": "cosine", "batch_size": 4, "steps": 500}, 10, 4, 2),
    Staged("LoRA, two pictures by heart", OVERFITTING, "lora", {**LORA, "rank": 16, "learn_rate": "1e-3", "batch_size": 4, "steps": 300}, 2, 4, 3, templates=BARE),
    Staged("LoRA, rate far too low", NOTHING, "lora", {**LORA, "learn_rate": "1e-8", "batch_size": 2, "steps": 300}, character=1, eyes=3),
    Staged("hypernetwork", GOOD, "hypernetwork", {"learn_rate": "2e-3", "activation": "relu", "batch_size": 4, "steps": 400}, character=3, eyes=1),
    Staged("DreamBooth, three pictures", OVERFITTING, "dreambooth", {"learn_rate": "3e-4", "prior": "none", "batch_size": 2, "steps": 400}, 3, 4, 2, 3, BARE),
    Staged("LoKr, still improving", IMPROVING, "lycoris", {**LOKR, "learn_rate": "3e-4", "batch_size": 4, "steps": 300}, 12, 4, 0, 1),
)


@dataclass
class Yardstick:
    """Mean squared errors on unseen pictures of a character at many noises and timesteps: one number for each of STRATA equal parts of them."""

    latents: Tensor
    prompts: tuple[str, ...]
    took: list[dict[str, Any]] = field(default_factory=list)

    @classmethod
    def of(cls, model: Model, staged: Staged, word: str) -> "Yardstick":
        """The yardstick of one run, whose word stands in every prompt."""
        shown = [portrait(staged.monster, UNSEEN + number, WORD) for number in range(PICTURES)]
        mean, _ = model.encode_images(torch.cat([from_image(picture.image.resize((SIDE, SIDE))) for picture in shown]))
        line = (NAMED if staged.templates == NAMELESS else staged.templates)[0]
        return cls(mean.float().cpu(), tuple(fill(line, word, picture.caption.split(WORD, 1)[1].lstrip(", ")) for picture in shown))

    @torch.no_grad()
    def measure(self, model: Model, words: Mapping[str, Tensor]) -> list[float]:
        """The error of each part of the timesteps, the cleanest first."""
        modules = [m for part in (model.unet, *model.text_encoders) for m in part.modules() if m.training]
        for module in modules:
            module.training = False
        guide = condition(model, list(self.prompts), {name: vectors.detach() for name, vectors in words.items()})
        found = []
        for part in range(STRATA):
            errors = []
            for at in range(len(self.prompts)):
                die = dice(PURPOSE, PURPOSE, part, at)
                time = int((part + die.random()) / STRATA * 960) + 20
                noise = normal(self.latents[at].shape, die)
                errors.append((time, noise))
            times, noises = torch.tensor([t for t, _ in errors]), torch.stack([n for _, n in errors])
            for sign in (1, -1):
                signal = model.alphas_cumprod[times.to(model.device)]
                x, noise = self.latents.to(model.device), (sign * noises).to(model.device)
                answer = model.predict(add_noise(x, noise, signal), times.to(model.device), guide).float()
                found.append((part, float((answer - target(model.prediction_type, x, noise, signal)).square().mean())))
        for module in modules:
            module.training = True
        return [float(np.mean([error for p, error in found if p == part])) for part in range(STRATA)]


class Leaving(SilentLane):
    """A lane whose person stops a training that rests, as one does that diverged."""

    def resting(self, paused: bool) -> None:
        """Stop."""
        self.stop = self.stop or paused


def folder_of(staged: Staged, desk: Desk) -> Path:
    """A data set as a person makes one: pictures with captions, some held out."""
    data = desk.paths.datasets / WORD
    data.mkdir(parents=True)
    for number in range(staged.pictures + staged.held):
        shown = portrait(staged.monster, FIRST + 1000 * staged.character + number, WORD)
        shown.image.save(data / f"{number:02d}.png")
        (data / f"{number:02d}.txt").write_text(shown.caption.split(WORD, 1)[1].lstrip(", "), encoding="utf-8")
    Project(data).edit("Hold out", [Change(f"{staged.pictures + i:02d}.png", "held_out", False, True) for i in range(staged.held)])
    return data


def requested(staged: Staged, desk: Desk, every: int) -> TrainRequest:
    """The request of a staged training over a new data set."""
    (desk.paths.templates / "staged.txt").write_text("\n".join(staged.templates), encoding="utf-8")
    cls = config_class(staged.method)
    named = {"embedding": WORD, "name": "staged", "trigger": WORD, "class_word": "monster"}
    still = {"template": "staged", "save_every": 0, "preview_every": 0, "probe_every": every, "latent_sampling": "deterministic", "width": SIDE, "height": SIDE}
    knobs = {**named, **still, **staged.knobs, "data": str(folder_of(staged, desk))}
    if staged.method == "textual_inversion":
        create_embedding(CreateEmbeddingRequest(name=WORD, initialization_text="monster", vectors=staged.vectors, overwrite=True), desk)
    return TrainRequest.check({"method": staged.method, "config": {name: value for name, value in knobs.items() if name in cls.model_fields}})


def trained(staged: Staged, root: Path, every: int = 25) -> dict[str, Any]:
    """Train for real, through the service, and measure the distance beside every measurement; plain JSON."""
    paths = Paths(root).prepare()
    desk = Desk(paths, ModelCache(paths, device="cpu"))
    request = requested(staged, desk, every)
    seen: list[dict[str, Any]] = []
    usual = appraisal.Appraiser.look
    yards: list[Yardstick] = []

    def look(mine: appraisal.Appraiser, step: int) -> appraisal.Appraisal:
        """Look as usual, and measure the distance."""
        found, model = usual(mine, step), mine.probe.model
        if not yards:
            yards.append(Yardstick.of(model, staged, request.config.word))
        errors = mine.probe.measure(mine.words())
        seen.append({"reading": asdict(found.reading), "errors": asdict(errors), "distance": yards[0].measure(model, mine.words()), "movement": mine.state()["movement"]})
        return found

    lane = Leaving("staged")
    with patch.object(appraisal.Appraiser, "look", look):
        result = training.run(request, lane, desk)
    folder = Path(result["run"])
    rows = [line.split(",") for line in (folder / "curve.csv").read_text(encoding="utf-8").splitlines()[1:]]
    told = [json.loads(line) for line in (folder / "verdicts.jsonl").read_text(encoding="utf-8").splitlines()] if (folder / "verdicts.jsonl").is_file() else []
    best = json.loads((folder / "best.json").read_text(encoding="utf-8")) if (folder / "best.json").is_file() else None
    alarm = next((data for kind, data in reversed(lane.events) if kind == "verdict"), None) if any(kind == "paused" for kind, _ in lane.events) else None
    return {
        "name": staged.name,
        "right": staged.right,
        "method": staged.method,
        "config": request.config.model_dump(mode="json", exclude={"data"}),
        "measurements": seen,
        "rates": [[int(row[0]), float(row[3])] for row in rows],
        "losses": [[int(row[0]), _number(row[1])] for row in rows],
        "verdicts": told,
        "best": best,
        "movement": seen[-1]["movement"],
        "alarm": alarm and {name: value for name, value in alarm.items() if name not in ("step", "span")},
        "steps": result["steps"],
    }


def _number(text: str) -> float | None:
    """A finite number, or None."""
    value = float(text) if text else math.nan
    return value if math.isfinite(value) else None
