"""CAPTIONERS: what can be said about a picture, by BLIP in a sentence or by DeepBooru in tags."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from PIL import Image

from studio.dataset.deepbooru import DeepBooru, fit, load_deepbooru, text_of
from studio.errors import NotFound, Unreadable
from studio.settings import Paths

MAX_TOKENS = 48


class Captioner(Protocol):
    """Says something about a picture."""

    def caption(self, image: Image.Image, threshold: float) -> str:
        """A sentence, or tags joined by commas."""


@dataclass
class Blip:
    """BLIP (Li et al. 2022) from a transformers folder."""

    model: Any
    processor: Any

    @torch.no_grad()
    def caption(self, image: Image.Image, threshold: float) -> str:
        """A sentence; the threshold plays no part."""
        inputs = self.processor(images=image, return_tensors="pt").to(self.model.device, self.model.dtype)
        ids = self.model.generate(**inputs, num_beams=1, max_new_tokens=MAX_TOKENS)
        return str(self.processor.decode(ids[0], skip_special_tokens=True)).strip()


@dataclass
class Tagger:
    """DeepBooru."""

    model: DeepBooru

    @torch.no_grad()
    def caption(self, image: Image.Image, threshold: float) -> str:
        """Tags whose score reaches the threshold."""
        weight = next(self.model.parameters())
        x = torch.from_numpy(np.array(fit(image.convert("RGB")))).to(weight.device, weight.dtype)[None] / 255
        return text_of(self.model(x)[0].tolist(), self.model.tags, threshold)


def find_blip(paths: Paths) -> Path:
    """The first BLIP folder; raises NotFound."""
    for shelf in paths.both("blip"):
        for folder in sorted(shelf.glob("*/config.json")):
            return folder.parent
    raise NotFound("There is no BLIP captioner in models/BLIP.", "Put a transformers folder of BLIP there, or switch BLIP off.")


def find_deepbooru(paths: Paths) -> Path:
    """The first DeepBooru file; raises NotFound."""
    for shelf in paths.both("deepbooru"):
        for file in sorted(shelf.glob("*.pt")):
            return file
    raise NotFound("There is no DeepBooru tagger in models/torch_deepdanbooru.", "Put model-resnet_custom_v3.pt there, or switch DeepBooru off.")


def load_blip(path: Path, device: torch.device) -> Blip:
    """Load BLIP from a folder, offline; raises Unreadable."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    from transformers import BlipForConditionalGeneration, BlipProcessor

    try:
        model = BlipForConditionalGeneration.from_pretrained(path, local_files_only=True, dtype=torch.float32)
        processor = BlipProcessor.from_pretrained(path, local_files_only=True)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise Unreadable(f"The BLIP captioner {path.name} cannot be loaded ({str(error).splitlines()[0][:160]}).", "Its folder must hold config.json, the weights and the tokenizer.") from error
    return Blip(model.to(device).eval(), processor)


def load_tagger(path: Path, device: torch.device) -> Tagger:
    """Load DeepBooru; raises Unreadable."""
    return Tagger(load_deepbooru(path).to(device))


CAPTIONERS: tuple[tuple[str, Callable[[Paths], Path], Callable[[Path, torch.device], Captioner]], ...] = (
    ("BLIP", find_blip, load_blip),
    ("DeepBooru", find_deepbooru, load_tagger),
)
"""Name, how its file is found, how it is loaded."""
