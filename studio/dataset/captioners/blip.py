"""BLIP (Li et al. 2022): a sentence about a picture, from a folder of transformers or from the original release's file."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from studio.dataset.captioners.released import load_released
from studio.dataset.captioners.speaking import Speaker, StopCheck, dtype_for, pretrained, told, with_words
from studio.dataset.tag_text import Saying
from studio.requests.caption import CaptionOptions

FULL_WIDTH = 768
"""A text decoder at least this wide is of full size."""
SHORTEST = 24
"""Fewest tokens of a sentence for one of full size, as A1111 sets it."""


@dataclass
class Blip(Speaker):
    """A network with its processor."""

    model: Any
    processor: Any

    @torch.no_grad()
    def sayings(self, images: Sequence[Image.Image], options: CaptionOptions) -> list[Saying]:
        """A sentence for each picture; lengths count BLIP's first token and the words it begins with."""
        inputs = dict(self.processor(images=list(images), return_tensors="pt").to(self.model.device, self.model.dtype))
        if start := options.sentence_start.strip():
            words = self.processor.tokenizer([start] * len(images), return_tensors="pt").to(self.model.device)
            inputs |= {"input_ids": words["input_ids"], "attention_mask": words["attention_mask"]}
        begun = inputs["input_ids"].shape[1] - 1 if start else 1
        longest = max(options.sentence_max, begun + 1)
        ids = self.model.generate(**inputs, num_beams=options.sentence_beams, min_length=min(self._shortest(options), longest), max_length=longest, logits_processor=[StopCheck()])
        texts = self.processor.batch_decode(ids[:, 1:], skip_special_tokens=True)
        return [Saying(str(text).strip(), confidence=sure) for text, sure in zip(texts, self._confidences(inputs["pixel_values"], ids), strict=True)]

    def _confidences(self, pixels: Tensor, ids: Tensor) -> list[float | None]:
        """Geometric mean of the probabilities of each sentence's tokens [b]; of the tiny world's captioner only, whose range is known."""
        config = self.model.config.text_config
        if config.hidden_size >= FULL_WIDTH:
            return [None] * len(ids)
        logits = self.model(pixel_values=pixels, input_ids=ids).logits[:, :-1].float().log_softmax(-1)
        chances = logits.gather(-1, ids[:, 1:, None])[..., 0]
        said = ids[:, 1:] != config.pad_token_id
        return ((chances * said).sum(1) / said.sum(1).clamp(min=1)).exp().tolist()

    def _shortest(self, options: CaptionOptions) -> int:
        """Fewest tokens of a sentence: as asked for, else by the size of the network."""
        if options.sentence_min is not None:
            return options.sentence_min
        return SHORTEST if self.model.config.text_config.hidden_size >= FULL_WIDTH else 0


def load_blip(path: Path, device: torch.device) -> Blip:
    """Load BLIP from a folder or a .pth, offline; raises Unreadable."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    if path.is_file():
        model, processor = load_released(path)
        return Blip(model.to(device, dtype_for(device)), processor)
    from transformers import BlipForConditionalGeneration, BlipProcessor

    with told("BLIP", path, "Its folder must hold config.json, the weights and the tokenizer."):
        model = pretrained(BlipForConditionalGeneration, path, dtype_for(device))
        return Blip(model.to(device), with_words(BlipProcessor.from_pretrained(path, local_files_only=True), model.config.text_config.vocab_size))
