"""Painting: txt2img, img2img when an initial image is given, and inpainting when a mask is given too."""

from typing import Literal

from pydantic import Field, model_validator

from studio.config import Config

Sampler = Literal[
    "DPM++ 2M",
    "DPM++ SDE",
    "DPM++ 2M SDE",
    "DPM++ 2M SDE Heun",
    "DPM++ 2S a",
    "DPM++ 3M SDE",
    "Euler a",
    "Euler",
    "LMS",
    "Heun",
    "DPM2",
    "DPM2 a",
    "DPM fast",
    "DPM adaptive",
    "Restart",
    "DDIM",
    "DDIM CFG++",
    "PLMS",
    "UniPC",
    "LCM",
]
Schedule = Literal["Automatic", "Uniform", "Karras", "Exponential", "Polyexponential", "SGM Uniform", "KL Optimal", "Align Your Steps", "Simple", "Normal", "DDIM", "Beta", "Turbo"]
Emphasis = Literal["Original", "No norm", "Ignore"]
NoiseSource = Literal["CPU", "NV"]
ResizeMode = Literal["Just resize", "Crop and resize", "Resize and fill", "Just resize (latent upscale)"]
MaskedContent = Literal["fill", "original", "latent noise", "latent nothing"]
InpaintArea = Literal["Whole picture", "Only masked"]
MaskMode = Literal["Inpaint masked", "Inpaint not masked"]

PROMPT_LIMIT = 20_000


class Walk(Config):
    """What the denoising walk needs, whatever it begins from."""

    prompt: str = Field("", max_length=PROMPT_LIMIT, json_schema_extra={"multiline": True})
    """What to paint. Embeddings are used by writing their name."""
    negative_prompt: str = Field("", max_length=PROMPT_LIMIT, json_schema_extra={"multiline": True})
    """What to keep out of the picture. Embeddings work here too."""
    styles: tuple[str, ...] = ()
    """Names of saved styles whose words are added to both prompts."""
    checkpoint: str = ""
    """Name of the checkpoint; empty means the default one."""
    vae: str = Field("Automatic", title="VAE")
    """The autoencoder: Automatic takes the file beside the checkpoint, else its own; None its own; or a name from models/VAE."""
    sampler: Sampler = Field("DPM++ 2M", title="Sampling method")
    """How noise is turned into a picture."""
    scheduler: Schedule = Field("Automatic", title="Schedule type")
    """How the noise is spread over the steps; Automatic is the sampler's own."""
    steps: int = Field(20, ge=1, le=150, title="Sampling steps")
    """How many times the picture is improved, from noise to done."""
    width: int = Field(0, ge=0, le=2048, json_schema_extra={"step": 8})
    """Pixels, a multiple of 8; 0 = the checkpoint's own."""
    height: int = Field(0, ge=0, le=2048, json_schema_extra={"step": 8})
    """Pixels, a multiple of 8; 0 = the checkpoint's own."""
    batch_count: int = Field(1, ge=1, le=100)
    """How many batches are made, one after another."""
    batch_size: int = Field(1, ge=1, le=16)
    """How many pictures are made at once; picture i uses seed + i."""
    cfg_scale: float = Field(5.0, ge=0, le=30, title="CFG Scale", json_schema_extra={"step": 0.5})
    """How strictly the prompt is followed."""
    seed: int = Field(-1, ge=-1, le=2**32 - 1)
    """-1 draws a new one each time."""
    variation_seed: int = Field(-1, ge=-1, le=2**32 - 1)
    """The seed to drift towards; -1 draws one."""
    variation_strength: float = Field(0.0, ge=0, le=1, json_schema_extra={"step": 0.01})
    """How far to drift from the seed to the variation seed: 0 not at all, 1 all the way."""
    seed_width: int = Field(0, ge=0, le=2048, title="Resize seed from width", json_schema_extra={"step": 8})
    """Keep the composition that the seed gives at this width; 0 = off."""
    seed_height: int = Field(0, ge=0, le=2048, title="Resize seed from height", json_schema_extra={"step": 8})
    """Keep the composition that the seed gives at this height; 0 = off."""
    clip_skip: int = Field(1, ge=1, le=12, title="Clip skip")
    """Stop the text encoder this many layers before its end (1 = all of it); Stable Diffusion 1 only."""
    emphasis: Emphasis = "Original"
    """What weights in brackets do: scale and restore the mean, scale only, or nothing."""
    comma_backtrack: int = Field(20, ge=0, le=74, title="Comma backtrack")
    """When 75 tokens are full, go back to a comma at most so many tokens away."""
    old_prompt_editing: bool = Field(False, title="Old prompt editing timelines")
    """Read [from:to:N] as A1111 did before 1.6: N below 1 is a share of the steps, and hires. fix counts from 0 again; for pictures made with it."""
    noise_source: NoiseSource = Field("CPU", title="RNG")
    """Where noise comes from: NV makes what an Nvidia card makes, on any device, as most pictures on the web were."""
    ensd: int = Field(0, ge=-(2**31), le=2**31 - 1, title="Eta noise seed delta")
    """Added to the seed of the noise that ancestral samplers draw on the way."""
    eta: float | None = Field(None, ge=0, le=1)
    """How much new noise ancestral samplers and DDIM add at each step; empty = the sampler's own (1 for ancestral ones, 0 for DDIM)."""
    s_churn: float = Field(0.0, ge=0, le=100, title="Sigma churn")
    """Noise that Euler, Heun and DPM2 put back at each step (Karras et al. 2022)."""
    s_tmin: float = Field(0.0, ge=0, le=10, title="Sigma tmin")
    """Churn only above this noise level."""
    s_tmax: float = Field(0.0, ge=0, le=999, title="Sigma tmax")
    """Churn only below this noise level; 0 = no limit."""
    s_noise: float = Field(1.0, ge=0, le=1.1, title="Sigma noise")
    """Strength of noise that is put back."""
    tiling: bool = False
    """Make pictures that continue seamlessly at their edges."""
    preview_every: int = Field(4, ge=0, le=150, title="Live preview every (steps)")
    """Show the unfinished picture every so many steps; 0 = never."""


class Repaint(Walk):
    """What is added when a picture is given."""

    init_image: str = ""
    """Path of the picture to begin from; needed for img2img and inpainting."""
    mask: str = ""
    """Path of the mask, as large as the picture: white is repainted."""
    sketch: str = ""
    """Path of coloured strokes with alpha, laid over the picture before it is repainted; with the same file as mask, only they are."""
    resize_mode: ResizeMode = "Just resize"
    """What happens when the picture has another shape than the result."""
    background_color: str = Field("#ffffff", pattern=r"^#[0-9a-fA-F]{6}$", title="Background color")
    """Color behind the transparent parts of the input image, such as #ffffff."""
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
    color_correction: bool = Field(False, title="Apply color correction to match original colors")
    """Give the result the colours of the picture it began from."""
    inpainting_mask_weight: float = Field(1.0, ge=0, le=1, title="Inpainting conditioning mask strength")
    """How strongly a checkpoint made for inpainting sees the mask: 0 shows it the whole picture."""
    soft_inpainting: bool = False
    """Blend what was painted into what was there by degrees, following the softness of the mask."""
    soft_schedule_bias: float = Field(1.0, ge=0, le=8, title="Schedule bias")
    """Above 1, the mask's influence comes later in the walk; below 1, earlier."""
    soft_preservation: float = Field(0.5, ge=0, le=8, title="Preservation strength")
    """How strongly partly masked content is kept."""
    soft_contrast: float = Field(4.0, ge=1, le=32, title="Transition contrast boost")
    """How much detail is kept where both are blended."""
    soft_mask_influence: float = Field(0.0, ge=0, le=1, title="Mask influence")
    """How much the mask itself decides in the final blending of pixels."""
    soft_difference_threshold: float = Field(0.5, ge=0, le=8, title="Difference threshold")
    """How much a pixel must have changed to be taken from the new picture."""
    soft_difference_contrast: float = Field(2.0, ge=0, le=8, title="Difference contrast")
    """How sharply the final blending goes from one picture to the other."""


class GenerateRequest(Repaint):
    """One press of Generate."""

    hires: bool = Field(False, title="Hires. fix")
    """Paint small first, enlarge, and paint again: fewer doubled heads in large pictures."""
    hires_upscaler: str = Field("Latent", title="Upscaler")
    """How the small picture is enlarged: a way of the latents, Lanczos, Nearest, or a model from models/ESRGAN."""
    hires_steps: int = Field(0, ge=0, le=150, title="Hires steps")
    """Steps of the second pass; 0 = as many as the first."""
    hires_denoising_strength: float = Field(0.7, ge=0, le=1, title="Hires denoising strength", json_schema_extra={"step": 0.01})
    """How far the second pass may go from the enlarged picture."""
    hires_scale: float = Field(2.0, ge=1, le=4, title="Upscale by", json_schema_extra={"step": 0.05})
    """How many times larger the result is."""
    hires_width: int = Field(0, ge=0, le=2048, title="Resize width to", json_schema_extra={"step": 8})
    """Width of the result in the place of a scale; 0 = by the height, or by the scale."""
    hires_height: int = Field(0, ge=0, le=2048, title="Resize height to", json_schema_extra={"step": 8})
    """Height of the result in the place of a scale; 0 = by the width, or by the scale."""
    hires_sampler: Literal["Use same sampler", Sampler] = Field("Use same sampler", title="Hires sampling method")
    """Sampler of the second pass."""
    hires_scheduler: Literal["Use same scheduler", Schedule] = Field("Use same scheduler", title="Hires schedule type")
    """Schedule type of the second pass."""
    hires_prompt: str = Field("", max_length=PROMPT_LIMIT, json_schema_extra={"multiline": True})
    """Prompt of the second pass; empty = the first one's."""
    hires_negative_prompt: str = Field("", max_length=PROMPT_LIMIT, json_schema_extra={"multiline": True})
    """Negative prompt of the second pass; empty = the first one's."""

    @property
    def repainting(self) -> bool:
        """Whether this begins from a given picture."""
        return bool(self.init_image)

    @property
    def inpainting(self) -> bool:
        """Whether only a part of the given picture is repainted."""
        return bool(self.init_image and self.mask)

    @model_validator(mode="after")
    def _sizes(self) -> "GenerateRequest":
        """Widths and heights the model can work with, and a picture for every mask."""
        sides = ("width", "height", "hires_width", "hires_height", "seed_width", "seed_height")
        for name in sides:
            value = getattr(self, name)
            if value and (value % 8 or value < 64):
                label = type(self).model_fields[name].title or name.capitalize()
                raise ValueError(f"{label} must be a multiple of 8 and at least 64, not {value}; try {max(64, round(value / 8) * 8)}.")
        if self.mask and not self.init_image:
            raise ValueError("A mask was given without a picture to repaint; choose the picture first.")
        if self.hires and self.init_image:
            raise ValueError("Hires. fix belongs to txt2img; a given picture is enlarged by its width and height.")
        return self
