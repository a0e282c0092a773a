"""Short trainings of a word on the tiny world, without a run's folder: a loop that only steps, and looks where the appraiser wants to."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from studio.dataset.batches import Batches, Sample
from studio.diffusion.conversion import from_image
from studio.diffusion.model import Model
from studio.formats.embedding import Embedding
from studio.prompts.vocabulary import tokens_of
from studio.runs.diagnosis import Verdict
from studio.tinyworld.monsters import CHARACTERS
from studio.tinyworld.world import portrait
from studio.training.appraisal import Appraisal, Appraiser, Rules
from studio.training.loop import train
from studio.training.methods.textual_inversion import TextualInversion
from studio.training.optim import build
from studio.training.passes import Plan
from studio.training.watch import Step

NAMED, NAMELESS = ("a photo of [name], [filewords]",), ("a photo of [filewords]",)
FIRST = 50_000_000
"""Number of the first picture of this bench: pictures the tiny world never saw."""


@dataclass(frozen=True)
class Stage:
    """One staged training: what it is, the states that are right, its rate, prompts, pictures, vectors, steps and batch."""

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
    Stage("rate of nothing", ("not_learning",), rate=1e-30, steps=40, batch=1),
    Stage("rate far too high", ("diverging",), rate=1000.0, steps=40, batch=1),
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
