"""The probe: a loss whose pictures, prompts, noise and timesteps never change, so that two states of what learns can be compared.

Two measurements of a changing word with new noise and timesteps each time differ mostly by those. With the same ones each time (common random numbers), stratified timesteps
and each noise beside its negative (antithetic), what differs is what was learned.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from studio.cancellation import raise_if_stopped
from studio.dataset.batches import NOISE, TIME, Sample, dice, normal
from studio.diffusion import conditioning
from studio.diffusion.conditioning import condition
from studio.diffusion.model import Model
from studio.projects.filling import fill
from studio.training.objective import add_noise, target

PROBE, BAND = 101, 102
"""Purposes of randomness of their own: measuring moves nothing of what a run draws."""
STRATA, FIRST, LAST = 8, 50, 950
"""Timesteps are drawn one from each of these equal parts of FIRST to LAST."""
LOW, HIGH = 350, 650
"""Timesteps below show detail, above composition, between them shape."""
PAIRS, MOST_PAIRS = 4, 24
"""Fewest and most pairs of noise of one line."""
DRAWS, TAIL = 500, 5.0
"""Draws of the bootstrap band, and per cent left out at each of its ends."""
AT_ONCE = 32
"""Small latents that visit the network together."""
CELLS = 8 * 64 * 64
"""Cells of latents that visit the network together: eight pictures of 512 pixels without gradients need less memory than one with."""
GENERIC = ("a photo", "a photo of a person", "a landscape with trees", "a drawing of a house")
"""Prompts without the word, by which drift is measured."""
LINES = ("train", "held", "drift")


@dataclass(frozen=True)
class FixedLoss:
    """Mean squared error over all noise levels, and over the noisier half where shapes are decided."""

    all: float
    high: float


@torch.no_grad()
def fixed_loss(model: Model, words: Mapping[str, Tensor], latents: Tensor, prompts: Sequence[str], repeats: int = 8, seed: int = 3) -> FixedLoss:
    """The loss of `words` on latents [k, 4, h, w] with their prompts, each at `repeats` fixed noises and evenly spread timesteps (common random numbers)."""
    count = len(prompts) * repeats
    places = [i // repeats for i in range(count)]
    times = torch.tensor([int((dice(seed, TIME, 0, i // repeats).random() + i % repeats) / repeats * 960) + 20 for i in range(count)])
    errors = []
    for at in range(0, count, 32):
        chunk = places[at : at + 32]
        x = latents[chunk].to(model.device)
        noise = torch.stack([normal(latents.shape[1:], dice(seed, NOISE, 0, at + i)) for i in range(len(chunk))]).to(model.device)
        t = times[at : at + 32].to(model.device)
        signal = model.alphas_cumprod[t]
        guide = condition(model, [prompts[p] for p in chunk], words)
        answer = model.predict(add_noise(x, noise, signal), t, guide).float()
        errors.append((answer - target(model.prediction_type, x, noise, signal)).square().mean(dim=(1, 2, 3)).cpu())
    error = torch.cat(errors)
    return FixedLoss(float(error.mean()), float(error[times > 500].mean()))


@dataclass(frozen=True, eq=False)
class Item:
    """One question to the network: latent by its mean and noise, each [4, h, w], timestep, its band, the prompt, and how much each cell counts [h, w], None = all alike."""

    latent: Tensor
    noise: Tensor
    time: int
    band: str
    prompt: str
    weight: Tensor | None = None


@dataclass(frozen=True)
class Reading:
    """One measurement: changes in % against the start of the run, negative where it was learned; `low` and `high` hold 90 % of `train`."""

    step: int
    train: float
    low: float
    high: float
    held: float | None
    composition: float
    shape: float
    detail: float
    drift: float


@dataclass(frozen=True)
class Errors:
    """Mean squared errors of every item of the train and held lines, and the drift in %; plain numbers, so that they go through JSON exactly."""

    train: tuple[float, ...]
    held: tuple[float, ...] = ()
    drift: float = 0.0


@dataclass(frozen=True)
class Material:
    """What a probe is drawn from: pictures that are learned, pictures held back, template lines, the word, the seed of the run, and whether pictures are also learned mirrored."""

    train: tuple[Sample, ...]
    held: tuple[Sample, ...]
    templates: tuple[str, ...]
    name: str
    seed: int
    mirrored: bool = False


@dataclass(frozen=True)
class Probe:
    """The fixed questions of a run on its model; `base` holds the untouched network's answers to the generic prompts, [n, 4, h, w], None where only words learn."""

    model: Model
    train: tuple[Item, ...]
    held: tuple[Item, ...] = ()
    generic: tuple[Item, ...] = ()
    base: tuple[Tensor, ...] = ()
    clip_skip: int = 1
    others: Mapping[str, Tensor] = field(default_factory=dict)
    seed: int = 0

    @property
    def evaluations(self) -> int:
        """Visits to the network of one measurement."""
        return len(self.train) + len(self.held) + len(self.generic)

    @property
    def bands(self) -> tuple[str, ...]:
        """The band of each pair of the train line."""
        return tuple(item.band for item in self.train[::2])

    @torch.no_grad()
    def measure(self, words: Mapping[str, Tensor]) -> Errors:
        """The errors of the live words; nothing random is drawn and nothing keeps a gradient."""
        held = {**self.others, **{name: vectors.detach() for name, vectors in words.items()}}
        drift = 0.0
        with _evaluating(self.model):
            if self.generic:
                pairs = zip(self.answers(self.generic, held), self.base, strict=True)
                drift = 100 * float(np.mean([float((a - b).square().mean() / b.square().mean()) for a, b in pairs]))
            return Errors(self._errors(self.train, held), self._errors(self.held, held), drift)

    def reading(self, step: int, now: Errors, start: Errors) -> Reading:
        """The changes from `start` to `now`."""
        train = changes(now.train, start.train)
        held = changes(now.held, start.held)
        low, high = band(train, self.seed, step)
        bands = {name: float(np.mean([c for c, b in zip(train, self.bands, strict=True) if b == name])) for name in ("composition", "shape", "detail")}
        return Reading(step, float(np.mean(train)), low, high, float(np.mean(held)) if len(held) else None, drift=now.drift, **bands)

    def _errors(self, items: Sequence[Item], words: Mapping[str, Tensor]) -> tuple[float, ...]:
        """Mean squared error of each item."""
        found = []
        for item, answer in zip(items, self.answers(items, words), strict=True):
            signal = self.model.alphas_cumprod[item.time].cpu()[None]
            wanted = target(self.model.prediction_type, item.latent[None], item.noise[None], signal)[0]
            error = (answer - wanted).double().square()
            found.append(float((error if item.weight is None else error * item.weight).mean()))
        return tuple(found)

    @torch.no_grad()
    def answers(self, items: Sequence[Item], words: Mapping[str, Tensor]) -> list[Tensor]:
        """What the network says to each item, [4, h, w] on the CPU; items of one shape go together. Raises Stopped."""
        answers: dict[int, Tensor] = {}
        for chunk in _chunks(items):
            raise_if_stopped()
            some = [items[i] for i in chunk]
            said = ask(self.model, some, words, self.clip_skip)
            answers.update(zip(chunk, said, strict=True))
        return [answers[i] for i in range(len(items))]


def draw(model: Model, material: Material, count: int, changes_network: bool = False, rest: tuple[int, Mapping[str, Tensor]] = (1, {})) -> Probe:
    """The probe of a run with `count` evaluations in each line, drawn while the network is untouched; `rest` is clip skip and the other words its prompts may use.

    Pictures held back make the held line; where there are none, fewer than eight pictures, and no learning of mirrored ones, their mirror images do.
    """
    kept = unseen(material)
    train = _line(material, material.train, LINES.index("train"), count)
    held = _line(material, kept, LINES.index("held"), count) if kept else ()
    if not changes_network:
        return Probe(model, train, held, clip_skip=rest[0], others=rest[1], seed=material.seed)
    generic = tuple(Item(i.latent, i.noise, i.time, i.band, GENERIC[n % len(GENERIC)]) for n, i in enumerate(_line(material, material.train, LINES.index("drift"), 2 * PAIRS)))
    bare = Probe(model, train, held, generic, clip_skip=rest[0], others=rest[1], seed=material.seed)
    with _evaluating(model):
        return replace(bare, base=tuple(bare.answers(generic, rest[1])))


def unseen(material: Material) -> tuple[Sample, ...]:
    """Pictures of the held line: those held back, else mirror images of pictures that are few and not learned mirrored, else none."""
    return material.held or _mirror_images(material)


def ask(model: Model, items: Sequence[Item], words: Mapping[str, Tensor], clip_skip: int) -> Tensor:
    """The network's answers [n, 4, h, w] to items of one shape, on the CPU in fp32; a prompt that comes twice is encoded once."""
    prompts = list(dict.fromkeys(item.prompt for item in items))
    height, width = items[0].latent.shape[1:]
    guide = condition(model, prompts, words, conditioning.Reading(clip_skip, size=(width * model.scale, height * model.scale)))
    rows = [prompts.index(item.prompt) for item in items]
    guide = conditioning.Conditioning(guide.context[rows], guide.used, None if guide.pooled is None else guide.pooled[rows], None if guide.sizes is None else guide.sizes[rows])
    latents, noise = (torch.stack(parts).to(model.device) for parts in ([i.latent for i in items], [i.noise for i in items]))
    times = torch.tensor([item.time for item in items], device=model.device)
    return model.predict(add_noise(latents, noise, model.alphas_cumprod[times]), times, guide).float().cpu()


def changes(now: Sequence[float], start: Sequence[float]) -> np.ndarray:
    """Change in % of each antithetic pair [n / 2]: each against its own start, so that no noise level drowns another."""
    after, before = (np.asarray(errors, dtype=np.float64).reshape(-1, 2).sum(1) for errors in (now, start))
    return 100 * (after - before) / np.maximum(before, 1e-12)


def band(values: np.ndarray, seed: int, step: int) -> tuple[float, float]:
    """Where 90 % of the means of `values` lie when its members are drawn again with replacement (bootstrap, Efron 1979)."""
    drawn = dice(seed, BAND, step).integers(len(values), size=(DRAWS, len(values)))
    low, high = np.percentile(values[drawn].mean(1), [TAIL, 100 - TAIL])
    return float(low), float(high)


def _line(material: Material, samples: Sequence[Sample], line: int, count: int) -> tuple[Item, ...]:
    """`count` items, each noise followed by its negative at the same timestep; pictures take turns, in a new order each round."""
    lines = _naming(material, samples)
    items: list[Item] = []
    for pair in range(count // 2):
        die = dice(material.seed, PROBE, line, pair)
        strata = min(STRATA, count // 2)
        time, kind = _time(pair % strata, strata, die.random())
        round_, at = divmod(pair, len(samples))
        sample = samples[int(dice(material.seed, PROBE, line + len(LINES), round_).permutation(len(samples))[at])]
        text = lines[int(die.integers(len(lines)))]
        noise = normal(sample.mean.shape, die)
        prompt = fill(text, material.name, sample.caption)
        items += [Item(sample.mean.float(), sign * noise, time, kind, prompt, sample.weight) for sign in (1, -1)]
    return tuple(items)


def _naming(material: Material, samples: Sequence[Sample]) -> tuple[str, ...]:
    """Template lines whose prompts hold the word with every caption; all of them where none does."""
    name = material.name.lower()
    naming = tuple(line for line in material.templates if all(name in fill(line, material.name, s.caption).lower() for s in samples))
    return naming or material.templates


def _time(stratum: int, strata: int, where: float) -> tuple[int, str]:
    """A timestep in a stratum at `where` from 0 to 1, and the band of the stratum's middle."""
    width = (LAST - FIRST) / strata
    middle = FIRST + width * (stratum + 0.5)
    return int(FIRST + width * (stratum + where)), "detail" if middle < LOW else "composition" if middle > HIGH else "shape"


def _mirror_images(material: Material) -> tuple[Sample, ...]:
    """Mirrored latents of few pictures that are not learned mirrored; nothing where there are enough, or none were made."""
    if len(material.train) >= STRATA or material.mirrored:
        return ()
    found = []
    for sample in material.train:
        if sample.mirrored is not None:
            found.append(replace(sample, mean=sample.mirrored[0], std=sample.mirrored[1], weight=None if sample.weight is None else sample.weight.flip(-1)))
    return tuple(found)


@contextmanager
def _evaluating(model: Model) -> Iterator[None]:
    """Let the network and the text encoders answer as they do when pictures are painted, without dropout; parts that were in training mode return to it."""
    busy = [module for part in (model.unet, *model.text_encoders) for module in part.modules() if module.training]
    for module in busy:
        module.training = False
    try:
        yield
    finally:
        for module in busy:
            module.training = True


def _chunks(items: Sequence[Item]) -> list[list[int]]:
    """Places of items that visit the network together: of one shape, and no more than fit."""
    shapes: dict[torch.Size, list[int]] = {}
    for place, item in enumerate(items):
        shapes.setdefault(item.latent.shape, []).append(place)
    chunks = []
    for shape, places in shapes.items():
        size = max(1, min(AT_ONCE, CELLS // (shape[-1] * shape[-2])))
        chunks += [places[at : at + size] for at in range(0, len(places), size)]
    return chunks
