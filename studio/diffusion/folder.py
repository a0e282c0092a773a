"""A folder in the diffusers layout to the parts of a Model, offline; every tensor must be there."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from studio.diffusion.assembly import canonical, check, empty_text_encoder, empty_unet, empty_vae, fill, guarded, shapes_of
from studio.diffusion.families import FAMILIES, Family
from studio.errors import Unreadable
from studio.formats.checkpoint import Weights
from studio.formats.keys import State

_OLD_ATTENTION = {".query.": ".to_q.", ".key.": ".to_k.", ".value.": ".to_v.", ".proj_attn.": ".to_out.0."}
_HINT = "Its folder must hold unet, vae, text_encoder and scheduler of a Stable Diffusion model, and text_encoder_2 for SDXL."
_WIDE = 1024


class Folder:
    """An opened diffusers folder whose family is known; each part is read when it is asked for. Raises Unreadable."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.schedule = {k: v for k, v in self._json("scheduler", "scheduler_config.json").items() if not k.startswith("_")}
        self._unet = self._json("unet", "config.json")
        encoders = [name for name in ("text_encoder", "text_encoder_2") if (path / name).is_dir()]
        self._texts = {name: self._json(name, "config.json") for name in encoders or ["text_encoder"]}
        self.family = self._recognise()

    def unet(self, dtype: torch.dtype) -> nn.Module:
        """The UNet."""
        return self._part("unet", "the UNet", lambda: empty_unet(self._unet), dtype)

    def vae(self, dtype: torch.dtype) -> nn.Module:
        """The autoencoder that comes with it."""
        config = self._json("vae", "config.json")
        config.setdefault("scaling_factor", self.family.latent_scale)
        return self._part("vae", "the autoencoder (VAE)", lambda: empty_vae(config), dtype)

    def text_encoders(self, dtype: torch.dtype) -> tuple[nn.Module, ...]:
        """The text encoders in the family's order."""
        return tuple(self._text_encoder(encoder.name, encoder.pooled, dtype) for encoder in self.family.text_encoders)

    def weights_file(self) -> Path | None:
        """The file whose hash stands for the whole: the UNet's first one."""
        files = weight_files(self.path / "unet")
        return files[0] if files else None

    def _text_encoder(self, name: str, pooled: bool, dtype: torch.dtype) -> nn.Module:
        """One text encoder."""
        return self._part(name, "the text encoder", lambda: empty_text_encoder(self._texts[name], pooled), dtype)

    def _part(self, name: str, what: str, make: Callable[[], nn.Module], dtype: torch.dtype) -> nn.Module:
        """One network from its sub-folder."""
        return folder_part(self.path / name, f"{self.path.name}/{name}", what, make, dtype)

    def _json(self, folder: str, name: str) -> dict[str, Any]:
        """One of the folder's settings files; raises Unreadable."""
        try:
            value = json.loads((self.path / folder / name).read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise Unreadable(f"The checkpoint {self.path.name} cannot be loaded (it has no {folder}/{name}).", _HINT) from error
        except (OSError, ValueError) as error:
            raise Unreadable(f"The checkpoint {self.path.name} cannot be loaded ({folder}/{name} cannot be read).", _HINT) from error
        if not isinstance(value, dict):
            raise Unreadable(f"The checkpoint {self.path.name} cannot be loaded ({folder}/{name} holds no settings).", _HINT)
        return value

    def _recognise(self) -> Family:
        """The family, from the settings: two text encoders, OpenCLIP's activation or width, the UNet's channels, the scheduler's prediction."""
        channels, two = self._unet.get("in_channels", 4), len(self._texts) > 1
        first = next(iter(self._texts.values()))
        kind = "open_clip" if first.get("hidden_act") == "gelu" or (first.get("hidden_size") or 0) >= _WIDE else "clip"
        found = [f for f in FAMILIES if f.unet_channels == channels and (len(f.text_encoders) > 1) == two and (two or f.text_encoders[0].kind == kind)]
        if not found:
            raise Unreadable(f"The checkpoint {self.path.name} has a UNet that takes {channels} channels, which is none of the kinds known here.", f"Known are {', '.join(f.name for f in FAMILIES)}.")
        return next((f for f in found if f.prediction == self.schedule.get("prediction_type")), found[0])


def folder_part(folder: Path, name: str, what: str, make: Callable[[], nn.Module], dtype: torch.dtype) -> nn.Module:
    """One network from a folder with config.json and weights; raises Unreadable naming what is missing."""
    files = weight_files(folder)
    if not files:
        raise Unreadable(f"{name} holds no weights.", _HINT)
    state: State = {}
    for file in files:
        state |= Weights(file).read()
    module = guarded(name, what, make)
    wanted = module.state_dict()
    if what == "the text encoder":
        wanted, state = canonical(wanted), canonical(state)
    elif "VAE" in what:
        state = {modern_name(key): tensor for key, tensor in state.items()}
    check(name, what, shapes_of(wanted), shapes_of(state), strict=what == "the UNet")
    return fill(module, state, dtype)


def folder_vae(path: Path, scale: float, dtype: torch.dtype) -> nn.Module:
    """An autoencoder in a diffusers folder of its own; raises Unreadable."""
    try:
        config = json.loads((path / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise Unreadable(f"The VAE {path.name} cannot be loaded (its config.json cannot be read).", "Choose another VAE, or Automatic.") from error
    return folder_part(path, path.name, "the autoencoder (VAE)", lambda: empty_vae({"scaling_factor": scale, **config}), dtype)


def weight_files(folder: Path) -> list[Path]:
    """The weight files of one network: .safetensors before .bin, all pieces of one that was split, full precision before other variants."""
    for suffix in ("safetensors", "bin"):
        found = sorted(p for p in folder.glob(f"*.{suffix}") if p.is_file())
        plain = [p for p in found if p.name.count(".") == 1 and "-of-" not in p.name]
        whole = [p for p in found if "-of-" not in p.name and ".non_ema." not in p.name]
        if plain or whole:
            return (plain or whole)[:1]
        if found:
            variant = found[0].name.split(".")[1:-1]
            return [p for p in found if p.name.split(".")[1:-1] == variant]
    return []


def modern_name(name: str) -> str:
    """An autoencoder's tensor name as diffusers spells it now."""
    for old, new in _OLD_ATTENTION.items():
        name = name.replace(old, new)
    return name
