"""What a person sets once for the whole studio, under A1111's names where A1111 has one; kept in settings.json."""

import json
import os
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator

from studio.config import Config
from studio.errors import StudioError
from studio.webhook import check_address

MemoryMode = Literal["normal", "medvram", "lowvram"]
ImageFormat = Literal["png", "jpg", "webp"]


class Preferences(Config):
    """Settings of the studio; what a request leaves open is taken from here."""

    sd_model_checkpoint: str = Field("", title="Checkpoint")
    """The checkpoint that is chosen; empty = the last one used."""
    sd_vae: str = Field("Automatic", title="VAE")
    """The autoencoder that is chosen."""
    CLIP_stop_at_last_layers: int = Field(1, ge=1, le=12, title="Clip skip")
    """Clip skip."""
    emphasis: Literal["Original", "No norm", "Ignore"] = "Original"
    """What weights in prompts do."""
    comma_padding_backtrack: int = Field(20, ge=0, le=74, title="Comma backtrack")
    """How far back a full chunk of a prompt may end at a comma."""
    use_old_scheduling: bool = Field(False, title="Old prompt editing timelines")
    """Read prompt editing as A1111 did before 1.6."""
    randn_source: Literal["CPU", "NV"] = Field("CPU", title="RNG")
    """Where noise comes from."""
    eta_noise_seed_delta: int = Field(0, ge=-(2**31), le=2**31 - 1, title="Eta noise seed delta")
    """ENSD."""
    img2img_background_color: str = Field("#ffffff", pattern=r"^#[0-9a-fA-F]{6}$", title="Background color of img2img")
    """Color behind the transparent parts of input images in img2img, such as #ffffff."""
    samples_format: ImageFormat = Field("png", title="Image format")
    """File format of pictures."""
    jpeg_quality: int = Field(80, ge=1, le=100, title="JPEG quality")
    """Quality of JPEG and lossy WebP."""
    grid_save: bool = Field(True, title="Save grids")
    """Save a grid when several pictures are made in one go."""
    save_txt: bool = Field(False, title="Save text files")
    """Write the infotext into a text file beside each picture."""
    show_progress_every_n_steps: int = Field(4, ge=0, le=150, title="Live preview every (steps)")
    """Live preview every so many steps; 0 = never."""
    cache_gb: float = Field(0.0, ge=0, le=4096, title="Memory for loaded models, GB")
    """How much memory models may take on the device; 0 = what is free."""
    memory_mode: MemoryMode = "normal"
    """medvram and lowvram let parts of a model visit the card one after another."""
    webhook: str = Field("", max_length=2000, title="Webhook of trainings")
    """Address that is told when a training ends, fails or pauses by itself, such as one of ntfy, Slack, WeCom or DingTalk; empty = nobody."""
    webhook_local: bool = Field(False, title="Webhook to this machine")
    """Let the webhook go to this machine or a link-local address too, such as a service that runs beside the studio."""

    @field_validator("webhook")
    @classmethod
    def _address(cls, value: str) -> str:
        return check_address(value)


def read_preferences(path: Path) -> Preferences:
    """What is set; the defaults when nothing was. Raises StudioError when the file is damaged."""
    if not path.is_file():
        return Preferences()
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        known = {k: v for k, v in values.items() if k in Preferences.model_fields}
    except (OSError, ValueError, AttributeError) as error:
        raise StudioError(f"{path.name} cannot be read ({error}).", "Mend it, or delete it to go back to the defaults.") from error
    return Preferences.check(known)  # type: ignore[return-value]


def current_preferences(path: Path) -> Preferences:
    """What is set now; the file is read again only when it has changed. Raises StudioError when it is damaged."""
    try:
        stat = path.stat()
    except OSError:
        return Preferences()
    return _kept(path, stat.st_mtime_ns, stat.st_size, stat.st_ino)


@lru_cache(maxsize=4)
def _kept(path: Path, _changed: int, _size: int, _inode: int) -> Preferences:
    """What a file held when it looked like this; each writing makes a new inode."""
    return read_preferences(path)


def write_preferences(path: Path, preferences: Preferences) -> None:
    """Keep them, whole or not at all."""
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    temporary.write_text(json.dumps(preferences.model_dump(), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    os.replace(temporary, path)


def changed(preferences: Preferences, values: dict[str, Any]) -> Preferences:
    """The same with some values changed; raises InputError naming every mistake."""
    return Preferences.check({**preferences.model_dump(), **values})  # type: ignore[return-value]
