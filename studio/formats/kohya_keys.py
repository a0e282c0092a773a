"""Kohya's module names, as LoRA and LyCORIS files spell them, to the module paths of diffusers and transformers and back.

`kohya_name` is what a file is written with; `module_paths` is what a file is read with, and takes every spelling in use.
Parts are called as in a diffusers folder: "unet", "text_encoder", "text_encoder_2". Paths may carry `text_model.` or not.
"""

from collections.abc import Iterable
from functools import lru_cache

from studio.formats.keys import XL_LEVELS, Levels, levels_of, text_name, translate, unet_table

PREFIXES = {
    (False, "unet"): ("lora_unet", "lycoris"),
    (False, "text_encoder"): ("lora_te", "lora_te1"),
    (True, "unet"): ("lora_unet", "lycoris"),
    (True, "text_encoder"): ("lora_te1",),
    (True, "text_encoder_2"): ("lora_te2",),
}
"""(is it SDXL, part): the prefixes that are read; the first is the one written."""


def kohya_name(family_is_xl: bool, part: str, path: str, levels: Levels = XL_LEVELS) -> str:
    """The name of a module in a kohya file, such as `lora_unet_mid_block_attentions_0_proj_in`; raises KeyError for a part the family has not.

    SD1 and SD2 call the UNet's modules as diffusers does; SDXL as the original does, for which `levels` counts its blocks.
    """
    prefix = PREFIXES[family_is_xl, part][0]
    if part != "unet":
        path = text_name(path)
    elif family_is_xl:
        path = _original(path, levels)
    return f"{prefix}_{path}".replace(".", "_")


def module_paths(family_is_xl: bool, part: str, paths: Iterable[str]) -> dict[str, str]:
    """Every name a file may use for each of these modules, to the module's path as given.

    `paths` are all module names of the part (the UNet's levels are counted from them). For a UNet both diffusers' and the
    original names are taken, whatever the family; for a text encoder names with and without `text_model`.
    """
    paths = [path for path in paths if path]
    spelled: dict[str, str] = {}
    if part == "unet":
        levels = levels_of(paths)
        inverse = {there: here for here, there in unet_table(levels).items()}
        for path in paths:
            for name in (path, translate(path, inverse)):
                if name:
                    spelled.setdefault(name, path)
    else:
        for path in paths:
            spelled[text_name(path)] = spelled[text_name(path, flat=True)] = path
    return {f"{prefix}_{name}".replace(".", "_"): path for prefix in PREFIXES[family_is_xl, part] for name, path in spelled.items()}


def _original(path: str, levels: Levels) -> str:
    """A UNet's module path under its original name; a path that is none of diffusers' stays."""
    return translate(path, _inverse(levels)) or path


@lru_cache(maxsize=8)
def _inverse(levels: Levels) -> dict[str, str]:
    """diffusers' module name to the original for a UNet of these levels."""
    return {there: here for here, there in unet_table(levels).items()}
