"""Torch's pickled files, read without running code from them."""

from pathlib import Path
from typing import Any

import torch

from studio.errors import Unreadable


def load_pickle(path: Path, mmap: bool = False) -> Any:
    """Read a torch file without running code from it, its tensors mapped and not read with `mmap`; raises Unreadable naming what was refused."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
    except FileNotFoundError:
        raise
    except Exception as error:
        lines = [line.strip() for line in str(error).splitlines() if "GLOBAL" in line or "global" in line]
        reason = lines[0] if lines else f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'it is damaged'}"
        raise Unreadable(f"{path.name} cannot be read safely ({reason[:200]}).", "Nothing in it was run. Get the file again, as .safetensors if there is one.") from error
