"""Whether the verdict is right on five staged trainings of the tiny world: a good one, a rate of nothing, a rate far too high, prompts without the word, and one picture learned by heart.

`python -m tests.bench.verdict [--quick] [--json]`. The highest rate a request allows is 1000, which stands for the 1e6 of the task. Exits 1 when a verdict is wrong, or when
the rate far too high is not noticed within 20 steps.
"""

import argparse
import json
import math
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from studio.dataset.batches import Batches, Sample
from studio.diffusion.cache import ModelCache
from studio.diffusion.conversion import from_image
from studio.diffusion.model import Model
from studio.formats.embedding import Embedding
from studio.jobs import SilentLane
from studio.projects.facts import Change
from studio.projects.project import Project
from studio.prompts.vocabulary import tokens_of
from studio.requests.train import CreateEmbeddingRequest, TrainRequest
from studio.runs.sentences import SENTENCES
from studio.services.desk import Desk
from studio.services.library import create_embedding
from studio.services.training import run
from studio.settings import Paths
from studio.tinyworld.monsters import CHARACTERS
from studio.tinyworld.world import portrait
from studio.training.appraisal import Appraisal, Appraiser, Rules
from studio.training.loop import train
from studio.training.methods.textual_inversion import TextualInversion
from studio.training.optim import build
from studio.training.passes import Plan
from studio.training.verdict import Verdict
from studio.training.watch import Step

NAMED, NAMELESS = ("a photo of [name], [filewords]",), ("a photo of [filewords]",)
FIRST = 50_000_000
"""Number of the first picture of this bench: pictures the tiny world never saw."""
NOTICED = 20
"""Steps within which divergence must be told."""


@dataclass(frozen=True)
class Stage:
    """One staged training: what it is, the kinds of verdict that are right, its rate, prompts, pictures, vectors, steps and batch."""

    name: str
    right: tuple[str, ...]
    rate: float = 0.01
    templates: tuple[str, ...] = NAMED
    pictures: int = 8
    held: int = 4
    vectors: int = 2
    steps: int = 100
    batch: int = 4


STAGES = (
    Stage("good", ("learning", "flat")),
    Stage("rate of nothing", ("not_learning",), rate=1e-30, steps=40, batch=1),
    Stage("rate far too high", ("diverging",), rate=1000.0, steps=40, batch=1),
    Stage("prompts without the word", ("not_learning",), templates=NAMELESS, steps=40, batch=1),
    Stage("one picture by heart", ("memorising",), rate=0.05, templates=("a photo of [name]",), pictures=1, held=6, vectors=16, steps=120),
)


@dataclass
class Small:
    """A watch that does nothing but step, and look where the appraiser wants to."""

    appraiser: Appraiser | None
    learner: TextualInversion
    end: int
    fixed: float
    step: int = 0
    scale: float = 1.0
    looks: list[Appraisal] = field(default_factory=list)
    alarms: list[tuple[int, Verdict]] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    path: list[Tensor] = field(default_factory=list)

    def note(self, kind: str, text: str) -> None:
        """Nobody reads here."""

    def rate(self) -> float:
        """The same at every step."""
        return self.fixed

    def stopping(self) -> bool:
        """Never asked to."""
        return False

    def stepped(self, step: Step) -> None:
        """Keep the loss and the vectors; measure."""
        self.step = step.done
        self.losses.append(step.loss)
        self.path.append(self.learner.vectors.detach().clone())
        if self.appraiser is None:
            return
        told = self.appraiser.stepped(step.loss, step.rate, self.learner.figures(), step.done)
        if told is not None:
            self.alarms.append((step.done, told))
        if self.appraiser.due(step.done):
            self.looks.append(self.appraiser.look(step.done))


def samples(model: Model, first: int, count: int, store: int = 0) -> tuple[Sample, ...]:
    """Pictures of one character nobody saw, encoded, with captions that leave its name out."""
    name, monster = CHARACTERS[store]
    drawn = [portrait(monster, first + i, name) for i in range(count)]
    mean, std = model.encode_images(torch.cat([from_image(shown.image) for shown in drawn]))
    captions = [shown.caption.split(name, 1)[1].lstrip(", ") for shown in drawn]
    return tuple(Sample(str(first + i), captions[i], mean[i].float().cpu(), std[i].float().cpu()) for i in range(count))


def start(model: Model, vectors: int) -> TextualInversion:
    """A word that starts as "monster"."""
    (token,) = tokens_of("monster")
    return TextualInversion(model, Embedding("gnarl", model.token_table[token].detach().float().expand(vectors, -1).clone()))


def staged(model: Model, stage: Stage, every: int = 10) -> Small:
    """Train as staged, and return the watch with what was said."""
    learner = start(model, stage.vectors)
    batches = Batches(samples(model, FIRST, stage.pictures), stage.templates, "gnarl", stage.batch, 0, latent_sampling="deterministic")
    plan = Plan(batches, min_snr_gamma=5.0)
    appraiser = Appraiser.of(model, learner, plan, samples(model, FIRST + 1000, stage.held), Rules(every, stage.steps))
    watch = Small(appraiser, learner, stage.steps, stage.rate)
    first = appraiser.begin(0)
    watch.looks += [first] if first else []
    train(model, learner, build("AdamW", learner.parameters(), stage.rate), plan, watch)  # type: ignore[arg-type]
    return watch


class Leaving(SilentLane):
    """A lane whose person stops a training that rests, as one does that diverged."""

    def resting(self, paused: bool) -> None:
        """Stop."""
        self.stop = self.stop or paused


def served(stage: Stage, desk: Desk, every: int = 10) -> tuple[SilentLane, Path]:
    """Train as staged the way a person does: pictures in a folder, some kept for validation, a request; returns what was told, and the run's folder."""
    data, name = desk.paths.datasets / stage.name, "gnarl"
    data.mkdir(parents=True)
    character, monster = CHARACTERS[0]
    for number in range(stage.pictures + stage.held):
        held = number >= stage.pictures
        shown = portrait(monster, FIRST + number + (1000 - stage.pictures) * held, character)
        shown.image.save(data / f"{number:02d}.png")
        (data / f"{number:02d}.txt").write_text(shown.caption.split(character, 1)[1].lstrip(", "), encoding="utf-8")
    Project(data).edit("Hold out", [Change(f"{stage.pictures + i:02d}.png", "held_out", False, True) for i in range(stage.held)])
    (desk.paths.templates / "staged.txt").write_text("\n".join(stage.templates), encoding="utf-8")
    create_embedding(CreateEmbeddingRequest(name=name, initialization_text="monster", vectors=stage.vectors, overwrite=True), desk)
    knobs = {"embedding": name, "data": str(data), "template": "staged", "learn_rate": f"{stage.rate:g}", "batch_size": stage.batch, "steps": stage.steps}
    still = {"save_every": 0, "preview_every": 0, "probe_every": every, "latent_sampling": "deterministic"}
    lane = Leaving(stage.name.replace(" ", ""))
    return lane, Path(run(TrainRequest.check({"config": {**knobs, **still}}), lane, desk)["run"])


def line(desk: Desk, stage: Stage, steps: float) -> dict[str, Any]:
    """One line of the table; where the run rested on an alarm, that is its verdict, and the run's journal says at which step."""
    began = time.monotonic()
    lane, folder = served(replace(stage, steps=max(40, round(stage.steps * steps))), desk)
    told = {kind: [data for name, data in lane.events if name == kind] for kind in ("verdict", "probe")}
    reading = told["probe"][-1]
    alarms = [json.loads(entry) for entry in (folder / "journal.jsonl").read_text(encoding="utf-8").splitlines()] if (folder / "journal.jsonl").is_file() else []
    alarms = [entry for entry in alarms if entry["ask"] == "alarm" and "text" in entry["data"]]
    noticed = alarms[0]["step"] if alarms else None
    last = {"kind": SENTENCES[alarms[-1]["data"]["text"]], **alarms[-1]["data"]} if alarms else told["verdict"][-1]
    wild = "diverging" in stage.right
    return {
        "stage": stage.name,
        "expected": " or ".join(stage.right),
        "verdict": last["kind"],
        "alarm": noticed,
        "train": _finite(reading["train"]),
        "held": _finite(reading["held"]),
        "said": last["text"].format(**last["values"]),
        "right": last["kind"] in stage.right and (noticed is not None and noticed <= NOTICED if wild else noticed is None),
        "seconds": time.monotonic() - began,
    }


def _finite(value: float | None) -> float | None:
    """A number that JSON knows."""
    return value if value is not None and math.isfinite(value) else None


def table(lines: Sequence[dict[str, Any]]) -> list[str]:
    """The lines in Markdown."""
    head = ["| training | right | verdict | alarm at step | learned from, % | never seen, % | |", "| --- | --- | --- | ---: | ---: | ---: | --- |"]
    rows = [[row["stage"], row["expected"], row["verdict"], row["alarm"] or "", _number(row["train"]), _number(row["held"]), "right" if row["right"] else "WRONG"] for row in lines]
    return [*head, *(f"| {' | '.join(map(str, row))} |" for row in rows), *(f"{row['stage']}: {row['said']}" for row in lines)]


def _number(value: float | None) -> str:
    """One decimal."""
    return "" if value is None else f"{value:+.1f}"


def main() -> int:
    """Print the table; 1 when a verdict is wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="shorter trainings")
    parser.add_argument("--json", action="store_true", help="the table as JSON")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        paths = Paths(Path(folder)).prepare()
        desk = Desk(paths, ModelCache(paths, device="cpu"))
        lines = [line(desk, stage, 0.6 if options.quick else 1.0) for stage in STAGES]
    wrong = [row["stage"] for row in lines if not row["right"]]
    sys.stdout.write(json.dumps({"rows": lines, "wrong": wrong}, indent=1) if options.json else "\n".join(table(lines)))
    sys.stdout.write("\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
