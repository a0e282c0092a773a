"""CLIP (Radford et al. 2021) through open_clip: features of pictures, and the phrases of lists that fit a picture best."""

import hashlib
import logging
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from studio.dataset.captioners.speaking import Speaker, dtype_for, told
from studio.dataset.captioners.torchscript import read_torchscript
from studio.dataset.tag_text import Saying, excluded
from studio.errors import StudioError, Unreadable
from studio.files import atomic_write
from studio.formats.pickles import load_pickle
from studio.projects import captioner_shelf
from studio.requests.caption import CaptionOptions
from studio.settings import Paths

log = logging.getLogger("studio.captioners")

KIND = "CLIP interrogator"
TEXTS, PICTURES = 256, 32
"""How many texts and pictures are encoded at once."""
LONGEST = 1500
"""Lines of a list that are read, as A1111 limits them."""
TOP = re.compile(r"\.top(\d+)$")
"""A list called flavors.top3.txt gives three phrases, as in A1111."""
NEEDS = "models/CLIP takes an open_clip folder (open_clip_config.json and weights), or one file named by its architecture, such as ViT-L-14.pt or ViT-H-14-laion2b.safetensors."


@dataclass(frozen=True)
class Phrases:
    """One list: its name, its phrases, and how many are wanted if the list says so itself."""

    name: str
    lines: tuple[str, ...]
    top: int | None = None


@dataclass
class Clip(Speaker):
    """A network of open_clip with what prepares pictures and texts; `memory` is the folder where features of lists are kept."""

    model: Any
    prepare: Any
    tokenize: Any
    lists: tuple[Phrases, ...] = ()
    memory: Path | None = None
    mark: str = ""
    """What tells this network's features from another's."""

    @torch.no_grad()
    def features(self, images: Sequence[Image.Image]) -> Tensor:
        """Features [n, d] of length 1, single precision, on the CPU."""
        found = [torch.zeros(0, 0)]
        for start in range(0, len(images), PICTURES):
            pixels = torch.stack([self.prepare(image.convert("RGB")) for image in images[start : start + PICTURES]])
            found.append(_unit(self.model.encode_image(self._placed(pixels))))
        return torch.cat(found[1:]) if len(found) > 1 else found[0]

    @torch.no_grad()
    def text_features(self, texts: Sequence[str]) -> Tensor:
        """Features [n, d] of length 1 of texts, single precision, on the CPU."""
        device = next(self.model.parameters()).device
        return torch.cat([_unit(self.model.encode_text(self.tokenize(list(texts[i : i + TEXTS])).to(device))) for i in range(0, len(texts), TEXTS)])

    def list_features(self, phrases: Phrases) -> Tensor:
        """Features of a list, computed once for each network and content."""
        key = hashlib.sha256("\n".join((self.mark, *phrases.lines)).encode()).hexdigest()[:32]
        file = None if self.memory is None else self.memory / f"{key}.safetensors"
        if file is not None and file.is_file():
            try:
                return load_file(file)["features"]
            except (OSError, KeyError, SafetensorError) as error:
                log.warning("%s is damaged and is computed anew (%s)", file.name, error)
        features = self.text_features(phrases.lines)
        if file is not None:
            try:
                with atomic_write(file) as temporary:
                    save_file({"features": features}, temporary)
            except (OSError, StudioError) as error:
                log.warning("features of the list %s are not kept (%s)", phrases.name, error)
        return features

    def sayings(self, images: Sequence[Image.Image], options: CaptionOptions) -> list[Saying]:
        """The best phrases of each list, list by list, the best first; scores are shares of a list (softmax at the network's own temperature)."""
        features = self.features(images)
        scale = float(self.model.logit_scale.detach().float().exp())
        said: list[list[str]] = [[] for _ in images]
        for phrases in self.lists:
            kept = [i for i, line in enumerate(phrases.lines) if not excluded(line, options.tag_exclude)]
            top = min(phrases.top if phrases.top is not None else options.clip_phrases, len(kept))
            if not top or not options.clip_phrases:
                continue
            shares = (scale * features @ self.list_features(phrases)[kept].T).softmax(1).topk(top, dim=1)
            for row, (scores, places) in zip(said, zip(shares.values.tolist(), shares.indices.tolist(), strict=True), strict=True):
                row += [_written(phrases.lines[kept[place]], score, options) for score, place in zip(scores, places, strict=True)]
        return [Saying(", ".join(row)) for row in said]

    def _placed(self, pixels: Tensor) -> Tensor:
        """Pictures on the network's device in its precision."""
        weight = next(self.model.parameters())
        return pixels.to(weight.device, weight.dtype)


def _unit(features: Tensor) -> Tensor:
    """Features of length 1, single precision, on the CPU."""
    return torch.nn.functional.normalize(features.float(), dim=-1).cpu()


def _written(phrase: str, score: float, options: CaptionOptions) -> str:
    """A phrase, with its score if that is asked for."""
    return f"({phrase}:{score:.3f})" if options.tag_scores else phrase


def clip_features(paths: Paths, images: Sequence[Image.Image], device: torch.device | None = None) -> Tensor:
    """Features [n, d] in fp16 by the first CLIP on the shelf; raises NotFound without one. Who has a ModelCache lends a Clip and calls `features`."""
    path = captioner_shelf.find(paths, KIND).path
    return load_clip(path, device or torch.device("cpu")).features(images).half()


def load_clip(path: Path, device: torch.device) -> Clip:
    """Load a CLIP of open_clip from a folder or a file, offline; raises Unreadable."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    with told("CLIP", path, NEEDS):
        import open_clip

        network, prepare, tokenize = _from_folder(open_clip, path) if path.is_dir() else _from_file(open_clip, path)
    network = network.to(dtype_for(device)).eval().requires_grad_(False).to(device)
    models = next((parent for parent in (path, *path.parents) if parent.name == captioner_shelf.FOLDERS[KIND]), path.parent).parent
    size = sum(p.stat().st_size for p in (path.rglob("*") if path.is_dir() else [path]) if p.is_file())
    return Clip(network, prepare, tokenize, read_lists(models / "interrogate"), models.parent / "outputs" / "cache" / "phrases", f"{path.name} {size}")


def _from_folder(open_clip: Any, path: Path) -> tuple[Any, Any, Any]:
    """A folder with open_clip_config.json; raises ValueError when there are no weights, which open_clip would make up."""
    if not any(p.suffix in (".safetensors", ".bin", ".pth") for p in path.iterdir()):
        raise ValueError("there are no weights")
    network, _, prepare = open_clip.create_model_and_transforms(f"local-dir:{path}")
    return network, prepare, open_clip.get_tokenizer(f"local-dir:{path}")


def _from_file(open_clip: Any, path: Path) -> tuple[Any, Any, Any]:
    """One file, its architecture in its name; OpenAI's own files use the quick GELU."""
    state, original = _state_of(path)
    name = next((n for n in sorted(open_clip.list_models(), key=len, reverse=True) if n.lower() in path.stem.lower().replace("@", "-")), None)
    if name is None:
        raise Unreadable(f"The architecture of CLIP cannot be told from the name {path.name}.", NEEDS)
    quick = original or "openai" in path.stem.lower()
    network, _, prepare = open_clip.create_model_and_transforms(name, pretrained=None, force_quick_gelu=quick)
    wanted = network.state_dict()
    state = {key: value.reshape(wanted[key].shape) if key == "logit_scale" and key in wanted else value for key, value in state.items()}
    network.load_state_dict({key: value for key, value in state.items() if not key.endswith("position_ids")})
    return network, prepare, open_clip.get_tokenizer(name)


def _state_of(path: Path) -> tuple[dict[str, Tensor], bool]:
    """Tensors of a file, and whether it is OpenAI's own; raises Unreadable."""
    if path.suffix.lower() == ".safetensors":
        state = load_file(path)
    else:
        program = read_torchscript(path)
        state = program if program is not None else load_pickle(path)
    state = state.get("state_dict", state) if isinstance(state, dict) else {}
    state = {key.removeprefix("module."): value for key, value in state.items() if isinstance(value, Tensor)}
    original = "input_resolution" in state
    return {key: value for key, value in state.items() if key not in ("input_resolution", "context_length", "vocab_size")}, original


def read_lists(folder: Path) -> tuple[Phrases, ...]:
    """Lists of phrases: the .txt files of a folder by name, else the ones that come along; raises Unreadable."""
    from studio.dataset.captioners.phrases import LISTS

    files = sorted(p for p in folder.glob("*.txt") if p.is_file()) if folder.is_dir() else []
    if not files:
        return tuple(Phrases(name, lines) for name, lines in LISTS)
    found = []
    for file in files:
        try:
            lines = [line.strip() for line in file.read_text(encoding="utf-8-sig").splitlines()]
        except (OSError, ValueError) as error:
            raise Unreadable(f"The list {file.name} in models/interrogate cannot be read ({str(error)[:100]}).", "It must be a text file in UTF-8, one phrase to a line.") from error
        top = TOP.search(file.stem)
        found.append(Phrases(TOP.sub("", file.stem), tuple(dict.fromkeys(filter(None, lines)))[:LONGEST], int(top[1]) if top else None))
    return tuple(phrases for phrases in found if phrases.lines)
