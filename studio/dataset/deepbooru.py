"""DeepBooru: the tagger's network with widths read from its file, and its rules for turning scores into text."""

from pathlib import Path

import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from studio.dataset.tag_text import Tag, text_of_tags
from studio.errors import Unreadable
from studio.formats.pickles import load_pickle
from studio.requests.caption import CaptionOptions

SIDE = 512
"""The network looks at pictures of this width and height."""
STAGES = ((3, 1, True), (8, 2, True), (20, 2, True), (20, 2, False), (3, 2, True), (3, 2, True))
"""Blocks, stride of the first, and whether its projection is numbered before it."""
LAST = 178


class DeepBooru(nn.Module):
    """A residual network over `n_Conv_0` to `n_Conv_178`; `tags[i]` names score i."""

    def __init__(self, shapes: dict[str, tuple[int, ...]], tags: list[str]) -> None:
        super().__init__()
        self.tags = tags
        for i in range(LAST + 1):
            out, into, size, _ = shapes[f"n_Conv_{i}.weight"]
            self.add_module(f"n_Conv_{i}", nn.Conv2d(into, out, size, bias=i != LAST))

    def _conv(self, i: int, x: Tensor, stride: int = 1) -> Tensor:
        """Convolution i with TensorFlow's "SAME" padding."""
        layer = getattr(self, f"n_Conv_{i}")
        size = layer.kernel_size[0]
        if size == 3:
            x = F.pad(x, (0, 1, 0, 1) if stride == 2 else (1, 1, 1, 1))
        elif size == 7:
            x = F.pad(x, (2, 3, 2, 3))
        return F.conv2d(x, layer.weight, layer.bias, stride)

    def _block(self, i: int, x: Tensor, stride: int, shortcut: Tensor) -> Tensor:
        """1x1, 3x3, 1x1 from convolution i on, added to the shortcut."""
        x = F.relu(self._conv(i, x))
        x = F.relu(self._conv(i + 1, x, stride))
        return F.relu(self._conv(i + 2, x) + shortcut)

    def forward(self, x: Tensor) -> Tensor:
        """Pictures [b, 512, 512, 3] in 0..1 to scores [b, tags] in 0..1."""
        x = F.relu(self._conv(0, x.permute(0, 3, 1, 2), 2))
        x = F.max_pool2d(F.pad(x, (0, 1, 0, 1), value=float("-inf")), 3, 2)
        i = 1
        for blocks, stride, projection_first in STAGES:
            projection, block = (i, i + 1) if projection_first else (i + 3, i)
            x = self._block(block, x, stride, self._conv(projection, x, stride))
            i += 4
            for _ in range(blocks - 1):
                x = self._block(i, x, 1, x)
                i += 3
        return torch.sigmoid(self._conv(LAST, x).mean((2, 3)))


def load_deepbooru(path: Path) -> DeepBooru:
    """Read the state dict with its extra entry `tags`; raises Unreadable."""
    state = load_pickle(path)
    tags = state.pop("tags", None) if isinstance(state, dict) else None
    if not isinstance(tags, list):
        raise Unreadable(f"{path.name} is not a DeepBooru tagger: it has no list of tags.", "Put model-resnet_custom_v3.pt into models/torch_deepdanbooru.")
    try:
        network = DeepBooru({k: tuple(v.shape) for k, v in state.items()}, tags)
        network.load_state_dict(state)
        if len(tags) != getattr(network, f"n_Conv_{LAST}").out_channels:
            raise ValueError(f"{len(tags)} tags for {getattr(network, f'n_Conv_{LAST}').out_channels} scores")  # noqa: TRY301
    except (AttributeError, KeyError, ValueError, RuntimeError) as error:
        raise Unreadable(f"{path.name} is not a DeepBooru tagger ({str(error).splitlines()[0][:120]}).", "Get it again.") from error
    return network.float().eval().requires_grad_(False)


def fit(image: Image.Image) -> Image.Image:
    """A picture resized to fit 512x512, the rest filled by stretching its edge pixels; sides and margins are rounded down, as in A1111."""
    longest = max(image.size)
    size = max(1, image.width * SIDE // longest), max(1, image.height * SIDE // longest)
    small = image.resize(size, Image.Resampling.LANCZOS)
    left, top = SIDE // 2 - size[0] // 2, SIDE // 2 - size[1] // 2
    whole = Image.new("RGB", (SIDE, SIDE))
    if left:
        whole.paste(small.resize((left, SIDE), box=(0, 0, 1, size[1])), (0, 0))
        whole.paste(small.resize((left, SIDE), box=(size[0] - 1, 0, size[0], size[1])), (left + size[0], 0))
    elif top:
        whole.paste(small.resize((SIDE, top), box=(0, 0, size[0], 1)), (0, 0))
        whole.paste(small.resize((SIDE, top), box=(0, size[1] - 1, size[0], size[1])), (0, top + size[1]))
    whole.paste(small, (left, top))
    return whole


def is_rating(tag: str) -> bool:
    """Whether a tag says how explicit a picture is and not what is on it."""
    return tag.startswith("rating:")


def text_of(scores: list[float], tags: list[str], threshold: float) -> str:
    """Tags at or over the threshold in alphabetical order, ratings left out, spaces for underscores, brackets escaped."""
    options = CaptionOptions(threshold=threshold)
    return text_of_tags([Tag(name, score) for score, name in zip(scores, tags, strict=True) if score >= threshold and not is_rating(name)], options)
