"""The tiny tagger: a network of DeepBooru's topology over the world's tags.

DeepBooru's 54 blocks are kept by number and by kind; in all but the first few of each stage the middle is one channel wide
and adds nothing, so that a small network lies inside the large shape. The first convolution does not learn: it halves the picture
and hands on the three colours and their opposites, so that learning can begin at the 128 x 128 maps behind it, which are made
from the world's pictures sixteen times faster. Normalisation is folded away before the file is written.
"""

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from studio.dataset.deepbooru import LAST, STAGES
from studio.files import atomic_write
from studio.tinyworld.study import Drawn, Plan, chosen, drawn, shaken, study
from studio.tinyworld.world import TAGS

STEM = 6
WIDTHS = ((0, 8, 1), (12, 48, 2), (32, 96, 2), (48, 160, 2), (56, 192, 2), (48, 192, 1))
"""Middle width, outer width and working blocks of each stage; a middle of 0 leaves only the shortcut."""
BATCH = 32
SIDE = 512
SEEN, FRESH = 20_000_000, 30_000_000


class Layer(nn.Module):
    """A convolution with "SAME" padding and batch normalisation."""

    def __init__(self, into: int, out: int, size: int, stride: int = 1) -> None:
        super().__init__()
        self.size, self.stride = size, stride
        self.conv = nn.Conv2d(into, out, size, stride, bias=False)
        self.norm = nn.BatchNorm2d(out)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve and normalise."""
        if self.size == 3:
            x = F.pad(x, (0, 1, 0, 1) if self.stride == 2 else (1, 1, 1, 1))
        return self.norm(self.conv(x))

    def folded(self) -> tuple[Tensor, Tensor]:
        """Weight and bias that do the same without normalisation (Jacob et al. 2018, section 3.2)."""
        factor = self.norm.weight / torch.sqrt(self.norm.running_var + self.norm.eps)
        return self.conv.weight * factor[:, None, None, None], self.norm.bias - self.norm.running_mean * factor


class Block(nn.Module):
    """1x1, 3x3, 1x1 added to a shortcut."""

    def __init__(self, into: int, middle: int, out: int, stride: int = 1, projects: bool = False) -> None:
        super().__init__()
        self.shortcut = Layer(into, out, 1, stride) if projects else None
        self.layers = nn.ModuleList((Layer(into, middle, 1), Layer(middle, middle, 3, stride), Layer(middle, out, 1)) if middle else ())

    def forward(self, x: Tensor) -> Tensor:
        """The block's answer."""
        straight = x if self.shortcut is None else self.shortcut(x)
        if not self.layers:
            return F.relu(straight)
        y = F.relu(self.layers[0](x))
        y = F.relu(self.layers[1](y))
        return F.relu(self.layers[2](y) + straight)


class Small(nn.Module):
    """The working part of the tagger: maps [b, 6, 128, 128] to one number per tag."""

    def __init__(self) -> None:
        super().__init__()
        into, stages = STEM, []
        for (middle, out, working), (_, stride, _) in zip(WIDTHS, STAGES, strict=True):
            stages.append(nn.ModuleList([Block(into, middle, out, stride, True), *(Block(out, middle, out) for _ in range(working - 1))]))
            into = out
        self.stages = nn.ModuleList(stages)
        self.head = nn.Conv2d(into, len(TAGS), 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Scores before the sigmoid."""
        for stage in self.stages:
            for block in stage:
                x = block(x)
        return self.head(x).mean((2, 3))


def eye() -> tuple[Tensor, Tensor]:
    """Weight and bias of the first convolution: the mean of four pixels of each colour, and one minus it."""
    weight, bias = torch.zeros(STEM, 3, 7, 7), torch.zeros(STEM)
    for colour in range(3):
        weight[colour, colour, 2:4, 2:4] = 0.25
        weight[3 + colour, colour, 2:4, 2:4] = -0.25
        bias[3 + colour] = 1.0
    return weight, bias


def maps(pixels: Tensor) -> Tensor:
    """What lies behind the first convolution and the pooling, from pictures [b, 3, 128, 128] in 0..1, without making them 512 wide."""
    halves = F.interpolate(torch.cat([pixels, 1 - pixels], 1), (SIDE // 2, SIDE // 2), mode="bicubic", align_corners=False).clamp(0, 1)
    return F.max_pool2d(F.pad(halves, (0, 1, 0, 1), value=float("-inf")), 3, 2)


def exported(small: Small) -> dict[str, object]:
    """The state dict of the full topology, with its entry `tags`."""
    state: dict[str, object] = {}

    def put(number: int, weight: Tensor, bias: Tensor | None) -> None:
        state[f"n_Conv_{number}.weight"] = weight.detach().half()
        if bias is not None:
            state[f"n_Conv_{number}.bias"] = bias.detach().half()

    put(0, *eye())
    number = 1
    for stage, (blocks, _, projection_first), (_, out, _) in zip(small.stages, STAGES, WIDTHS, strict=True):
        first = stage[0]
        put(number if projection_first else number + 3, *first.shortcut.folded())
        into = first.shortcut.conv.in_channels
        for i in range(3):
            put(number + projection_first + i, *(first.layers[i].folded() if first.layers else _nothing(i, into, out)))
        number += 4
        for place in range(1, blocks):
            for i in range(3):
                put(number + i, *(stage[place].layers[i].folded() if place < len(stage) else _nothing(i, out, out)))
            number += 3
    put(LAST, small.head.weight, None)
    return {**state, "tags": list(TAGS)}


def _nothing(place: int, into: int, out: int) -> tuple[Tensor, Tensor]:
    """Weight and bias of layer `place` in a block that adds nothing."""
    shapes = ((1, into, 1, 1), (1, 1, 3, 3), (out, 1, 1, 1))
    return torch.zeros(shapes[place]), torch.zeros(shapes[place][0])


def truth(facts: Drawn) -> Tensor:
    """Which tags are true [n, tags]."""
    return torch.tensor([[float(tag in set(f.tags)) for tag in TAGS] for f in facts.facts])


def train(file: Path, state: Path, seconds: float, pictures: int = 40_000) -> None:
    """Learn to tag, and write the file that models/torch_deepdanbooru holds."""
    known, fresh = drawn(SEEN, pictures), drawn(FRESH, 256)
    right = truth(known)
    network = Small().to(memory_format=torch.channels_last)

    def loss_of(step: int) -> Tensor:
        dice = torch.Generator().manual_seed(step)
        numbers = chosen(known.facts, BATCH, dice)
        seen = maps(shaken(known.batch(numbers.tolist()), dice)).contiguous(memory_format=torch.channels_last)
        return F.binary_cross_entropy_with_logits(network(seen), right[numbers]) * 10

    def save(average: nn.Module) -> None:
        with atomic_write(file) as temporary:
            torch.save(exported(average), temporary)  # type: ignore[arg-type]

    file.parent.mkdir(parents=True, exist_ok=True)
    study(network, loss_of, Plan(state, seconds, 3e-3, lambda average: f"F1 {f1(average, fresh):.3f}", save))


@torch.no_grad()
def f1(network: nn.Module, fresh: Drawn) -> float:
    """F1 over all tags and pictures at a score of one half."""
    network.eval()
    logits = [network(maps(fresh.batch(range(at, min(at + 32, len(fresh.facts)))))) for at in range(0, len(fresh.facts), 32)]
    network.train()
    said, right = torch.cat(logits) > 0, truth(fresh) > 0.5
    hit = (said & right).sum().item()
    return 2 * hit / max(1, said.sum().item() + right.sum().item())
