"""One loaded checkpoint: its parts, and what can be done with them."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from studio.diffusion.families import Family
from studio.errors import Unreadable


@dataclass(frozen=True)
class Conditioning:
    """What the UNet is conditioned on: context [b, 77k, d]; where the family has them, pooled text [b, p] and sizes [b, 6]; `used` names the embeddings."""

    context: Tensor
    used: tuple[str, ...] = ()
    pooled: Tensor | None = None
    sizes: Tensor | None = None


@dataclass
class Model:
    """The parts of a checkpoint on one device; frozen weights, evaluation mode."""

    family: Family
    checkpoint: str
    hash: str
    unet: nn.Module
    vae: nn.Module
    text_encoders: tuple[nn.Module, ...]
    schedule: dict[str, Any]
    device: torch.device
    dtype: torch.dtype

    def __post_init__(self) -> None:
        """Freeze the weights and prepare the noise schedule."""
        for part in (self.unet, self.vae, *self.text_encoders):
            part.requires_grad_(False).eval().to(device=self.device, dtype=self.dtype)
        betas = torch.linspace(self.schedule["beta_start"] ** 0.5, self.schedule["beta_end"] ** 0.5, 1000, dtype=torch.float64) ** 2
        self.alphas_cumprod = torch.cumprod(1 - betas, 0).float().to(self.device)

    @property
    def prediction_type(self) -> str:
        """ "epsilon" or "v_prediction"."""
        return str(self.schedule.get("prediction_type", "epsilon"))

    @property
    def native_size(self) -> int:
        """Width and height in pixels the model was made for."""
        return int(self.unet.config.sample_size) * self.scale

    @property
    def scale(self) -> int:
        """Pixels per latent cell."""
        return 2 ** (len(self.vae.config.block_out_channels) - 1)

    @property
    def text_encoder(self) -> nn.Module:
        """The first text encoder; the only one in families before SDXL."""
        return self.text_encoders[0]

    @property
    def token_table(self) -> Tensor:
        """The text encoder's token embedding [49408, d]."""
        return self.text_encoder.get_input_embeddings().weight

    @property
    def width(self) -> int:
        """Width d of a token embedding."""
        return int(self.token_table.shape[1])

    @property
    def median_norm(self) -> float:
        """Median length of a row of the token table."""
        return float(self.token_table.float().norm(dim=1).median())

    def encode(self, ids: Tensor, vectors: Tensor | None = None, clip_skip: int = 1) -> tuple[Tensor, Tensor | None]:
        """Token ids [b, 77], padded with the end token, to context [b, 77, d] and pooled text [b, p] where the family has it.

        Ids from 49408 on are rows of `vectors` [n, width], through which gradients flow.
        """
        table = self.text_encoder.get_input_embeddings()
        known = ids.clamp(max=self.token_table.shape[0] - 1)
        if vectors is None or not bool((ids != known).any()):
            hidden = self._hidden(known, clip_skip)
        else:

            def splice(_module: nn.Module, _inputs: Any, output: Tensor) -> Tensor:
                rows = (ids - self.token_table.shape[0]).clamp(min=0)
                return torch.where((ids != known)[..., None], vectors.to(output.dtype)[rows], output)

            handle = table.register_forward_hook(splice)
            try:
                hidden = self._hidden(known, clip_skip)
            finally:
                handle.remove()
        return hidden, None

    def _hidden(self, ids: Tensor, clip_skip: int) -> Tensor:
        """The layer `clip_skip` from the end, normalised."""
        if clip_skip <= 1:
            return self.text_encoder(ids).last_hidden_state
        states = self.text_encoder(ids, output_hidden_states=True).hidden_states
        inner = getattr(self.text_encoder, "text_model", self.text_encoder)
        return inner.final_layer_norm(states[-clip_skip])

    def predict(self, x: Tensor, t: Tensor, conditioning: Conditioning, extra: Tensor | None = None) -> Tensor:
        """The UNet's output [b, 4, h, w] for noisy latents x and timesteps t, [b] or one for all; a conditioning of batch 1 serves all.

        `extra` [b, 5, h, w] holds the mask and the masked picture's latents, for checkpoints made for inpainting.
        """
        count = len(x)
        context = conditioning.context.to(self.dtype).expand(count, -1, -1)
        x = x if extra is None else torch.cat([x, extra.expand(count, -1, -1, -1)], 1)
        added = None
        if conditioning.pooled is not None and conditioning.sizes is not None:
            added = {"text_embeds": conditioning.pooled.to(self.dtype).expand(count, -1), "time_ids": conditioning.sizes.to(self.dtype).expand(count, -1)}
        return self.unet(x.to(self.dtype), t, context, added_cond_kwargs=added).sample

    @torch.no_grad()
    def encode_images(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Pictures [b, 3, H, W] in -1..1 to mean and standard deviation of their latents [b, 4, H/8, W/8], scaled."""
        posterior = self.vae.encode(x.to(self.device, self.dtype)).latent_dist
        factor = self.vae.config.scaling_factor
        return posterior.mean.float() * factor, posterior.std.float() * factor

    @torch.no_grad()
    def decode(self, z: Tensor) -> Tensor:
        """Scaled latents [b, 4, h, w] to pictures [b, 3, 8h, 8w] in -1..1; raises Unreadable on numbers that are not finite."""
        pictures = self.vae.decode((z / self.vae.config.scaling_factor).to(self.dtype)).sample.float()
        if not bool(torch.isfinite(pictures).all()):
            raise Unreadable(f"The autoencoder of {self.checkpoint} returned numbers that are not finite.", "Use full precision, or another VAE.")
        return pictures.clamp(-1, 1)
