"""How a checkpoint looks at noise: its UNet in sigma space, guided by prompts, with what must stay put back."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from studio.diffusion.model import Conditioning, Model
from studio.diffusion.schedules import Ladder
from studio.errors import StudioError


@dataclass(frozen=True)
class Guide:
    """What guides one look: the positive prompts with their weights (more than one by AND) and the negative one, each of batch 1."""

    positive: tuple[tuple[Conditioning, float], ...]
    negative: Conditioning


Guidance = Callable[[int], Guide]
"""The guide of a look, counted from 0 at the walk's beginning: prompt editing and alternation change it on the way.

One look is one step, but samplers with two `evaluations` look twice in a step; A1111 counts prompt editing in looks, over steps * evaluations.
"""
Blend = Callable[[Tensor, Tensor, Tensor, float], Tensor]
"""Called with (estimated picture, known latents, mask, sigma): both as one. Sigma is 0 when the walk has ended."""


@dataclass(frozen=True)
class Known:
    """What a walk knows of its picture: latents [b, 4, h, w], mask [1 or b, 1, h, w] (1 = repaint), and how both are blended (by the mask when None)."""

    latents: Tensor
    mask: Tensor
    blend: Blend | None = None

    def kept(self, picture: Tensor, sigma: float) -> Tensor:
        """The estimated picture with what is known in its place."""
        if self.blend is not None:
            return self.blend(picture, self.latents, self.mask, sigma)
        return self.latents + (picture - self.latents) * self.mask


@dataclass(frozen=True)
class _Group:
    """Prompts of equal length that share one call of the UNet: their conditioning [k * b, ...] and the share of each; a None is the negative prompt's."""

    conditioning: Conditioning
    shares: tuple[float | None, ...]


class Denoiser:
    """Sees the finished picture in noisy latents x = picture + sigma * noise, by classifier-free guidance (Ho & Salimans 2022; several prompts: Liu et al. 2022)."""

    def __init__(self, model: Model, ladder: Ladder, guidance: Guidance, cfg_scale: float) -> None:
        """A look at noise through a model; see `known`, `extra` and `split` for what else it may do."""
        self._model, self._ladder, self._guidance, self._scale = model, ladder, guidance, cfg_scale
        self.known: Known | None = None
        self.extra: Tensor | None = None
        self.split = False
        """Whether what is seen without the positive prompts is kept in `bare`."""
        self.bare: Tensor | None = None
        self._looks = 0
        self._guide: Guide | None = None
        self._alone = False
        self._groups: list[_Group] = []
        self._later: list[tuple[int, Tensor]] = []

    def __call__(self, x: Tensor, sigma: float) -> Tensor:
        """The estimate of the finished picture [b, 4, h, w]; raises StudioError when the UNet returns numbers that are not finite."""
        self._follow(self._guidance(self._looks), len(x))
        self._looks += 1
        t = torch.full((), self._ladder.time(sigma), device=x.device)
        output, negative = self._outputs(x * (1 / math.sqrt(1 + sigma**2)), t)
        picture = self._picture(x, output, sigma)
        self._watch(picture)
        if self.split:
            self.bare = picture if negative is None else self._picture(x, negative, sigma)
        return picture if self.known is None else self.known.kept(picture, sigma)

    def settle(self) -> None:
        """Look at what was left to be checked; raises StudioError as a call does."""
        if self._later:
            finite = torch.stack([flag for _, flag in self._later]).tolist()
            for (look, _), fine in zip(self._later, finite, strict=True):
                self._judge(fine, look)
            self._later.clear()

    def _picture(self, x: Tensor, output: Tensor, sigma: float) -> Tensor:
        """The picture that the UNet's output stands for."""
        if self._model.prediction_type == "v_prediction":
            return x * (1 / (1 + sigma**2)) - output * (sigma / math.sqrt(1 + sigma**2))
        return x - output * sigma

    def _outputs(self, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor | None]:
        """The guided output, and the one for the negative prompt where it was looked at."""
        count = len(x)
        seen: list[tuple[Tensor, float]] = []
        negative = None
        for group in self._groups:
            several = len(group.shares)
            extra = None if self.extra is None else self.extra.expand(count, -1, -1, -1).repeat(several, 1, 1, 1)
            output = self._model.predict(x.repeat(several, 1, 1, 1) if several > 1 else x, t, group.conditioning, extra).float()
            for part, share in zip(output.split(count), group.shares, strict=True):
                if share is None:
                    negative = part
                else:
                    seen.append((part, share))
        if self._alone or negative is None:
            (output, share), *rest = seen
            output = output if share == 1 else output * share
            return sum((part * weight for part, weight in rest), output), negative
        output = negative
        for part, share in seen:
            output = torch.add(output, part - negative, alpha=share)
        return output, negative

    def _follow(self, guide: Guide, count: int) -> None:
        """Make ready what the UNet is given, if the guide is another than at the last look."""
        if self._guide is not None and _same(guide, self._guide):
            return
        self._guide = guide
        positive = [(one, self._scale * weight) for one, weight in guide.positive if self._scale * weight]
        self._alone = abs(1 - sum(share for _, share in positive)) < 1e-9
        parts: list[tuple[Conditioning, float | None]] = list(positive)
        if self.split or not self._alone:
            parts.append((guide.negative, None))
        lengths = dict.fromkeys(one.context.shape[1] for one, _ in parts)
        together = [[part for part in parts if part[0].context.shape[1] == length] for length in lengths]
        self._groups = [_Group(_stacked([one for one, _ in group], count), tuple(share for _, share in group)) for group in together]

    def _watch(self, picture: Tensor) -> None:
        """See that all numbers are finite: at once on the CPU and at the first look; later looks on a card wait for `settle`, so that they don't hold it up."""
        fine = torch.isfinite(picture).all()
        if picture.device.type == "cpu" or self._looks == 1:
            self._judge(bool(fine), self._looks)
        else:
            self._later.append((self._looks, fine))

    def _judge(self, fine: bool, look: int) -> None:
        """Raise StudioError in words when a look was not fine."""
        if not fine:
            raise StudioError(f"{self._model.checkpoint} returned numbers that are not finite at step {look}.", "Use full precision, a lower CFG scale, or take the last embedding out of the prompt.")


def _same(one: Guide, other: Guide) -> bool:
    """Whether two guides hold the same conditionings and weights."""
    if one is other:
        return True
    if one.negative is not other.negative or len(one.positive) != len(other.positive):
        return False
    return all(a is b and v == w for (a, v), (b, w) in zip(one.positive, other.positive, strict=True))


def _stacked(parts: list[Conditioning], count: int) -> Conditioning:
    """Conditionings of equal length one after another, each for `count` pictures."""

    def rows(name: str) -> Tensor | None:
        values = [getattr(part, name) for part in parts]
        return None if any(value is None for value in values) else torch.cat([value.expand(count, *value.shape[1:]) for value in values])

    return replace(parts[0], context=rows("context"), pooled=rows("pooled"), sizes=rows("sizes"))
