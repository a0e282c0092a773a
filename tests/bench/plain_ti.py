"""A plain textual inversion in the manner of the diffusers example, in our own words: what the studio's loop is measured against.

Pictures are opened, flipped and encoded at every step; the new word is one row of the text encoder's whole table, which is one parameter of AdamW
with a weight decay of 1e-2; after each pass the other rows are put back. Noise levels are drawn uniformly and the loss is the mean squared error.
"""

import copy
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import DDPMScheduler
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from studio.diffusion.model import Model
from studio.diffusion.tokenizer import clip_tokenizer

PROMPTS = ("a photo of a {}", "a rendering of a {}", "a cropped photo of the {}", "the photo of a {}", "a close-up photo of a {}", "a photo of the {}", "a good photo of a {}", "a depiction of a {}")
"""Sentences the word is put into."""
DECAY = 1e-2
README_RATE, README_ACCUMULATION = 5e-4, 4
"""The example's own command: one picture at a time, four gradients a step; its rate is multiplied by both."""


@dataclass(frozen=True)
class Settings:
    """Pictures in a batch, batches in a step, rate of AdamW, edge of the pictures in pixels."""

    batch: int = 1
    accumulation: int = README_ACCUMULATION
    rate: float = README_RATE * README_ACCUMULATION
    edge: int = 256
    seed: int = 0


class PlainTextualInversion:
    """The loop; `step` takes one step of the optimiser. `copied` keeps the model's own text encoder as it is."""

    def __init__(self, model: Model, pictures: Sequence[Path], start: Tensor, settings: Settings, copied: bool = True) -> None:
        self.model, self.pictures, self.settings = model, tuple(pictures), settings
        self.tokenizer = copy.deepcopy(clip_tokenizer())
        self.word = "<learned>"
        self.tokenizer.add_tokens(self.word)
        self.row = int(self.tokenizer.convert_tokens_to_ids(self.word))
        self.encoder = copy.deepcopy(model.text_encoder) if copied else model.text_encoder
        self.encoder.to(torch.float32)
        self.encoder.resize_token_embeddings(self.row + 1, mean_resizing=False)
        self.encoder.requires_grad_(False)
        self.table = self.encoder.get_input_embeddings().weight.requires_grad_(True)
        with torch.no_grad():
            self.table[self.row] = start[0]
        self.before = self.table.detach().clone()
        self.others = torch.ones(len(self.table), dtype=torch.bool)
        self.others[self.row] = False
        self.optimizer = torch.optim.AdamW([self.table], lr=settings.rate, weight_decay=DECAY)
        schedule = {k: model.schedule[k] for k in ("beta_start", "beta_end", "beta_schedule", "num_train_timesteps") if k in model.schedule}
        self.noise = DDPMScheduler(**schedule, prediction_type=model.prediction_type)
        self.draw = random.Random(settings.seed)
        torch.manual_seed(settings.seed)

    @property
    def vectors(self) -> Tensor:
        """The learned row [1, d]."""
        return self.table.detach()[self.row][None].float().cpu().clone()

    def step(self) -> float:
        """Gradients of a few batches, then one step; returns the last batch's loss."""
        loss = 0.0
        for number in range(self.settings.accumulation):
            loss = self._pass()
            if number == self.settings.accumulation - 1:
                self.optimizer.step()
                self.optimizer.zero_grad()
            with torch.no_grad():
                self.table[self.others] = self.before[self.others]
        return loss

    def _pass(self) -> float:
        """One batch forward and back."""
        model, kind = self.model, self.model.device.type
        pixels, ids = (torch.stack(parts).to(model.device) for parts in zip(*(self._sample() for _ in range(self.settings.batch)), strict=True))
        with torch.autocast(kind, dtype=model.dtype, enabled=model.dtype != torch.float32):
            latents = model.vae.encode(pixels.to(model.dtype)).latent_dist.sample().detach() * model.vae.config.scaling_factor
            noise = torch.randn_like(latents)
            times = torch.randint(0, self.noise.config.num_train_timesteps, (len(latents),), device=model.device).long()
            noisy = self.noise.add_noise(latents, noise, times)
            context = self.encoder(ids)[0].to(model.dtype)
            answer = model.unet(noisy, times, context).sample
            wanted = self.noise.get_velocity(latents, noise, times) if model.prediction_type == "v_prediction" else noise
            loss = F.mse_loss(answer.float(), wanted.float(), reduction="mean")
        (loss / self.settings.accumulation).backward()
        return float(loss.detach())

    def _sample(self) -> tuple[Tensor, Tensor]:
        """A picture [3, H, W] in -1..1, flipped half of the time, and its sentence's ids [77]."""
        with Image.open(self.draw.choice(self.pictures)) as opened:
            picture = opened.convert("RGB").resize((self.settings.edge,) * 2, Image.Resampling.BICUBIC)
        if self.draw.random() < 0.5:
            picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        text = self.draw.choice(PROMPTS).format(self.word)
        ids = self.tokenizer(text, padding="max_length", truncation=True, max_length=77, return_tensors="pt").input_ids[0]
        return torch.from_numpy(np.array(picture)).permute(2, 0, 1).float() / 127.5 - 1, ids
