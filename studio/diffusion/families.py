"""Families of Stable Diffusion as values: what a checkpoint of each kind needs and how its header is recognised."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Family:
    """One kind of checkpoint; `header` maps key to shape."""

    name: str
    context_width: int
    resolution: int
    text_root: str
    supported: bool

    def matches(self, header: Mapping[str, tuple[int, ...]]) -> bool:
        """Whether a single file in the original layout is of this family."""
        return any(key.startswith(self.text_root) for key in header)


SD1 = Family("SD1", 768, 512, "cond_stage_model.transformer.", True)
SD2 = Family("SD2", 1024, 768, "cond_stage_model.model.", False)
SDXL = Family("SDXL", 2048, 1024, "conditioner.embedders.", False)
FAMILIES = (SD1, SD2, SDXL)
