"""One loaded checkpoint: its parts, and what can be done with them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from studio.diffusion.families import Family, TextEncoder
from studio.diffusion.mosaic import in_tiles
from studio.errors import Unreadable

END = 49407
_LAST_SIGNAL = 4.8973451890853435e-08


@dataclass(frozen=True)
class Conditioning:
    """What the UNet is conditioned on: context [b, 77k, d]; where the family has them, pooled text [b, p] and sizes [b, 6]; `used` names the embeddings."""

    context: Tensor
    used: tuple[str, ...] = ()
    pooled: Tensor | None = None
    sizes: Tensor | None = None


@dataclass
class Model:
    """The parts of a checkpoint on one device; frozen weights, evaluation mode. `vae_name` and `vae_hash` tell of an autoencoder that is not its own."""

    family: Family
    checkpoint: str
    hash: str
    unet: nn.Module
    vae: nn.Module
    text_encoders: tuple[nn.Module, ...]
    schedule: dict[str, Any]
    device: torch.device
    dtype: torch.dtype
    vae_name: str = ""
    vae_hash: str = ""

    def __post_init__(self) -> None:
        """Freeze the weights and prepare the noise schedule."""
        for part in (self.unet, self.vae, *self.text_encoders):
            part.requires_grad_(False).eval().to(device=self.device, dtype=self.dtype)
        self.alphas_cumprod = alphas_cumprod(self.schedule).to(self.device)

    @property
    def prediction_type(self) -> str:
        """ "epsilon" or "v_prediction"."""
        return str(self.schedule.get("prediction_type", "epsilon"))

    @property
    def native_size(self) -> int:
        """Width and height in pixels the model was made for."""
        size = self.unet.config.sample_size
        return int(size if isinstance(size, int) else max(size)) * self.scale

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
        """The first text encoder's token embedding [49408, d]."""
        return self.text_encoder.get_input_embeddings().weight

    @property
    def widths(self) -> tuple[int, ...]:
        """Width of a token embedding in each text encoder."""
        return tuple(int(encoder.get_input_embeddings().weight.shape[1]) for encoder in self.text_encoders)

    @property
    def width(self) -> int:
        """Width of a word: the sum over the text encoders (SDXL: 768 + 1280)."""
        return sum(self.widths)

    @property
    def median_norm(self) -> float:
        """Median length of a row of the first token table."""
        return self.median_norms[0]

    @property
    def median_norms(self) -> tuple[float, ...]:
        """Median length of a row of each text encoder's token table: how long an ordinary word is there."""
        tables = (encoder.get_input_embeddings().weight for encoder in self.text_encoders)
        return tuple(float(torch.linalg.vector_norm(table, dim=1, dtype=torch.float32).median()) for table in tables)

    def micro_conditions(self, size: tuple[int, int]) -> Tensor | None:
        """Sizes [1, 6] for a picture of (width, height): original height and width, crop 0 0, target height and width; None in families without them."""
        if not self.family.micro_conditions:
            return None
        width, height = size
        return torch.tensor([[height, width, 0, 0, height, width]], dtype=torch.float32, device=self.device)

    def encode(self, ids: Tensor, vectors: Tensor | None = None, clip_skip: int = 1) -> tuple[Tensor, Tensor | None]:
        """Token ids [b, 77], padded with the end token, to context [b, 77, d] and pooled text [b, p] where the family has it.

        Ids from 49408 on are rows of `vectors` [n, width], through which gradients flow; for two encoders their columns are split by width.
        """
        split = [None] * len(self.text_encoders) if vectors is None else vectors.split(list(self.widths), 1)
        contexts, pooled = [], None
        for module, encoder, words in zip(self.text_encoders, self.family.text_encoders, split, strict=True):
            context, text = _encode(module, encoder, _padded(ids, encoder.pad), words, clip_skip)
            contexts.append(context)
            pooled = text if text is not None else pooled
        return torch.cat(contexts, -1), pooled

    def predict(self, x: Tensor, t: Tensor, conditioning: Conditioning, extra: Tensor | None = None) -> Tensor:
        """The UNet's output [b, 4, h, w] for noisy latents x and timesteps t, [b] or one for all; a conditioning of batch 1 serves all.

        `extra` [b, 5, h, w] holds the mask and the masked picture's latents, for checkpoints made for inpainting.
        """
        count = len(x)
        context = conditioning.context.to(self.dtype).expand(count, -1, -1)
        x = x if extra is None else torch.cat([x, extra.to(x.dtype).expand(count, -1, -1, -1)], 1)
        added = None
        if conditioning.pooled is not None and conditioning.sizes is not None:
            added = {"text_embeds": conditioning.pooled.to(self.dtype).expand(count, -1), "time_ids": conditioning.sizes.to(self.dtype).expand(count, -1)}
        return self.unet(x.to(self.dtype), t, context, added_cond_kwargs=added).sample

    @torch.no_grad()
    def encode_images(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Pictures [b, 3, H, W] in -1..1 to mean and standard deviation of their latents [b, 4, H/8, W/8], scaled."""
        posterior = self.vae.encode(x.to(self.device, self.vae.dtype)).latent_dist
        if not bool(torch.isfinite(posterior.mean).all()) and self._widen():
            posterior = self.vae.encode(x.to(self.device, self.vae.dtype)).latent_dist
        factor = self.vae.config.scaling_factor
        return posterior.mean.float() * factor, posterior.std.float() * factor

    @torch.no_grad()
    def decode(self, z: Tensor, tile: int = 0) -> Tensor:
        """Scaled latents [b, 4, h, w] to pictures [b, 3, 8h, 8w] in -1..1; raises Unreadable on numbers that are not finite.

        `tile` is the edge of the squares, in latent cells, that are decoded one after another; 0 = all at once.
        """
        pictures = self._decode(z, tile)
        if not bool(torch.isfinite(pictures).all()) and bool(torch.isfinite(z).all()) and self._widen():
            pictures = self._decode(z, tile)
        if not bool(torch.isfinite(pictures).all()):
            raise Unreadable(f"The autoencoder of {self.checkpoint} returned numbers that are not finite.", "Use full precision, or another VAE.")
        return pictures.clamp(-1, 1)

    def _decode(self, z: Tensor, tile: int) -> Tensor:
        """Latents to pictures, at once or in tiles."""

        def whole(part: Tensor) -> Tensor:
            return self.vae.decode((part / self.vae.config.scaling_factor).to(self.vae.dtype)).sample.float()

        return in_tiles(z, whole, max(8, tile), max(8, tile) // 4, self.scale).to(z.device) if tile > 0 else whole(z)

    def _widen(self) -> bool:
        """Take the autoencoder from 16 to 32 bits for good, since some (SDXL's) overflow; False when it has them already."""
        if self.vae.dtype == torch.float32:
            return False
        self.vae.to(torch.float32)
        return True


def alphas_cumprod(schedule: Mapping[str, Any]) -> Tensor:
    """What share of the signal is left after each of the training's steps [1000], from a diffusers scheduler's settings.

    With `rescale_betas_zero_snr` the last step holds none (Lin et al. 2024, arXiv 2305.08891), or as little as keeps sigma finite.
    """
    count = int(schedule.get("num_train_timesteps", 1000))
    start, end = float(schedule.get("beta_start", 0.00085)), float(schedule.get("beta_end", 0.012))
    if schedule.get("trained_betas") is not None:
        betas = torch.tensor(schedule["trained_betas"], dtype=torch.float64)
    elif schedule.get("beta_schedule", "scaled_linear") == "linear":
        betas = torch.linspace(start, end, count, dtype=torch.float64)
    else:
        betas = torch.linspace(start**0.5, end**0.5, count, dtype=torch.float64) ** 2
    kept = torch.cumprod(1 - betas, 0)
    if schedule.get("rescale_betas_zero_snr"):
        root = kept.sqrt()
        kept = ((root - root[-1]) * root[0] / (root[0] - root[-1])) ** 2
        kept[-1] = _LAST_SIGNAL
    return kept.float()


def _padded(ids: Tensor, pad: int) -> Tensor:
    """Ids [b, 77] whose padding, all after the first end token, is `pad`."""
    if pad == END:
        return ids
    ended = (ids == END).cumsum(1)
    return torch.where((ended > 1) & (ids == END), pad, ids)


def _encode(module: nn.Module, encoder: TextEncoder, ids: Tensor, vectors: Tensor | None, clip_skip: int) -> tuple[Tensor, Tensor | None]:
    """One encoder's context [b, 77, d] and, if it has one, its pooled text [b, p]; ids beyond the table are rows of `vectors`."""
    table = module.get_input_embeddings()
    count = table.weight.shape[0]
    beyond = ids >= count
    if vectors is None or not bool(beyond.any()):
        return _hidden(module, encoder, ids.clamp(max=count - 1), clip_skip)

    def splice(_module: nn.Module, _inputs: Any, output: Tensor) -> Tensor:
        rows = (ids - count).clamp(min=0)
        return torch.where(beyond[..., None], vectors.to(output.dtype)[rows], output)

    handle = table.register_forward_hook(splice)
    try:
        return _hidden(module, encoder, ids.masked_fill(beyond, 0), clip_skip)
    finally:
        handle.remove()


def _hidden(module: nn.Module, encoder: TextEncoder, ids: Tensor, clip_skip: int) -> tuple[Tensor, Tensor | None]:
    """The encoder's layer that makes the context, clip skip heard where the family hears it, and the pooled text."""
    layer = max(encoder.layer, clip_skip) if encoder.skippable else encoder.layer
    if layer == 1 and encoder.normed and not encoder.pooled:
        return module(ids).last_hidden_state, None
    output = module(ids, output_hidden_states=True)
    states = output.hidden_states
    hidden = states[-min(layer, len(states) - 1)]
    inner = getattr(module, "text_model", module)
    return (inner.final_layer_norm(hidden) if encoder.normed else hidden), (output.text_embeds if encoder.pooled else None)
