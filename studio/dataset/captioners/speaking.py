"""What all captioners have in common: they look at pictures together, and a failure to load is told in words."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, Protocol

import torch
from PIL import Image
from safetensors import SafetensorError
from torch import Tensor

from studio.cancellation import raise_if_stopped
from studio.dataset.tag_text import Saying, joined
from studio.errors import Unreadable
from studio.requests.caption import CaptionOptions


class StopCheck:
    """A logits processor that changes nothing and ends a sentence that is being written: raises Stopped before its next token."""

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """The scores as they are."""
        raise_if_stopped()
        return scores


class Captioner(Protocol):
    """Says something about pictures."""

    def sayings(self, images: Sequence[Image.Image], options: CaptionOptions) -> list[Saying]:
        """One saying for each picture, looked at together."""

    def caption(self, image: Image.Image, options: CaptionOptions | float) -> str:
        """A sentence, or tags joined by commas; a number stands for options with this threshold."""


class Speaker:
    """A captioner: what is said of one picture follows from what is said of several."""

    def sayings(self, images: Sequence[Image.Image], options: CaptionOptions) -> list[Saying]:
        """One saying for each picture; this one says nothing."""
        return [Saying() for _ in images]

    def caption(self, image: Image.Image, options: CaptionOptions | float) -> str:
        """A sentence, or tags joined by commas; a number stands for options with this threshold."""
        options = options if isinstance(options, CaptionOptions) else CaptionOptions(threshold=options)
        return joined(self.sayings([image], options), options)


@contextmanager
def told(kind: str, path: Path, needs: str) -> Iterator[None]:
    """Whatever a damaged file makes a library raise becomes Unreadable: which captioner, why, and what its folder must hold."""
    try:
        yield
    except (OSError, ValueError, ArithmeticError, KeyError, TypeError, AttributeError, IndexError, RuntimeError, ImportError, EOFError, SafetensorError, UnpicklingError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise Unreadable(f"The {kind} captioner {path.name} cannot be loaded ({reason[:160]}).", needs) from error


def pretrained(cls: Any, path: Path, dtype: torch.dtype) -> Any:
    """A network of transformers from a folder, never from the net; raises ValueError for a folder of another network, or when weights are missing, which transformers would make up."""
    kind = json.loads((path / "config.json").read_text(encoding="utf-8")).get("model_type")
    if kind != cls.config_class.model_type:
        raise ValueError(f"config.json is of {kind!r} and not of {cls.config_class.model_type!r}")
    model, info = cls.from_pretrained(path, local_files_only=True, dtype=dtype, output_loading_info=True)
    if missing := sorted(info["missing_keys"]):
        raise ValueError(f"{len(missing)} weights are missing, such as {missing[0]}")
    return model.eval().requires_grad_(False)


def dtype_for(device: torch.device) -> torch.dtype:
    """Half precision on a GPU, else single."""
    return torch.float16 if device.type == "cuda" else torch.float32


def with_words(processor: Any, size: int) -> Any:
    """A processor whose tokenizer knows about as many words as its network; transformers makes an empty one up where the files are missing, which raises ValueError."""
    if len(processor.tokenizer) < size // 2:
        raise ValueError(f"the tokenizer knows {len(processor.tokenizer)} words and the network {size}")
    return processor
