"""Families of Stable Diffusion as values: what a checkpoint of each kind needs and how its header is recognised.

A question about a family is a field here, never a test of its name.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from studio.errors import Unreadable
from studio.formats.keys import UNET, VAE, Kind, Part

Shapes = Mapping[str, tuple[int, ...]]

_CONV_IN = f"{UNET.root}input_blocks.0.0.weight"


@dataclass(frozen=True)
class TextEncoder:
    """One text encoder of a family: where it stands in a checkpoint and how its output is used."""

    name: str
    """Its folder in the diffusers layout."""
    kind: Kind
    """ "clip" (Hugging Face names) or "open_clip"."""
    root: str
    """What its tensors' names begin with in the original layout."""
    pad: int
    """The token after the end token."""
    layer: int = 1
    """Which output makes the context, counted from the end of what is loaded; clip skip may go further where it is 1 and skippable."""
    normed: bool = True
    """Whether the final norm is applied to it."""
    skippable: bool = True
    """Whether clip skip is heard."""
    pooled: bool = False
    """Whether its projected end token conditions the UNet too."""
    unused: int = 0
    """Layers at the end of the original file that nothing uses; they are not loaded."""

    @property
    def part(self) -> Part:
        """This encoder as a part of a file."""
        return Part(self.kind, self.root)


@dataclass(frozen=True)
class Family:
    """One kind of checkpoint."""

    name: str
    unet_channels: int
    """Channels the UNet takes: 4, or 9 with a mask and a masked picture for inpainting."""
    context_width: int
    """Width of the UNet's context in the published checkpoints."""
    resolution: int
    """Width and height in pixels it was made for."""
    text_encoders: tuple[TextEncoder, ...]
    latent_scale: float = 0.18215
    """What the autoencoder's latents are multiplied with."""
    prediction: str = "epsilon"
    """What the UNet predicts unless the file says otherwise: "epsilon" or "v_prediction"."""
    micro_conditions: bool = False
    """Whether the UNet wants the picture's size and crop."""
    heads: int = 0
    """Attention heads in every layer; 0 = as many as 64 goes into its width."""
    architecture: str = ""
    """modelspec's name of it."""

    @property
    def inpaints(self) -> bool:
        """Whether the UNet takes a mask and a masked picture beside the latents."""
        return self.unet_channels == 9

    @property
    def parts(self) -> dict[str, Part]:
        """Every part of a single file, by its folder's name in the diffusers layout."""
        return {"unet": UNET, "vae": VAE, **{encoder.name: encoder.part for encoder in self.text_encoders}}

    def matches(self, header: Shapes) -> bool:
        """Whether a single file in the original layout (name to shape) is of this family; prediction cannot be seen there."""
        channels = header.get(_CONV_IN, (0, self.unet_channels))
        return len(channels) > 1 and channels[1] == self.unet_channels and all(any(k.startswith(e.root) for k in header) for e in self.text_encoders)


_CLIP_L = TextEncoder("text_encoder", "clip", "cond_stage_model.transformer.", pad=49407)
_OPEN_CLIP_H = TextEncoder("text_encoder", "open_clip", "cond_stage_model.model.", pad=0, skippable=False, unused=1)
_XL = (
    TextEncoder("text_encoder", "clip", "conditioner.embedders.0.transformer.", pad=49407, layer=2, normed=False, skippable=False),
    TextEncoder("text_encoder_2", "open_clip", "conditioner.embedders.1.model.", pad=0, layer=2, normed=False, skippable=False, pooled=True),
)

SD1 = Family("SD1", 4, 768, 512, (_CLIP_L,), heads=8, architecture="stable-diffusion-v1")
SD1_INPAINT = Family("SD1 inpainting", 9, 768, 512, (_CLIP_L,), heads=8, architecture="stable-diffusion-v1")
SD2 = Family("SD2", 4, 1024, 512, (_OPEN_CLIP_H,), architecture="stable-diffusion-v2-512")
SD2_V = Family("SD2 v", 4, 1024, 768, (_OPEN_CLIP_H,), prediction="v_prediction", architecture="stable-diffusion-v2-768-v")
SD2_INPAINT = Family("SD2 inpainting", 9, 1024, 512, (_OPEN_CLIP_H,), architecture="stable-diffusion-v2-512")
SDXL = Family("SDXL", 4, 2048, 1024, _XL, latent_scale=0.13025, micro_conditions=True, architecture="stable-diffusion-xl-v1-base")
SDXL_INPAINT = Family("SDXL inpainting", 9, 2048, 1024, _XL, latent_scale=0.13025, micro_conditions=True, architecture="stable-diffusion-xl-v1-base")
FAMILIES = (SD1, SD1_INPAINT, SD2, SD2_V, SD2_INPAINT, SDXL, SDXL_INPAINT)

_STRANGERS = (
    ("model.diffusion_model.joint_blocks.", "a Stable Diffusion 3 checkpoint"),
    ("joint_blocks.", "a Stable Diffusion 3 checkpoint"),
    ("model.diffusion_model.double_blocks.", "a Flux checkpoint"),
    ("double_blocks.", "a Flux checkpoint"),
    ("conditioner.embedders.0.model.", "an SDXL refiner"),
    ("conditioner.embedders.0.open_clip.", "a video model"),
    ("lora_", "a LoRA: it belongs into models/Lora"),
    ("encoder.conv_in.", "an autoencoder: it belongs into models/VAE"),
    ("emb_params", "an embedding: it belongs into embeddings"),
    ("control_model.", "a ControlNet"),
    ("down_blocks.", "a UNet in the diffusers layout: put its whole folder, with model_index.json, into models/Stable-diffusion"),
)
"""How the names in files begin that are often taken for checkpoints, and what the files are."""


def recognise(name: str, header: Shapes, prediction: str | None = None) -> Family:
    """The family of a single file from its header (name to shape) and what it says it predicts; raises Unreadable in words."""
    found = [family for family in FAMILIES if family.matches(header)]
    if found and not any(key.startswith("embedder.model.") for key in header):
        return next((family for family in found if family.prediction == prediction), found[0])
    channels = header.get(_CONV_IN)
    known = ", ".join(dict.fromkeys(family.name for family in FAMILIES))
    if channels and len(channels) > 1 and channels[1] not in {family.unet_channels for family in FAMILIES}:
        raise Unreadable(f"{name} is a checkpoint whose UNet takes {channels[1]} channels, which is none of the kinds known here.", f"Known are {known}.")
    for start, kind in _STRANGERS:
        if any(key.startswith(start) for key in header):
            raise Unreadable(f"{name} is not a Stable Diffusion checkpoint of a kind known here; it looks like {kind}.", f"Known are {known}.")
    if channels:
        raise Unreadable(
            f"{name} has no text encoder (nothing begins with {' or '.join(dict.fromkeys(e.root for f in FAMILIES for e in f.text_encoders[:1]))}).", "It was pruned too far; get it again."
        )
    raise Unreadable(f"{name} is not a Stable Diffusion checkpoint: it has no text encoder, UNet and VAE in the original layout.", "LoRA files belong into models/Lora, VAEs into models/VAE.")
