"""What the file of a trained thing says about its training, whichever method made it and whichever format it is kept in."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Provenance:
    """The facts of one training at the moment of a save; what is empty or None is not known and is not written.

    `family` is "SD1", "SD2" or "SDXL"; `prediction` "epsilon" or "v_prediction"; `resolution` is (width, height) in pixels; `checkpoint` is
    the file's name and `checkpoint_hash` the first ten digits of its SHA-256; `step` is the step reached; `folders` say repeats and images of each folder;
    `tags` count how often each tag stands in the captions of each folder; `cover` is a picture; `config` holds the training's settings by our names; `extra` goes into the file as it is.
    """

    name: str = ""
    family: str = ""
    prediction: str = "epsilon"
    resolution: tuple[int, int] | None = None
    checkpoint: str = ""
    checkpoint_hash: str = ""
    method: str = ""
    step: int | None = None
    steps_per_epoch: int | None = None
    pictures: int | None = None
    prior_pictures: int | None = None
    started: datetime | None = None
    finished: datetime | None = None
    config: Mapping[str, Any] = field(default_factory=dict)
    folders: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    tags: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    trigger: str = ""
    cover: Path | None = None
    description: str = ""
    author: str = ""
    extra: Mapping[str, str] = field(default_factory=dict)
