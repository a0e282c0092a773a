"""Painting: txt2img, and inpainting when an initial image and a mask are given."""

from typing import Literal

from pydantic import Field, model_validator

from studio.config import Config

Sampler = Literal["DPM++ 2M", "DPM++ 2M Karras", "Euler a", "Euler", "Heun", "LMS", "DDIM", "UniPC"]
MaskedContent = Literal["fill", "original", "latent noise", "latent nothing"]
InpaintArea = Literal["Whole picture", "Only masked"]
MaskMode = Literal["Inpaint masked", "Inpaint not masked"]

PROMPT_LIMIT = 20_000


class GenerateRequest(Config):
    """One press of Generate."""

    prompt: str = Field("", max_length=PROMPT_LIMIT, json_schema_extra={"multiline": True})
    """What to paint. Embeddings are used by writing their name."""
    negative_prompt: str = Field("", max_length=PROMPT_LIMIT, json_schema_extra={"multiline": True})
    """What to keep out of the picture. Embeddings work here too."""
    checkpoint: str = ""
    """Name of the checkpoint; empty means the default one."""
    sampler: Sampler = Field("DPM++ 2M", title="Sampling method")
    """How noise is turned into a picture."""
    steps: int = Field(20, ge=1, le=150, title="Sampling steps")
    """How many times the picture is improved, from noise to done."""
    width: int = Field(0, ge=0, le=2048, json_schema_extra={"step": 8})
    """Pixels, a multiple of 8; 0 = the checkpoint's own."""
    height: int = Field(0, ge=0, le=2048, json_schema_extra={"step": 8})
    """Pixels, a multiple of 8; 0 = the checkpoint's own."""
    cfg_scale: float = Field(5.0, ge=1, le=30, title="CFG Scale", json_schema_extra={"step": 0.5})
    """How strictly the prompt is followed."""
    batch_size: int = Field(1, ge=1, le=16)
    """How many pictures are made at once; picture i uses seed + i."""
    seed: int = Field(-1, ge=-1, le=2**32 - 1)
    """-1 draws a new one each time."""
    clip_skip: int = Field(1, ge=1, le=4, title="Clip skip")
    """Stop the text encoder this many layers before its end (1 = all of it)."""
    preview_every: int = Field(4, ge=0, le=150, title="Live preview every (steps)")
    """Show the unfinished picture every so many steps; 0 = never."""
    init_image: str = ""
    """Path of the picture to repaint; needed for inpainting."""
    mask: str = ""
    """Path of the mask, as large as the picture: white is repainted."""
    denoising_strength: float = Field(0.75, ge=0, le=1, json_schema_extra={"step": 0.01})
    """How far the repainted part may go from what was there: 0 keeps it, 1 starts anew."""
    mask_blur: int = Field(4, ge=0, le=64)
    """Softness of the mask's edge in pixels."""
    mask_mode: MaskMode = "Inpaint masked"
    """Repaint what is under the mask, or all but that."""
    masked_content: MaskedContent = "original"
    """What the masked part holds before it is repainted."""
    inpaint_area: InpaintArea = "Whole picture"
    """Repaint at the whole picture's scale, or zoom into the masked part."""
    padding: int = Field(32, ge=0, le=256, title="Only masked padding, pixels", json_schema_extra={"step": 4})
    """How much surrounding is shown to the model when only the masked part is repainted."""

    @property
    def inpainting(self) -> bool:
        """Whether this repaints a given picture."""
        return bool(self.init_image)

    @model_validator(mode="after")
    def _sizes(self) -> "GenerateRequest":
        """Widths and heights the model can work with, and a picture for every mask."""
        for name, value in (("Width", self.width), ("Height", self.height)):
            if value and (value % 8 or value < 64):
                raise ValueError(f"{name} must be a multiple of 8 and at least 64, not {value}; try {max(64, round(value / 8) * 8)}.")
        if self.mask and not self.init_image:
            raise ValueError("A mask was given without a picture to repaint; choose the picture first.")
        return self
