"""What keeps a training from starting, all of it at once and in words."""

from pathlib import Path

from studio import shelves
from studio.dataset.batches import read_template
from studio.errors import InputError, StudioError
from studio.formats.embedding import read_embedding
from studio.requests.train import TextualInversionConfig
from studio.services.library import find_embedding
from studio.settings import Paths
from studio.training.optim import Schedule


def check(config: TextualInversionConfig, paths: Paths) -> None:
    """Raise InputError naming everything that keeps this training from starting; needs no model."""
    wrong: list[str] = []
    first = 0
    try:
        first = read_embedding(find_embedding(paths, config.embedding)).step or 0
    except StudioError as error:
        wrong.append(str(error))
    if first >= config.steps:
        wrong.append(f"Max steps: {config.embedding!r} has been trained to step {first} already, and Max steps is {config.steps}; enter a number above {first}.")
    else:
        try:
            Schedule.parse(config.learn_rate, config.steps, first)
        except StudioError as error:
            wrong.append(str(error))
    folder = Path(config.data)
    if not folder.is_dir():
        wrong.append(f"Dataset directory: {config.data!r} is not a folder; prepare pictures first.")
    elif not shelves.images(folder):
        wrong.append(f"Dataset directory: there is no picture in {config.data!r}; prepare pictures first.")
    try:
        read_template(template_of(config, paths))
    except StudioError as error:
        wrong.append(str(error))
    if wrong:
        raise InputError(" ".join(wrong))


def template_of(config: TextualInversionConfig, paths: Paths) -> Path:
    """The file of the prompt template; raises InputError."""
    path = shelves.template_file(paths, config.template)
    if path is None:
        raise InputError(f"Prompt template: there is no {config.template!r}; choose one of {', '.join(shelves.templates(paths)) or 'none'}.")
    return path
