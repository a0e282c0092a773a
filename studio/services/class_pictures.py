"""Class pictures: what the checkpoint itself paints of a class, made once, kept for later trainings, and encoded like all pictures."""

import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from studio.dataset.latents import Encoder, LatentStore, Sample
from studio.diffusion.model import Model
from studio.files import atomic_write
from studio.jobs import Lane
from studio.requests.generate import GenerateRequest
from studio.requests.train import PriorConfig
from studio.services.desk import Desk
from studio.services.encoding import AT_ONCE as AREA
from studio.services.encoding import latent_store
from studio.services.gallery import infotext
from studio.services.generation import Painter
from studio.services.previewing import write
from studio.services.rows import Shot, paint_row
from studio.training.run import Run

ROW = 4
"""Pictures that walk together on a graphics card; on a CPU they are painted one by one, which gains as much and makes each the same whatever else is missing."""
SAMPLER, STEPS, CFG = "DPM++ 2M", 25, 7.0
"""How they are painted, always: another way would be another set."""
LONGEST = 60
"""Letters of the prompt in a folder's name."""
NOTE = "class"
"""What a run calls its note of the pictures."""


@dataclass(frozen=True)
class Class:
    """The pictures of a class as one checkpoint paints them: picture n has the seed n, so that the set is the same whenever it was begun or interrupted."""

    prompt: str
    count: int
    clip_skip: int
    model: Model
    desk: Desk

    @property
    def folder(self) -> Path:
        """outputs/class/<prompt>-<checkpoint's hash>/."""
        plain = re.sub(r"[^\w]+", "-", self.prompt.lower()).strip("-_")[:LONGEST]
        mark = "" if plain.replace("-", " ") == self.prompt else f"-{sha256(self.prompt.encode('utf-8', 'replace')).hexdigest()[:6]}"
        skip = f"-clip{self.clip_skip}" if self.clip_skip > 1 else ""
        return self.desk.paths.outputs / "class" / f"{plain or 'class'}{mark}{skip}-{self.model.hash or self.model.checkpoint}"

    @property
    def files(self) -> list[Path]:
        """Where the pictures lie, or will."""
        return [self.folder / f"{number:04d}.png" for number in range(self.count)]

    def request(self, number: int) -> GenerateRequest:
        """What is asked of the generation for a picture, at the size that the checkpoint was made for."""
        side = self.model.native_size
        return GenerateRequest(prompt=self.prompt, sampler=SAMPLER, steps=STEPS, cfg_scale=CFG, seed=number, width=side, height=side, clip_skip=self.clip_skip, preview_every=0)

    def paint(self, lane: Lane) -> bool:
        """Paint the pictures that are missing; False when a stop was asked before all were there. Raises StudioError in words."""
        missing = [number for number, path in enumerate(self.files) if not path.is_file()]
        began, at_once = time.monotonic(), 1 if self.model.device.type == "cpu" else ROW
        painter = Painter(self.model, self.desk.words(self.prompt), room=self.desk.cache, tell=lambda text: lane.emit("warning", text=text))
        for done, row in _rows(missing, at_once):
            if lane.stopping():
                return False
            rate = done / max(time.monotonic() - began, 1e-6)
            left = len(missing) - done
            lane.emit("progress", step=row[0], total=self.count, rate=rate, eta=left / rate if rate else None, text=f"Painting class picture {row[0] + 1} of {self.count}")
            self._row(painter, row)
            lane.breathe()
        return True

    def _row(self, painter: Painter, row: Sequence[int]) -> None:
        """Paint some pictures together, and write each with its infotext and its caption."""
        requests = [self.request(number) for number in row]
        pictures, _ = paint_row(painter, [Shot(request, painter.words) for request in requests], len(row))
        for number, request, picture in zip(row, requests, pictures, strict=True):
            path = self.folder / f"{number:04d}.png"
            with atomic_write(path.with_suffix(".txt")) as temporary:
                temporary.write_text(self.prompt, encoding="utf-8")
            write(path, picture, infotext(self.model, request))


def _rows(numbers: Sequence[int], at_once: int) -> Iterator[tuple[int, Sequence[int]]]:
    """How many came before, and the next ones."""
    return ((at, numbers[at : at + at_once]) for at in range(0, len(numbers), at_once))


def class_samples(config: PriorConfig, folder: Run, model: Model, lane: Lane, desk: Desk) -> tuple[Sample, ...]:
    """The class pictures of a run, encoded; those it began with as long as their latents are there, else painted as far as they are missing. Nothing when a stop is asked."""
    store = latent_store(config, desk.paths, model)
    noted = _noted(folder, store, config.prior_prompt)
    if noted:
        return noted
    pictures = Class(config.prior_prompt, config.class_pictures, config.clip_skip, model, desk)
    if not pictures.paint(lane):
        return ()
    encoder, keys = Encoder(store, 0 if model.device.type == "cpu" else AREA), []
    for number, path in enumerate(pictures.files):
        if lane.stopping():
            return ()
        lane.emit("progress", step=number, total=pictures.count, rate=0.0, eta=None, text=f"Encoding class picture {number + 1} of {pictures.count}")
        keys.append(store.key(path.read_bytes()))
        encoder.want(keys[-1], path, (store.width, store.height))
    encoder.flush()
    folder.note(NOTE, {"prompt": config.prior_prompt, "folder": str(pictures.folder), "keys": keys})
    return tuple(Sample(key, config.prior_prompt, *encoder.made[key], name=path.name) for key, path in zip(keys, pictures.files, strict=True))


def _noted(folder: Run, store: LatentStore, prompt: str) -> tuple[Sample, ...]:
    """The pictures a run began with; nothing when it noted none or when the latent of one is lost."""
    keys = (folder.noted(NOTE) or {}).get("keys", [])
    found = [(key, store.find(key)) for key in keys]
    return tuple(Sample(key, prompt, *latent, name=f"{number:04d}.png") for number, (key, latent) in enumerate(found) if latent is not None) if all(latent for _, latent in found) else ()
