"""CAPTIONERS: what can be said about a picture, in a sentence or in tags, and by whom."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch

from studio.dataset.captioners.blip import Blip, load_blip
from studio.dataset.captioners.clip import load_clip
from studio.dataset.captioners.sentences import load_blip2, load_florence2
from studio.dataset.captioners.speaking import Captioner, Speaker
from studio.dataset.captioners.taggers import Tagger, load_tagger, load_wd14
from studio.errors import NotFound
from studio.projects import captioner_shelf
from studio.settings import Paths

__all__ = ["CAPTIONERS", "Blip", "Captioner", "Speaker", "Tagger", "Wanted", "find_blip", "find_deepbooru", "load_blip", "load_tagger", "wanted"]

Load = Callable[[Path, torch.device], Captioner]


class Kind(NamedTuple):
    """One kind of captioner: its name, how its first one is found (raises NotFound), and how one is loaded (raises Unreadable)."""

    name: str
    find: Callable[[Paths], Path]
    load: Load


def find_blip(paths: Paths) -> Path:
    """The first BLIP; raises NotFound."""
    return _first(paths, "BLIP", "Put a transformers folder of BLIP there, or switch BLIP off.")


def find_deepbooru(paths: Paths) -> Path:
    """The first DeepBooru file; raises NotFound."""
    return _first(paths, "DeepBooru", "Put model-resnet_custom_v3.pt there, or switch DeepBooru off.")


def _first(paths: Paths, kind: str, hint: str) -> Path:
    """The first captioner of a kind; raises NotFound with a hint."""
    found = next((shelved.path for shelved in captioner_shelf.available(paths) if shelved.kind == kind), None)
    if found is None:
        raise NotFound(f"There is no {kind} captioner in models/{captioner_shelf.FOLDERS[kind]}.", hint)
    return found


def _finder(kind: str) -> Callable[[Paths], Path]:
    """How the first captioner of a kind is found."""
    return lambda paths: captioner_shelf.find(paths, kind).path


CAPTIONERS: tuple[Kind, ...] = (
    Kind("BLIP", find_blip, load_blip),
    Kind("BLIP-2", _finder("BLIP-2"), load_blip2),
    Kind("Florence-2", _finder("Florence-2"), load_florence2),
    Kind("CLIP interrogator", _finder("CLIP interrogator"), load_clip),
    Kind("DeepBooru", find_deepbooru, load_tagger),
    Kind("WD14", _finder("WD14"), load_wd14),
)
"""Every kind; sentences come before tags in a caption. The CLIP interrogator alone adds phrases: `wanted` puts BLIP's sentence before them."""


@dataclass(frozen=True)
class Wanted:
    """One captioner that takes part in a caption: kind and file as ModelCache.lend_part takes them, and how it is loaded."""

    kind: str
    path: Path
    load: Load


def wanted(paths: Paths, labels: Sequence[str]) -> list[Wanted]:
    """The captioners that labels, kinds or names mean, each once, in the order of CAPTIONERS; raises NotFound before anything is loaded."""
    found = [captioner_shelf.find(paths, label) for label in labels]
    chosen = dict.fromkeys((shelved.kind, shelved.path) for shelved in found)
    if any(kind == "CLIP interrogator" for kind, _ in chosen) and not any(kind == "BLIP" for kind, _ in chosen):
        chosen["BLIP", find_blip(paths)] = None
    return [Wanted(kind.name, path, kind.load) for kind in CAPTIONERS for name, path in chosen if name == kind.name]
