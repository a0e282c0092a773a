"""What keeps a class as it was while one of its kind is learned: pictures that the checkpoint paints of it once, or what the untouched network says."""

from studio.diffusion.model import Model
from studio.jobs import Lane
from studio.requests.train import TrainConfig
from studio.services.desk import Desk
from studio.training.passes import Plan, Prior
from studio.training.run import Run


def prior_of(config: TrainConfig, plan: Plan, folder: Run, model: Model, rest: tuple[Lane, Desk]) -> Prior | None:
    """The prior of a training whose knobs ask for one; None for the others."""
    return None
