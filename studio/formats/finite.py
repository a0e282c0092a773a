"""Whether tensors hold finite numbers, whatever type they are stored in."""

import torch
from torch import Tensor


def is_finite(tensor: Tensor) -> bool:
    """Whether every number is finite; torch itself doesn't ask 8-bit floats, which are widened first."""
    return bool(torch.isfinite(tensor.float() if tensor.dtype.itemsize < 2 else tensor).all())
