"""What keeps a class as it was while one of its kind is learned: pictures that the checkpoint paints of it once, or what the untouched network says."""

from dataclasses import replace

from studio.dataset.batches import Batches
from studio.diffusion.model import Model
from studio.jobs import Lane
from studio.requests.train import PriorConfig, TrainConfig
from studio.services.class_pictures import class_samples
from studio.services.desk import Desk
from studio.training.methods.full import Full
from studio.training.methods.trainable import Trainable
from studio.training.passes import Plan, Prior
from studio.training.run import Run

PURPOSE = 0x5052494F52
"""What the run's seed is crossed with: beyond all seeds a person can write, so that the prior draws numbers of its own."""
CAPTION = ("[filewords]",)
"""Its training prompts are the captions alone, which say the class."""


def prior_of(config: TrainConfig, plan: Plan, folder: Run, model: Model, rest: tuple[Lane, Desk, Trainable]) -> Prior | None:
    """The prior of a training whose knobs ask for one; None for the others, and when a stop was asked while class pictures were made. Raises StudioError in words."""
    lane, desk, learner = rest
    if not isinstance(config, PriorConfig) or config.prior == "none" or not config.prior_loss_weight:
        return None
    predicted = config.prior == "prediction"
    if predicted:
        samples = tuple(replace(sample, caption=config.prior_prompt, weight=None) for sample in plan.batches.samples)
        compared(learner, model, desk)
    else:
        samples = class_samples(config, folder, model, lane, desk)
    if not samples:
        return None
    batches = Batches(
        samples, CAPTION, config.class_word, config.whole_batch, config.seed ^ PURPOSE, config.gradient_accumulation, latent_sampling=config.latent_sampling, flip=predicted and config.flip
    )
    return Prior(batches, config.prior_loss_weight, predicted)


def compared(learner: Trainable, model: Model, desk: Desk) -> None:
    """Where the whole network learns, let the untouched one be lent beside it for the prior's predictions."""
    if isinstance(learner, Full):
        learner.reference = lambda: desk.cache.lend(model.checkpoint)
