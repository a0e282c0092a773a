"""Taggers: DeepBooru, and the WD14 family through timm; both give a score to every tag they know."""

import csv
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from studio.dataset.captioners.speaking import Speaker, dtype_for, told
from studio.dataset.deepbooru import DeepBooru, fit, is_rating, load_deepbooru
from studio.dataset.tag_text import Saying, Tag
from studio.errors import Unreadable
from studio.formats.pickles import load_pickle
from studio.requests.caption import CaptionOptions

RATING, CHARACTER = 9, 4
"""Categories of WD14's list: how explicit a picture is, and who is on it."""
WEIGHTS = ("model.safetensors", "pytorch_model.bin")
NEEDS = "Its folder must hold config.json, model.safetensors and selected_tags.csv of one release."


@dataclass
class Tagger(Speaker):
    """DeepBooru."""

    model: DeepBooru

    @torch.no_grad()
    def sayings(self, images: Sequence[Image.Image], options: CaptionOptions) -> list[Saying]:
        """Tags whose score reaches the threshold, without ratings."""
        weight = next(self.model.parameters())
        x = torch.stack([torch.from_numpy(np.array(fit(image.convert("RGB")))) for image in images]).to(weight.device, weight.dtype) / 255
        rows = self.model(x).float().tolist()
        return [Saying(tags=tuple(Tag(name, score) for name, score in zip(self.model.tags, row, strict=True) if score >= options.threshold and not is_rating(name))) for row in rows]


@dataclass(frozen=True)
class Known:
    """One row of WD14's list: a tag's name and category."""

    name: str
    category: int

    def threshold(self, options: CaptionOptions) -> float:
        """The score at which it is written; more than 1 for ratings, which never are."""
        if self.category == RATING:
            return 2.0
        return options.character_threshold if self.category == CHARACTER else options.general_threshold

    @property
    def literal(self) -> bool:
        """Whether it is a face drawn with signs, such as ^_^ or o_o, whose underscore is a mouth."""
        halves = self.name.split("_")
        return len(halves) == 2 and all(0 < len(half) <= 3 and len(re.findall(r"\w", half)) <= 1 for half in halves)


@dataclass
class Wd14(Speaker):
    """A WD14 tagger: a network of timm, its list of tags, and how pictures are prepared for it."""

    model: Any
    known: tuple[Known, ...]
    side: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    @torch.no_grad()
    def scores(self, images: Sequence[Image.Image]) -> Tensor:
        """Scores [n, tags] in 0..1."""
        weight = next(self.model.parameters())
        x = torch.stack([torch.from_numpy(np.array(squared(image, self.side))) for image in images]).to(weight.device).permute(0, 3, 1, 2).float() / 255
        x = (x - x.new_tensor(self.mean)[:, None, None]) / x.new_tensor(self.std)[:, None, None]
        return torch.sigmoid(self.model(x[:, [2, 1, 0]].to(weight.dtype)).float())

    def sayings(self, images: Sequence[Image.Image], options: CaptionOptions) -> list[Saying]:
        """Tags whose score reaches the threshold of their category; characters come first."""
        found = []
        for row in self.scores(images).tolist():
            tags = [(known, Tag(known.name, score, known.literal)) for known, score in zip(self.known, row, strict=True) if score >= known.threshold(options)]
            found.append(Saying(tags=tuple(tag for known, tag in sorted(tags, key=lambda pair: pair[0].category != CHARACTER))))
        return found


def squared(image: Image.Image, side: int) -> Image.Image:
    """A picture in the middle of a white square, resized to `side` with a bicubic filter."""
    image = image.convert("RGB")
    longer = max(image.size)
    square = Image.new("RGB", (longer, longer), (255, 255, 255))
    square.paste(image, ((longer - image.width) // 2, (longer - image.height) // 2))
    return square.resize((side, side), Image.Resampling.BICUBIC)


def load_tagger(path: Path, device: torch.device) -> Tagger:
    """Load DeepBooru; raises Unreadable."""
    return Tagger(load_deepbooru(path).to(device, dtype_for(device)))


def load_wd14(path: Path, device: torch.device) -> Wd14:
    """Load a WD14 tagger from its folder; raises Unreadable."""
    with told("WD14", path, NEEDS):
        import timm

        config = json.loads((path / "config.json").read_text(encoding="utf-8"))
        known, prepared = read_tags(path / "selected_tags.csv"), config.get("pretrained_cfg", {})
        arguments = {k: v for k, v in config.get("model_args", {}).items() if k not in ("num_classes", "pretrained")}
        network = timm.create_model(config["architecture"], pretrained=False, num_classes=len(known), **arguments)
        network.load_state_dict(_weights(path))
        side = int(prepared.get("input_size", (3, 448, 448))[-1])
        mean, std = (tuple(map(float, prepared.get(key, (0.5, 0.5, 0.5)))) for key in ("mean", "std"))
        return Wd14(network.float().eval().requires_grad_(False).to(device), known, side, mean, std)


def _weights(path: Path) -> dict[str, Tensor]:
    """The state of a network from the first file of weights in a folder; raises Unreadable."""
    from safetensors.torch import load_file

    file = next((path / name for name in WEIGHTS if (path / name).is_file()), None)
    if file is None:
        raise Unreadable(f"The WD14 captioner {path.name} has no weights.", NEEDS)
    return load_file(file) if file.suffix == ".safetensors" else load_pickle(file)


def read_tags(file: Path) -> tuple[Known, ...]:
    """The list of tags in the order of the scores; raises Unreadable."""
    try:
        with file.open(encoding="utf-8-sig", newline="") as lines:
            known = tuple(Known(row["name"], int(row["category"])) for row in csv.DictReader(lines))
    except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
        raise Unreadable(f"The list of tags {file.parent.name}/{file.name} cannot be read ({type(error).__name__}: {str(error)[:100]}).", "It needs the columns name and category.") from error
    if not known:
        raise Unreadable(f"The list of tags {file.parent.name}/{file.name} is empty.", "Get it again.")
    return known
