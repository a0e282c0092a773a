"""Fetching a captioner from the hub, on an explicit click."""

from typing import Literal

from studio.config import Config
from studio.projects.captioner_shelf import CATALOGUE_OF_MODELS

NAMES = tuple(offer.label for offer in CATALOGUE_OF_MODELS)


class DownloadRequest(Config):
    """Fetch the weights of one captioner into models/; nothing is ever fetched without this."""

    captioner: Literal[NAMES] = NAMES[0]  # type: ignore[valid-type]
    """Which captioner; what was fetched before a stop or a lost connection is not fetched again."""
