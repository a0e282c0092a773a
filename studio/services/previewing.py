"""Previews of a training: the same path as every other picture, with the live words and fixed seeds."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from studio.diffusion.model import Model
from studio.files import atomic_write
from studio.formats.infotext import png_info
from studio.requests.generate import GenerateRequest
from studio.requests.train import TextualInversionConfig
from studio.services.encoding import size_of
from studio.services.gallery import infotext
from studio.services.generation import paint
from studio.training.methods.trainable import Trainable


class Painter:
    """Previews: the same path as every other picture, with the live words and a fixed seed."""

    def __init__(self, request: GenerateRequest, model: Model, learner: Trainable, others: Mapping[str, Tensor], folder: Path) -> None:
        self.request, self.model, self.learner, self.others, self.folder = request, model, learner, others, folder

    def __call__(self, step: int) -> tuple[Path, str]:
        """Paint samples/<step>.png and return its path and prompt."""
        words = {**self.others, **{name: vectors.detach() for name, vectors in self.learner.words().items()}}
        path = self.folder / f"{step:06d}.png"
        with torch.no_grad():
            picture = paint(self.model, self.request, words)[0]
        text = infotext(self.model, self.request)
        with atomic_write(path) as temporary:
            picture.save(temporary, format="PNG", pnginfo=png_info(text))
        return path, self.request.prompt


def preview_request(config: TextualInversionConfig, model: Model, name: str) -> GenerateRequest:
    """What a preview paints."""
    width, height = size_of(config, model)
    return GenerateRequest(
        prompt=(config.preview_prompt or "a photo of [name]").replace("[name]", name),
        negative_prompt=config.preview_negative_prompt.replace("[name]", name),
        checkpoint=config.checkpoint,
        sampler=config.preview_sampler,
        steps=config.preview_steps,
        cfg_scale=config.preview_cfg_scale,
        seed=config.preview_seed,
        width=width,
        height=height,
        clip_skip=config.clip_skip,
        preview_every=0,
    )
