"""What keeps a training from starting, all of it at once and in words."""

from collections.abc import Callable
from pathlib import Path

from studio import shelves
from studio.dataset.batches import read_template
from studio.errors import InputError, StudioError
from studio.projects.training_images import training_images
from studio.requests.train import TrainConfig
from studio.settings import Paths
from studio.training.methods import method_of
from studio.training.optim import Schedule, why_not


def check(config: TrainConfig, paths: Paths, device: str = "") -> None:
    """Raise InputError naming everything that keeps this training from starting; needs no model. `device` is the kind it would run on ("cuda", "cpu") where that is known."""
    wrong = mistakes(config, paths, device)
    if wrong:
        raise InputError(" ".join(wrong))


def mistakes(config: TrainConfig, paths: Paths, device: str = "") -> list[str]:
    """Sentences about everything that keeps this training from starting."""
    first, wrong = _begun(config, paths)
    wrong += _ended(config, first) or _said(lambda: Schedule.parse(config.learn_rate, config.steps, first, config.rate_shape, config.warmup))
    folder = Path(config.data)
    if not folder.is_dir():
        wrong.append(f"Dataset directory: {config.data!r} is not a folder; prepare pictures first.")
    elif not training_images(folder):
        wrong.append(f"Dataset directory: there is no picture in {config.data!r}; prepare pictures first.")
    wrong += _said(lambda: read_template(template_of(config, paths)))
    reason = why_not(config.optimizer, device) if device else ""
    if reason:
        wrong.append(reason)
    if config.stop_rule != "never" and not config.probe_every:
        wrong.append("Stop by itself: nothing is measured, so no rule can stop the training; measure the probe every 25 steps, or choose never.")
    return wrong


def _said(ask: Callable[[], object]) -> list[str]:
    """What an attempt is refused with, in words; nothing when it succeeds."""
    try:
        ask()
    except StudioError as error:
        return [str(error)]
    return []


def _begun(config: TrainConfig, paths: Paths) -> tuple[int, list[str]]:
    """The step that what learns was trained to, and what is wrong with it."""
    try:
        method = method_of(config.method)
        start = method.start(paths, config)
        return (method.first(start) if start else 0), method.mistakes(paths, config)
    except StudioError as error:
        return 0, [str(error)]


def _ended(config: TrainConfig, first: int) -> list[str]:
    """What to say when it has been trained as far as is wanted."""
    if first < config.steps:
        return []
    return [f"Max steps: {config.subject!r} has been trained to step {first} already, and Max steps is {config.steps}; enter a number above {first}."]


def template_of(config: TrainConfig, paths: Paths) -> Path:
    """The file of the prompt template; raises InputError."""
    path = shelves.template_file(paths, config.template)
    if path is None:
        raise InputError(f"Prompt template: there is no {config.template!r}; choose one of {', '.join(shelves.templates(paths)) or 'none'}.")
    return path
