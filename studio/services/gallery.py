"""Finished pictures: named, described in A1111's words, saved by day, and laid out in a grid."""

import math
import time
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from PIL import Image

from studio.diffusion.model import Model
from studio.formats.carriers import write_picture
from studio.pasting import facts_of, write_hashes, write_infotext
from studio.preferences import Preferences
from studio.requests.generate import GenerateRequest
from studio.services.desk import Desk
from studio.services.repainting import working_size


class Gallery:
    """The pictures of one job."""

    def __init__(self, desk: Desk, hashes: Mapping[str, Mapping[str, str]]) -> None:
        self.desk = desk
        self.hashes = {key: write_hashes(names) for key, names in hashes.items() if names}
        self.folder = desk.paths.images / time.strftime("%Y-%m-%d")
        self.paths: list[Path] = []
        self.texts: list[str] = []
        self.seeds: list[int] = []
        self.grid: Path | None = None
        self._small: list[Image.Image] = []

    def add(self, picture: Image.Image, request: GenerateRequest, index: int, model: Model) -> None:
        """Save picture `index` of a batch with everything that is needed to paint it again."""
        drifting = bool(request.variation_strength)
        seed = request.seed if drifting else request.seed + index
        more: dict[str, object] = dict(self.hashes)
        if drifting:
            more["Variation seed"] = request.variation_seed + index
        text = infotext(model, request.model_copy(update={"seed": seed}), more)
        self.texts.append(text)
        self.seeds.append(seed)
        self._small.append(picture)
        self.paths.append(self._save(picture, text, str(seed)))

    def finish(self, request: GenerateRequest, model: Model) -> None:
        """Lay several pictures out in a grid and save it, when that is wanted."""
        if len(self._small) > 1 and self.desk.preferences().grid_save:
            self.grid = self._save(grid(self._small), infotext(model, request, self.hashes), "grid")

    def result(self) -> dict[str, Any]:
        """What the job gives."""
        found: dict[str, Any] = {"images": [str(p) for p in self.paths], "seeds": self.seeds, "infotexts": self.texts}
        return {**found, "grid": str(self.grid)} if self.grid is not None else found

    def _save(self, image: Image.Image, text: str, name: str) -> Path:
        """Write a picture under the next free number of its day."""
        wanted: Preferences = self.desk.preferences()
        self.folder.mkdir(parents=True, exist_ok=True)
        number = 1 + max((int(p.name[:5]) for p in self.folder.glob("[0-9][0-9][0-9][0-9][0-9]-*")), default=-1)
        path = self.folder / f"{number:05d}-{name}.{wanted.samples_format}"
        write_picture(image, path, text, wanted.samples_format, wanted.jpeg_quality)
        if wanted.save_txt:
            path.with_suffix(".txt").write_text(text + "\n", encoding="utf-8")
        return path


def infotext(model: Model, request: GenerateRequest, more: Mapping[str, object] = MappingProxyType({})) -> str:
    """What A1111 would write for a picture."""
    width, height = working_size(model, request)
    facts = facts_of(request, {"Size": f"{width}x{height}", "Model hash": model.hash, "Model": Path(model.checkpoint).stem, **_autoencoder(model), **more})
    return write_infotext(request.prompt, request.negative_prompt, facts)


def _autoencoder(model: Model) -> dict[str, object]:
    """The autoencoder, when it is not the checkpoint's own."""
    return {"VAE hash": model.vae_hash or None, "VAE": model.vae_name} if model.vae_name else {}


def grid(pictures: list[Image.Image]) -> Image.Image:
    """Pictures of one size in rows that make the whole nearly square."""
    columns = math.ceil(math.sqrt(len(pictures)))
    rows = math.ceil(len(pictures) / columns)
    width, height = max(p.width for p in pictures), max(p.height for p in pictures)
    sheet = Image.new("RGB", (columns * width, rows * height), "black")
    for i, picture in enumerate(pictures):
        sheet.paste(picture, (i % columns * width, i // columns * height))
    return sheet
