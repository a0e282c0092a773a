"""The painter: text encoder and UNet of the tiny world, trained together on cached latents."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from studio.diffusion.tokenizer import clip_tokenizer
from studio.files import atomic_write
from studio.tinyworld.autoencoder import pixels
from studio.tinyworld.study import Plan, study
from studio.tinyworld.world import picture

SEEN = 5_000_000
JUDGED = 256
"""The first pictures of the cache are not learned from: their fixed loss is the report."""
BATCH, LENGTH = 32, 36
WORDS, BEGIN, END = 49_408, 49_406, 49_407
WIDTH = 128


def text_config(words: int, begin: int, end: int) -> Any:
    """CLIP's text encoder, small."""
    from transformers import CLIPTextConfig

    sizes = {"hidden_size": WIDTH, "intermediate_size": 4 * WIDTH, "projection_dim": WIDTH, "num_hidden_layers": 4, "num_attention_heads": 4, "max_position_embeddings": 77}
    return CLIPTextConfig(vocab_size=words, bos_token_id=begin, eos_token_id=end, pad_token_id=end, **sizes)


def make_unet() -> Any:
    """Stable Diffusion's UNet, small: attention to the prompt at 16 x 16 and 8 x 8."""
    from diffusers import UNet2DConditionModel

    shapes = {"sample_size": 16, "in_channels": 4, "out_channels": 4, "block_out_channels": (64, 128, 192), "layers_per_block": 1, "norm_num_groups": 16}
    attention = {"cross_attention_dim": WIDTH, "attention_head_dim": 4, "use_linear_projection": True, "mid_block_type": "UNetMidBlock2DCrossAttn"}
    down, up = ("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"), ("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D")
    return UNet2DConditionModel(down_block_types=down, up_block_types=up, **shapes, **attention)


class Pair(nn.Module):
    """Text encoder over the words that are used, and UNet."""

    def __init__(self, text: Any, unet: Any) -> None:
        super().__init__()
        self.text, self.unet = text, unet

    def forward(self, noisy: Tensor, times: Tensor, ids: Tensor) -> Tensor:
        """The predicted velocity."""
        return self.unet(noisy, times, self.text(ids)[0]).sample


@dataclass(frozen=True)
class Words:
    """CLIP's tokens that captions use, by small numbers; 0 stands for every other one."""

    used: Tensor

    @classmethod
    def of(cls, ids: Tensor) -> "Words":
        """The words of all captions, and the two that every prompt has."""
        return cls(torch.unique(torch.cat([ids.flatten(), torch.tensor([BEGIN, END])])))

    def small(self, ids: Tensor) -> Tensor:
        """CLIP's numbers as small ones."""
        table = torch.zeros(WORDS, dtype=torch.long)
        table[self.used] = torch.arange(1, len(self.used) + 1)
        return table[ids.clamp(min=0)].masked_fill(ids < 0, 0)

    def whole(self, rows: Tensor) -> Tensor:
        """The table of all of CLIP's words from the rows of the small ones."""
        table = rows[:1].repeat(WORDS, 1)
        table[self.used] = rows[1:]
        return table


def cached(file: Path, autoencoder: Any, count: int) -> dict[str, Any]:
    """Latents [n, 4, 16, 16] and captions of the world's pictures, made once."""
    if file.is_file():
        return torch.load(file, weights_only=True)
    latents, captions = [], []
    with torch.no_grad():
        for first in range(SEEN, SEEN + count, 64):
            numbers = range(first, min(first + 64, SEEN + count))
            latents.append((autoencoder.encode(pixels(numbers)).latent_dist.mean * autoencoder.config.scaling_factor).half())
            captions += [picture(n).caption for n in numbers]
    kept = {"latents": torch.cat(latents), "captions": captions}
    file.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(file) as temporary:
        torch.save(kept, temporary)
    return kept


def varied(ids: Tensor, dice: torch.Generator) -> Tensor:
    """Prompts as training sees them: one in ten empty, one in twelve with unknown words (-1) put in, so that a new embedding finds its place."""
    ids = ids.clone()
    for row, roll in zip(ids, torch.rand(len(ids), generator=dice).tolist(), strict=True):
        if roll < 0.10:
            row[1:] = END
        elif roll < 0.18:
            end = int((row == END).nonzero()[0])
            many = min(1 + int(torch.randint(2, (1,), generator=dice)), LENGTH - 1 - end)
            if many > 0:
                place = 1 + int(torch.randint(end, (1,), generator=dice))
                row[place + many :] = row[place:-many].clone()
                row[place : place + many] = -1
    return ids


def train(folder: Path, state: Path, seconds: float, count: int = 30_000) -> None:
    """Learn to paint captions; goes on from what `folder` holds."""
    from diffusers import AutoencoderKL, DDIMScheduler

    known = cached(state.with_name("latents.pt"), AutoencoderKL.from_pretrained(folder / "vae").float(), count)
    ids = torch.tensor(clip_tokenizer()(known["captions"], padding="max_length", max_length=77, truncation=True)["input_ids"])[:, :LENGTH]
    words = Words.of(ids)
    network = _begin(folder, words)
    alphas = DDIMScheduler.from_pretrained(folder / "scheduler").alphas_cumprod.float()
    latents, judge = known["latents"], _Judge(known["latents"][:JUDGED].float(), words.small(ids[:JUDGED]), alphas)

    def loss_of(step: int) -> Tensor:
        dice = torch.Generator().manual_seed(step)
        numbers = torch.randint(JUDGED, len(latents), (BATCH,), generator=dice)
        spread = (200 + (torch.arange(BATCH) + torch.rand(BATCH, generator=dice)) * 780 / BATCH).long()
        times = torch.where(torch.rand(BATCH, generator=dice) < 0.6, spread, torch.randint(1000, (BATCH,), generator=dice)).clamp(max=999)
        clean = latents[numbers].float()
        return velocity_error(network, clean, torch.randn(clean.shape, generator=dice), times, words.small(varied(ids[numbers], dice)), alphas).mean()

    study(network, loss_of, Plan(state, seconds, 5e-4, judge, lambda average: _save(average, folder, words), every=300.0))


def velocity_error(network: nn.Module, clean: Tensor, noise: Tensor, times: Tensor, ids: Tensor, alphas: Tensor) -> Tensor:
    """Mean squared error of the velocity (Salimans & Ho 2022) of each picture [b]."""
    signal = alphas[times][:, None, None, None]
    noisy = signal.sqrt() * clean + (1 - signal).sqrt() * noise
    right = signal.sqrt() * noise - (1 - signal).sqrt() * clean
    return (network(noisy, times, ids) - right).square().mean((1, 2, 3))


@dataclass(frozen=True)
class _Judge:
    """The loss on pictures, noise and times that stay the same."""

    clean: Tensor
    ids: Tensor
    alphas: Tensor

    @torch.no_grad()
    def __call__(self, network: nn.Module) -> str:
        dice = torch.Generator().manual_seed(1)
        times = torch.randint(1000, (len(self.clean),), generator=dice)
        noise = torch.randn(self.clean.shape, generator=dice)
        error = velocity_error(network, self.clean, noise, times, self.ids, self.alphas)
        return f"fixed loss {error.mean():.4f}, noisy half {error[times > 500].mean():.4f}"


def _begin(folder: Path, words: Words) -> Pair:
    """What the folder holds, or new networks."""
    from diffusers import UNet2DConditionModel
    from transformers import CLIPTextModel

    begin, end = words.small(torch.tensor([BEGIN, END])).tolist()
    text = CLIPTextModel(text_config(len(words.used) + 1, begin, end))
    if not (folder / "unet" / "config.json").is_file():
        return Pair(text, make_unet())
    state = CLIPTextModel.from_pretrained(folder / "text_encoder").float().state_dict()
    table = next(name for name in state if "token_embedding" in name)
    other = next(i for i in range(WORDS) if i not in set(words.used.tolist()))
    state[table] = state[table][torch.cat([torch.tensor([other]), words.used])]
    text.load_state_dict(state)
    return Pair(text, UNet2DConditionModel.from_pretrained(folder / "unet").float())


def _save(average: nn.Module, folder: Path, words: Words) -> None:
    """Write both networks in half precision, the text encoder with all of CLIP's words."""
    from transformers import CLIPTextModel

    state = dict(average.text.state_dict())
    table = next(name for name in state if "token_embedding" in name)
    whole = CLIPTextModel(text_config(WORDS, BEGIN, END))
    whole.load_state_dict({**state, table: words.whole(state[table])})
    whole.half().save_pretrained(folder / "text_encoder")
    unet = make_unet()
    unet.load_state_dict(average.unet.state_dict())
    unet.half().save_pretrained(folder / "unet")
