"""Tools for model files: merge checkpoints, merge, extract, resize and bake LoRAs, and convert checkpoints."""

from typing import Literal

from pydantic import Field, field_validator

from studio.config import Config
from studio.requests.train import check_name

Precision = Literal["as it is", "float16", "bfloat16", "float32"]
NO_VAE = "None"
"""What stands where no autoencoder is chosen."""


class ToolRequest(Config):
    """What every tool is told about the file it makes."""

    name: str = ""
    """Name of the new file; empty = a name made from what goes in."""
    precision: Precision = "as it is"
    """How many bits each number of the new file takes; float16 is what most programs expect."""
    overwrite: bool = Field(False, title="Overwrite")
    """Replace a file of the same name."""

    @field_validator("name")
    @classmethod
    def _name(cls, value: str) -> str:
        return check_name(value) if value.strip() else ""


class MergeRequest(ToolRequest):
    """Merge checkpoints into a new one, tensor by tensor."""

    primary: str = Field(min_length=1, title="Primary model (A)")
    """Checkpoint that the result begins from; what the others lack stays as it is here."""
    secondary: str = Field("", title="Secondary model (B)")
    """Checkpoint that is merged into A."""
    tertiary: str = Field("", title="Tertiary model (C)")
    """Checkpoint whose difference to B is added; for Add difference only."""
    name: str = Field("", title="Custom Name (Optional)")
    """Name of the new file; empty = a name made from what goes in."""
    multiplier: float = Field(0.3, ge=-1, le=2, title="Multiplier (M)", json_schema_extra={"step": 0.05})
    """How much of B: 0 is model A, 1 is model B."""
    method: Literal["No interpolation", "Weighted sum", "Add difference"] = Field("Weighted sum", title="Interpolation Method")
    """Weighted sum is A × (1 - M) + B × M; Add difference is A + (B - C) × M; No interpolation needs A alone."""
    blocks: str = Field("", max_length=2000, title="Block weights (MBW)")
    """Multipliers by block in the place of M: a preset's name, or 26 numbers BASE, IN00-IN11, M00, OUT00-OUT11 (20 for SDXL); X stands for M."""
    bake_in_vae: str = Field(NO_VAE, title="Bake in VAE")
    """Autoencoder that takes the place of A's own; None keeps it."""
    discard: str = Field("", max_length=1000, title="Discard weights with matching name")
    """Regular expression; tensors in whose names it is found are left out, such as ^model_ema."""
    save_metadata: bool = Field(True, title="Save metadata")
    """Say in the file what it is."""
    add_merge_recipe: bool = Field(True, title="Add merge recipe metadata")
    """Say in the file what was merged and how, as A1111 does."""
    copy_metadata_fields: bool = Field(True, title="Copy metadata from merged models")
    """Take over what the merged files say about themselves; where several say something, A's word counts."""


class MergeLoraRequest(ToolRequest):
    """Merge LoRAs of one family into one."""

    loras: str = Field(min_length=1, max_length=4000, title="LoRAs", json_schema_extra={"multiline": True})
    """Each with its strength, as a prompt names them: <lora:name:0.8>, or <lora:name:text encoder:UNet>; lbw= sets weights by block."""
    method: Literal["Concatenation", "SVD"] = Field("Concatenation", title="Merge method")
    """Concatenation is exact and adds up the ranks; SVD keeps the largest part of the sum that a rank can hold."""
    rank: int = Field(32, ge=1, le=1024, title="Rank")
    """Rank of the result by SVD, and of layers that are not plain LoRA."""
    conv_rank: int = Field(0, ge=0, le=1024, title="Rank of convolutions")
    """Rank of 3x3 convolutions by SVD; 0 = as the others."""
    checkpoint: str = Field("", title="Checkpoint")
    """Checkpoint that the LoRAs were made for; needed for LyCORIS and DoRA, whose change depends on its weights."""
    precision: Precision = "float16"
    """How many bits each number of the new file takes; float16 is what most programs expect."""


class ExtractLoraRequest(ToolRequest):
    """Make a LoRA of what lies between two checkpoints."""

    tuned: str = Field(min_length=1, title="Tuned model")
    """Checkpoint that was trained further."""
    original: str = Field(min_length=1, title="Original model")
    """Checkpoint that it was trained from."""
    rank: int = Field(32, ge=1, le=1024, title="Rank")
    """Rank of the linear layers; a larger one keeps more and makes a larger file."""
    conv_rank: int = Field(0, ge=0, le=1024, title="Rank of convolutions")
    """Rank of 3x3 convolutions; 0 leaves them out."""
    text_encoder: bool = Field(True, title="With text encoders")
    """Take the difference of the text encoders too."""
    min_difference: float = Field(0.0001, ge=0, le=1, title="Least difference", json_schema_extra={"step": 0.0001})
    """A layer of which no number differs by more than this is left out."""
    precision: Precision = "float16"
    """How many bits each number of the new file takes; float16 is what most programs expect."""


class ResizeLoraRequest(ToolRequest):
    """Make a LoRA smaller: keep the largest part of each layer's change."""

    lora: str = Field(min_length=1, title="LoRA")
    """File name of the LoRA."""
    rank: int = Field(16, ge=1, le=1024, title="Rank")
    """Rank of every layer, or the most a layer may have when a target decides."""
    conv_rank: int = Field(0, ge=0, le=1024, title="Rank of convolutions")
    """The same for 3x3 convolutions; 0 = as the others."""
    method: Literal["Rank", "Ratio", "Cumulative", "Frobenius"] = Field("Rank", title="Rank by")
    """What decides the rank: a number for all; singular values above the largest one / target; a share of their sum; a share of their Frobenius norm."""
    target: float = Field(0.9, gt=0, le=100000, title="Target")
    """For Ratio how many times smaller than the largest a singular value may be (such as 10); else the share that is kept, below 1."""
    checkpoint: str = Field("", title="Checkpoint")
    """Checkpoint that the LoRA was made for; needed for LyCORIS and DoRA, whose change depends on its weights."""
    precision: Precision = "float16"
    """How many bits each number of the new file takes; float16 is what most programs expect."""


class BakeLoraRequest(ToolRequest):
    """Put LoRAs into a checkpoint for good."""

    checkpoint: str = Field(min_length=1, title="Checkpoint")
    """Checkpoint that receives them; the file itself stays as it is, a new one is written."""
    loras: str = Field(min_length=1, max_length=4000, title="LoRAs", json_schema_extra={"multiline": True})
    """Each with its strength, as a prompt names them: <lora:name:0.8>, or <lora:name:text encoder:UNet>; lbw= sets weights by block."""


class ConvertRequest(ToolRequest):
    """Prune a checkpoint, change its precision or its layout."""

    checkpoint: str = Field(min_length=1, title="Checkpoint")
    """File (.safetensors, .ckpt) or diffusers folder."""
    layout: Literal["Single file", "Diffusers folder"] = Field("Single file", title="Layout")
    """One .safetensors in the original layout, as A1111, Forge and ComfyUI read it, or a folder as diffusers reads it."""
    prune: bool = Field(True, title="Prune")
    """Leave out averaged weights (EMA) and what a training program left behind; no picture changes by it."""
    use_ema: bool = Field(False, title="Take averaged weights (EMA)")
    """Take the averaged weights in the place of the trained ones, where the file holds both."""
    bake_in_vae: str = Field(NO_VAE, title="Bake in VAE")
    """Autoencoder that takes the place of the checkpoint's own; None keeps it."""


class MetadataRequest(Config):
    """Show what the header of a .safetensors file says."""

    file: str = Field("", title="File")
    """Name of a checkpoint, LoRA, embedding or VAE on the shelves, or the path of a .safetensors file."""
