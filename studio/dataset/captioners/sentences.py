"""BLIP-2 (Li et al. 2023) and Florence-2 (Xiao et al. 2023): sentences by larger networks, from folders of transformers."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from studio.dataset.captioners.speaking import Speaker, StopCheck, dtype_for, pretrained, told, with_words
from studio.dataset.tag_text import Saying
from studio.requests.caption import CaptionOptions

TASKS = {"caption": ("<CAPTION>", 1), "detailed caption": ("<DETAILED_CAPTION>", 2), "more detailed caption": ("<MORE_DETAILED_CAPTION>", 4)}
"""Florence-2's word for each task, and how many times the usual length its answer may have."""
NEEDS = "Its folder must hold config.json, the weights, the tokenizer and the processor's files."


@dataclass
class Blip2(Speaker):
    """BLIP-2 with a language model that reads on (OPT) or answers (T5)."""

    model: Any
    processor: Any

    @torch.no_grad()
    def sayings(self, images: Sequence[Image.Image], options: CaptionOptions) -> list[Saying]:
        """A sentence for each picture; lengths count the new tokens."""
        pixels = self.processor(images=list(images), return_tensors="pt").to(self.model.device, self.model.dtype)["pixel_values"]
        begin = self._begin(options.sentence_start.strip())
        row = torch.tensor([begin], device=self.model.device).repeat(len(images), 1)
        lengths = {"min_new_tokens": min(options.sentence_min or 0, options.sentence_max), "max_new_tokens": options.sentence_max}
        ids = self.model.generate(pixel_values=pixels, input_ids=row, num_beams=options.sentence_beams, logits_processor=[StopCheck()], **lengths)
        new = ids if self.model.config.text_config.is_encoder_decoder else ids[:, -max(0, ids.shape[1] - len(begin)) or ids.shape[1] :]
        said = self.processor.batch_decode(new, skip_special_tokens=True)
        return [Saying(" ".join(f"{options.sentence_start.strip()} {text.strip()}".split())) for text in said]

    def _begin(self, start: str) -> list[int]:
        """Tokens before the answer: places for the picture, the first token, and the words it begins with."""
        config = self.model.config
        words = self.processor.tokenizer(start, add_special_tokens=False)["input_ids"] if start else []
        first, last = config.text_config.bos_token_id, config.text_config.eos_token_id
        edges = ([], [last]) if config.text_config.is_encoder_decoder else ([first], [])
        return [config.image_token_index] * config.num_query_tokens + edges[0] + words + edges[1]


@dataclass
class Florence2(Speaker):
    """Florence-2, which is told how much to say."""

    model: Any
    processor: Any

    @torch.no_grad()
    def sayings(self, images: Sequence[Image.Image], options: CaptionOptions) -> list[Saying]:
        """A sentence or a paragraph for each picture."""
        task, times = TASKS[options.florence_task]
        inputs = self.processor(text=[task] * len(images), images=list(images), return_tensors="pt").to(self.model.device, self.model.dtype)
        lengths = {"min_new_tokens": min(options.sentence_min or 0, options.sentence_max), "max_new_tokens": options.sentence_max * times}
        ids = self.model.generate(**inputs, num_beams=options.sentence_beams, logits_processor=[StopCheck()], **lengths)
        return [Saying(" ".join(str(text).split())) for text in self.processor.batch_decode(ids, skip_special_tokens=True)]


def load_blip2(path: Path, device: torch.device) -> Blip2:
    """Load BLIP-2 from a folder, offline; raises Unreadable."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    from transformers import Blip2ForConditionalGeneration, Blip2Processor

    with told("BLIP-2", path, NEEDS):
        model = pretrained(Blip2ForConditionalGeneration, path, torch.bfloat16 if device.type == "cuda" else torch.float32)  # the T5 kind overflows in fp16
        return Blip2(model.to(device), with_words(Blip2Processor.from_pretrained(path, local_files_only=True), model.config.text_config.vocab_size))


def load_florence2(path: Path, device: torch.device) -> Florence2:
    """Load Florence-2 from a folder of transformers' own layout, offline; raises Unreadable."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    from transformers import Florence2ForConditionalGeneration, Florence2Processor

    with told("Florence-2", path, f"{NEEDS} Folders that bring Python files of their own are another layout; florence-community on the hub has the one that is read here."):
        model = pretrained(Florence2ForConditionalGeneration, path, dtype_for(device))
        return Florence2(model.to(device), with_words(Florence2Processor.from_pretrained(path, local_files_only=True), model.config.text_config.vocab_size))
