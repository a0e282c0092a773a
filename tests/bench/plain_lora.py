"""A plain LoRA training in the manner of the diffusers example, in our own words: peft's adapter in the UNet, accelerate around it; what the studio's loop is measured against.

At every step pictures are opened, cut, flipped, tokenized, encoded by the autoencoder, and their captions by the text encoder; noise levels are drawn uniformly, the loss is the mean
squared error, gradients are cut to a length of 1, and AdamW steps with a weight decay of 1e-2 under a scheduler. With `cached` latents and the text's states come from before the
first step, as nobody's example has it, so that it can be seen what the rest of the loop costs.
"""

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from diffusers import DDPMScheduler
from diffusers.optimization import get_scheduler
from diffusers.training_utils import cast_training_params
from peft import LoraConfig
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from studio.diffusion.model import Model
from studio.diffusion.tokenizer import clip_tokenizer

TARGETS = ["to_q", "to_k", "to_v", "to_out.0"]
"""Layers the example puts adapters on: those of all attention."""
DECAY, LENGTH = 1e-2, 1.0
CAPTION = "a photo of a mo-teal monster"


@dataclass(frozen=True)
class LoraSettings:
    """Pictures in a batch and batches in a step (as in the command of the example's guide), rank (and alpha), rate of AdamW, edge of the pictures in pixels."""

    batch: int = 1
    accumulation: int = 4
    rank: int = 8
    rate: float = 1e-4
    edge: int = 256
    seed: int = 0


class Shown(Dataset[dict[str, Tensor]]):
    """Pictures as the example's data set gives them: pixels [3, H, W] in -1..1, cut at random and flipped half of the time, and the caption's ids [77]."""

    def __init__(self, pictures: Sequence[Path], edge: int) -> None:
        self.pictures, self.tokenizer = tuple(pictures), clip_tokenizer()
        steps = [transforms.Resize(edge), transforms.RandomCrop(edge), transforms.RandomHorizontalFlip(), transforms.ToTensor(), transforms.Normalize([0.5], [0.5])]
        self.change = transforms.Compose(steps)

    def __len__(self) -> int:
        """How many there are."""
        return len(self.pictures)

    def __getitem__(self, place: int) -> dict[str, Tensor]:
        """One of them."""
        with Image.open(self.pictures[place]) as opened:
            pixels = self.change(opened.convert("RGB"))
        ids = self.tokenizer(CAPTION, padding="max_length", truncation=True, max_length=77, return_tensors="pt").input_ids[0]
        return {"pixels": pixels, "ids": ids}


class PlainLora:
    """The loop; `step` takes one step of the optimiser. `copied` keeps the model's own UNet as it is. `cached` may be set between two steps."""

    def __init__(self, model: Model, pictures: Sequence[Path], settings: LoraSettings, copied: bool = True) -> None:
        torch.manual_seed(settings.seed)
        self.model, self.settings, self.cached = model, settings, False
        precision = {torch.float16: "fp16", torch.bfloat16: "bf16"}.get(model.dtype, "no")
        self.accelerator = Accelerator(gradient_accumulation_steps=settings.accumulation, mixed_precision=precision, cpu=model.device.type == "cpu")
        unet = copy.deepcopy(model.unet) if copied else model.unet
        unet.requires_grad_(False)
        unet.add_adapter(LoraConfig(r=settings.rank, lora_alpha=settings.rank, init_lora_weights="gaussian", target_modules=TARGETS))
        if precision != "no":
            cast_training_params(unet, dtype=torch.float32)
        self.parameters = [parameter for parameter in unet.parameters() if parameter.requires_grad]
        optimizer = torch.optim.AdamW(self.parameters, lr=settings.rate, betas=(0.9, 0.999), weight_decay=DECAY, eps=1e-8)
        loader = DataLoader(Shown(pictures, settings.edge), batch_size=settings.batch, shuffle=True, num_workers=0)
        scheduler = get_scheduler("constant", optimizer=optimizer, num_warmup_steps=0, num_training_steps=10_000)
        self.unet, self.optimizer, self.loader, self.scheduler = self.accelerator.prepare(unet, optimizer, loader, scheduler)
        schedule = {k: model.schedule[k] for k in ("beta_start", "beta_end", "beta_schedule", "num_train_timesteps") if k in model.schedule}
        self.noise = DDPMScheduler(**schedule, prediction_type=model.prediction_type)
        self.unet.train()
        self.batches = self._endless()
        self.kept: list[tuple[Tensor, Tensor]] = []

    def keep(self) -> None:
        """Encode every picture once, for steps with `cached`."""
        self.kept = self.kept or [self._encoded(batch) for batch in self.loader]

    def step(self) -> float:
        """Gradients of a few batches, then one step; returns the mean of their losses."""
        total = 0.0
        for _ in range(self.settings.accumulation):
            latents, context = self._turn() if self.cached else self._encoded(next(self.batches))
            with self.accelerator.accumulate(self.unet):
                loss = self._loss(latents, context)
                total += self.accelerator.gather(loss.repeat(self.settings.batch)).mean().item() / self.settings.accumulation
                self.accelerator.backward(loss)
                if self.accelerator.sync_gradients:
                    self.accelerator.clip_grad_norm_(self.parameters, LENGTH)
                self.optimizer.step()
                self.scheduler.step()
                self.optimizer.zero_grad()
        return total

    def _endless(self) -> Iterator[dict[str, Tensor]]:
        """Batches in ever new orders."""
        while True:
            yield from self.loader

    def _turn(self) -> tuple[Tensor, Tensor]:
        """What was kept, one after the other."""
        self.kept.append(self.kept.pop(0))
        return self.kept[-1]

    def _encoded(self, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Latents and the captions' states."""
        model = self.model
        latents = model.vae.encode(batch["pixels"].to(model.device, model.dtype)).latent_dist.sample() * model.vae.config.scaling_factor
        return latents.detach(), model.text_encoder(batch["ids"].to(model.device), return_dict=False)[0].detach()

    def _loss(self, latents: Tensor, context: Tensor) -> Tensor:
        """The mean squared error at random noise levels."""
        noise = torch.randn_like(latents)
        times = torch.randint(0, self.noise.config.num_train_timesteps, (len(latents),), device=latents.device).long()
        noisy = self.noise.add_noise(latents, noise, times)
        wanted = self.noise.get_velocity(latents, noise, times) if self.model.prediction_type == "v_prediction" else noise
        answer = self.unet(noisy, times, context, return_dict=False)[0]
        return F.mse_loss(answer.float(), wanted.float(), reduction="mean")
