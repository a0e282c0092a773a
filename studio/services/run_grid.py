"""Grids of a run: its weights at several steps against prompts, at one seed, beside the word as it was before."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from PIL import Image
from torch import Tensor

from studio.diffusion.model import Model
from studio.errors import InputError
from studio.formats.carriers import write_picture
from studio.formats.embedding import read_embedding
from studio.jobs import Lane
from studio.pasting import write_hashes
from studio.pasting.grammar import append_facts
from studio.prompts.networks import networks
from studio.requests.generate import GenerateRequest
from studio.requests.run_grid import MOST_CELLS, RunGridRequest
from studio.requests.scripts import Label
from studio.requests.train import TextualInversionConfig
from studio.runs.tails import read_object
from studio.services.desk import Desk
from studio.services.gallery import infotext
from studio.services.generation import Painter
from studio.services.grids import Words, table
from studio.services.previewing import PROMPT, preview_request
from studio.services.rows import AT_ONCE, Shot, paint_row
from studio.services.run_folders import chosen, config_of, numbered, run_folder, spread, weights_of
from studio.services.wardrobe import Worn, dressed
from studio.training.run import Run

_WORD = r"\(\s*\[name\]\s*(?::[\d.]+)?\s*\)|\[name\]"
"""The word in a prompt, with the weight it may have."""


@dataclass(frozen=True)
class Column:
    """One moment: what stands above it, how its files are called, and the word's vectors [n, d]; None = prompts without the word."""

    label: str
    key: str
    vectors: Tensor | None


@dataclass(frozen=True)
class Row:
    """One prompt, with [name] where the word stands, and the weight the word is given; None = as it is written."""

    prompt: str
    strength: float | None = None

    def label(self, name: str) -> str:
        """What stands beside the row."""
        text = self.prompt.replace("[name]", name)
        return text if self.strength is None else f"{text}\nstrength {self.strength:g}"

    def text(self, name: str, column: Column) -> str:
        """The prompt as it is painted in a column."""
        if column.vectors is None:
            return re.sub(r"\s+([,.])", r"\1", re.sub(r"\s{2,}", " ", re.sub(_WORD, "", self.prompt))).strip(" ,")
        weighed = self.prompt if self.strength is None else re.sub(_WORD, f"([name]:{self.strength:g})", self.prompt)
        return weighed.replace("[name]", name)


Cell = tuple[int, str]
"""A picture that is painted: number of its column, and its prompt."""


def run(request: RunGridRequest, lane: Lane, desk: Desk) -> dict[str, Any]:
    """Paint every cell and the grid into exports/ of the run's folder; a stop keeps the columns that are whole. Raises NotFound and InputError in words."""
    folder = run_folder(desk.paths, request.run)
    config = _config(folder)
    columns = _columns(request, folder, lane)
    rows = rows_of(request, config)
    if len(columns) * len(rows) > MOST_CELLS:
        raise InputError(f"The grid would have {len(columns) * len(rows)} pictures ({len(columns)} columns, {len(rows)} rows); {MOST_CELLS} is the most.", "Choose fewer steps or prompts.")
    facts = read_object(folder / "config.json").get("facts")
    checkpoint = str(facts.get("checkpoint") or "") if isinstance(facts, dict) else ""
    with desk.cache.lend(checkpoint or config.checkpoint) as model:
        easel = Easel(model, _base(request, preview_request(config, model, config.embedding), config.embedding), config.embedding, desk, lane)
        painted = easel.paint(columns, rows)
        if not painted:
            return {"images": [], "stopped": True}
        return _saved(folder, easel, (columns, rows), painted)


def _config(folder: Path) -> TextualInversionConfig:
    """What the run was asked for; raises InputError when that cannot be read."""
    try:
        return cast(TextualInversionConfig, TextualInversionConfig.check(config_of(folder)))
    except InputError as error:
        raise InputError(f"What the run {folder.name!r} was asked for cannot be read: {error}", "Its config.json is missing or damaged.") from error


def _base(request: RunGridRequest, preview: GenerateRequest, name: str) -> GenerateRequest:
    """What every cell has in common: the run's previews, with what was asked otherwise."""
    negative = None if request.negative_prompt is None else request.negative_prompt.replace("[name]", name)
    asked = {"negative_prompt": negative, "seed": request.seed, "sampler": request.sampler, "steps": request.sampling_steps, "cfg_scale": request.cfg_scale}
    return preview.model_copy(update={name: value for name, value in asked.items() if value is not None})


def _columns(request: RunGridRequest, folder: Path, lane: Lane) -> list[Column]:
    """The base, then the steps; raises InputError when the run has no weights."""
    weights = weights_of(folder)
    facts = read_object(folder / "config.json").get("facts")
    first = facts.get("first_step", 0) if isinstance(facts, dict) else 0
    base = _before(request.base, weights.get(first), folder, lane)
    later = [step for step in weights if step != first or request.base != "initialization"]
    steps = chosen(weights, request.steps) if request.steps else {step: weights[step] for step in spread(later, request.most)}
    if not steps:
        raise InputError(f"The run {folder.name!r} has no weights of a step to compare.", "Let it save or preview more often.")
    return [*base, *(Column(f"step {step}", f"{step:06d}", read_embedding(path).vectors) for step, path in steps.items())]


def _before(wanted: str, untouched: Path | None, folder: Path, lane: Lane) -> list[Column]:
    """What the steps are compared with."""
    if wanted == "none":
        return []
    if wanted == "initialization":
        kept = None if untouched else Run(folder).latest()
        start = read_embedding(untouched).vectors if untouched else kept.tensors.get("start") if kept else None
        if start is not None:
            return [Column("before", "before", start)]
        lane.emit("warning", text="The run kept no weights from before its first step, so the first column shows the prompts without the word.")
    return [Column("without the word", "without", None)]


def rows_of(request: RunGridRequest, config: TextualInversionConfig) -> list[Row]:
    """Every prompt at every strength; the word itself in a prompt stands for [name], but in the name of a network."""
    lines = [line.strip() for line in (request.prompts.strip() or config.preview_prompt.strip() or PROMPT).splitlines() if line.strip()]
    word = re.compile(rf"(<[^>]*>)|(?<![\w-]){re.escape(config.embedding)}(?![\w-])", re.IGNORECASE)
    prompts = [word.sub(lambda match: match[1] or "[name]", line) for line in lines]
    return [Row(prompt, strength) for prompt in prompts for strength in (request.strengths or (None,))]


@dataclass
class Easel:
    """What the cells of a grid are painted with."""

    model: Model
    base: GenerateRequest
    name: str
    desk: Desk
    lane: Lane
    at_once: int = AT_ONCE

    def paint(self, columns: Sequence[Column], rows: Sequence[Row]) -> dict[Cell, tuple[Image.Image, str]]:
        """Pictures with their infotext, those that wear the same networks together; what a stop cut short is left out."""
        cells = dict.fromkeys((number, row.text(self.name, column)) for number, column in enumerate(columns) for row in rows)
        outfits: dict[str, list[Cell]] = {}
        for cell in cells:
            outfits.setdefault(repr(networks(cell[1])[1]), []).append(cell)
        painted: dict[Cell, tuple[Image.Image, str]] = {}
        for alike in outfits.values():
            with dressed(self.model, alike[0][1], self.desk) as outfit:
                for note in outfit.notes:
                    self.lane.emit("warning", text=note)
                for at in range(0, len(alike), AT_ONCE):
                    self.lane.emit("progress", step=len(painted), total=len(cells), text=f"Picture {len(painted) + 1} of {len(cells)}")
                    some = self._some(alike[at : at + AT_ONCE], columns, outfit)
                    if self.lane.stopping():
                        return painted
                    painted.update(some)
        self.lane.emit("progress", step=len(cells), total=len(cells), text="")
        return painted

    def _some(self, cells: Sequence[Cell], columns: Sequence[Column], outfit: Worn) -> dict[Cell, tuple[Image.Image, str]]:
        """Some cells with their infotexts."""
        shots = [self._shot(text, columns[number].vectors, outfit) for number, text in cells]
        painter = Painter(self.model, {}, lambda *_: not self.lane.stopping(), self.desk.cache, lambda text: self.lane.emit("warning", text=text))
        pictures, self.at_once = paint_row(painter, shots, self.at_once)
        more: dict[str, object] = {"Lora hashes": write_hashes(outfit.hashes)} if outfit.hashes else {}
        texts = [append_facts(infotext(self.model, shot.request, more), {"Script": "Run grid", "Moment": columns[number].label}) for shot, (number, _) in zip(shots, cells, strict=True)]
        return dict(zip(cells, zip(pictures, texts, strict=True), strict=True))

    def _shot(self, text: str, vectors: Tensor | None, outfit: Worn) -> Shot:
        """One picture; the word's vectors of its moment go before any file of that name."""
        found = {**self.desk.words(f"{text}\n{self.base.negative_prompt}"), **outfit.words}
        others = {word: value for word, value in found.items() if word.lower() != self.name.lower()}
        return Shot(self.base.model_copy(update={"prompt": text}), others if vectors is None else {**others, self.name: vectors})


def _saved(folder: Path, easel: Easel, shape: tuple[Sequence[Column], Sequence[Row]], painted: Mapping[Cell, tuple[Image.Image, str]]) -> dict[str, Any]:
    """Write every picture and the grid; returns where they are."""
    columns, rows = shape
    place = numbered(folder / "exports", "grid")
    shown: dict[tuple[int, int], Image.Image] = {}
    images: list[str] = []
    texts: list[str] = []
    for across, column in enumerate(columns):
        for down, row in enumerate(rows):
            cell = (across, row.text(easel.name, column))
            if cell in painted:
                shown[across, down], text = painted[cell]
                images.append(str(place / f"{column.key}-{down}.png"))
                texts.append(text)
                write_picture(shown[across, down], Path(images[-1]), text)
    grid = table(shown, (len(columns), len(rows)), Words([(Label(column.label),) for column in columns], [(Label(row.label(easel.name)),) for row in rows]))
    path = place.with_suffix(".png")
    write_picture(grid, path, append_facts(infotext(easel.model, easel.base), {"Script": "Run grid", "Moments": ", ".join(column.label for column in columns)}))
    easel.lane.emit("saved", path=str(path))
    return {"images": images, "grid": str(path), "infotexts": texts, "seeds": [easel.base.seed] * len(images), "stopped": len(shown) < len(columns) * len(rows)}
