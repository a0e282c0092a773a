"""SD upscale: A1111's img2img script that makes a large image tile by tile."""

from pydantic import Field, model_validator

from studio.config import Config
from studio.requests.generate import GenerateRequest


class SdUpscaleRequest(Config):
    """Upscale the image of img2img, then repaint it in tiles of the width and height that are set."""

    base: GenerateRequest
    """How each tile is repainted; its width and height are the tile's, 0 = 512."""
    overlap: int = Field(64, ge=0, le=256, title="Tile overlap", json_schema_extra={"step": 16})
    """Pixels that neighboring tiles share; too few show seams."""
    scale: float = Field(2.0, ge=1, le=4, title="Scale Factor", json_schema_extra={"step": 0.05})
    """How many times larger the result is; with the upscaler None the image keeps its size."""
    upscaler: str = Field("None", max_length=200, title="Upscaler")
    """Enlarges the image before the tiles are repainted: Lanczos, Nearest, or a model from models/ESRGAN."""

    @model_validator(mode="after")
    def _fits(self) -> "SdUpscaleRequest":
        """An image without a mask, and tiles wider than their overlap."""
        if not self.base.init_image:
            raise ValueError("SD upscale needs an input image; use it in img2img.")
        if self.base.mask:
            raise ValueError("SD upscale repaints the whole image; use it in img2img without a mask.")
        side = min(self.base.width or 512, self.base.height or 512)
        if self.overlap > side // 2:
            raise ValueError(f"Tile overlap: {self.overlap} pixels are more than half of a tile's side ({side}); use {side // 2} or less.")
        return self
