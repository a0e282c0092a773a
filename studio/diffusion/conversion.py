"""Pictures to tensors and back."""

import numpy as np
import torch
from PIL import Image
from torch import Tensor


def from_image(image: Image.Image) -> Tensor:
    """A picture as [1, 3, H, W] in -1..1."""
    return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)[None].float() / 127.5 - 1


def to_image(picture: Tensor) -> Image.Image:
    """[3, H, W] in -1..1 as a picture."""
    return Image.fromarray(((picture.float().cpu().permute(1, 2, 0) + 1) * 127.5).round().clamp(0, 255).byte().numpy())
