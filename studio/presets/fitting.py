"""What a card's memory allows: one sentence for a method, a family and so many bytes, from the figures other programs publish."""

from dataclasses import dataclass

from studio.presets.reason import Reason
from studio.requests.train import config_class

GIB = 2**30
SAVING = {
    "training": "gradient checkpointing and batch 1",
    "adapter": "gradient checkpointing, batch 1 and an 8-bit optimizer",
    "network": "gradient checkpointing, batch 1 and Adafactor or an 8-bit optimizer",
}
"""What makes a training fit at the least memory."""


@dataclass(frozen=True)
class Need:
    """Memory of a training, in GB as cards are sold: at the least with everything that saves, and what needs no care."""

    least: float
    easy: float
    saving: str
    source: str
    """Who states these figures."""


_TI = Need(6, 12, "training", "A1111 says under 6 GB with VAE and CLIP moved off, diffusers 11.5 GB")
_TI_XL = Need(10, 24, "training", "no source states a figure: SDXL LoRA's 8 GB and the 1.6 GB of text encoders that have to stay; invoke-training's sample is for 24 GB")
_LORA = Need(8, 16, "adapter", "diffusers says under 11 GB at batch 1, LyCORIS 15.4 GB at batch 8")
_LORA_XL = Need(8, 16, "adapter", "sd-scripts says 8 GB at the least and 10 recommended, diffusers under 16 GB")
_WHOLE = Need(16, 24, "network", "diffusers says 16 GB with checkpointing and 8-bit, 24 GB with the text encoder or without care")
_WHOLE_XL = Need(10.3, 24, "network", "sd-scripts and OneTrainer say 10 GB with bf16 weights and a fused backward, 17 GB in fp32, 24 GB without")
_TOGETHER_XL = Need(10, 16, "adapter", "as SDXL LoRA, and the 1.6 GB of text encoders that the embedding needs on the card")
_HYPER = Need(6, 12, "training", "no source states a figure: as textual inversion, whose activations are the same")

NEEDS: dict[str, tuple[Need, Need]] = {
    "textual_inversion": (_TI, _TI_XL),
    "lora": (_LORA, _LORA_XL),
    "lycoris": (_LORA, _LORA_XL),
    "hypernetwork": (_HYPER, _TI_XL),
    "dreambooth": (_WHOLE, _WHOLE_XL),
    "fine_tune": (_WHOLE, _WHOLE_XL),
    "together": (_LORA, _TOGETHER_XL),
}
"""Method: what it needs on SD1 and SD2 at 512 pixels, and on SDXL at 1024 (training.md 4.2)."""
_SMALLER = {"dreambooth": "DreamBooth into a LoRA", "fine_tune": "LoRA", "together": "LoRA"}
_NAMES = {
    "textual_inversion": "Textual inversion",
    "lora": "LoRA",
    "lycoris": "LyCORIS",
    "hypernetwork": "A hypernetwork",
    "dreambooth": "DreamBooth",
    "fine_tune": "A full fine-tune",
    "together": "Embedding and LoRA together",
}

UNSTATED = "No source states how much graphics memory {method} needs."
UNKNOWN = "{method} on {family} needs {least} GB of graphics memory at the least, with {saving}; {easy} GB need no care ({source})."
EASY = "{method} on {family} fits this card of {card} GB without care; a larger batch fills it ({source})."
LEAN = "{method} on {family} fits this card of {card} GB only with {saving}: {least} GB at the least, {easy} GB without care ({source})."
CLOSE = "{method} on {family} is at the edge of this card of {card} GB: it needs {least} GB even with {saving}; a smaller resolution makes room ({source})."
OVER = "{method} on {family} does not fit this card of {card} GB: it needs {least} GB even with {saving} ({source})."
INSTEAD = "{method} on {family} does not fit this card of {card} GB: it needs {least} GB even with {saving} ({source}). {smaller} does the same for less."


def fits(method: str, family: str, vram_bytes: int | None) -> Reason:
    """Whether a method fits a card of so many bytes (None = not known), and with what; `family` may be a full name such as "SD2 inpainting". Of a method just added, nobody states it."""
    if method not in NEEDS:
        return Reason(UNSTATED, {"method": config_class(method).title})
    need = need_of(method, family)
    values = {"method": _NAMES[method], "family": base_of(family), "least": f"{need.least:g}", "easy": f"{need.easy:g}", "saving": SAVING[need.saving], "source": need.source}
    if vram_bytes is None:
        return Reason(UNKNOWN, values)
    card = round(vram_bytes / GIB)
    values["card"] = str(card)
    if card >= need.easy:
        return Reason(EASY, values)
    if card >= need.least:
        return Reason(LEAN, values)
    if card >= need.least * 0.75:
        return Reason(CLOSE, values)
    smaller = _SMALLER.get(method)
    return Reason(INSTEAD, {**values, "smaller": smaller}) if smaller else Reason(OVER, values)


def need_of(method: str, family: str) -> Need:
    """What a method needs on a family; raises KeyError for a method that is not known."""
    small, large = NEEDS[method]
    return large if base_of(family) == "SDXL" else small


def base_of(family: str) -> str:
    """ "SD1", "SD2" or "SDXL" of a family's name in any spelling; SD1 for what is none of them."""
    name = family.upper().replace(" ", "").replace("_", "")
    return "SDXL" if "XL" in name else "SD2" if name.startswith(("SD2", "SDV2", "V2", "STABLEDIFFUSION2", "STABLE-DIFFUSION-V2")) else "SD1"


def saves_memory(method: str, family: str, card_gb: float = 8) -> bool:
    """Whether a preset shall save memory so that a card of so many GB can run it."""
    return need_of(method, family).easy > card_gb and (base_of(family) == "SDXL" or method in ("dreambooth", "fine_tune"))
